//! Adds names to an existing profile: functions and lines for locations that have none.
//!
//! Not here: finding the names; making profiles (see `builder`).

use std::collections::HashMap;

use super::proto::{Function, Label, Line, Profile};

/// One (possibly inlined) function at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedLine<'a> {
    /// Name to show.
    pub function: &'a str,
    /// Linkage name.
    pub system_name: &'a str,
    /// Empty if unknown.
    pub filename: &'a str,
    /// 0 if unknown, as in the next two fields.
    pub line: u32,
    /// From 1; 0 if unknown.
    pub column: u32,
    /// First line of the function; 0 if unknown.
    pub start_line: u32,
}

/// A profile that is being amended.
#[derive(Debug)]
pub struct Amender {
    profile: Profile,
    strings: HashMap<String, i64>,
    /// The function ID by name, system name, file (string indexes) and start line.
    functions: HashMap<(i64, i64, i64, i64), u64>,
    next_function: u64,
}

impl Amender {
    /// Begins amending `profile`.
    pub fn new(profile: Profile) -> Amender {
        let strings = profile.string_table.iter().enumerate();
        let strings = strings.map(|(index, text)| (text.clone(), index as i64)).collect();
        let key = |f: &Function| (f.name, f.system_name, f.filename, f.start_line);
        let functions = profile.function.iter().map(|f| (key(f), f.id)).collect();
        let next_function = profile.function.iter().map(|f| f.id).max().unwrap_or(0).saturating_add(1);
        Amender { profile, strings, functions, next_function }
    }

    /// The profile in its current state.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Names the location at this position of the profile's location table; `lines` are innermost
    /// first. Updates the flags of its mapping.
    pub fn name(&mut self, location: usize, lines: &[NamedLine<'_>]) {
        let named: Vec<Line> = lines
            .iter()
            .map(|line| Line {
                function_id: self.function(line),
                line: i64::from(line.line),
                column: i64::from(line.column),
            })
            .collect();
        let Some(location) = self.profile.location.get_mut(location) else { return };
        location.line = named;
        let mapping_id = location.mapping_id;
        if let Some(mapping) = self.profile.mapping.iter_mut().find(|mapping| mapping.id == mapping_id) {
            mapping.has_functions |= !lines.is_empty();
            mapping.has_filenames |= lines.iter().any(|line| !line.filename.is_empty());
            mapping.has_line_numbers |= lines.iter().any(|line| line.line != 0);
            mapping.has_inline_frames |= lines.len() > 1;
        }
    }

    /// Replaces the comments that begin with `key` by `text`, or adds `text`.
    pub fn replace_comment(&mut self, key: &str, text: &str) {
        let index = self.string(text);
        let table = &self.profile.string_table;
        let begins = |comment: &i64| {
            usize::try_from(*comment)
                .ok()
                .and_then(|at| table.get(at))
                .is_some_and(|old| old.starts_with(key))
        };
        match self.profile.comment.iter().position(begins) {
            Some(at) => self.profile.comment[at] = index,
            None => self.profile.comment.push(index),
        }
    }

    /// The amended profile.
    pub fn finish(self) -> Profile {
        self.profile
    }

    fn function(&mut self, line: &NamedLine<'_>) -> u64 {
        let (name, system_name) = (self.string(line.function), self.string(line.system_name));
        let (filename, start_line) = (self.string(line.filename), i64::from(line.start_line));
        let key = (name, system_name, filename, start_line);
        if let Some(id) = self.functions.get(&key) {
            return *id;
        }
        let id = self.next_function;
        self.next_function = self.next_function.wrapping_add(1);
        self.functions.insert(key, id);
        self.profile.function.push(Function { id, name, system_name, filename, start_line });
        id
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }
}

/// Adds the label `pid` to the samples that do not have it.
pub fn add_pid_label(profile: &mut Profile, pid: u32) {
    let known = profile.string_table.iter().position(|text| text == "pid");
    let key = known.unwrap_or(profile.string_table.len()) as i64;
    if known.is_none() {
        profile.string_table.push("pid".to_owned());
    }
    let label = Label { key, num: pid.into(), ..Label::default() };
    for sample in &mut profile.sample {
        if sample.label.iter().all(|label| label.key != key) {
            sample.label.push(label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, MappingSpec, check};

    #[test]
    fn an_unnamed_location_gets_its_names_and_the_profile_stays_valid() {
        let mut builder = Builder::new(&[("samples", "count")]);
        let spec = MappingSpec { start: 0x1000, limit: 0x2000, filename: "/x", ..Default::default() };
        let mapping = builder.mapping(&spec);
        let location = builder.location(Some(mapping), 0x1234, &[]);
        builder.sample(&[location], &[1], &[]);
        builder.comment("unnamed: 100%");
        let mut amender = Amender::new(builder.finish());
        let line = |function| NamedLine {
            function,
            system_name: function,
            filename: "x.c",
            line: 3,
            column: 0,
            start_line: 1,
        };
        amender.name(0, &[line("inner"), line("outer")]);
        amender.replace_comment("unnamed:", "unnamed: 0%");
        let profile = amender.finish();
        check(&profile).expect("valid");
        assert_eq!(profile.location[0].line.len(), 2);
        assert!(profile.mapping[0].has_functions && profile.mapping[0].has_inline_frames);
        assert_eq!(profile.comment.len(), 1);
        assert_eq!(profile.string_table[profile.comment[0] as usize], "unnamed: 0%");
    }
}
