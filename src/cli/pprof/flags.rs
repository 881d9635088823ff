//! The command line of `go tool pprof`, parsed as Go's `flag` package does: `-f`, `--f`, `-f=v`,
//! `-f v`; flags end at the first word that is not a flag. [`super::usage`] has the help text.

use crate::{
    report::pprof::{
        COMMANDS, Command, Settings,
        options::{SettingOption, Slot},
    },
    text::go::{self, IntegerError, quote},
};

/// A parsed command line. Text fields are empty if the flag is not given.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The options of reports.
    pub settings: Settings,
    /// The sources; before [`Flags::interpret`], possibly with the binary first.
    pub arguments: Vec<String>,
    /// The file of the first mapping.
    pub binary: Option<String>,
    /// `-base`: a source to subtract.
    pub base: String,
    /// `-diff_base`: a source to compare with.
    pub diff_base: String,
    /// `-symbolize`: the mode.
    pub symbolize: String,
    /// `-buildid`: the build ID of the first mapping.
    pub build_id: String,
    /// `-add_comment`: a comment to add to the profile.
    pub comment: String,
    /// `-http`: the address to serve pages on.
    pub http: String,
    /// `-token_file`: the file with the token that requests need (not in `go tool pprof`).
    pub token_file: String,
    /// `-tools`: accepted, but not used.
    pub tools: String,
    /// `-format`: json, markdown or csv; empty: the text of `go tool pprof`.
    pub format: String,
    /// `-tls_cert`: the file of the client certificate.
    pub tls_cert: String,
    /// `-tls_key`: the file of its key.
    pub tls_key: String,
    /// `-tls_ca`: the file of the certificate authority.
    pub tls_ca: String,
    /// `-timeout`: seconds to wait for a server; -1: the default.
    pub timeout_s: i64,
    /// `-seconds`: the duration to ask a server for; -1: the server's default.
    pub seconds: i64,
    /// `-no_browser`: do not open a browser.
    pub no_browser: bool,
    /// Which of [`SHORTHANDS`] are given.
    shorthands: [bool; SHORTHANDS.len()],
    /// The choices of options that are switched on.
    choices: Vec<&'static str>,
    commands: Vec<&'static str>,
    command_arguments: Vec<(&'static str, String)>,
}

/// The result of parsing a command line.
pub enum Outcome {
    /// A valid command line.
    Flags(Box<Flags>),
    /// A request for help.
    Help,
    /// An invalid command line, with the error message.
    Refused(String),
}

/// Flags that select a sample type, in order of precedence.
const SHORTHANDS: [(&str, &str); 7] = [
    ("total_delay", "delay"),
    ("mean_delay", "delay"),
    ("contentions", "contentions"),
    ("inuse_space", "inuse_space"),
    ("inuse_objects", "inuse_objects"),
    ("alloc_space", "alloc_space"),
    ("alloc_objects", "alloc_objects"),
];

/// Where a flag's value goes.
enum Target<'a> {
    Slot(Slot<'a>),
    Choice(&'static str),
    Command(&'static str),
    CommandArgument(&'static str),
}

/// Parses a command line.
pub fn parse(arguments: &[String]) -> Outcome {
    let mut flags = Flags {
        timeout_s: -1,
        seconds: -1,
        tools: std::env::var("PPROF_TOOLS").unwrap_or_default(),
        ..Flags::default()
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.as_slice().first() {
        let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else { break };
        rest.next();
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() {
            break;
        }
        if name.starts_with(['-', '=']) {
            return Outcome::Refused(format!("bad flag syntax: {argument}"));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(target) = flags.target(name) else {
            return match name {
                "help" | "h" => Outcome::Help,
                _ => Outcome::Refused(format!("flag provided but not defined: -{name}")),
            };
        };
        let is_bool = matches!(target, Target::Slot(Slot::Bool(_)) | Target::Choice(_) | Target::Command(_));
        let value = match value {
            Some(value) => value,
            None if is_bool => "true",
            None => match rest.next() {
                Some(value) => value,
                None => return Outcome::Refused(format!("flag needs an argument: -{name}")),
            },
        };
        if let Err(error) = flags.set(name, value) {
            return Outcome::Refused(error);
        }
    }
    flags.arguments = rest.cloned().collect();
    Outcome::Flags(Box::new(flags))
}

impl Flags {
    /// The flags of a command line with sources only.
    pub(super) fn of_sources(sources: &[String]) -> Flags {
        Flags { arguments: sources.to_vec(), timeout_s: -1, seconds: -1, ..Flags::default() }
    }

    /// The same flags for a single source, without a base.
    pub(super) fn with_source(&self, source: &str) -> Flags {
        let arguments = vec![source.to_string()];
        Flags { arguments, base: String::new(), diff_base: String::new(), ..self.clone() }
    }

    fn target(&mut self, name: &str) -> Option<Target<'_>> {
        let text = |text| Some(Target::Slot(Slot::Text(text)));
        match name {
            "base" => return text(&mut self.base),
            "diff_base" => return text(&mut self.diff_base),
            "symbolize" => return text(&mut self.symbolize),
            "buildid" => return text(&mut self.build_id),
            "add_comment" => return text(&mut self.comment),
            "http" => return text(&mut self.http),
            "token_file" => return text(&mut self.token_file),
            "tools" => return text(&mut self.tools),
            "format" => return text(&mut self.format),
            "tls_cert" => return text(&mut self.tls_cert),
            "tls_key" => return text(&mut self.tls_key),
            "tls_ca" => return text(&mut self.tls_ca),
            "timeout" => return Some(Target::Slot(Slot::Integer(&mut self.timeout_s))),
            "seconds" => return Some(Target::Slot(Slot::Integer(&mut self.seconds))),
            "no_browser" => return Some(Target::Slot(Slot::Bool(&mut self.no_browser))),
            _ => {}
        }
        if let Some(at) = SHORTHANDS.iter().position(|(shorthand, _)| *shorthand == name) {
            return Some(Target::Slot(Slot::Bool(&mut self.shorthands[at])));
        }
        if let Some(command) = Command::find(name) {
            let name = command.name;
            let has_argument = command.has_argument;
            return Some(if has_argument { Target::CommandArgument(name) } else { Target::Command(name) });
        }
        if let Some(option) = SettingOption::of_choice(name) {
            return option.choices.iter().find(|choice| **choice == name).map(|name| Target::Choice(name));
        }
        let option = SettingOption::find(name).filter(|option| option.choices.is_empty())?;
        Some(Target::Slot((option.slot)(&mut self.settings)))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let yes = || match value {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err(format!("invalid boolean value {} for -{name}: parse error", quote(value))),
        };
        let invalid = |why: &str| format!("invalid value {} for flag -{name}: {why}", quote(value));
        match self.target(name) {
            Some(Target::Slot(Slot::Bool(slot))) => *slot = yes()?,
            Some(Target::Slot(Slot::Text(slot))) => *slot = value.into(),
            Some(Target::Slot(Slot::Integer(slot))) => *slot = integer(value).map_err(invalid)?,
            Some(Target::Slot(Slot::Float(slot))) => *slot = float(value).map_err(invalid)?,
            Some(Target::Choice(choice)) => {
                self.choices.retain(|other| *other != choice);
                if yes()? {
                    self.choices.push(choice);
                }
            }
            Some(Target::Command(command)) => {
                self.commands.retain(|other| *other != command);
                if yes()? {
                    self.commands.push(command);
                }
            }
            Some(Target::CommandArgument(command)) => {
                self.command_arguments.retain(|(other, _)| *other != command);
                if !value.is_empty() {
                    self.command_arguments.push((command, value.into()));
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Interprets the flags: separates the binary from the sources, and applies choices to the
    /// settings. Returns the requested report and its argument, if any. Errors are those of `go
    /// tool pprof`.
    pub fn interpret(
        &mut self,
        opens_as_object: &mut dyn FnMut(&str) -> bool,
        say: &mut dyn FnMut(&str),
    ) -> Result<Option<(&'static Command, Option<String>)>, String> {
        if self.arguments.is_empty() {
            return Err("no profile source specified".into());
        }
        if self.arguments.len() > 1 && opens_as_object(&self.arguments[0]) {
            self.binary = Some(self.arguments.remove(0));
        }
        self.apply_choices()?;
        if self.commands.len() + self.command_arguments.len() > 1 {
            return Err("must set at most one output format".into());
        }
        let named = self.commands.first().map(|name| (*name, None));
        let named = named.or_else(|| {
            self.command_arguments.first().map(|(name, argument)| (*name, Some(argument.clone())))
        });
        let command = named.and_then(|(name, argument)| {
            COMMANDS.iter().find(|command| command.name == name).map(|command| (command, argument))
        });
        if command.is_some() && !self.http.is_empty() {
            return Err("-http is not compatible with an output format on the command line".into());
        }
        if self.no_browser && self.http.is_empty() {
            return Err("-no_browser only makes sense with -http".into());
        }
        self.apply_shorthands(say);
        if !self.base.is_empty() && !self.diff_base.is_empty() {
            return Err("-base and -diff_base flags cannot both be specified".into());
        }
        if self.settings.normalize && self.base.is_empty() && self.diff_base.is_empty() {
            return Err("must have base profile to normalize by".into());
        }
        Ok(command)
    }

    fn apply_choices(&mut self) -> Result<(), String> {
        for option in ["sort", "granularity"].into_iter().filter_map(SettingOption::find) {
            let set: Vec<&str> =
                option.choices.iter().filter(|choice| self.choices.contains(choice)).copied().collect();
            match set[..] {
                [] => {}
                [choice] => option.set(&mut self.settings, choice)?,
                _ => return Err(format!("conflicting options set: [{}]", set.join(" "))),
            }
        }
        Ok(())
    }

    fn apply_shorthands(&mut self, say: &mut dyn FnMut(&str)) {
        for ((name, kind), is_set) in SHORTHANDS.iter().zip(self.shorthands) {
            if !is_set {
                continue;
            }
            if self.settings.sample_index.is_empty() {
                self.settings.sample_index = (*kind).into();
            } else {
                say(&format!("Multiple value selections, ignoring -{name}"));
            }
            self.settings.mean |= *name == "mean_delay";
        }
    }
}

fn integer(text: &str) -> Result<i64, &'static str> {
    go::integer(text).map_err(|error| match error {
        IntegerError::Syntax => "parse error",
        IntegerError::OutOfRange => "value out of range",
    })
}

fn float(text: &str) -> Result<f64, &'static str> {
    let number = text.parse::<f64>().map_err(|_| "parse error")?;
    let is_word = text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    if number.is_infinite() && !is_word { Err("value out of range") } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Outcome {
        parse(&line.split(' ').map(String::from).collect::<Vec<_>>())
    }

    fn refused(line: &str) -> String {
        match read(line) {
            Outcome::Refused(error) => error,
            Outcome::Help => "help".into(),
            Outcome::Flags(mut flags) => {
                flags.interpret(&mut |_| false, &mut |_| ()).map(|_| ()).unwrap_err()
            }
        }
    }

    #[test]
    fn flags_are_parsed_as_in_go() {
        let Outcome::Flags(mut flags) = read("-top --nodecount=0x10 -focus a -cum -trim=0 p -lines") else {
            panic!("refused")
        };
        let command = flags.interpret(&mut |_| false, &mut |_| ()).unwrap();
        assert_eq!(command.map(|(command, argument)| (command.name, argument)), Some(("top", None)));
        assert_eq!((flags.settings.nodecount, flags.settings.trim), (16, false));
        assert_eq!((&*flags.settings.focus, &*flags.settings.sort), ("a", "cum"));
        assert_eq!(flags.arguments, ["p", "-lines"]);
    }

    #[test]
    fn invalid_flags_give_the_error_messages_of_go() {
        for (line, error) in [
            ("-nope p", "flag provided but not defined: -nope"),
            ("-nodecount=x p", "invalid value \"x\" for flag -nodecount: parse error"),
            ("-top=maybe p", "invalid boolean value \"maybe\" for -top: parse error"),
            ("-focus", "flag needs an argument: -focus"),
            ("---top p", "bad flag syntax: ---top"),
            ("-h", "help"),
            ("-top -tree p", "must set at most one output format"),
            ("-cum -flat p", "conflicting options set: [cum flat]"),
            ("-top", "no profile source specified"),
            ("-normalize p", "must have base profile to normalize by"),
            ("-no_browser p", "-no_browser only makes sense with -http"),
        ] {
            assert_eq!(refused(line), error);
        }
    }
}
