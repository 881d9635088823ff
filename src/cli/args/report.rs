//! The options of the short forms (`rprof top --focus … --count …`): those of the table that the
//! prompt and `rprof pprof` share ([`OPTIONS`]), in the usual spelling, and how the report is
//! printed.
//!
//! `cli::report` interprets them.

use std::path::PathBuf;

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
    error::ErrorKind,
};

use crate::{
    profile::go_regexp::GoRegexp,
    report::{
        output::{Budget, FORMATS, TextFormat},
        pprof::{
            OPTIONS, Settings,
            options::{SettingOption, Slot},
        },
    },
};

/// Options that do not apply here, or that the short forms declare themselves.
const NOT_HERE: [&str; 8] = [
    "output",
    "call_tree",
    "compact_labels",
    "intel_syntax",
    "normalize",
    "nodecount",
    "sort",
    "showcolumns",
];

/// Options with another name here.
const ALIASES: [(&str, &str); 1] = [("sample_index", "sample-type")];

/// Options and choices whose help differs here from that of the prompt.
const HELP: [(&str, &str); 12] = [
    ("trim", "Show everything: ignore count and fraction limits"),
    ("functions", "Group by function"),
    ("filefunctions", "Group by function and source file"),
    ("files", "Group by source file"),
    ("lines", "Group by source line"),
    ("addresses", "Group by address"),
    ("focus", "Keep samples with a frame that matches"),
    ("mean", "Divide values by the first one (the count), which gives the mean"),
    ("nodefraction", "Omit entries below this share of the total (0.01 is 1 %)"),
    ("edgefraction", "Omit edges of graphs below this share of the total (0.01 is 1 %)"),
    ("sample_index", "Value to report: its name, or its index from 0"),
    ("unit", "Unit of values: s, ms, MB, kB ..., minimum, or auto (a unit per value)"),
];

/// Options whose value is a regular expression.
const EXPRESSIONS: [&str; 8] =
    ["focus", "ignore", "prune_from", "hide", "show", "show_from", "tagshow", "taghide"];

const HEADING: &str = "Report content";

/// All options of a report: what is counted and how it is printed.
#[derive(Debug, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    counted: SettingArgs,
    /// How the report is printed.
    #[command(flatten)]
    pub printing: PrintArgs,
}

impl ReportArgs {
    /// The report's settings, from the options given.
    pub fn settings(&self) -> Settings {
        let sort = if self.printing.cum { "cum" } else { "flat" };
        Settings { sort: sort.into(), ..self.counted.settings.clone() }
    }
}

/// What is counted: the options of the shared table.
#[derive(Clone, Debug, Default)]
pub struct SettingArgs {
    /// The settings, from the options given.
    pub settings: Settings,
}

/// How a report is printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Report format")]
pub struct PrintArgs {
    /// Sort by cumulative values, which include called functions.
    #[arg(long)]
    pub cum: bool,
    /// Show at most this many entries (0: all).
    #[arg(short = 'n', long, alias = "nodecount", value_name = "N")]
    count: Option<usize>,
    /// Output format: text, or json, markdown, csv for scripts and language models.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = text_format())]
    pub format: TextFormat,
    /// Print at most this many rows (such as 50) or bytes (such as 20kB); omitted rows are counted.
    #[arg(long, value_name = "SIZE")]
    pub budget: Option<Budget>,
    /// Print function names in full: with template arguments, and not cut to the width of the
    /// terminal.
    #[arg(long)]
    pub full_names: bool,
    /// When to color text.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorArg::Auto)]
    pub color: ColorArg,
    /// File to write instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl PrintArgs {
    /// The maximum number of entries; `None`: the report's default. A budget replaces the default
    /// limit.
    pub fn count(&self) -> Option<usize> {
        match self.count {
            Some(0) => Some(usize::MAX),
            None if self.budget.is_some() => Some(usize::MAX),
            count => count,
        }
    }
}

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Parses the name of a format.
pub fn text_format() -> impl TypedValueParser<Value = TextFormat> {
    PossibleValuesParser::new(FORMATS.map(|(name, _)| name))
        .map(|name| TextFormat::find(&name).unwrap_or_default())
}

fn options() -> impl Iterator<Item = &'static SettingOption> {
    OPTIONS.iter().filter(|option| !NOT_HERE.contains(&option.name))
}

/// `show_from` as `show-from`; an option that is on by default, as `no-trim`.
fn long_name(option: &SettingOption) -> String {
    let alias = ALIASES.iter().find(|(name, _)| *name == option.name).map(|(_, alias)| *alias);
    let name = alias.unwrap_or(option.name).replace('_', "-");
    if is_on(option) { format!("no-{name}") } else { name }
}

/// The argument's ID in clap, which must differ from those of declared arguments (`files`).
fn id(name: &str) -> String {
    format!("setting {name}")
}

fn is_on(option: &SettingOption) -> bool {
    matches!((option.slot)(&mut Settings::default()), Slot::Bool(true))
}

fn help<'a>(name: &str, otherwise: &'a str) -> &'a str {
    HELP.iter().find(|(option, _)| *option == name).map_or(otherwise, |(_, help)| help)
}

fn argument(option: &'static SettingOption) -> Arg {
    let arg = Arg::new(id(option.name)).long(long_name(option)).help_heading(HEADING);
    if option.is_bool() {
        return arg.help(help(option.name, option.help)).action(ArgAction::SetTrue);
    }
    let value = match (option.slot)(&mut Settings::default()) {
        Slot::Integer(_) | Slot::Float(_) => "N",
        _ if EXPRESSIONS.contains(&option.name) => "REGEX",
        _ => "TEXT",
    };
    let arg = arg.help(help(option.name, option.help)).value_name(value).allow_hyphen_values(true);
    if long_name(option) == option.name { arg } else { arg.alias(option.name) }
}

/// Each choice of an option, as a separate switch.
fn choices(option: &'static SettingOption) -> impl Iterator<Item = Arg> {
    option.choices.iter().map(move |choice| {
        let others: Vec<String> =
            option.choices.iter().filter(|other| *other != choice).map(|other| id(other)).collect();
        Arg::new(id(choice))
            .long(*choice)
            .action(ArgAction::SetTrue)
            .help(help(choice, option.help))
            .help_heading(HEADING)
            .conflicts_with_all(others)
    })
}

impl Args for SettingArgs {
    fn augment_args(mut command: Command) -> Command {
        for option in options() {
            command = match option.choices.is_empty() {
                true => command.arg(argument(option)),
                false => command.args(choices(option)),
            };
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        SettingArgs::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SettingArgs, Error> {
        Ok(SettingArgs { settings: settings(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.settings = settings(matches)?;
        Ok(())
    }
}

fn settings(matches: &ArgMatches) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for option in options() {
        for choice in option.choices.iter().filter(|choice| matches.get_flag(&id(choice))) {
            set(option, &mut settings, choice)?;
        }
        if !option.choices.is_empty() {
            continue;
        }
        if option.is_bool() {
            if matches.get_flag(&id(option.name)) {
                set(option, &mut settings, if is_on(option) { "false" } else { "true" })?;
            }
            continue;
        }
        let Some(value) = matches.get_one::<String>(&id(option.name)) else { continue };
        if EXPRESSIONS.contains(&option.name)
            && let Err(error) = GoRegexp::new(value)
        {
            return Err(refused(format!("--{}: {error}", long_name(option))));
        }
        set(option, &mut settings, value)?;
    }
    Ok(settings)
}

fn set(option: &SettingOption, settings: &mut Settings, value: &str) -> Result<(), Error> {
    let named = |error| refused(format!("--{}: {error}", long_name(option)));
    option.set(settings, value).map_err(named)
}

fn refused(what: String) -> Error {
    Error::raw(ErrorKind::ValueValidation, what)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        report: ReportArgs,
    }

    fn read(line: &str) -> Result<ReportArgs, String> {
        let words = ["rprof"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.report).map_err(|error| error.to_string())
    }

    #[test]
    fn every_help_text_here_belongs_to_an_option() {
        let known = |name: &str| SettingOption::find(name).or_else(|| SettingOption::of_choice(name));
        assert!(HELP.iter().all(|(name, _)| known(name).is_some()));
    }

    #[test]
    fn options_of_the_shared_table_are_set_by_their_usual_spelling() {
        let read = read(
            "--focus a|b --show-from main --lines --cum --no-trim --unit ms --sample-type cpu --divide-by 2 -n 5",
        )
        .unwrap();
        let settings = &read.settings();
        assert_eq!(
            (&*settings.focus, &*settings.show_from, &*settings.granularity),
            ("a|b", "main", "lines")
        );
        assert_eq!((&*settings.sort, settings.trim, &*settings.unit), ("cum", false, "ms"));
        assert_eq!(
            (&*settings.sample_index, settings.divide_by, read.printing.count()),
            ("cpu", 2.0, Some(5))
        );
        assert_eq!(read.printing.format, TextFormat::Text);
    }

    #[test]
    fn a_budget_replaces_the_default_count() {
        let read = |line: &str| read(line).map(|read| (read.printing.count(), read.printing.budget)).unwrap();
        assert_eq!(read(""), (None, None));
        assert_eq!(read("--count 0"), (Some(usize::MAX), None));
        assert_eq!(read("--budget 2kB"), (Some(usize::MAX), Some(Budget::Bytes(2048))));
        assert_eq!(read("--budget 9 --count 3"), (Some(3), Some(Budget::Rows(9))));
    }

    #[test]
    fn an_invalid_value_is_refused_with_the_name_of_the_option() {
        for (line, words) in [
            ("--focus (", "--focus: error parsing regexp"),
            ("--lines --files", "cannot be used with"),
            ("--divide-by x", "--divide-by"),
            ("--budget many", "many"),
            ("--format yaml", "yaml"),
            ("--focsu x", "--focus"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
