//! The prompt of `rprof pprof`: commands, assignments and shortcuts as the reference has them, and
//! what it lacks: pipes, and bare choices (`cum`, `lines`).
//!
//! Not here: the reports, and bringing them to files or programs (`Delivery`).

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::{Command as Process, Stdio},
};

use crate::{
    profile::{columns::Columns, go_text::quote},
    report::pprof::{COMMANDS, Command, OPTIONS, Settings, greeting, options::SettingOption},
};

/// Makes a report and brings it to the writer, or where the settings say.
pub type Deliver<'a> = &'a mut dyn FnMut(
    Columns,
    &'static Command,
    Option<&str>,
    &Settings,
    &mut dyn Write,
    &mut dyn FnMut(&str),
) -> Result<(), String>;

/// Reads commands until the end of the input, or until told to stop.
pub fn run(
    columns: Columns,
    mut settings: Settings,
    out: &mut dyn Write,
    say: &mut dyn FnMut(&str),
    deliver: Deliver,
) -> Result<(), String> {
    settings.compact_labels = true;
    let mut messages = Vec::new();
    let greeting = greeting(columns.clone(), &settings_before(&settings), &mut messages);
    messages.iter().for_each(|message| say(message));
    if let Some((lines, is_empty)) = greeting {
        say(&lines.join("\n"));
        if is_empty {
            say("No samples were found with the default sample value type.");
            say("Try \"sample_index\" command to analyze different sample values.\n");
        }
    }
    say("Entering interactive mode (type \"help\" for commands, \"o\" for options)");
    let mut prompt = Prompt { columns, settings };
    let is_terminal = io::stdin().is_terminal();
    let mut lines = io::stdin().lock().lines();
    loop {
        // A pipe's reader may want to see the prompt: the reference writes it to the output.
        let _ = write!(out, "(pprof) ").and_then(|()| out.flush());
        let Some(line) = lines.next() else { break };
        let line = line.map_err(|error| error.to_string())?;
        if !prompt.line(&line, out, say, deliver) {
            return Ok(());
        }
    }
    if is_terminal {
        let _ = writeln!(out);
    }
    Ok(())
}

/// The greeting shows labels in full.
fn settings_before(settings: &Settings) -> Settings {
    Settings { compact_labels: false, ..settings.clone() }
}

struct Prompt {
    columns: Columns,
    settings: Settings,
}

/// A command line of the prompt, understood.
#[derive(Debug)]
struct Order {
    command: &'static Command,
    argument: Option<String>,
    settings: Settings,
    /// What the report is piped to.
    pipe: Option<String>,
}

impl Prompt {
    /// Does what a line says. False: to stop.
    fn line(&mut self, line: &str, out: &mut dyn Write, say: &mut dyn FnMut(&str), deliver: Deliver) -> bool {
        for line in self.expand(line.trim()) {
            match self.assignment(&line) {
                Some(Ok(())) => continue,
                Some(Err(error)) => {
                    say(&error);
                    continue;
                }
                None => {}
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                ["o" | "options", ..] => say(&self.options()),
                ["exit" | "quit" | "q", ..] => return false,
                ["help", ..] => help(&words[1..].join(" "), say),
                _ => {
                    let order = understand(&line, &self.settings);
                    let done = order.and_then(|order| self.carry_out(order, out, say, deliver));
                    if let Err(error) = done {
                        say(&error);
                    }
                }
            }
        }
        true
    }

    /// Shortcuts: `:` clears filters, the name of a sample type chooses it.
    fn expand(&self, line: &str) -> Vec<String> {
        if line == ":" {
            return ["focus=", "ignore=", "hide=", "tagfocus=", "tagignore="].map(String::from).into();
        }
        let kinds = &self.columns.header.kinds;
        for name in kinds.iter().map(|kind| self.columns.text(kind.name)) {
            let choose = format!("sample_index={name}");
            if line == name {
                return vec![choose];
            }
            for (prefix, mean) in [("total_", "mean=0"), ("mean_", "mean=1")] {
                if line.strip_prefix(prefix) == Some(name) {
                    return vec![mean.into(), choose];
                }
            }
        }
        vec![line.to_string()]
    }

    /// `name=value`, or a bare name of a switch. `None`: it is something else.
    fn assignment(&mut self, line: &str) -> Option<Result<(), String>> {
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => {
                let value = value.rfind("//:").map_or(value, |comment| &value[..comment]);
                (name.trim(), Some(value.trim()))
            }
            None => (line.trim(), None),
        };
        if let Some(option) = SettingOption::of_choice(name) {
            let unknown = || Err(format!("unknown config field {}", quote(name)));
            return Some(match value {
                None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => {
                    option.set(&mut self.settings, name)
                }
                Some(_) => unknown(),
            });
        }
        let option = SettingOption::find(name)?;
        if value.is_none() && !option.is_bool() {
            return Some(Err(format!("please specify a value, e.g. {name}=<val>")));
        }
        let value = value.unwrap_or("");
        if name == "sample_index" {
            return Some(self.columns.value_index(value).map(|at| {
                let kind = self.columns.header.kinds.get(at).map_or(0, |kind| kind.name);
                self.settings.sample_index = self.columns.text(kind).into();
            }));
        }
        Some(option.set(&mut self.settings, value))
    }

    /// The options and what they are set to.
    fn options(&self) -> String {
        let kinds: Vec<_> =
            self.columns.header.kinds.iter().map(|kind| self.columns.text(kind.name)).collect();
        let mut lines: Vec<String> = Vec::new();
        for option in OPTIONS.iter().filter(|option| option.name != "source_path") {
            let mut value = option.get(&self.settings);
            let mut comment = String::new();
            if !option.choices.is_empty() {
                let mut choices = option.choices.to_vec();
                choices.sort_unstable();
                comment = format!("[{}]", choices.join(" | "));
            } else if option.name == "sample_index" {
                if value.is_empty() {
                    value = kinds.last().map_or(String::new(), |kind| (*kind).into());
                }
                comment = format!("[{}]", kinds.join(" | "));
            } else if option.name == "nodecount" && value == "-1" {
                comment = "default".into();
            } else if value.is_empty() {
                value = "\"\"".into();
            }
            if option.name == "granularity" && value.is_empty() {
                value = "(default)".into();
            }
            if !comment.is_empty() {
                comment = format!("//: {comment}");
            }
            lines.push(format!("  {:<25} = {value:<20} {comment}", option.name));
        }
        lines.sort();
        lines.join("\n")
    }

    fn carry_out(
        &self,
        order: Order,
        out: &mut dyn Write,
        say: &mut dyn FnMut(&str),
        deliver: Deliver,
    ) -> Result<(), String> {
        let Order { command, argument, settings, pipe } = order;
        let columns = self.columns.clone();
        let Some(pipe) = pipe else {
            return deliver(columns, command, argument.as_deref(), &settings, out, say);
        };
        let mut bytes = Vec::new();
        deliver(columns, command, argument.as_deref(), &settings, &mut bytes, say)?;
        let failed = |error: io::Error| format!("cannot run {pipe}: {error}");
        let shell = Process::new("sh").arg("-c").arg(&pipe).stdin(Stdio::piped()).spawn();
        let mut child = shell.map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that has seen enough stops reading.
            let _ = stdin.write_all(&bytes);
        }
        child.wait().map_err(failed)?;
        Ok(())
    }
}

/// Reads a command line: `top10 -cum focus -ignore >file`, or `… | program`.
fn understand(line: &str, settings: &Settings) -> Result<Order, String> {
    // A bar with blanks around it is a pipe; in an expression it has none.
    let (line, pipe) = match line.split_once(" | ") {
        Some((line, pipe)) => (line, Some(pipe.trim().to_string()).filter(|pipe| !pipe.is_empty())),
        None => (line, None),
    };
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
    Ok(Order { command, argument, settings, pipe })
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

fn help(about: &str, say: &mut dyn FnMut(&str)) {
    if about.is_empty() {
        let mut text =
            String::from("Commands ([n] [-cum] [regexp ...] [-regexp ...] [>file] [| program]):\n");
        for command in COMMANDS {
            text += &format!("    {:<16} {}\n", command.name, command.help);
        }
        text += "    o/options        What options are set to\n    q/quit/exit/^D   Leave\n";
        text += "\nOptions (name=value):\n";
        for option in OPTIONS {
            let choices = option.choices.join(" | ");
            text += &format!("    {:<22} {} {choices}\n", option.name, option.help);
        }
        text += "\n    :                Clear focus, ignore, hide, tagfocus, tagignore\n";
        text += "    help NAME        About a command or an option";
        return say(&text);
    }
    let command = Command::find(about).map(|command| command.help);
    let option = SettingOption::find(about).or_else(|| SettingOption::of_choice(about));
    match command.or(option.map(|option| option.help)) {
        Some(help) => say(help),
        None => say(&format!("Unknown command: {about}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt() -> Prompt {
        let mut columns = Columns::default();
        let (name, unit) = (columns.intern("cpu"), columns.intern("nanoseconds"));
        columns.header.kinds.push(crate::profile::columns::Kind { name, unit });
        Prompt { columns, settings: Settings::default() }
    }

    #[test]
    fn words_of_a_command_hold_for_it_alone() {
        let prompt = prompt();
        let order = understand("top5 -cum a b -c >f", &prompt.settings).unwrap();
        let settings = order.settings;
        assert_eq!((settings.nodecount, &*settings.sort, &*settings.output), (5, "cum", "f"));
        assert_eq!((&*settings.focus, &*settings.ignore), ("a|b", "c"));
        assert_eq!(prompt.settings, Settings::default());
        let order = understand("top a|b | head -3", &prompt.settings).unwrap();
        assert_eq!((&*order.settings.focus, order.pipe.as_deref()), ("a|b", Some("head -3")));
        assert_eq!(order.settings.nodecount, 10);
    }

    #[test]
    fn what_is_no_command_is_said_to_be_none() {
        let error = |line: &str| understand(line, &Settings::default()).unwrap_err();
        assert_eq!(error("foo"), "unrecognized command: \"foo\"");
        assert_eq!(error("peek"), "command peek requires an argument");
        assert_eq!(error("nodecount 5"), "did you mean: nodecount=5");
        assert_eq!(error("top >"), "unexpected end of line after >");
    }

    #[test]
    fn assignments_change_settings_and_shortcuts_expand() {
        let mut prompt = prompt();
        assert_eq!(prompt.assignment(" focus = a b //: comment"), Some(Ok(())));
        assert_eq!(prompt.settings.focus, "a b");
        assert_eq!(prompt.assignment("mean"), Some(Ok(())));
        assert_eq!(prompt.assignment("cum"), Some(Ok(())));
        assert_eq!((prompt.settings.mean, &*prompt.settings.sort), (true, "cum"));
        assert_eq!(prompt.assignment("focus"), Some(Err("please specify a value, e.g. focus=<val>".into())));
        assert_eq!(prompt.assignment("top"), None);
        assert_eq!(prompt.expand("mean_cpu"), ["mean=1", "sample_index=cpu"]);
        assert_eq!(prompt.expand(":").len(), 5);
    }
}
