//! Sums stacks into a call tree, as far as it is visible: calls below a share of the whole are not
//! expanded. So the cost depends on what is drawn, not on the number of samples.
//!
//! The samples of a node are adjacent in one array, and are partitioned among its callees; no node
//! is looked up. Not here: JSON, colours.

use std::{collections::BinaryHeap, ops::Range};

use super::frames::{Frames, Use};
use crate::profile::columns::Columns;

/// The largest number of nodes: those with the largest weight.
const MAX_NODES: usize = 40_000;
/// The largest depth.
const MAX_DEPTH: u32 = 2_000;

/// The direction in which stacks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the root towards callees.
    Callees,
    /// From the leaf towards callers.
    Callers,
}

/// The root of the tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// The path of these frames, each calling (or called by) the next; empty: all samples.
    Path(Vec<u32>),
    /// A frame, wherever it occurs; in a recursion, its outermost occurrence.
    Frame(u32),
}

/// A call and everything below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The number of its frame; the first node has none.
    pub frame: u32,
    /// The index of its parent, which is lower than its own; the first node is its own parent.
    pub parent: u32,
    /// The distance from the first node.
    pub depth: u32,
    /// The sum of the absolute values of its samples: its width.
    pub weight: i64,
    /// The sum of the values of its samples.
    pub net: i64,
    /// The part of `weight` whose leaf is this node.
    pub own: i64,
    /// The part of `net` whose leaf is this node.
    pub own_net: i64,
    /// Whether it is inlined in all its samples.
    pub inlined: bool,
    /// The number of callees that are not in the tree.
    pub hidden: u32,
}

/// A call tree.
pub struct Tree {
    /// The nodes, parents before children.
    pub nodes: Vec<Node>,
}

/// The input of a tree.
pub struct Source<'p> {
    /// The samples.
    pub columns: &'p Columns,
    /// The frames of their locations.
    pub frames: &'p Frames,
    /// The index of the value that is summed.
    pub value: usize,
    /// The direction in which stacks are read.
    pub direction: Direction,
}

/// A sample's value and the position in its stack. All fields that partitioning needs are in one
/// place: there may be millions of samples, and every other memory access costs a cache miss.
#[derive(Clone, Copy)]
struct Cursor {
    value: i64,
    /// The start of its locations in [`Columns::all_frames`]; their end if read from the leaf.
    edge: u32,
    /// The number of locations that are not yet read.
    left: u32,
    /// The number of frames of the next location that are read.
    frames: u32,
    /// The next frame, set by `count`; `None` at the end of the stack.
    next: Option<Use>,
}

/// Builds a tree; calls below `share` of the root are left out.
pub fn tree(source: &Source, start: &Start, share: f64) -> Tree {
    let mut grower = Grower::new(source, start);
    let root = grower.tree.nodes[0];
    let min_weight = ((root.weight as f64 * share).ceil() as i64).max(1);
    while let Some(Branch { node, samples, .. }) = grower.branches.pop() {
        if grower.tree.nodes[node as usize].depth < MAX_DEPTH {
            grower.grow(node, samples, min_weight);
        }
    }
    grower.tree
}

/// A node whose samples are not yet partitioned; the one with the largest weight comes first.
#[derive(PartialEq, Eq)]
struct Branch {
    weight: i64,
    node: u32,
    samples: Range<usize>,
}

impl Ord for Branch {
    fn cmp(&self, other: &Branch) -> std::cmp::Ordering {
        self.weight.cmp(&other.weight).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Branch {
    fn partial_cmp(&self, other: &Branch) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The sums of one callee while samples are counted.
#[derive(Clone, Copy, Default)]
struct Slot {
    weight: i64,
    net: i64,
    samples: u32,
    not_inlined: bool,
    /// The index of its next sample plus one; 0 if the callee is left out.
    place: usize,
}

struct Grower<'s> {
    source: &'s Source<'s>,
    tree: Tree,
    branches: BinaryHeap<Branch>,
    /// Cursors of the same branch are adjacent.
    cursors: Vec<Cursor>,
    /// By frame; all are empty between two nodes.
    slots: Vec<Slot>,
    touched: Vec<u32>,
    sorted: Vec<Cursor>,
}

impl<'s> Grower<'s> {
    fn new(source: &'s Source<'s>, start: &Start) -> Grower<'s> {
        let mut cursors = Vec::new();
        let mut root = Node {
            frame: 0,
            parent: 0,
            depth: 0,
            weight: 0,
            net: 0,
            own: 0,
            own_net: 0,
            inlined: false,
            hidden: 0,
        };
        for sample in 0..source.columns.sample_count() {
            let value = source.value_of(sample);
            if value == 0 {
                continue;
            }
            if let Some(cursor) = source.begin(sample, value, start) {
                cursors.push(cursor);
                root.weight = root.weight.saturating_add(value.saturating_abs());
                root.net = root.net.saturating_add(value);
            }
        }
        let all = Branch { weight: root.weight, node: 0, samples: 0..cursors.len() };
        Grower {
            source,
            tree: Tree { nodes: vec![root] },
            branches: BinaryHeap::from([all]),
            cursors,
            slots: vec![Slot::default(); source.frames.all.len()],
            touched: Vec::new(),
            sorted: Vec::new(),
        }
    }

    /// Adds the callees of a node and partitions its samples among them.
    fn grow(&mut self, node: u32, samples: Range<usize>, min_weight: i64) {
        self.count(node, samples.clone());
        let slots = &self.slots;
        let mut kept: Vec<u32> = self
            .touched
            .iter()
            .copied()
            .filter(|frame| slots[*frame as usize].weight >= min_weight)
            .collect();
        kept.sort_unstable_by_key(|frame| (std::cmp::Reverse(slots[*frame as usize].weight), *frame));
        kept.truncate(MAX_NODES.saturating_sub(self.tree.nodes.len()));
        let mut place = samples.start;
        for frame in &kept {
            let slot = &mut self.slots[*frame as usize];
            slot.place = place + 1;
            let range = place..place + slot.samples as usize;
            place = range.end;
            let (weight, net, inlined) = (slot.weight, slot.net, !slot.not_inlined);
            let depth = self.tree.nodes[node as usize].depth + 1;
            let number = self.tree.nodes.len() as u32;
            let child = Node {
                frame: *frame,
                parent: node,
                depth,
                weight,
                net,
                own: 0,
                own_net: 0,
                inlined,
                hidden: 0,
            };
            self.tree.nodes.push(child);
            self.branches.push(Branch { weight, node: number, samples: range });
        }
        self.tree.nodes[node as usize].hidden = (self.touched.len() - kept.len()) as u32;
        self.partition(samples);
        self.touched.drain(..).for_each(|frame| self.slots[frame as usize] = Slot::default());
    }

    /// Sums the samples of each callee.
    fn count(&mut self, node: u32, samples: Range<usize>) {
        let (mut own, mut own_net) = (0i64, 0i64);
        for cursor in &mut self.cursors[samples] {
            let value = cursor.value;
            cursor.next = self.source.next(cursor);
            let Some(used) = cursor.next else {
                own = own.saturating_add(value.saturating_abs());
                own_net = own_net.saturating_add(value);
                continue;
            };
            let slot = &mut self.slots[used.frame() as usize];
            if slot.samples == 0 {
                self.touched.push(used.frame());
            }
            slot.weight = slot.weight.saturating_add(value.saturating_abs());
            slot.net = slot.net.saturating_add(value);
            slot.samples += 1;
            slot.not_inlined |= !used.is_inlined();
        }
        let node = &mut self.tree.nodes[node as usize];
        (node.own, node.own_net) = (own, own_net);
    }

    /// Makes the samples of each kept callee adjacent.
    fn partition(&mut self, samples: Range<usize>) {
        self.sorted.clear();
        self.sorted.extend_from_slice(&self.cursors[samples]);
        for cursor in self.sorted.drain(..) {
            let Some(used) = cursor.next else { continue };
            let slot = &mut self.slots[used.frame() as usize];
            if slot.place > 0 {
                self.cursors[slot.place - 1] = cursor;
                slot.place += 1;
            }
        }
    }
}

impl Source<'_> {
    /// The value of a sample.
    pub fn value_of(&self, sample: usize) -> i64 {
        self.columns.values(sample).get(self.value).copied().unwrap_or(0)
    }

    /// Reads one frame of a stack.
    fn next(&self, cursor: &mut Cursor) -> Option<Use> {
        if cursor.left == 0 {
            return None;
        }
        let place = match self.direction {
            Direction::Callees => cursor.edge + cursor.left - 1,
            Direction::Callers => cursor.edge - cursor.left,
        };
        let uses = self.frames.of(self.columns.all_frames()[place as usize]);
        let read = cursor.frames as usize;
        let used = match self.direction {
            Direction::Callees => uses[read],
            Direction::Callers => uses[uses.len() - 1 - read],
        };
        cursor.frames += 1;
        if read + 1 == uses.len() {
            (cursor.frames, cursor.left) = (0, cursor.left - 1);
        }
        Some(used)
    }

    /// A cursor behind the start of the tree; `None` if the sample is not part of the tree.
    fn begin(&self, sample: usize, value: i64, start: &Start) -> Option<Cursor> {
        let range = self.columns.stack_range(sample);
        let edge = match self.direction {
            Direction::Callees => range.start,
            Direction::Callers => range.end,
        };
        let mut cursor = Cursor { value, edge, left: range.end - range.start, frames: 0, next: None };
        match start {
            Start::Path(path) => {
                let is_on_it = path
                    .iter()
                    .all(|frame| self.next(&mut cursor).is_some_and(|used| used.frame() == *frame));
                is_on_it.then_some(cursor)
            }
            Start::Frame(frame) => {
                let mut found = None;
                while let Some(used) = self.next(&mut cursor) {
                    if used.frame() == *frame {
                        found = Some(cursor);
                        // From the root the first is the outermost, from the leaf the last.
                        if self.direction == Direction::Callees {
                            break;
                        }
                    }
                }
                found
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::{frames::title, tests::profile};

    /// Each node as `path weight own`.
    fn drawn(start: &[&str], direction: Direction, anywhere: bool, share: f64) -> Vec<String> {
        let columns = profile();
        let frames = Frames::new(&columns);
        let named = |name: &str| {
            frames.all.iter().position(|frame| title(&columns, frame) == name).expect("a frame") as u32
        };
        let start = match start {
            [name] if anywhere => Start::Frame(named(name)),
            path => Start::Path(path.iter().map(|name| named(name)).collect()),
        };
        let source = Source { columns: &columns, frames: &frames, value: 1, direction };
        let tree = tree(&source, &start, share);
        let mut paths: Vec<String> = Vec::new();
        let mut lines = Vec::new();
        for (at, node) in tree.nodes.iter().enumerate() {
            let path = match at {
                0 => "*".into(),
                _ => format!(
                    "{}/{}",
                    paths[node.parent as usize],
                    title(&columns, &frames.all[node.frame as usize])
                ),
            };
            lines.push(format!("{path} {} {}", node.weight, node.own));
            paths.push(path);
        }
        lines
    }

    #[test]
    fn stacks_are_summed_from_the_root() {
        let all = drawn(&[], Direction::Callees, false, 0.0);
        assert_eq!(
            all,
            [
                "* 100 0",
                "*/main 100 0",
                "*/main/work 90 0",
                "*/main/idle 10 10",
                "*/main/work/tight 60 60",
                "*/main/work/main 30 0",
                "*/main/work/main/work 30 30"
            ]
        );
    }

    #[test]
    fn narrow_calls_are_left_out_and_counted() {
        assert_eq!(
            drawn(&[], Direction::Callees, false, 0.5),
            ["* 100 0", "*/main 100 0", "*/main/work 90 0", "*/main/work/tight 60 60"]
        );
        assert_eq!(drawn(&["main", "idle"], Direction::Callees, false, 0.5), ["* 10 10"]);
    }

    #[test]
    fn callers_are_summed_from_the_leaf_and_from_the_outermost_frame_of_a_name() {
        let leaves = drawn(&[], Direction::Callers, false, 0.1);
        assert_eq!(leaves[..4], ["* 100 0", "*/tight 60 0", "*/work 30 0", "*/idle 10 0"]);
        assert!(leaves.contains(&"*/tight/work/main 60 60".to_string()), "{leaves:?}");
        assert_eq!(drawn(&["work"], Direction::Callers, true, 0.0), ["* 90 0", "*/main 90 90"]);
        let below = drawn(&["work"], Direction::Callees, true, 0.0);
        assert_eq!(below, ["* 90 0", "*/tight 60 60", "*/main 30 0", "*/main/work 30 30"]);
    }
}
