//! Drops leafward frames that the profile, or the user, marks as uninteresting.
//!
//! Not here: other filters ([`super::filter`]).

use rustc_hash::FxHashMap;

use super::{Columns, Line, TextId};
use crate::profile::go_regexp::GoRegexp;

/// A function name without its arguments and without the leading dot of names on old PowerPC.
fn simple_name(name: &str) -> &str {
    let name = name.strip_prefix('.').unwrap_or(name);
    let mut at = 0;
    while let Some(next) = name[at..].find(['(', 'o']).map(|found| found + at) {
        let rest = &name[next..];
        let reserved =
            ["(anonymous namespace)", "operator()"].into_iter().find(|word| rest.starts_with(word));
        match reserved {
            Some(word) => at = next + word.len(),
            None if rest.starts_with('(') => return &name[..next],
            None => at = next + 1,
        }
    }
    name
}

/// The functions that match; each is matched once.
struct Names<'a> {
    drop: &'a GoRegexp,
    keep: Option<&'a GoRegexp>,
    known: FxHashMap<TextId, bool>,
}

impl Names<'_> {
    fn matches(&mut self, columns: &Columns, line: &Line) -> bool {
        let Some(function) = columns.functions.get(line.function as usize) else { return false };
        if function.name == 0 {
            return false;
        }
        let (drop, keep) = (self.drop, self.keep);
        *self.known.entry(function.name).or_insert_with(|| {
            let name = simple_name(columns.text(function.name));
            drop.is_match(name) && !keep.is_some_and(|keep| keep.is_match(name))
        })
    }
}

impl Columns {
    /// Drops the frames that the profile's own `drop_frames` names, like [`Columns::prune`].
    /// Invalid expressions are ignored.
    pub fn drop_uninteresting(&mut self) {
        let compile = |text: TextId| GoRegexp::new(&format!("^({})$", self.text(text)));
        if self.header.drop_frames == 0 {
            return;
        }
        let Ok(drop) = compile(self.header.drop_frames) else { return };
        let keep = match self.header.keep_frames {
            0 => None,
            keep => match compile(keep) {
                Ok(keep) => Some(keep),
                Err(_) => return,
            },
        };
        self.prune(&drop, keep.as_ref());
    }

    /// Drops the root-most frame that `drop` matches (and `keep` does not), and all frames below
    /// it. Frames before the first non-matching one are always kept.
    pub fn prune(&mut self, drop: &GoRegexp, keep: Option<&GoRegexp>) {
        let mut names = Names { drop, keep, known: FxHashMap::default() };
        let mut whole = vec![false; self.locations.len()];
        let mut beneath = vec![false; self.locations.len()];
        self.change_lines(|columns, row, _, lines| {
            let Some(last) = lines.iter().rposition(|line| names.matches(columns, line)) else { return };
            beneath[row] = true;
            if last + 1 == lines.len() {
                whole[row] = true;
            } else {
                lines.drain(..=last);
            }
        });
        self.retain(None, |_, stack| {
            let is_user = |location: &u32| !beneath[*location as usize];
            let first_user = stack.iter().rposition(is_user);
            let cut = first_user.and_then(|user| stack[..user].iter().rposition(|frame| !is_user(frame)));
            let Some(cut) = cut else { return Some(0..stack.len()) };
            let start = if whole[stack[cut] as usize] { cut + 1 } else { cut };
            Some(start..stack.len())
        });
    }

    /// Drops all frames below the leaf-most matching one, which is kept.
    pub fn prune_from(&mut self, regexp: &GoRegexp) {
        let mut names = Names { drop: regexp, keep: None, known: FxHashMap::default() };
        let mut beneath = vec![false; self.locations.len()];
        self.change_lines(|columns, row, _, lines| {
            if let Some(first) = lines.iter().position(|line| names.matches(columns, line)) {
                beneath[row] = true;
                lines.drain(..first);
            }
        });
        self.retain(None, |_, stack| {
            let cut = stack.iter().position(|location| beneath[*location as usize]);
            Some(cut.unwrap_or(0)..stack.len())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_removed_and_reserved_words_kept() {
        let names = ["f(int)", "(anonymous namespace)::g(x)", "A::operator()(int)", ".h", "operator new(x)"];
        let simple = ["f", "(anonymous namespace)::g", "A::operator()", "h", "operator new"];
        assert_eq!(names.map(simple_name), simple);
    }
}
