//! Sums stacks into a tree and places its nodes: row, start and width.
//!
//! Not here: pixels and colours.

use rustc_hash::FxHashMap;

use super::FlameOptions;
use crate::{
    profile::proto::Sample,
    report::stacks::{FrameId, Stacks, value_of},
    text::counted_as,
};

/// Limit of the nodes; stacks that need more are truncated.
const MAX_NODES: usize = 3_000_000;
/// Limit of the rows; deeper stacks are truncated.
const MAX_DEPTH: usize = 2_000;
/// Limit of the boxes that are drawn: the largest ones.
const MAX_BOXES: usize = 15_000;

/// What a box represents.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Label {
    /// All samples.
    Root,
    /// A thread: an index into [`Layout::threads`].
    Thread(u32),
    /// A frame.
    Frame(FrameId),
    /// This many callees of the box above, each too narrow to be drawn.
    Rest(u32),
}

/// A box of the picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// What it represents.
    pub label: Label,
    /// The row; 0 is the root.
    pub depth: usize,
    /// The start as a value between 0 and [`Layout::total`].
    pub start: i64,
    /// The width: the sum of its samples.
    pub value: i64,
    /// The part of the value that no callee has.
    pub own: i64,
    /// Whether it is always inlined into its caller.
    pub inlined: bool,
    /// The value in the base profile; 0 if there is none.
    pub base: i64,
}

/// A flame graph without a size in pixels.
pub struct Layout {
    /// The boxes, by row, from left to right.
    pub boxes: Vec<Placed>,
    /// The sum over all samples.
    pub total: i64,
    /// The same for the base profile; 0: there is none.
    pub base_total: i64,
    /// The part of `base_total` in stacks that the new profile does not have.
    base_gone: i64,
    /// The names of threads.
    pub threads: Vec<String>,
    /// The number of distinct stacks.
    pub stack_count: usize,
    /// If there were too many boxes: only boxes above this share of the total are drawn.
    drawn_above: Option<f64>,
    /// The number of stacks truncated by a limit.
    cut: usize,
}

impl Layout {
    /// A note on what the picture leaves out.
    pub fn omission(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(share) = self.drawn_above {
            parts.push(format!("only boxes above {:.3}% are drawn", share * 100.0));
        }
        if self.cut > 0 {
            parts.push(counted_as(
                self.cut,
                "stack is truncated at the leaf",
                "stacks are truncated at the leaf",
            ));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Layout {
    /// A note on the colours of a comparison, and on calls that only the base has.
    pub fn comparison(&self) -> Option<String> {
        if self.base_total == 0 {
            return None;
        }
        let gone = self.base_gone as f64 / self.base_total as f64 * 100.0;
        Some(format!(
            "red: larger share than in the base, blue: smaller share; {gone:.2}% of the base is in calls that no \
             longer exist"
        ))
    }

    /// The change of a box's share, -1 to 1.
    pub fn growth(&self, placed: &Placed) -> f64 {
        let share = |value: i64, total: i64| value as f64 / total.max(1) as f64;
        share(placed.value, self.total) - share(placed.base, self.base_total)
    }

    /// The largest absolute change of a box's share.
    pub fn largest_growth(&self) -> f64 {
        self.boxes.iter().map(|placed| self.growth(placed).abs()).fold(0.0, f64::max)
    }
}

/// Sums and places the value with index `value_index` of all samples.
pub fn lay_out(stacks: &Stacks<'_>, value_index: usize, options: &FlameOptions) -> Layout {
    let mut tree = Tree::new();
    for sample in &stacks.profile().sample {
        let base = options.compared_with.map_or(0, |index| value_of(sample, index).max(0));
        let values = Values { value: value_of(sample, value_index).max(0), base };
        if values.value > 0 || values.base > 0 {
            tree.add(stacks, sample, values, options.by_thread);
        }
    }
    let total = tree.nodes[0].value;
    let floor = total as f64 * options.min_frame_px / options.width_px;
    let above = tree.cap(floor);
    let is_drawn =
        |node: &Node| node.depth == 0 || (node.value > 0 && node.value as f64 >= floor && node.value > above);
    let boxes = tree.place(stacks, is_drawn, floor, total);
    Layout {
        drawn_above: (above > 0).then(|| above as f64 / total as f64),
        boxes,
        total,
        base_total: tree.nodes[0].base,
        base_gone: tree.gone(),
        stack_count: tree.nodes.iter().filter(|node| node.own > 0).count(),
        threads: tree.threads,
        cut: tree.cut,
    }
}

/// The values of a sample in the new and in the base profile.
#[derive(Clone, Copy)]
struct Values {
    value: i64,
    base: i64,
}

#[derive(Clone, Copy)]
struct Node {
    label: Label,
    parent: u32,
    depth: u32,
    value: i64,
    base: i64,
    own: i64,
    inlined: bool,
}

struct Tree {
    nodes: Vec<Node>,
    /// Children by parent and label. The keys are chosen by rprof, so a fast hash is safe.
    children: FxHashMap<(u32, Label), u32>,
    threads: Vec<String>,
    thread_numbers: std::collections::HashMap<String, u32>,
    cut: usize,
}

impl Tree {
    fn new() -> Tree {
        let root =
            Node { label: Label::Root, parent: 0, depth: 0, value: 0, base: 0, own: 0, inlined: false };
        Tree {
            nodes: vec![root],
            children: FxHashMap::default(),
            threads: Vec::new(),
            thread_numbers: Default::default(),
            cut: 0,
        }
    }

    fn add(&mut self, stacks: &Stacks<'_>, sample: &Sample, values: Values, by_thread: bool) {
        let mut at = 0;
        self.count(at, values);
        if by_thread {
            let thread = self.thread(stacks.label(sample, "thread").map_or_else(String::new, String::from));
            match self.child(at, Label::Thread(thread), false) {
                Some(child) => at = child,
                None => return self.end(at, values, true),
            }
            self.count(at, values);
        }
        for used in stacks.of(sample) {
            match self.child(at, Label::Frame(used.frame), used.inlined) {
                Some(child) => at = child,
                None => return self.end(at, values, true),
            }
            self.count(at, values);
        }
        self.end(at, values, false);
    }

    fn count(&mut self, at: u32, values: Values) {
        let node = &mut self.nodes[at as usize];
        node.value = node.value.saturating_add(values.value);
        node.base = node.base.saturating_add(values.base);
    }

    /// The base value of boxes without a new value; each subtree is counted once.
    fn gone(&self) -> i64 {
        let is_gone = |node: &&Node| node.value == 0 && self.nodes[node.parent as usize].value > 0;
        self.nodes.iter().filter(is_gone).fold(0, |sum: i64, node| sum.saturating_add(node.base))
    }

    fn end(&mut self, at: u32, values: Values, cut: bool) {
        let node = &mut self.nodes[at as usize];
        node.own = node.own.saturating_add(values.value);
        self.cut += usize::from(cut);
    }

    fn thread(&mut self, name: String) -> u32 {
        let name = if name.is_empty() { "[no thread name]".to_string() } else { name };
        let next = self.threads.len() as u32;
        let number = *self.thread_numbers.entry(name.clone()).or_insert(next);
        if number == next {
            self.threads.push(name);
        }
        number
    }

    /// The child of `parent` with this label; `None`: the tree is full.
    fn child(&mut self, parent: u32, label: Label, inlined: bool) -> Option<u32> {
        let next = self.nodes.len() as u32;
        let depth = self.nodes[parent as usize].depth + 1;
        let full = self.nodes.len() >= MAX_NODES || depth as usize >= MAX_DEPTH;
        let child = match self.children.entry((parent, label)) {
            std::collections::hash_map::Entry::Occupied(entry) => *entry.get(),
            std::collections::hash_map::Entry::Vacant(_) if full => return None,
            std::collections::hash_map::Entry::Vacant(entry) => *entry.insert(next),
        };
        if child == next {
            self.nodes.push(Node { label, parent, depth, value: 0, base: 0, own: 0, inlined });
        }
        self.nodes[child as usize].inlined &= inlined;
        Some(child)
    }

    /// The value that a node must exceed so that at most [`MAX_BOXES`] are drawn; 0: all fit. A
    /// node is never larger than its parent, so the parent of a drawn box is drawn too.
    fn cap(&self, floor: f64) -> i64 {
        let values = self.nodes.iter().map(|node| node.value);
        let mut values: Vec<i64> = values.filter(|value| *value as f64 >= floor).collect();
        if values.len() <= MAX_BOXES {
            return 0;
        }
        *values.select_nth_unstable_by(MAX_BOXES, |a, b| b.cmp(a)).1
    }

    /// Places the drawn nodes under their parents, the largest first, then the remaining callees of
    /// each parent as one box.
    fn place(
        &self,
        stacks: &Stacks<'_>,
        is_drawn: impl Fn(&Node) -> bool,
        floor: f64,
        total: i64,
    ) -> Vec<Placed> {
        let all = 0..self.nodes.len() as u32;
        let (mut drawn, rest): (Vec<u32>, Vec<u32>) = all.partition(|at| is_drawn(&self.nodes[*at as usize]));
        drawn.sort_by(|a, b| {
            let (a, b) = (&self.nodes[*a as usize], &self.nodes[*b as usize]);
            let by_size = a.depth.cmp(&b.depth).then(b.value.cmp(&a.value));
            by_size.then_with(|| self.name(stacks, a.label).cmp(self.name(stacks, b.label)))
        });
        // The start of the next child of each node.
        let mut next_start: FxHashMap<u32, i64> = FxHashMap::default();
        let mut boxes = Vec::with_capacity(drawn.len());
        for at in drawn {
            let Node { label, parent, depth, value, base, own, inlined } = self.nodes[at as usize];
            let start = next_start.get(&parent).copied().unwrap_or(0).min(total);
            if at != 0 {
                next_start.insert(parent, start.saturating_add(value));
            }
            next_start.insert(at, start);
            boxes.push(Placed { label, depth: depth as usize, start, value, own, inlined, base });
        }
        let rest = self.sum_by_parent(&rest).into_iter().filter(|(_, (_, value))| *value as f64 >= floor);
        boxes.extend(rest.filter_map(|(parent, (count, value))| {
            let depth = self.nodes[parent as usize].depth as usize + 1;
            let start = next_start.get(&parent).copied()?.min(total);
            Some(Placed { label: Label::Rest(count), depth, start, value, own: 0, inlined: false, base: 0 })
        }));
        boxes.sort_by_key(|placed| (placed.depth, placed.start));
        boxes
    }

    /// The number of `nodes` of each parent, and the sum of their values.
    fn sum_by_parent(&self, nodes: &[u32]) -> FxHashMap<u32, (u32, i64)> {
        let mut sums: FxHashMap<u32, (u32, i64)> = FxHashMap::default();
        for at in nodes {
            let node = &self.nodes[*at as usize];
            let (count, value) = sums.entry(node.parent).or_default();
            *count += 1;
            *value = value.saturating_add(node.value);
        }
        sums
    }

    fn name<'a>(&'a self, stacks: &'a Stacks<'_>, label: Label) -> &'a str {
        match label {
            Label::Root | Label::Rest(_) => "",
            Label::Thread(number) => &self.threads[number as usize],
            Label::Frame(frame) => &stacks.frame(frame).name,
        }
    }
}
