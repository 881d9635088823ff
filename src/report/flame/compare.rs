//! Combines two profiles into one with a value for each, so that equal stacks share a box.
//!
//! Not here: colours and shares ([`super::layout`]).

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::profile::columns::{Columns, TextId, merge};

/// The name of the base profile's value.
pub const BASE_KIND: &str = "base";

/// Combines `base` and `new`, which have the same single value. The first value of the result is
/// that of the new profile, the second, named [`BASE_KIND`], that of the base. Functions are
/// matched by name, also if a build has moved their file or program. Errors: the profiles cannot be
/// merged.
pub fn together(mut base: Columns, mut new: Columns) -> Result<Columns, String> {
    follow(&mut base, &new);
    for (columns, empty) in [(&mut base, 0), (&mut new, 1)] {
        columns.select_values(&[0, 0]);
        columns.header.kinds[1].name = columns.intern(BASE_KIND);
        columns.header.default_kind = 0;
        columns.change_values(|values| {
            values[empty] = 0;
            true
        });
    }
    let (duration_ns, time_ns) = (new.header.duration_ns, new.header.time_ns);
    let mut merged = merge::merge(vec![new, base])?;
    (merged.header.duration_ns, merged.header.time_ns) = (duration_ns, time_ns);
    Ok(merged)
}

/// Replaces the files of functions and mappings of `base` by those in `new`.
fn follow(base: &mut Columns, new: &Columns) {
    // By function name: the function's file, and the file of its mapping.
    let mut known: HashMap<&str, (&str, &str)> = HashMap::default();
    for location in &new.locations {
        let module = new.text(new.mapping_file(location));
        for line in new.lines_of(location) {
            if let Some(function) = new.functions.get(line.function as usize) {
                known.entry(new.text(function.name)).or_insert((new.text(function.file), module));
            }
        }
    }
    let mut votes: BTreeMap<(u32, TextId), usize> = BTreeMap::new();
    for at in 0..base.locations.len() {
        let location = base.locations[at].clone();
        for line in base.lines_of(&location).to_vec() {
            let Some(function) = base.functions.get(line.function as usize) else { continue };
            let Some((file, module)) = known.get(base.text(function.name)).copied() else { continue };
            let (file, module) = (base.intern(file), base.intern(module));
            base.functions[line.function as usize].file = file;
            *votes.entry((location.mapping, module)).or_default() += 1;
        }
    }
    for (row, mapping) in (0u32..).zip(&mut base.mappings) {
        let own = votes.iter().filter(|((voted, _), _)| *voted == row);
        if let Some(((_, module), _)) = own.max_by_key(|(_, count)| **count) {
            mapping.file = *module;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        profile::{Builder, LineSpec, MappingSpec, columns::decode, encode_gzip},
        report::{
            Stacks,
            flame::{FlameOptions, layout},
        },
    };

    /// A profile of a program built in `folder`, where `parse` has `parse` of 100 samples.
    fn build(folder: &str, parse: i64) -> Columns {
        let mut builder = Builder::new(&[("cpu", "nanoseconds")]);
        let file = format!("{folder}/app");
        let mapping = builder.mapping(&MappingSpec {
            start: 0x1000,
            limit: 0x9000,
            filename: &file,
            ..MappingSpec::default()
        });
        for (at, (name, value)) in [("parse", parse), ("write", 100 - parse)].into_iter().enumerate() {
            let function = builder.function(name, name, &format!("{folder}/{name}.c"), 1);
            let address = 0x1000 + at as u64 * 16 + parse as u64;
            let line = LineSpec { function, line: 3, column: 0 };
            let location = builder.location(Some(mapping), address, &[line]);
            builder.sample(&[location], &[value], &[]);
        }
        decode::read(encode_gzip(&builder.finish())).unwrap()
    }

    #[test]
    fn programs_built_in_different_folders_are_compared_by_function() {
        let merged = together(build("/build/1", 60), build("/build/2", 20)).unwrap();
        let profile = crate::profile::decode::decode(&merged.encode()).unwrap();
        let stacks = Stacks::new(&profile);
        let options = FlameOptions { compared_with: Some(1), ..FlameOptions::default() };
        let layout = layout::lay_out(&stacks, 0, &options);
        let boxes: Vec<_> = layout.boxes.iter().map(|placed| (placed.value, placed.base)).collect();
        assert_eq!(boxes, [(100, 100), (80, 40), (20, 60)]);
        let growths: Vec<_> =
            layout.boxes.iter().map(|placed| (layout.growth(placed) * 100.0).round()).collect();
        assert_eq!(growths, [0.0, 40.0, -40.0]);
        assert!(layout.comparison().unwrap().contains(" 0.00% of the base is in calls"));
    }
}
