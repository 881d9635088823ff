//! The texts of `help` and `options`.
//!
//! Not here: the effect of the options (`report::pprof`).

use crate::{
    profile::columns::Columns,
    report::pprof::{COMMANDS, Command, OPTIONS, Settings, options::SettingOption},
};

/// The help text of a command or an option; of all of them if `about` is empty.
pub(super) fn help(about: &str) -> String {
    if about.is_empty() {
        return everything();
    }
    let command = Command::find(about).map(|command| command.help);
    let option = SettingOption::find(about).or_else(|| SettingOption::of_choice(about));
    match command.or(option.map(|option| option.help)) {
        Some(help) => help.into(),
        None => format!("Unknown command: {about}"),
    }
}

fn everything() -> String {
    let mut text = String::from("Commands ([n] [-cum] [regexp ...] [-regexp ...] [>file] [| program]):\n");
    for command in COMMANDS {
        text += &format!("    {:<16} {}\n", command.name, command.help);
    }
    text += "    o/options        List options and their current values\n    q/quit/exit/^D   Exit\n";
    text += "\nOptions (name=value):\n";
    for option in OPTIONS {
        let choices = option.choices.join(" | ");
        text += &format!("    {:<22} {} {choices}\n", option.name, option.help);
    }
    text += "\n    :                Clear focus, ignore, hide, tagfocus, tagignore\n";
    text += "    help NAME        Help on a command or an option";
    text
}

/// The options and their current values, in the layout of the reference.
pub(super) fn options(columns: &Columns, settings: &Settings) -> String {
    let kinds: Vec<_> = columns.header.kinds.iter().map(|kind| columns.text(kind.name)).collect();
    let mut lines: Vec<String> = Vec::new();
    for option in OPTIONS.iter().filter(|option| option.name != "source_path") {
        let mut value = option.get(settings);
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
