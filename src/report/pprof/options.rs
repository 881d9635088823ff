//! The options of reports: one table for the command line, the prompt and the web pages.
//!
//! Not here: the commands ([`super::commands`]), sources of profiles.

use std::path::PathBuf;

use crate::text::go::quote;

/// The values of all options. Names and meanings are those of the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The file that the report is written to; empty: standard output.
    pub output: String,
    /// Distinguish calls by their path in graphs.
    pub call_tree: bool,
    /// Percentages are relative to the filtered total.
    pub relative_percentages: bool,
    /// The unit of values: a unit, `minimum`, or `auto`.
    pub unit: String,
    /// Omit facts about the whole profile in headers.
    pub compact_labels: bool,
    /// Folders with source files, separated by colons.
    pub source_path: String,
    /// Source files are read only below these folders; `None`: everywhere. (Not an option of the
    /// reference. `rprof serve` sets it.)
    pub source_roots: Option<Vec<PathBuf>>,
    /// Prefixes to remove from source paths, separated by colons.
    pub trim_path: String,
    /// Instructions in Intel syntax.
    pub intel_syntax: bool,
    /// Fold template arguments in the boxes of graphs. The reference does not.
    pub folded_labels: bool,
    /// Divide values by the first value.
    pub mean: bool,
    /// The value to report: its name or index; empty: the default.
    pub sample_index: String,
    /// All values are divided by this number.
    pub divide_by: f64,
    /// Scale the profile to the total of the base profile.
    pub normalize: bool,
    /// The order of entries: `flat` or `cum`.
    pub sort: String,
    /// Labels whose values become frames at the root, separated by commas.
    pub tagroot: String,
    /// Labels whose values become frames at the leaf, separated by commas.
    pub tagleaf: String,
    /// Omit negative values.
    pub drop_negative: bool,
    /// Maximum number of entries; -1: the report's default.
    pub nodecount: i64,
    /// Omit entries below this share of the total.
    pub nodefraction: f64,
    /// Omit edges below this share of the total.
    pub edgefraction: f64,
    /// Apply `nodecount`, `nodefraction` and `edgefraction`.
    pub trim: bool,
    /// Keep samples with a frame that matches this regular expression.
    pub focus: String,
    /// Remove samples with a frame that matches.
    pub ignore: String,
    /// Remove the callees of matching frames.
    pub prune_from: String,
    /// Remove matching frames.
    pub hide: String,
    /// Keep matching frames only.
    pub show: String,
    /// Remove the callers of the outermost matching frame.
    pub show_from: String,
    /// Keep samples with a label that matches, or is in a range.
    pub tagfocus: String,
    /// Remove samples with a label that matches, or is in a range.
    pub tagignore: String,
    /// Keep labels whose key matches.
    pub tagshow: String,
    /// Remove labels whose key matches.
    pub taghide: String,
    /// Count inlined functions as part of their callers.
    pub noinlines: bool,
    /// Distinguish columns with the granularity `lines`.
    pub showcolumns: bool,
    /// What is one entry: `functions`, `filefunctions`, `files`, `lines`, `addresses`; empty: the
    /// report's default.
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
            folded_labels: false,
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

/// A reference to an option's value, by type.
pub enum Slot<'a> {
    /// A switch.
    Bool(&'a mut bool),
    /// An integer.
    Integer(&'a mut i64),
    /// A number.
    Float(&'a mut f64),
    /// A text.
    Text(&'a mut String),
}

/// An option.
pub struct SettingOption {
    /// The name.
    pub name: &'static str,
    /// The possible values, each also a switch on the command line; empty: any value.
    pub choices: &'static [&'static str],
    /// The help text, one line.
    pub help: &'static str,
    /// The name of its URL parameter in the web pages; empty: none.
    pub url_name: &'static str,
    /// The value in the settings.
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
    option!(output: Text, "", "Write the report to this file"),
    option!(call_tree: Bool, "calltree", "Show the graph as a call tree: one node per call path"),
    option!(relative_percentages: Bool, "rel", "Percentages are relative to the filtered total"),
    option!(unit: Text, "unit", "Unit of values: s, ms, MB, kB ..., minimum, or auto (per value)"),
    option!(compact_labels: Bool, "compact", "Omit facts about the whole profile in headers"),
    option!(source_path: Text, "", "Search these folders for source files"),
    option!(trim_path: Text, "", "Remove these prefixes from source file names"),
    option!(intel_syntax: Bool, "intel", "Instructions in Intel syntax (disasm, weblist)"),
    option!(mean: Bool, "mean", "Divide values by the first one (the count)"),
    option!(sample_index: Text, "si", "The value to report: its name, or its index from 0"),
    option!(divide_by: Float, "", "Divide all values by this number"),
    option!(normalize: Bool, "norm", "Scale the profile to the total of the base profile"),
    option!(sort: Text, "sort", "Order of entries", ["cum", "flat"]),
    option!(tagroot: Text, "", "Add the values of these labels (key,key) as frames at the root"),
    option!(tagleaf: Text, "", "Add the values of these labels (key,key) as frames at the leaf"),
    option!(drop_negative: Bool, "dropneg", "Omit negative values (in differences)"),
    option!(nodecount: Integer, "n", "Maximum number of entries"),
    option!(nodefraction: Float, "nf", "Omit entries below this share of the total"),
    option!(edgefraction: Float, "ef", "Omit edges below this share of the total"),
    option!(trim: Bool, "trim", "Apply nodecount, nodefraction and edgefraction"),
    option!(focus: Text, "f", "Keep samples with a frame that matches this regular expression"),
    option!(ignore: Text, "i", "Remove samples with a frame that matches"),
    option!(prune_from: Text, "prunefrom", "Remove the callees of matching frames"),
    option!(hide: Text, "h", "Remove matching frames"),
    option!(show: Text, "s", "Keep matching frames only"),
    option!(show_from: Text, "sf", "Remove the callers of the outermost matching frame"),
    option!(tagfocus: Text, "tf", "Keep samples with a label that matches, or is in a range ([key=]1kb:2mb)"),
    option!(tagignore: Text, "ti", "Remove samples with a label that matches, or is in a range"),
    option!(tagshow: Text, "ts", "Keep labels whose key matches"),
    option!(taghide: Text, "th", "Remove labels whose key matches"),
    option!(noinlines: Bool, "noinlines", "Count inlined functions as part of their callers"),
    option!(showcolumns: Bool, "showcolumns", "With -lines, distinguish columns"),
    option!(granularity: Text, "g", "Group by",
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

    /// The value as text.
    pub fn get(&self, settings: &Settings) -> String {
        match (self.slot)(&mut settings.clone()) {
            Slot::Bool(value) => value.to_string(),
            Slot::Integer(value) => value.to_string(),
            Slot::Float(value) => value.to_string(),
            Slot::Text(value) => value.clone(),
        }
    }

    /// Sets the value from text, as the prompt does: an empty text sets a switch. Errors: the texts
    /// of the reference.
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

    /// Whether it is a switch.
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
    fn every_option_can_be_set_to_its_own_value() {
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
    fn invalid_values_are_rejected() {
        let mut settings = Settings::default();
        let set = |name: &str, text: &str, settings: &mut Settings| {
            SettingOption::find(name).unwrap().set(settings, text).unwrap_err()
        };
        assert_eq!(set("sort", "size", &mut settings), "invalid \"sort\" value \"size\"");
        assert_eq!(set("trim", "maybe", &mut settings), "illegal value \"maybe\" for bool variable");
        assert_eq!(set("nodecount", "x", &mut settings), "strconv.Atoi: parsing \"x\": invalid syntax");
    }
}
