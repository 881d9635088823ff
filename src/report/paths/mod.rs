//! The heaviest call paths of a profile as a small tree: what a first look at a profile should
//! show.
//!
//! [`heaviest`] gives rows, [`text`] writes them in a given width. Not here: which command shows
//! them and where (`cli`).

pub mod category;
pub mod fold;
pub mod text;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::profile::columns::{Columns, TextId};
use category::{Category, FrameFacts, Rules, category};
use fold::{Expand, Frame, Shown, fold};
use tree::Tree;

pub use tree::Row;

/// Options of [`heaviest`].
#[derive(Clone, Copy, Debug)]
pub struct PathOptions {
    /// Most rows.
    pub rows: usize,
    /// What is not folded.
    pub expand: Expand,
}

/// The heaviest paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Paths {
    /// The sum of the values of all samples.
    pub total: i64,
    /// The name and unit of the values: `cpu`, `nanoseconds`.
    pub kind: (String, String),
    /// The number of samples.
    pub samples: i64,
    /// The 95 % confidence interval of a share of one half is this many percentage points to each
    /// side.
    pub error_points: f64,
    /// The tree, each node followed by its callees.
    pub rows: Vec<Row>,
    /// The functions with the largest own values, not folded and without the kernel's: name and
    /// own share.
    pub hottest: Vec<(String, f64)>,
    /// The share of samples in the kernel.
    pub kernel: f64,
}

/// The heaviest paths by the values with index `value`.
pub fn heaviest(columns: &Columns, value: usize, options: PathOptions) -> Paths {
    let functions = Functions::new(columns);
    let mut tree = CallTree::new(options.expand);
    let mut own: HashMap<u32, i64> = HashMap::new();
    let mut stack = Vec::new();
    for sample in 0..columns.sample_count() {
        let weight = columns.values(sample).get(value).copied().unwrap_or(0);
        if weight == 0 {
            continue;
        }
        functions.stack(columns, sample, &mut stack);
        if let Some(leaf) = stack.last() {
            *own.entry(leaf.id).or_default() += weight;
        }
        tree.add(&stack, weight);
    }
    let total = tree.total();
    let share = |value: i64| if total == 0 { 0.0 } else { value as f64 / total as f64 };
    let kind = columns.header.kinds.get(value).copied().unwrap_or_default();
    let is_kernel = |id: u32| functions.all[id as usize].category == Category::Kernel;
    let in_kernel = own.iter().filter(|(id, _)| is_kernel(**id)).map(|(_, value)| *value).sum::<i64>();
    let mut hottest: Vec<(u32, i64)> = own.into_iter().filter(|(id, _)| !is_kernel(*id)).collect();
    hottest.sort_by_key(|(id, value)| (std::cmp::Reverse(*value), *id));
    hottest.truncate(HOTTEST);
    Paths {
        total,
        kind: (columns.text(kind.name).to_owned(), columns.text(kind.unit).to_owned()),
        samples: sample_count(columns),
        error_points: error_points(columns, value),
        rows: tree.rows(options.rows, &|id| functions.all[id as usize].described()),
        kernel: share(in_kernel),
        hottest: hottest
            .into_iter()
            .map(|(id, value)| (functions.all[id as usize].name.clone(), share(value)))
            .collect(),
    }
}

/// How many functions with the largest own values are listed.
const HOTTEST: usize = 8;

/// The number of samples of a profile: the sum of its `samples` values; in profiles without them
/// (events, heap), the number of stacks.
pub fn sample_count(columns: &Columns) -> i64 {
    let kinds = &columns.header.kinds;
    match kinds.iter().position(|kind| columns.text(kind.name) == "samples") {
        Some(at) => {
            let values = (0..columns.sample_count()).filter_map(|sample| columns.values(sample).get(at));
            values.fold(0, |sum, value| value.saturating_add(sum))
        }
        None => columns.sample_count() as i64,
    }
}

/// Half the width of the 95 % confidence interval of a share of one half, in percentage points.
/// Samples of unequal weight carry less information (L. Kish, "Survey Sampling", 1965).
pub fn error_points(columns: &Columns, value: usize) -> f64 {
    let kinds = &columns.header.kinds;
    let counts = kinds.iter().position(|kind| ["samples", "waits"].contains(&columns.text(kind.name)));
    let (mut sum, mut squares) = (0.0f64, 0.0f64);
    for sample in 0..columns.sample_count() {
        let values = columns.values(sample);
        let weight = values.get(value).copied().unwrap_or(0) as f64;
        let count = counts.and_then(|at| values.get(at)).copied().unwrap_or(1).max(1) as f64;
        sum += weight;
        squares += weight * weight / count;
    }
    let effective = if squares > 0.0 { sum * sum / squares } else { 0.0 };
    if effective > 0.0 { (98.0 / effective.sqrt()).min(50.0) } else { 50.0 }
}

/// A function, for the rows of a [`CallTree`].
#[derive(Clone, Copy, Debug)]
pub struct Described<'f> {
    /// Its name.
    pub name: &'f str,
    /// The file name of its module; empty: none.
    pub module: &'f str,
    /// Whether it is the kernel.
    pub is_kernel: bool,
}

/// Folded stacks as a tree.
pub struct CallTree {
    expand: Expand,
    tree: Tree,
    kernel: KernelLines,
    /// The keys of the stack that is being added.
    keys: Vec<u32>,
}

impl CallTree {
    /// A tree without stacks; `expand` is not folded.
    pub fn new(expand: Expand) -> CallTree {
        CallTree { expand, tree: Tree::default(), kernel: KernelLines::default(), keys: Vec::new() }
    }

    /// Adds a stack, root first.
    pub fn add(&mut self, stack: &[Frame<'_>], weight: i64) {
        let mut shown = Vec::new();
        fold(stack, self.expand, &mut shown);
        self.keys.clear();
        self.keys.extend(shown.iter().map(|shown| self.kernel.key(shown)));
        self.tree.add(&self.keys, weight);
    }

    /// The sum of all weights.
    pub fn total(&self) -> i64 {
        self.tree.total()
    }

    /// The heaviest `count` rows, each followed by its callees; `describe` describes the function
    /// with a number.
    pub fn rows<'f>(&'f self, count: usize, describe: &'f dyn Fn(u32) -> Described<'f>) -> Vec<Row> {
        self.tree.rows(count, &Names { describe, kernel: &self.kernel })
    }
}

/// The functions of a profile, equal names in equal modules once.
struct Functions {
    all: Vec<Function>,
    /// For each location, its functions, outermost first.
    of_location: Vec<Vec<u32>>,
}

struct Function {
    name: String,
    module: String,
    category: Category,
}

impl Function {
    fn described(&self) -> Described<'_> {
        let is_kernel = self.category == Category::Kernel;
        Described { name: &self.name, module: &self.module, is_kernel }
    }
}

impl Functions {
    fn new(columns: &Columns) -> Functions {
        let mut functions =
            Functions { all: Vec::new(), of_location: Vec::with_capacity(columns.locations.len()) };
        let mut known: HashMap<(TextId, TextId, bool), u32> = HashMap::new();
        let comments = columns.header.comments.iter().map(|comment| columns.text(*comment));
        let rules = Rules::new(comments);
        let main_module = columns.mappings.first().map_or("", |mapping| columns.text(mapping.file));
        for location in &columns.locations {
            let module = columns.mapping_file(location);
            let is_kernel_address = location.address >> 63 == 1;
            let mut of_location: Vec<u32> = Vec::new();
            for line in columns.lines_of(location).iter().rev() {
                let Some(function) = columns.functions.get(line.function as usize) else { continue };
                let name = if function.name == 0 { function.system_name } else { function.name };
                if name == 0 {
                    continue;
                }
                let id = *known.entry((name, module, is_kernel_address)).or_insert_with(|| {
                    let facts = FrameFacts {
                        name: columns.text(name),
                        file: columns.text(function.file),
                        module: columns.text(module),
                        main_module,
                        is_kernel_address,
                    };
                    functions.add(facts, &rules)
                });
                of_location.push(id);
            }
            if of_location.is_empty() {
                let path = columns.text(module);
                let name = match path {
                    "" => "[unknown]".to_owned(),
                    path => crate::report::stacks::bracketed(crate::text::path::base_name(path)),
                };
                let facts =
                    FrameFacts { name: &name, file: "", module: path, main_module, is_kernel_address };
                of_location.push(
                    *known
                        .entry((0, module, is_kernel_address))
                        .or_insert_with(|| functions.add(facts, &rules)),
                );
            }
            functions.of_location.push(of_location);
        }
        functions
    }

    fn add(&mut self, facts: FrameFacts<'_>, rules: &Rules) -> u32 {
        self.all.push(Function {
            name: crate::report::stacks::printable(facts.name).into_owned(),
            module: crate::report::stacks::printable(crate::text::path::base_name(facts.module)).into_owned(),
            category: category(&facts, rules),
        });
        self.all.len() as u32 - 1
    }

    /// The frames of a sample, root first.
    fn stack<'f>(&'f self, columns: &Columns, sample: usize, out: &mut Vec<Frame<'f>>) {
        out.clear();
        let locations = columns.stack(sample).iter().rev();
        let ids =
            locations.flat_map(|location| self.of_location.get(*location as usize).into_iter().flatten());
        out.extend(ids.map(|id| {
            let function = &self.all[*id as usize];
            Frame { name: &function.name, id: *id, category: function.category }
        }));
    }
}

/// Numbers for the lines that stand for the kernel.
#[derive(Default)]
struct KernelLines {
    names: Vec<String>,
    known: HashMap<String, u32>,
}

/// Set in the key of a line that stands for the kernel.
const KERNEL_KEY: u32 = 1 << 31;

impl KernelLines {
    fn key(&mut self, shown: &Shown<'_>) -> u32 {
        let name = match shown {
            Shown::Function(id) => return *id,
            Shown::Kernel(name) => name,
        };
        if let Some(known) = self.known.get(&**name) {
            return *known;
        }
        let key = self.names.len() as u32 | KERNEL_KEY;
        self.names.push(name.to_string());
        self.known.insert(name.to_string(), key);
        key
    }
}

/// The names of a tree's keys.
struct Names<'n> {
    describe: &'n dyn Fn(u32) -> Described<'n>,
    kernel: &'n KernelLines,
}

impl tree::Keys for Names<'_> {
    fn name(&self, key: u32) -> &str {
        match key & KERNEL_KEY {
            0 => (self.describe)(key).name,
            _ => &self.kernel.names[(key & !KERNEL_KEY) as usize],
        }
    }

    fn module(&self, key: u32) -> &str {
        if self.is_kernel(key) { "kernel" } else { (self.describe)(key).module }
    }

    fn is_kernel(&self, key: u32) -> bool {
        key & KERNEL_KEY != 0 || (self.describe)(key).is_kernel
    }
}
