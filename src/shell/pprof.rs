//! The session of `rprof pprof`: the commands, assignments and shortcuts of the reference, and
//! more: pipes, bare choices (`cum`, `lines`), and on a terminal completion, a persistent history,
//! colours and plain words.
//!
//! Not here: the reports, and writing them to files or programs ([`Deliver`]).

use std::{
    io::{self, BufRead, IsTerminal, Write},
    rc::Rc,
};

use super::{
    complete::Vocabulary,
    editor::{Input, Terminal},
    help,
    order::{Order, parse},
    pipe::{self, Interrupts},
    words,
};
use crate::{
    profile::columns::Columns,
    report::{
        paint,
        pprof::{Command, Settings, greeting, options::SettingOption},
    },
    text::go::quote,
};

const PROMPT: &str = "(pprof) ";

/// The destination of reports without an output file.
pub struct Outlet<'a> {
    /// The writer.
    pub writer: &'a mut dyn Write,
    /// Whether it accepts binary data. If not, binary reports go to a file of their own.
    pub takes_bytes: bool,
}

/// Makes a report and writes it to the outlet, or to the output file of the settings.
pub type Deliver<'a> = &'a mut dyn FnMut(
    Columns,
    &'static Command,
    Option<&str>,
    &Settings,
    Outlet,
    &mut dyn FnMut(&str),
) -> Result<(), String>;

/// Reads and runs commands until the end of the input or the command `quit`.
///
/// # Errors
/// When the input or the terminal cannot be read.
pub fn run(
    columns: Columns,
    mut settings: Settings,
    out: &mut dyn Write,
    say: &mut dyn FnMut(&str),
    deliver: Deliver,
) -> Result<(), String> {
    settings.compact_labels = true;
    let is_terminal = io::stdin().is_terminal();
    let person = (is_terminal && io::stdout().is_terminal()).then(|| Interactive::new(&columns));
    let for_person = person.is_some();
    let say: &mut dyn FnMut(&str) =
        &mut |text: &str| if for_person { say(&paint::harmless(text)) } else { say(text) };
    greet(&columns, &settings, say);
    let session = Session { columns, settings, person };
    if session.person.is_some() {
        return session.read_from_terminal(out, say, deliver);
    }
    session.read_from_program(out, say, deliver)?;
    if is_terminal {
        let _ = writeln!(out);
    }
    Ok(())
}

fn greet(columns: &Columns, settings: &Settings, say: &mut dyn FnMut(&str)) {
    // Only the commands shorten labels; the greeting does not.
    let in_full = Settings { compact_labels: false, ..settings.clone() };
    let mut messages = Vec::new();
    let greeting = greeting(columns.clone(), &in_full, &mut messages);
    messages.iter().for_each(|message| say(message));
    if let Some((lines, is_empty)) = greeting {
        say(&lines.join("\n"));
        if is_empty {
            say("No samples were found with the default sample value type.");
            say("Try \"sample_index\" command to analyze different sample values.\n");
        }
    }
    say("Entering interactive mode (type \"help\" for commands, \"o\" for options)");
}

/// The features for a person at a terminal. A program that feeds the prompt does not get them.
struct Interactive {
    vocabulary: Rc<Vocabulary>,
    colored: bool,
    interrupts: Interrupts,
}

impl Interactive {
    fn new(columns: &Columns) -> Interactive {
        let colored = paint::is_wanted(|name| std::env::var(name).ok());
        Interactive {
            vocabulary: Rc::new(Vocabulary::new(columns)),
            colored,
            interrupts: Interrupts::default(),
        }
    }

    fn show(&self, report: &[u8], out: &mut dyn Write) {
        let text = String::from_utf8_lossy(report);
        let text = paint::harmless(&text);
        let text = if self.colored { paint::paint(&text) } else { text.into_owned() };
        // If the terminal is gone, reading the next line reports it.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

struct Session {
    columns: Columns,
    settings: Settings,
    person: Option<Interactive>,
}

impl Session {
    fn read_from_program(
        mut self,
        out: &mut dyn Write,
        say: &mut dyn FnMut(&str),
        deliver: Deliver,
    ) -> Result<(), String> {
        let mut lines = io::stdin().lock().lines();
        loop {
            // The reference also writes the prompt to a pipe.
            let _ = write!(out, "{PROMPT}").and_then(|()| out.flush());
            let Some(line) = lines.next() else { return Ok(()) };
            let line = line.map_err(|error| error.to_string())?;
            if !self.line(&line, out, say, deliver) {
                return Ok(());
            }
        }
    }

    fn read_from_terminal(
        mut self,
        out: &mut dyn Write,
        say: &mut dyn FnMut(&str),
        deliver: Deliver,
    ) -> Result<(), String> {
        let failed = |error| format!("cannot read from the terminal: {error}");
        let Some(person) = &mut self.person else { return self.read_from_program(out, say, deliver) };
        let mut terminal = Terminal::new(person.vocabulary.clone(), person.colored, say).map_err(failed)?;
        person.interrupts = Interrupts::take_over();
        loop {
            // Earlier output must appear before the prompt.
            let _ = out.flush();
            match terminal.read(PROMPT).map_err(failed)? {
                Input::Line(line) => {
                    if !self.line(&line, out, say, deliver) {
                        return Ok(());
                    }
                }
                Input::Interrupted => {}
                Input::End => return Ok(()),
            }
        }
    }

    /// Runs a line. Returns false if the session ends.
    fn line(&mut self, line: &str, out: &mut dyn Write, say: &mut dyn FnMut(&str), deliver: Deliver) -> bool {
        for line in self.expand(line.trim()) {
            let failed = match self.assignment(&line) {
                Some(done) => done.err(),
                None => {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    match words[..] {
                        [] => None,
                        ["exit" | "quit" | "q", ..] => return false,
                        ["o" | "options", ..] => {
                            say(&help::options(&self.columns, &self.settings));
                            None
                        }
                        ["help", ..] => {
                            say(&self.in_plain_words(&help::help(&words[1..].join(" ")), &line));
                            None
                        }
                        _ => parse(&line, &self.settings)
                            .and_then(|order| self.execute(order, out, say, deliver))
                            .err(),
                    }
                }
            };
            if let Some(error) = failed {
                say(&self.in_plain_words(&error, &line));
            }
        }
        true
    }

    fn in_plain_words(&self, error: &str, line: &str) -> String {
        match &self.person {
            Some(person) => words::explain(error, line, &person.vocabulary),
            None => error.into(),
        }
    }

    /// Expands shortcuts: `:` clears filters, the name of a sample type selects it.
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

    /// Runs an assignment: `name=value`, or the bare name of a boolean. `None` if the line is not
    /// one.
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

    fn execute(
        &self,
        order: Order,
        out: &mut dyn Write,
        say: &mut dyn FnMut(&str),
        deliver: Deliver,
    ) -> Result<(), String> {
        let Order { command, argument, settings, pipe } = order;
        let columns = self.columns.clone();
        let argument = argument.as_deref();
        let mut report_message = |text: &str| self.show_message(text, &settings, say);
        if self.person.is_none() && pipe.is_none() {
            let outlet = Outlet { writer: out, takes_bytes: false };
            return deliver(columns, command, argument, &settings, outlet, &mut report_message);
        }
        let mut bytes = Vec::new();
        let outlet = Outlet { writer: &mut bytes, takes_bytes: pipe.is_some() };
        deliver(columns, command, argument, &settings, outlet, &mut report_message)?;
        match (pipe, &self.person) {
            (None, None) => {}
            (None, Some(person)) => person.show(&bytes, out),
            (Some(program), person) => {
                let _ = out.flush();
                let default = Interrupts::default();
                let interrupts = person.as_ref().map_or(&default, |person| &person.interrupts);
                pipe::pipe(&program, &bytes, interrupts)?;
            }
        }
        Ok(())
    }

    /// Shows a message of a report; a person also gets suggestions.
    fn show_message(&self, text: &str, settings: &Settings, say: &mut dyn FnMut(&str)) {
        let with_names = self.person.as_ref().and_then(|person| {
            let expression = match text.split(' ').next()? {
                "Focus" => &settings.focus,
                "Ignore" => &settings.ignore,
                "Hide" => &settings.hide,
                "Show" => &settings.show,
                "ShowFrom" => &settings.show_from,
                _ => return None,
            };
            words::nothing_matched(text, expression, &person.vocabulary)
        });
        say(with_names.as_deref().unwrap_or(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let mut columns = Columns::default();
        let (name, unit) = (columns.intern("cpu"), columns.intern("nanoseconds"));
        columns.header.kinds.push(crate::profile::columns::SampleKind { name, unit });
        Session { columns, settings: Settings::default(), person: None }
    }

    #[test]
    fn assignments_change_settings_and_shortcuts_expand() {
        let mut session = session();
        assert_eq!(session.assignment(" focus = a b //: comment"), Some(Ok(())));
        assert_eq!(session.settings.focus, "a b");
        assert_eq!(session.assignment("mean"), Some(Ok(())));
        assert_eq!(session.assignment("cum"), Some(Ok(())));
        assert_eq!((session.settings.mean, &*session.settings.sort), (true, "cum"));
        assert_eq!(session.assignment("focus"), Some(Err("please specify a value, e.g. focus=<val>".into())));
        assert_eq!(session.assignment("top"), None);
        assert_eq!(session.expand("mean_cpu"), ["mean=1", "sample_index=cpu"]);
        assert_eq!(session.expand(":").len(), 5);
    }

    #[test]
    fn binary_reports_go_to_a_pipe_but_not_to_the_prompt() {
        let session = session();
        let mut takes_bytes = Vec::new();
        for line in ["proto", "proto | cat >/dev/null"] {
            let order = parse(line, &session.settings).unwrap();
            let mut deliver = |_: Columns,
                               _: &Command,
                               _: Option<&str>,
                               _: &Settings,
                               outlet: Outlet,
                               _: &mut dyn FnMut(&str)| {
                takes_bytes.push(outlet.takes_bytes);
                Ok(())
            };
            session.execute(order, &mut Vec::new(), &mut |_| (), &mut deliver).unwrap();
        }
        assert_eq!(takes_bytes, [false, true]);
    }
}
