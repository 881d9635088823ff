//! A call tree, and the choice of its heaviest rows.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

/// A row of the tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The functions: several where each is (nearly) all of its caller.
    pub names: Vec<String>,
    /// The file name of the last function's module; empty: none.
    pub module: String,
    /// How many rows above it are its callers.
    pub depth: usize,
    /// For each level up to `depth`, whether another row of that level follows.
    pub continues: Vec<bool>,
    /// The share of the total with its callees, 0 to 1.
    pub total: f64,
    /// The share of the total without shown or hidden callees.
    pub own: f64,
    /// Whether the row is the kernel.
    pub is_kernel: bool,
}

/// Smaller shares of the total are not shown.
const MIN_SHARE: f64 = 0.01;
/// A callee with at least this share of its caller is shown in the caller's row.
const CHAIN_SHARE: f64 = 0.98;

/// Names of the keys of a tree.
pub(super) trait Keys {
    /// The function's name.
    fn name(&self, key: u32) -> &str;
    /// The file name of its module.
    fn module(&self, key: u32) -> &str;
    /// Whether it is the kernel.
    fn is_kernel(&self, key: u32) -> bool;
}

/// A call tree; node 0 is all samples.
pub(super) struct Tree {
    nodes: Vec<Node>,
    children: HashMap<(u32, u32), u32>,
}

#[derive(Default)]
struct Node {
    key: u32,
    total: i64,
    own: i64,
    children: Vec<u32>,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { nodes: vec![Node::default()], children: HashMap::new() }
    }
}

/// Several nodes that are one row: each but the last has nearly nothing but the next.
struct Chain {
    nodes: Vec<u32>,
}

impl Tree {
    /// Adds a stack, root first.
    pub fn add(&mut self, stack: &[u32], weight: i64) {
        let mut at = 0u32;
        self.nodes[0].total = self.nodes[0].total.saturating_add(weight);
        for key in stack {
            let next = self.nodes.len() as u32;
            let child = *self.children.entry((at, *key)).or_insert(next);
            if child == next {
                self.nodes.push(Node { key: *key, ..Node::default() });
                self.nodes[at as usize].children.push(child);
            }
            at = child;
            let node = &mut self.nodes[at as usize];
            node.total = node.total.saturating_add(weight);
        }
        let node = &mut self.nodes[at as usize];
        node.own = node.own.saturating_add(weight);
    }

    /// The sum of all samples.
    pub fn total(&self) -> i64 {
        self.nodes[0].total
    }

    /// The heaviest `count` rows, each followed by its callees.
    pub fn rows(&self, count: usize, keys: &dyn Keys) -> Vec<Row> {
        let chosen = self.choose(count, keys);
        let mut rows = Vec::new();
        let mut open: Vec<(u32, usize, Vec<bool>)> = Vec::new();
        let push =
            |open: &mut Vec<(u32, usize, Vec<bool>)>, parent: u32, depth: usize, continues: &[bool]| {
                let children: Vec<u32> =
                    self.sorted(parent, keys).into_iter().filter(|child| chosen.contains(child)).collect();
                let last = children.len();
                for (at, child) in children.into_iter().enumerate().rev() {
                    let mut own = continues.to_vec();
                    own.push(at + 1 < last);
                    open.push((child, depth, own));
                }
            };
        push(&mut open, 0, 0, &[]);
        while let Some((node, depth, continues)) = open.pop() {
            let chain = self.chain(node, keys);
            let last = chain.nodes[chain.nodes.len() - 1];
            rows.push(self.row(&chain, depth, continues.clone(), keys));
            push(&mut open, last, depth + 1, &continues);
        }
        rows
    }

    /// The first nodes of the heaviest chains. A chain's callers are chosen too: they are heavier.
    fn choose(&self, count: usize, keys: &dyn Keys) -> HashSet<u32> {
        let least = (self.total() as f64 * MIN_SHARE) as i64;
        let mut chosen = HashSet::new();
        // Of equal weights, the node that was found first.
        let mut open: BinaryHeap<(i64, Reverse<u32>)> = BinaryHeap::new();
        let push = |open: &mut BinaryHeap<(i64, Reverse<u32>)>, node: u32| {
            let children = self.nodes[node as usize].children.iter();
            let heavy = children.filter(|child| self.nodes[**child as usize].total > least.max(0));
            open.extend(heavy.map(|child| (self.nodes[*child as usize].total, Reverse(*child))));
        };
        push(&mut open, 0);
        while chosen.len() < count
            && let Some((_, Reverse(node))) = open.pop()
        {
            chosen.insert(node);
            let chain = self.chain(node, keys);
            push(&mut open, chain.nodes[chain.nodes.len() - 1]);
        }
        chosen
    }

    /// The callees of a node: own code first, then the kernel, the heaviest first.
    fn sorted(&self, node: u32, keys: &dyn Keys) -> Vec<u32> {
        let mut children = self.nodes[node as usize].children.clone();
        children.sort_by_key(|child| {
            let node = &self.nodes[*child as usize];
            (keys.is_kernel(node.key), Reverse(node.total), keys.name(node.key))
        });
        children
    }

    fn chain(&self, node: u32, keys: &dyn Keys) -> Chain {
        let mut nodes = vec![node];
        let mut at = &self.nodes[node as usize];
        while let Some(heaviest) = at.children.iter().max_by_key(|child| self.nodes[**child as usize].total) {
            let child = &self.nodes[*heaviest as usize];
            let is_all = child.total as f64 >= at.total as f64 * CHAIN_SHARE;
            if !is_all || keys.is_kernel(child.key) != keys.is_kernel(at.key) {
                break;
            }
            nodes.push(*heaviest);
            at = child;
        }
        Chain { nodes }
    }

    fn row(&self, chain: &Chain, depth: usize, continues: Vec<bool>, keys: &dyn Keys) -> Row {
        let node = |at: u32| &self.nodes[at as usize];
        let share = |value: i64| if self.total() == 0 { 0.0 } else { value as f64 / self.total() as f64 };
        let last = node(chain.nodes[chain.nodes.len() - 1]);
        Row {
            names: chain.nodes.iter().map(|at| keys.name(node(*at).key).to_owned()).collect(),
            module: keys.module(last.key).to_owned(),
            depth,
            continues,
            total: share(node(chain.nodes[0]).total),
            own: share(chain.nodes.iter().map(|at| node(*at).own).fold(0, i64::saturating_add)),
            is_kernel: keys.is_kernel(last.key),
        }
    }
}
