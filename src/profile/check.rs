//! Checks whether a profile is valid, by the rules of `CheckValid` in google/pprof's `profile`
//! package and the comments in `profile.proto`.
//!
//! Not here: repair. An invalid profile is refused.

use super::ids::IdIndex;
use super::proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

/// The first fault of a profile, and its place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The string table does not begin with the empty string.
    #[error("string_table[0] is not the empty string")]
    FirstString,
    /// A string index is out of range.
    #[error("{field} is string {index}, but the table has {count}")]
    String {
        /// The field that holds the index.
        field: String,
        /// The index.
        index: i64,
        /// Size of the string table.
        count: usize,
    },
    /// There are samples but no sample types.
    #[error("the profile has samples but no sample_type")]
    NoSampleType,
    /// A sample has the wrong number of values.
    #[error("sample[{sample}].value has {found} values for {expected} sample types")]
    ValueCount {
        /// Position of the sample.
        sample: usize,
        /// Number of its values.
        found: usize,
        /// Number of sample types.
        expected: usize,
    },
    /// An entry has the ID 0, which is reserved.
    #[error("{field} is 0, which no id may be")]
    ZeroId {
        /// The field.
        field: String,
    },
    /// Two entries of one table have the same ID.
    #[error("{field} is {id}, which another has too")]
    SameId {
        /// The field of the second entry.
        field: String,
        /// The ID.
        id: u64,
    },
    /// A field refers to an ID that no entry has.
    #[error("{field} is {id}, and no {what} has that id")]
    Reference {
        /// The field.
        field: String,
        /// The ID.
        id: u64,
        /// The kind of entry it should name.
        what: &'static str,
    },
}

/// Checks a profile. The error is the first fault found.
pub fn check(profile: &Profile) -> Result<(), CheckError> {
    if profile.string_table.first().map(String::as_str) != Some("") {
        return Err(CheckError::FirstString);
    }
    let strings = Strings { count: profile.string_table.len() };
    check_header(profile, &strings)?;
    let mappings = unique_ids("mapping", profile.mapping.iter().map(|m| m.id))?;
    let functions = unique_ids("function", profile.function.iter().map(|f| f.id))?;
    let locations = unique_ids("location", profile.location.iter().map(|l| l.id))?;
    for (at, mapping) in profile.mapping.iter().enumerate() {
        check_mapping(at, mapping, &strings)?;
    }
    for (at, function) in profile.function.iter().enumerate() {
        check_function(at, function, &strings)?;
    }
    for (at, location) in profile.location.iter().enumerate() {
        check_location(at, location, &mappings, &functions)?;
    }
    for (at, sample) in profile.sample.iter().enumerate() {
        check_sample(at, sample, profile.sample_type.len(), &locations, &strings)?;
    }
    Ok(())
}

/// Number of strings in the table.
struct Strings {
    count: usize,
}

impl Strings {
    fn check(&self, index: i64, field: impl FnOnce() -> String) -> Result<(), CheckError> {
        if usize::try_from(index).is_ok_and(|index| index < self.count) {
            return Ok(());
        }
        Err(CheckError::String { field: field(), index, count: self.count })
    }

    fn check_value_type(&self, value: &ValueType, field: impl Fn() -> String) -> Result<(), CheckError> {
        self.check(value.r#type, || format!("{}.type", field()))?;
        self.check(value.unit, || format!("{}.unit", field()))
    }
}

fn check_header(profile: &Profile, strings: &Strings) -> Result<(), CheckError> {
    for (at, value) in profile.sample_type.iter().enumerate() {
        strings.check_value_type(value, || format!("sample_type[{at}]"))?;
    }
    if let Some(value) = &profile.period_type {
        strings.check_value_type(value, || "period_type".to_string())?;
    }
    for (at, comment) in profile.comment.iter().enumerate() {
        strings.check(*comment, || format!("comment[{at}]"))?;
    }
    strings.check(profile.drop_frames, || "drop_frames".to_string())?;
    strings.check(profile.keep_frames, || "keep_frames".to_string())?;
    strings.check(profile.default_sample_type, || "default_sample_type".to_string())?;
    strings.check(profile.doc_url, || "doc_url".to_string())?;
    if profile.sample_type.is_empty() && !profile.sample.is_empty() {
        return Err(CheckError::NoSampleType);
    }
    Ok(())
}

fn unique_ids(table: &str, ids: impl Iterator<Item = u64> + Clone) -> Result<IdIndex, CheckError> {
    if let Some(at) = ids.clone().position(|id| id == 0) {
        return Err(CheckError::ZeroId { field: format!("{table}[{at}].id") });
    }
    let (index, repeated) = IdIndex::new(ids);
    match repeated {
        None => Ok(index),
        Some((at, id)) => Err(CheckError::SameId { field: format!("{table}[{at}].id"), id }),
    }
}

fn check_mapping(at: usize, mapping: &Mapping, strings: &Strings) -> Result<(), CheckError> {
    strings.check(mapping.filename, || format!("mapping[{at}].filename"))?;
    strings.check(mapping.build_id, || format!("mapping[{at}].build_id"))
}

fn check_function(at: usize, function: &Function, strings: &Strings) -> Result<(), CheckError> {
    strings.check(function.name, || format!("function[{at}].name"))?;
    strings.check(function.system_name, || format!("function[{at}].system_name"))?;
    strings.check(function.filename, || format!("function[{at}].filename"))
}

fn check_location(
    at: usize,
    location: &Location,
    mappings: &IdIndex,
    functions: &IdIndex,
) -> Result<(), CheckError> {
    let id = location.mapping_id;
    if id != 0 && !mappings.contains(id) {
        let field = format!("location[{at}].mapping_id");
        return Err(CheckError::Reference { field, id, what: "mapping" });
    }
    for (line_at, Line { function_id, .. }) in location.line.iter().enumerate() {
        // The proto allows a line without a function, but a line without a name is useless.
        if *function_id == 0 || !functions.contains(*function_id) {
            let field = format!("location[{at}].line[{line_at}].function_id");
            return Err(CheckError::Reference { field, id: *function_id, what: "function" });
        }
    }
    Ok(())
}

fn check_sample(
    at: usize,
    sample: &Sample,
    expected: usize,
    locations: &IdIndex,
    strings: &Strings,
) -> Result<(), CheckError> {
    if sample.value.len() != expected {
        return Err(CheckError::ValueCount { sample: at, found: sample.value.len(), expected });
    }
    for (place, id) in sample.location_id.iter().enumerate() {
        if !locations.contains(*id) {
            let field = format!("sample[{at}].location_id[{place}]");
            return Err(CheckError::Reference { field, id: *id, what: "location" });
        }
    }
    for (label_at, label) in sample.label.iter().enumerate() {
        check_label(at, label_at, label, strings)?;
    }
    Ok(())
}

fn check_label(sample: usize, at: usize, label: &Label, strings: &Strings) -> Result<(), CheckError> {
    strings.check(label.key, || format!("sample[{sample}].label[{at}].key"))?;
    strings.check(label.str, || format!("sample[{sample}].label[{at}].str"))?;
    strings.check(label.num_unit, || format!("sample[{sample}].label[{at}].num_unit"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, LabelValue, LineSpec, MappingSpec};

    fn valid() -> Profile {
        let mut builder = Builder::new(&[("cpu", "nanoseconds")]);
        let mapping = builder.mapping(&MappingSpec { filename: "/bin/a", ..MappingSpec::default() });
        let function = builder.function("main", "main", "a.c", 1);
        let location = builder.location(Some(mapping), 0x10, &[LineSpec { function, line: 2, column: 0 }]);
        builder.sample(&[location], &[5], &[("thread", LabelValue::Text("a"))]);
        builder.set_period("cpu", "nanoseconds", 5);
        builder.finish()
    }

    fn message(break_it: impl FnOnce(&mut Profile)) -> String {
        let mut profile = valid();
        break_it(&mut profile);
        check(&profile).unwrap_err().to_string()
    }

    #[test]
    fn the_builders_output_is_valid() {
        assert_eq!(check(&valid()), Ok(()));
    }

    #[test]
    fn each_fault_is_named_with_its_field() {
        assert_eq!(message(|p| p.string_table.clear()), "string_table[0] is not the empty string");
        assert_eq!(message(|p| p.string_table[0] = "x".into()), "string_table[0] is not the empty string");
        assert_eq!(message(|p| p.doc_url = -1), "doc_url is string -1, but the table has 8");
        assert_eq!(
            message(|p| p.sample_type[0].unit = 99),
            "sample_type[0].unit is string 99, but the table has 8"
        );
        assert_eq!(message(|p| p.sample[0].value.push(1)), "sample[0].value has 2 values for 1 sample types");
        assert_eq!(message(|p| p.sample_type.clear()), "the profile has samples but no sample_type");
        assert_eq!(
            message(|p| p.sample[0].location_id[0] = 9),
            "sample[0].location_id[0] is 9, and no location has that id"
        );
        assert_eq!(
            message(|p| p.location[0].mapping_id = 9),
            "location[0].mapping_id is 9, and no mapping has that id"
        );
        assert_eq!(
            message(|p| p.location[0].line[0].function_id = 0),
            "location[0].line[0].function_id is 0, and no function has that id"
        );
        assert_eq!(message(|p| p.mapping[0].id = 0), "mapping[0].id is 0, which no id may be");
        assert_eq!(message(|p| p.function.push(p.function[0])), "function[1].id is 1, which another has too");
        assert_eq!(
            message(|p| p.sample[0].label[0].key = 30),
            "sample[0].label[0].key is string 30, but the table has 8"
        );
    }
}
