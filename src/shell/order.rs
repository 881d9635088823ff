//! Parses a command line of the prompt: `top10 -cum focus -ignore >file`, or `… | program`.
//!
//! Not here: assignments and shortcuts ([`super::pprof`]), running the command.

use crate::{
    report::pprof::{Command, Settings, options::SettingOption},
    text::go::quote,
};

/// A parsed command line.
#[derive(Debug)]
pub(super) struct Order {
    /// The command.
    pub command: &'static Command,
    /// Its argument, for commands that take one.
    pub argument: Option<String>,
    /// The settings of the session with the changes of this line.
    pub settings: Settings,
    /// The program that the report is piped to.
    pub pipe: Option<String>,
}

/// The part before a pipe and the part behind it. A bar is a pipe only with blanks around it;
/// otherwise it belongs to an expression.
pub(super) fn split_pipe(line: &str) -> (&str, Option<&str>) {
    match line.split_once(" | ") {
        Some((line, pipe)) => (line, Some(pipe.trim()).filter(|pipe| !pipe.is_empty())),
        None => (line, None),
    }
}

/// Parses a command line.
///
/// # Errors
/// The error text of the reference.
pub(super) fn parse(line: &str, settings: &Settings) -> Result<Order, String> {
    let (line, pipe) = split_pipe(line);
    let mut words = line.split_whitespace().map(String::from);
    let Some(mut name) = words.next() else { return Err("no command".into()) };
    let mut words: Vec<String> = words.collect();
    let mut command = Command::find(&name);
    if command.is_none() {
        let bare = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        if !bare.is_empty() && bare.len() < name.len() {
            words.insert(0, name[bare.len()..].to_string());
            name.truncate(bare.len());
            command = Command::find(&name);
        }
    }
    let Some(command) = command else {
        if SettingOption::find(&name).is_some() || SettingOption::of_choice(&name).is_some() {
            let value = words.first().map_or("<val>", String::as_str);
            return Err(format!("did you mean: {name}={value}"));
        }
        return Err(format!("unrecognized command: {}", quote(&name)));
    };
    let mut argument = None;
    if command.has_argument {
        if words.is_empty() {
            return Err(format!("command {name} requires an argument"));
        }
        argument = Some(words.remove(0));
    }
    let mut settings = settings.clone();
    read_words(command, words, &mut settings)?;
    Ok(Order { command, argument, settings, pipe: pipe.map(String::from) })
}

fn read_words(command: &Command, words: Vec<String>, settings: &mut Settings) -> Result<(), String> {
    let (mut focus, mut ignore) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if let Ok(count) = word.parse::<i32>() {
            settings.nodecount = count.into();
        } else if let Some(file) = word.strip_prefix('>') {
            let file = if file.is_empty() { words.next() } else { Some(file.to_string()) };
            settings.output = file.ok_or("unexpected end of line after >")?;
        } else if word == "-cum" || word == "--cum" {
            settings.sort = "cum".into();
        } else if let Some(word) = word.strip_prefix('-') {
            ignore.push(word.to_string());
        } else {
            focus.push(word);
        }
    }
    let join = |words: Vec<String>| {
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        words.join("|")
    };
    let (focus, ignore) = (join(focus), join(ignore));
    let (focus_slot, ignore_slot) = match command.name {
        "tags" => (&mut settings.tagfocus, &mut settings.tagignore),
        _ => (&mut settings.focus, &mut settings.ignore),
    };
    for (slot, value) in [(focus_slot, focus), (ignore_slot, ignore)] {
        if !value.is_empty() {
            *slot = value;
        }
    }
    if settings.nodecount == -1 && ["text", "top"].contains(&command.name) {
        settings.nodecount = 10;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_on_a_command_line_apply_to_that_command_only() {
        let settings = Settings::default();
        let order = parse("top5 -cum a b -c >f", &settings).unwrap();
        let own = order.settings;
        assert_eq!((own.nodecount, &*own.sort, &*own.output), (5, "cum", "f"));
        assert_eq!((&*own.focus, &*own.ignore), ("a|b", "c"));
        let order = parse("top a|b | head -3", &settings).unwrap();
        assert_eq!((&*order.settings.focus, order.pipe.as_deref()), ("a|b", Some("head -3")));
        assert_eq!(order.settings.nodecount, 10);
    }

    #[test]
    fn an_unknown_command_is_reported_in_the_words_of_the_reference() {
        let error = |line: &str| parse(line, &Settings::default()).unwrap_err();
        assert_eq!(error("foo"), "unrecognized command: \"foo\"");
        assert_eq!(error("peek"), "command peek requires an argument");
        assert_eq!(error("nodecount 5"), "did you mean: nodecount=5");
        assert_eq!(error("top >"), "unexpected end of line after >");
    }
}
