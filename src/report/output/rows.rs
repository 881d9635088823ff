//! Parts of rows that several reports share: names, stable IDs, whether a function is inlined.
//!
//! Not here: which rows a report has.

use super::{
    super::pprof::graph::{Info, Measure, nodes::Places},
    Cell,
};
use crate::profile::columns::Columns;

/// The ID of a row, the same in every profile and run: FNV-1a (64 bits) of the name, a zero byte
/// and the file, and where rows are lines or addresses, `:line` or `@address`.
pub fn id(name: &str, file: &str, place: Option<String>) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let place = place.unwrap_or_default();
    let bytes = name.bytes().chain([0]).chain(file.bytes()).chain(place.bytes());
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

/// The name and place of a node.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// The function, or a substitute: `[libc.so.6]`, `<unknown>`, the file.
    pub name: String,
    /// The source file; empty: unknown.
    pub file: String,
    /// The line; 0: none.
    pub line: i64,
    /// The address; 0: none.
    pub address: u64,
}

impl Named {
    /// The name and place of a node.
    pub fn new(info: &Info, columns: &Columns) -> Named {
        let (name, file) = (columns.text(info.name), columns.text(info.file));
        let bare = Info { address: 0, line: 0, ..*info };
        let name = if name.is_empty() { bare.printable(columns) } else { name.to_string() };
        Named { name, file: file.into(), line: info.line, address: info.address }
    }

    /// The stable ID of the row.
    pub fn id(&self) -> String {
        let place = match (self.address, self.line) {
            (0, 0) => None,
            (0, line) => Some(format!(":{line}")),
            (address, _) => Some(format!("@{address:x}")),
        };
        id(&self.name, &self.file, place)
    }

    /// The cells `id name file line address`.
    pub fn cells(&self) -> [Cell; 5] {
        let text = |text: &str| if text.is_empty() { Cell::Nothing } else { Cell::Text(text.into()) };
        let line = if self.line == 0 { Cell::Nothing } else { Cell::Number(self.line) };
        let address =
            if self.address == 0 { Cell::Nothing } else { Cell::Text(format!("{:#x}", self.address)) };
        [Cell::Text(self.id()), text(&self.name), text(&self.file), line, address]
    }
}

/// Which functions are inlined in the unfiltered profile.
pub struct Inlined {
    /// By row of the function: whether it occurs inlined, and whether it occurs not inlined.
    occurs: Vec<(bool, bool)>,
}

impl Inlined {
    /// Examines all locations.
    pub fn new(columns: &Columns) -> Inlined {
        let mut used = vec![false; columns.locations.len()];
        for sample in 0..columns.sample_count() {
            for location in columns.stack(sample) {
                used[*location as usize] = true;
            }
        }
        let mut occurs = vec![(false, false); columns.functions.len()];
        for (location, _) in columns.locations.iter().zip(used).filter(|(_, used)| *used) {
            let lines = columns.lines_of(location);
            for (at, line) in lines.iter().enumerate() {
                if let Some((inlined, otherwise)) = occurs.get_mut(line.function as usize) {
                    *inlined |= at + 1 < lines.len();
                    *otherwise |= at + 1 == lines.len();
                }
            }
        }
        Inlined { occurs }
    }

    /// For each node: `yes`, `partly` or `no`.
    pub fn of_nodes(&self, columns: &Columns, places: &Places) -> Vec<&'static str> {
        let mut nodes = vec![(false, false); places.infos.len()];
        for (row, location) in (0u32..).zip(&columns.locations) {
            for (line, node) in columns.lines_of(location).iter().zip(places.of(row)) {
                let occurs = self.occurs.get(line.function as usize).copied().unwrap_or_default();
                let node = &mut nodes[*node as usize];
                *node = (node.0 | occurs.0, node.1 | occurs.1);
            }
        }
        let word = |occurs| match occurs {
            (true, false) => "yes",
            (true, true) => "partly",
            _ => "no",
        };
        nodes.into_iter().map(word).collect()
    }
}

/// `value` in percent of `total`.
pub fn percent(value: i64, total: i64) -> Cell {
    match total {
        0 => Cell::Percent(0.0),
        _ => Cell::Percent(value as f64 / total as f64 * 100.0),
    }
}

/// The value of a sample; a mean where requested.
pub fn value_of(columns: &Columns, sample: usize, measure: Measure) -> i64 {
    measure.weight(columns.values(sample)).map_or(0, |weight| weight.value())
}
