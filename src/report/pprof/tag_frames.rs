//! Labels as frames: at the root or the leaf of each stack, one per requested key.
//!
//! Not here: filters by label ([`super::tag_filter`]).

use rustc_hash::FxHashMap;

use crate::profile::{
    columns::{Columns, Function, Label, Line, Location, NONE, TextId},
    unit,
};

/// Adds the frames. Returns for roots and for leaves whether any sample had such a label.
pub(super) fn add(columns: &mut Columns, roots: &str, leaves: &str, unit: &str) -> (bool, bool) {
    let keys = |list: &str| -> Vec<String> {
        list.split(',').filter(|key| !key.is_empty()).map(String::from).collect()
    };
    let (roots, leaves) = (keys(roots), keys(leaves));
    if roots.is_empty() && leaves.is_empty() {
        return (false, false);
    }
    let max_id = |ids: &mut dyn Iterator<Item = u64>| ids.max().unwrap_or(0);
    let mut frames = Frames {
        next_location: max_id(&mut columns.locations.iter().map(|location| location.id)) + 1,
        next_function: max_id(&mut columns.functions.iter().map(|function| function.id)) + 1,
        known: FxHashMap::default(),
        unit,
    };
    let (mut root_found, mut leaf_found) = (false, false);
    columns.extend_stacks(|columns, sample| {
        let roots = frames.of(columns, sample, &roots, &mut root_found);
        let leaves = frames.of(columns, sample, &leaves, &mut leaf_found);
        (leaves, roots)
    });
    (root_found, leaf_found)
}

struct Frames<'a> {
    next_location: u64,
    next_function: u64,
    /// Locations by name and key.
    known: FxHashMap<(TextId, TextId), u32>,
    unit: &'a str,
}

impl Frames<'_> {
    /// The frames of a sample, leaf first; the last key is nearest to the leaf.
    fn of(&mut self, columns: &mut Columns, sample: usize, keys: &[String], found: &mut bool) -> Vec<u32> {
        let mut frames = Vec::new();
        for key in keys.iter().rev() {
            let values = self.values(columns, sample, key);
            *found |= !values.is_empty();
            let name = columns.intern(&values.join(","));
            let file = columns.intern(key);
            frames.push(self.location(columns, name, file));
        }
        frames
    }

    fn location(&mut self, columns: &mut Columns, name: TextId, file: TextId) -> u32 {
        if let Some(row) = self.known.get(&(name, file)) {
            return *row;
        }
        let function = columns.functions.len() as u32;
        let id = self.next_function;
        columns.functions.push(Function { id, name, file, ..Function::default() });
        let location = Location { id: self.next_location, mapping: NONE, ..Location::default() };
        let row = columns.push_location(location, &[Line { function, line: 0, column: 0 }]);
        self.next_function += 1;
        self.next_location += 1;
        self.known.insert((name, file), row);
        row
    }

    /// The values of a key as texts, numbers after texts.
    fn values(&self, columns: &Columns, sample: usize, key: &str) -> Vec<String> {
        let Some(key) = columns.texts.find(key) else { return Vec::new() };
        let labels = || columns.labels(sample).iter().filter(|label| label.key == key);
        let texts = labels().filter_map(Label::as_text).map(|text| columns.text(text).to_string());
        let has_units = labels().filter_map(Label::as_number).any(|(_, unit)| unit != 0);
        let numbers = labels().filter_map(Label::as_number).map(|(number, unit)| {
            if has_units {
                unit::scaled_label(number, columns.text(unit), self.unit)
            } else {
                unit::scaled_label(number, "", "")
            }
        });
        texts.chain(numbers).collect()
    }
}
