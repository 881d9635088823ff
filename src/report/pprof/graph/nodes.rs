//! Maps each line of each location to a node.
//!
//! Not here: weights.

use hashbrown::HashMap;

use super::Info;
use crate::{
    profile::columns::{Columns, Line, Location},
    text::path::clean_path,
};

/// How nodes are identified.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// Functions of the same name in different objects are different nodes.
    pub objects: bool,
    /// The shown file names, by row of the function.
    pub files: Vec<u32>,
}

impl Naming {
    /// Identifies nodes by file names shortened with `shorten`.
    pub fn new(columns: &mut Columns, objects: bool, shorten: impl Fn(&str) -> String) -> Naming {
        let mut files = Vec::with_capacity(columns.functions.len());
        let mut known: HashMap<u32, u32> = HashMap::new();
        for at in 0..columns.functions.len() {
            let file = columns.functions[at].file;
            let shown = match known.get(&file) {
                Some(shown) => *shown,
                None => {
                    let short = shorten(columns.text(file));
                    let shown = if short.is_empty() { 0 } else { columns.intern(&clean_path(&short)) };
                    known.insert(file, shown);
                    shown
                }
            };
            files.push(shown);
        }
        Naming { objects, files }
    }

    /// The info of a line of a location, or of a location without lines.
    pub fn info(&self, columns: &Columns, location: &Location, line: Option<&Line>) -> Info {
        let object = columns.mapping_file(location);
        let row = line.map_or(usize::MAX, |line| line.function as usize);
        let (Some(line), Some(function)) = (line, columns.functions.get(row)) else {
            return Info { address: location.address, object, ..Info::default() };
        };
        let with_object = self.objects || function.name == 0;
        Info {
            name: function.name,
            address: location.address,
            file: self.files.get(row).copied().unwrap_or(0),
            start_line: if with_object { function.start_line } else { 0 },
            line: line.line,
            column: line.column,
            object: if with_object { object } else { 0 },
        }
    }
}

/// The nodes of all locations, numbered without gaps.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The nodes.
    pub infos: Vec<Info>,
    /// The start of each location in `nodes`.
    starts: Vec<u32>,
    /// Node numbers of all locations, innermost line first.
    nodes: Vec<u32>,
}

impl Places {
    /// The nodes of all locations.
    pub fn new(columns: &Columns, naming: &Naming) -> Places {
        let mut places = Places::default();
        let mut numbers: HashMap<Info, u32> = HashMap::new();
        places.starts.reserve(columns.locations.len() + 1);
        places.starts.push(0);
        for location in &columns.locations {
            let lines = columns.lines_of(location);
            let mut add = |line: Option<&Line>| {
                let info = naming.info(columns, location, line);
                let new = places.infos.len() as u32;
                let number = *numbers.entry(info).or_insert(new);
                if number == new {
                    places.infos.push(info);
                }
                places.nodes.push(number);
            };
            if lines.is_empty() {
                add(None);
            }
            lines.iter().for_each(|line| add(Some(line)));
            places.starts.push(places.nodes.len() as u32);
        }
        places
    }

    /// The nodes of a location, innermost first. All but the last are inlined.
    #[inline]
    pub fn of(&self, location: u32) -> &[u32] {
        &self.nodes[self.starts[location as usize] as usize..self.starts[location as usize + 1] as usize]
    }

    /// The same locations, with nodes identified by `by` of their infos.
    pub fn merged(&self, by: impl Fn(&Info) -> Info) -> Places {
        let mut merged = Places { starts: self.starts.clone(), ..Places::default() };
        let mut numbers: HashMap<Info, u32> = HashMap::new();
        let mut renumbered = Vec::with_capacity(self.infos.len());
        for info in self.infos.iter().map(by) {
            let new = merged.infos.len() as u32;
            let number = *numbers.entry(info).or_insert(new);
            if number == new {
                merged.infos.push(info);
            }
            renumbered.push(number);
        }
        merged.nodes = self.nodes.iter().map(|node| renumbered[*node as usize]).collect();
        merged
    }

    /// For each node, whether it is ever inlined into another.
    pub fn inlined(&self) -> Vec<bool> {
        let mut inlined = vec![false; self.infos.len()];
        for bounds in self.starts.windows(2) {
            let nodes = &self.nodes[bounds[0] as usize..bounds[1] as usize];
            for node in nodes.split_last().map_or(&[][..], |(_, inner)| inner) {
                inlined[*node as usize] = true;
            }
        }
        inlined
    }
}
