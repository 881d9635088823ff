//! What the rows of several reports have in common: names, stable ids, whether a function is inlined.
//!
//! Not here: which rows a report has.

use super::{
    super::pprof::graph::{Info, Measure, nodes::Places},
    Cell,
};
use crate::profile::columns::Columns;

/// A number for what a row stands for, the same in every profile and every run: FNV-1a (64 bits) over
/// the name, a zero byte and the file, and where rows are lines or addresses, `:line` or `@address`.
pub fn id(name: &str, file: &str, place: Option<String>) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let place = place.unwrap_or_default();
    let bytes = name.bytes().chain([0]).chain(file.bytes()).chain(place.bytes());
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

/// The texts of a node.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// The function, or what stands for it: `[libc.so.6]`, `<unknown>`, the file.
    pub name: String,
    pub file: String,
    pub line: i64,
    pub address: u64,
}

impl Named {
    pub fn new(info: &Info, columns: &Columns) -> Named {
        let (name, file) = (columns.text(info.name), columns.text(info.file));
        let bare = Info { address: 0, line: 0, ..*info };
        let name = if name.is_empty() { bare.printable(columns) } else { name.to_string() };
        Named { name, file: file.into(), line: info.line, address: info.address }
    }

    pub fn id(&self) -> String {
        let place = match (self.address, self.line) {
            (0, 0) => None,
            (0, line) => Some(format!(":{line}")),
            (address, _) => Some(format!("@{address:x}")),
        };
        id(&self.name, &self.file, place)
    }

    /// `id name file line address`, as shapes have them.
    pub fn cells(&self) -> [Cell; 5] {
        let text = |text: &str| if text.is_empty() { Cell::Nothing } else { Cell::Text(text.into()) };
        let line = if self.line == 0 { Cell::Nothing } else { Cell::Number(self.line) };
        let address =
            if self.address == 0 { Cell::Nothing } else { Cell::Text(format!("{:#x}", self.address)) };
        [Cell::Text(self.id()), text(&self.name), text(&self.file), line, address]
    }
}

/// Which functions are inlined, as the profile has them before any filter.
pub struct Inlined {
    /// By row of the function: seen inlined, and otherwise.
    seen: Vec<(bool, bool)>,
}

impl Inlined {
    pub fn new(columns: &Columns) -> Inlined {
        let mut used = vec![false; columns.locations.len()];
        for sample in 0..columns.sample_count() {
            for location in columns.stack(sample) {
                used[*location as usize] = true;
            }
        }
        let mut seen = vec![(false, false); columns.functions.len()];
        for (location, _) in columns.locations.iter().zip(used).filter(|(_, used)| *used) {
            let lines = columns.lines_of(location);
            for (at, line) in lines.iter().enumerate() {
                if let Some((inlined, otherwise)) = seen.get_mut(line.function as usize) {
                    *inlined |= at + 1 < lines.len();
                    *otherwise |= at + 1 == lines.len();
                }
            }
        }
        Inlined { seen }
    }

    /// For each node: `yes`, `partly` or `no`.
    pub fn of_nodes(&self, columns: &Columns, places: &Places) -> Vec<&'static str> {
        let mut nodes = vec![(false, false); places.infos.len()];
        for (row, location) in (0u32..).zip(&columns.locations) {
            for (line, node) in columns.lines_of(location).iter().zip(places.of(row)) {
                let seen = self.seen.get(line.function as usize).copied().unwrap_or_default();
                let node = &mut nodes[*node as usize];
                *node = (node.0 | seen.0, node.1 | seen.1);
            }
        }
        let word = |seen| match seen {
            (true, false) => "yes",
            (true, true) => "partly",
            _ => "no",
        };
        nodes.into_iter().map(word).collect()
    }
}

/// `value` in per cent of `total`.
pub fn percent(value: i64, total: i64) -> Cell {
    match total {
        0 => Cell::Percent(0.0),
        _ => Cell::Percent(value as f64 / total as f64 * 100.0),
    }
}

/// The value of a sample; a mean where one is asked for.
pub fn value_of(columns: &Columns, sample: usize, measure: Measure) -> i64 {
    measure.weight(columns.values(sample)).map_or(0, |weight| weight.value())
}
