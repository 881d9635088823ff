//! The options of reports: one table that the command line, the prompt and the web pages read.
//!
//! Not here: which reports there are ([`super::commands`]), and where profiles come from.

use std::path::PathBuf;

use crate::text::go::quote;

/// How a report is to be made. Names and meanings are those of the reference's options.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub output: String,
    pub call_tree: bool,
    pub relative_percentages: bool,
    pub unit: String,
    pub compact_labels: bool,
    pub source_path: String,
    /// Source files are read only below these folders; `None`: wherever the profile says they are. (Not an option of
    /// the reference: whoever shows profiles to others sets it.)
    pub source_roots: Option<Vec<PathBuf>>,
    pub trim_path: String,
    pub intel_syntax: bool,
    pub mean: bool,
    pub sample_index: String,
    pub divide_by: f64,
    pub normalize: bool,
    pub sort: String,
    pub tagroot: String,
    pub tagleaf: String,
    pub drop_negative: bool,
    /// -1: as many as the report usually shows.
    pub nodecount: i64,
    pub nodefraction: f64,
    pub edgefraction: f64,
    pub trim: bool,
    pub focus: String,
    pub ignore: String,
    pub prune_from: String,
    pub hide: String,
    pub show: String,
    pub show_from: String,
    pub tagfocus: String,
    pub tagignore: String,
    pub tagshow: String,
    pub taghide: String,
    pub noinlines: bool,
    pub showcolumns: bool,
    pub granularity: String,
}

impl Default for Settings {
    fn default() -> Settings {
        let none = String::new;
        Settings {
            output: none(),
            call_tree: false,
            relative_percentages: false,
            unit: "minimum".into(),
            compact_labels: false,
            source_path: none(),
            source_roots: None,
            trim_path: none(),
            intel_syntax: false,
            mean: false,
            sample_index: none(),
            divide_by: 1.0,
            normalize: false,
            sort: "flat".into(),
            tagroot: none(),
            tagleaf: none(),
            drop_negative: false,
            nodecount: -1,
            nodefraction: 0.005,
            edgefraction: 0.001,
            trim: true,
            focus: none(),
            ignore: none(),
            prune_from: none(),
            hide: none(),
            show: none(),
            show_from: none(),
            tagfocus: none(),
            tagignore: none(),
            tagshow: none(),
            taghide: none(),
            noinlines: false,
            showcolumns: false,
            granularity: none(),
        }
    }
}

/// Where an option's value is.
pub enum Slot<'a> {
    Bool(&'a mut bool),
    Integer(&'a mut i64),
    Float(&'a mut f64),
    Text(&'a mut String),
}

/// An option.
pub struct SettingOption {
    pub name: &'static str,
    /// The values it may have, each a switch of its own on the command line; none: any.
    pub choices: &'static [&'static str],
    /// One line that says what it does.
    pub help: &'static str,
    /// Its name in the web pages' addresses; empty: not there.
    pub url_name: &'static str,
    pub slot: fn(&mut Settings) -> Slot<'_>,
}

macro_rules! option {
    ($field:ident: $slot:ident, $url_name:literal, $help:literal) => {
        option!($field: $slot, $url_name, $help, [])
    };
    ($field:ident: $slot:ident, $url_name:literal, $help:literal, [$($choice:literal),*]) => {
        SettingOption {
            name: stringify!($field),
            choices: &[$($choice),*],
            help: $help,
            url_name: $url_name,
            slot: |settings| Slot::$slot(&mut settings.$field),
        }
    };
}

/// All options.
pub const OPTIONS: &[SettingOption] = &[
    option!(output: Text, "", "File the report is written to"),
    option!(call_tree: Bool, "calltree", "In graphs, tell apart calls by the path that led to them"),
    option!(relative_percentages: Bool, "rel", "Percentages of what the filters leave, not of everything"),
    option!(unit: Text, "unit", "Unit of values: s, ms, MB, kB ..., minimum, or auto for each its own"),
    option!(compact_labels: Bool, "compact", "Leave what is said of the whole profile out of headers"),
    option!(source_path: Text, "", "Folders in which source files are looked for"),
    option!(trim_path: Text, "", "Beginnings of source file names that are cut off"),
    option!(intel_syntax: Bool, "intel", "Assembly in Intel's notation (disasm, weblist)"),
    option!(mean: Bool, "mean", "Divide values by the first one (the count)"),
    option!(sample_index: Text, "si", "Which value to report: its name, or its number from 0"),
    option!(divide_by: Float, "", "Divide all values by this number"),
    option!(normalize: Bool, "norm", "Scale the profile to add up to what the base profile does"),
    option!(sort: Text, "sort", "Order of entries", ["cum", "flat"]),
    option!(tagroot: Text, "", "Add the values of these labels (key,key) as frames at the root"),
    option!(tagleaf: Text, "", "Add the values of these labels (key,key) as frames at the leaf"),
    option!(drop_negative: Bool, "dropneg", "Leave out what is negative (in differences)"),
    option!(nodecount: Integer, "n", "Most entries to show"),
    option!(nodefraction: Float, "nf", "Leave out entries below this share of the total"),
    option!(edgefraction: Float, "ef", "Leave out edges below this share of the total"),
    option!(trim: Bool, "trim", "Honour nodecount, nodefraction and edgefraction"),
    option!(focus: Text, "f", "Only samples with a frame that matches this regular expression"),
    option!(ignore: Text, "i", "No samples with a frame that matches"),
    option!(prune_from: Text, "prunefrom", "Cut off what the matching frame calls"),
    option!(hide: Text, "h", "Leave out frames that match"),
    option!(show: Text, "s", "Only frames that match"),
    option!(show_from: Text, "sf", "Cut off the callers of the outermost frame that matches"),
    option!(tagfocus: Text, "tf", "Only samples with a label that matches, or is in a range ([key=]1kb:2mb)"),
    option!(tagignore: Text, "ti", "No samples with a label that matches, or is in a range"),
    option!(tagshow: Text, "ts", "Only labels whose key matches"),
    option!(taghide: Text, "th", "No labels whose key matches"),
    option!(noinlines: Bool, "noinlines", "Count inlined functions as part of their callers"),
    option!(showcolumns: Bool, "showcolumns", "With lines, tell apart columns too"),
    option!(granularity: Text, "g", "What makes an entry of its own",
        ["functions", "filefunctions", "files", "lines", "addresses"]),
];

impl SettingOption {
    /// The option called `name`.
    pub fn find(name: &str) -> Option<&'static SettingOption> {
        OPTIONS.iter().find(|option| option.name == name)
    }

    /// The option that has `name` as one of its choices.
    pub fn of_choice(name: &str) -> Option<&'static SettingOption> {
        OPTIONS.iter().find(|option| option.choices.contains(&name))
    }

    /// Its value as text.
    pub fn get(&self, settings: &Settings) -> String {
        match (self.slot)(&mut settings.clone()) {
            Slot::Bool(value) => value.to_string(),
            Slot::Integer(value) => value.to_string(),
            Slot::Float(value) => value.to_string(),
            Slot::Text(value) => value.clone(),
        }
    }

    /// Sets it from text, in the prompt's way: an empty text is a yes.
    pub fn set(&self, settings: &mut Settings, text: &str) -> Result<(), String> {
        match (self.slot)(settings) {
            Slot::Bool(value) => *value = yes_or_no(text)?,
            Slot::Integer(value) => {
                let failed = |_| format!("strconv.Atoi: parsing {}: invalid syntax", quote(text));
                *value = text.parse().map_err(failed)?;
            }
            Slot::Float(value) => {
                let failed = |_| format!("strconv.ParseFloat: parsing {}: invalid syntax", quote(text));
                *value = text.parse().map_err(failed)?;
            }
            Slot::Text(value) => {
                if !self.choices.is_empty() && !self.choices.contains(&text) {
                    return Err(format!("invalid {} value {}", quote(self.name), quote(text)));
                }
                *value = text.into();
            }
        }
        Ok(())
    }

    /// Whether it is yes or no.
    pub fn is_bool(&self) -> bool {
        matches!((self.slot)(&mut Settings::default()), Slot::Bool(_))
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "" => Ok(true),
        "false" | "f" | "no" | "n" | "0" => Ok(false),
        _ => Err(format!("illegal value \"{text}\" for bool variable")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_can_be_set_to_what_it_is() {
        let mut settings = Settings::default();
        for option in OPTIONS {
            let value = option.get(&settings);
            if option.choices.is_empty() || !value.is_empty() {
                assert_eq!(option.set(&mut settings, &value), Ok(()), "{}", option.name);
            }
        }
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn what_an_option_cannot_be_is_refused() {
        let mut settings = Settings::default();
        let set = |name: &str, text: &str, settings: &mut Settings| {
            SettingOption::find(name).unwrap().set(settings, text).unwrap_err()
        };
        assert_eq!(set("sort", "size", &mut settings), "invalid \"sort\" value \"size\"");
        assert_eq!(set("trim", "maybe", &mut settings), "illegal value \"maybe\" for bool variable");
        assert_eq!(set("nodecount", "x", &mut settings), "strconv.Atoi: parsing \"x\": invalid syntax");
    }
}
