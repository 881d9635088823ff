//! The pure part of the wait graph: which vertices are blocked for ever, the cycles among them, and
//! how many vertices wait for each vertex.
//!
//! A vertex is blocked for ever if it waits without a timeout and every vertex that could end its
//! wait is blocked for ever too. That is the largest such set of vertices. Not here: what the
//! vertices are, and reading them.

/// The index of a vertex.
pub type VertexId = usize;

/// How sure it is that a vertex can end the wait of another vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// It is recorded, and only this vertex can.
    Exact,
    /// It is recorded, and several vertices can, this one among them.
    OneOf,
    /// A guess by evidence.
    Likely,
}

/// A vertex as the algorithms use it.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// It waits and has no timeout.
    pub waits: bool,
    /// Whether `to` holds every vertex that can end the wait. If not, exact edges count as likely.
    pub complete: bool,
    /// The vertices that can end its wait.
    pub to: Vec<(VertexId, Strength)>,
}

impl Links {
    /// The vertices that all must be blocked for this one to be blocked for ever. Empty: not known.
    fn needed(&self, vertices: &[Links], with_likely: bool) -> Vec<VertexId> {
        if !self.waits {
            return Vec::new();
        }
        let recorded: Vec<VertexId> =
            self.to.iter().filter(|(_, strength)| *strength != Strength::Likely).map(|(to, _)| *to).collect();
        if !recorded.is_empty() {
            return if self.complete || with_likely { recorded } else { Vec::new() };
        }
        if !with_likely {
            return Vec::new();
        }
        self.single_candidate(vertices).into_iter().collect()
    }

    /// The only candidate, or else the only candidate that itself waits.
    fn single_candidate(&self, vertices: &[Links]) -> Option<VertexId> {
        let one = |mut found: Vec<VertexId>| if found.len() == 1 { found.pop() } else { None };
        let all: Vec<VertexId> = self.to.iter().map(|(to, _)| *to).collect();
        let waiting = all.iter().copied().filter(|to| vertices.get(*to).is_some_and(|vertex| vertex.waits));
        let waiting: Vec<VertexId> = waiting.collect();
        one(all).or_else(|| one(waiting))
    }
}

/// The largest set of vertices that wait only for one another. `with_likely`: with edges that are
/// guesses.
pub fn blocked_for_ever(vertices: &[Links], with_likely: bool) -> Vec<bool> {
    let needed: Vec<Vec<VertexId>> =
        vertices.iter().map(|vertex| vertex.needed(vertices, with_likely)).collect();
    let mut needed_by = vec![Vec::new(); vertices.len()];
    for (from, to) in needed.iter().enumerate().flat_map(|(from, all)| all.iter().map(move |to| (from, *to)))
    {
        if let Some(list) = needed_by.get_mut(to) {
            list.push(from);
        }
    }
    let mut blocked: Vec<bool> = needed.iter().map(|all| !all.is_empty()).collect();
    let mut free: Vec<VertexId> = (0..vertices.len()).filter(|vertex| !blocked[*vertex]).collect();
    while let Some(vertex) = free.pop() {
        for from in &needed_by[vertex] {
            if std::mem::take(&mut blocked[*from]) {
                free.push(*from);
            }
        }
    }
    blocked
}

/// The cycles among blocked vertices: sets of vertices of which each one waits, directly or not,
/// for each other one; or one vertex that waits for itself. Each is sorted.
pub fn cycles(vertices: &[Links], blocked: &[bool], with_likely: bool) -> Vec<Vec<VertexId>> {
    let edges: Vec<Vec<VertexId>> = vertices
        .iter()
        .enumerate()
        .map(|(id, vertex)| if blocked[id] { vertex.needed(vertices, with_likely) } else { Vec::new() })
        .collect();
    let mut found: Vec<Vec<VertexId>> = components(&edges)
        .into_iter()
        .filter(|all| all.len() > 1 || edges[all[0]].contains(&all[0]))
        .filter(|all| blocked[all[0]])
        .collect();
    found.iter_mut().for_each(|all| all.sort_unstable());
    found.sort();
    found
}

/// The strongly connected components (Tarjan), without recursion: a chain of waits may be long.
fn components(edges: &[Vec<VertexId>]) -> Vec<Vec<VertexId>> {
    const NEW: usize = usize::MAX;
    let mut index = vec![NEW; edges.len()];
    let mut low = vec![0; edges.len()];
    let mut on_stack = vec![false; edges.len()];
    let (mut stack, mut found, mut next) = (Vec::new(), Vec::new(), 0);
    for root in 0..edges.len() {
        if index[root] != NEW {
            continue;
        }
        // A vertex, and how many of its edges were followed.
        let mut path = vec![(root, 0)];
        while let Some((vertex, followed)) = path.pop() {
            if followed == 0 {
                (index[vertex], low[vertex]) = (next, next);
                next += 1;
                stack.push(vertex);
                on_stack[vertex] = true;
            }
            if let Some(to) = edges[vertex].get(followed).copied() {
                path.push((vertex, followed + 1));
                if index[to] == NEW {
                    path.push((to, 0));
                } else if on_stack[to] {
                    low[vertex] = low[vertex].min(index[to]);
                }
                continue;
            }
            if low[vertex] == index[vertex] {
                let at = stack.iter().rposition(|on| *on == vertex).unwrap_or(0);
                let component = stack.split_off(at);
                component.iter().for_each(|member| on_stack[*member] = false);
                found.push(component);
            }
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[vertex]);
            }
        }
    }
    found
}

/// The most edges that [`waiters`] follows.
const MAX_VISITS: usize = 4_000_000;

/// The vertices that a vertex certainly waits for: none if there are several candidates, or
/// several that can end the wait.
pub fn certain(links: &Links) -> &[(VertexId, Strength)] {
    let all_needed = links.to.iter().all(|(_, strength)| *strength == Strength::Exact);
    if all_needed || links.to.len() == 1 { &links.to } else { &[] }
}

/// How many vertices that `counts` accepts certainly wait, directly or not, for each vertex.
/// Vertices beyond a limit of work have 0.
pub fn waiters(vertices: &[Links], counts: impl Fn(VertexId) -> bool) -> Vec<usize> {
    let mut from = vec![Vec::new(); vertices.len()];
    for (id, vertex) in vertices.iter().enumerate() {
        for (to, _) in certain(vertex) {
            if let Some(list) = from.get_mut(*to) {
                list.push(id);
            }
        }
    }
    let mut visited = vec![usize::MAX; vertices.len()];
    let mut visits = 0;
    (0..vertices.len())
        .map(|target| {
            let (mut found, mut next) = (0, vec![target]);
            visited[target] = target;
            while let Some(vertex) = next.pop() {
                visits += from[vertex].len();
                if visits > MAX_VISITS {
                    return 0;
                }
                for waiter in &from[vertex] {
                    if std::mem::replace(&mut visited[*waiter], target) != target {
                        found += usize::from(counts(*waiter));
                        next.push(*waiter);
                    }
                }
            }
            found
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Strength::*, *};

    fn waits(to: &[(VertexId, Strength)]) -> Links {
        Links { waits: true, complete: true, to: to.to_vec() }
    }

    fn exact(to: VertexId) -> Links {
        waits(&[(to, Exact)])
    }

    fn runs() -> Links {
        Links::default()
    }

    fn deadlocks(vertices: &[Links], with_likely: bool) -> Vec<Vec<VertexId>> {
        cycles(vertices, &blocked_for_ever(vertices, with_likely), with_likely)
    }

    #[test]
    fn two_nodes_that_wait_for_each_other_are_a_cycle_and_a_third_one_is_not_in_it() {
        let vertices = [exact(1), exact(0), exact(0), runs()];
        assert_eq!(blocked_for_ever(&vertices, false), [true, true, true, false]);
        assert_eq!(deadlocks(&vertices, false), [vec![0, 1]]);
    }

    #[test]
    fn a_node_that_waits_for_itself_is_a_cycle() {
        assert_eq!(deadlocks(&[exact(0)], false), [vec![0]]);
    }

    #[test]
    fn a_chain_that_ends_in_a_running_node_is_not_blocked() {
        let vertices = [exact(1), exact(2), runs()];
        assert_eq!(blocked_for_ever(&vertices, true), [false; 3]);
        assert_eq!(deadlocks(&vertices, true), Vec::<Vec<VertexId>>::new());
    }

    #[test]
    fn a_timeout_in_a_cycle_ends_it() {
        let mut vertices = [exact(1), exact(0)];
        vertices[1].waits = false;
        assert!(deadlocks(&vertices, true).is_empty());
    }

    #[test]
    fn a_node_with_alternatives_is_blocked_only_if_all_are() {
        let vertices = [waits(&[(1, OneOf), (2, OneOf)]), exact(0), runs()];
        assert!(deadlocks(&vertices, false).is_empty());
        let vertices = [waits(&[(1, OneOf), (2, OneOf)]), exact(0), exact(0)];
        assert_eq!(deadlocks(&vertices, false), [vec![0, 1, 2]]);
    }

    #[test]
    fn an_incomplete_set_of_alternatives_is_only_a_guess() {
        let mut vertices = [waits(&[(1, OneOf)]), exact(0)];
        vertices[0].complete = false;
        assert!(deadlocks(&vertices, false).is_empty());
        assert_eq!(deadlocks(&vertices, true), [vec![0, 1]]);
    }

    #[test]
    fn candidates_count_only_as_guesses_and_only_if_there_is_one() {
        let vertices = [waits(&[(1, Likely)]), waits(&[(0, Likely)])];
        assert!(deadlocks(&vertices, false).is_empty());
        assert_eq!(deadlocks(&vertices, true), [vec![0, 1]]);
        // Of two candidates one runs.
        let vertices = [waits(&[(1, Likely), (2, Likely)]), waits(&[(0, Likely)]), runs()];
        assert_eq!(deadlocks(&vertices, true), [vec![0, 1]]);
        // Both wait.
        let vertices = [waits(&[(1, Likely), (2, Likely)]), waits(&[(0, Likely)]), waits(&[(0, Likely)])];
        assert!(deadlocks(&vertices, true).is_empty());
    }

    #[test]
    fn two_separate_cycles_are_found() {
        let vertices = [exact(1), exact(0), exact(3), exact(4), exact(2)];
        assert_eq!(deadlocks(&vertices, false), [vec![0, 1], vec![2, 3, 4]]);
    }

    #[test]
    fn all_that_wait_directly_or_not_are_counted() {
        let vertices = [exact(1), exact(3), exact(1), runs()];
        assert_eq!(waiters(&vertices, |_| true), [0, 2, 0, 3]);
        assert_eq!(waiters(&vertices, |id| id != 1), [0, 2, 0, 2]);
    }

    #[test]
    fn the_waiters_of_a_cycle_are_its_other_members_and_those_behind() {
        assert_eq!(waiters(&[exact(1), exact(0), exact(0)], |_| true), [2, 2, 0]);
    }

    #[test]
    fn a_long_chain_needs_no_recursion() {
        let count = 200_000;
        let mut vertices: Vec<Links> = (1..count).map(exact).collect();
        vertices.push(exact(0));
        assert_eq!(deadlocks(&vertices, false).len(), 1);
    }
}
