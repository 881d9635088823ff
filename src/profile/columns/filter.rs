//! Keeps the samples, frames and labels that a report selects.
//!
//! Not here: the names and order of the options (`report`).

use std::ops::Range;

use super::{Columns, Line, Location, NONE, TextId};
use crate::profile::go_regexp::GoRegexp;

/// An expression, with a cache of the texts it was matched against.
struct Memo<'a> {
    regexp: &'a GoRegexp,
    known: Vec<Option<bool>>,
}

impl<'a> Memo<'a> {
    fn new(regexp: &'a GoRegexp, columns: &Columns) -> Memo<'a> {
        Memo { regexp, known: vec![None; columns.texts.len()] }
    }

    fn matches(&mut self, columns: &Columns, text: TextId) -> bool {
        let known = &mut self.known[text as usize];
        *known.get_or_insert_with(|| self.regexp.is_match(columns.text(text)))
    }

    fn matches_line(&mut self, columns: &Columns, line: &Line) -> bool {
        let function = columns.functions.get(line.function as usize);
        function.is_some_and(|f| self.matches(columns, f.name) || self.matches(columns, f.file))
    }

    fn matches_mapping(&mut self, columns: &Columns, location: &Location) -> bool {
        location.mapping != NONE && self.matches(columns, columns.mapping_file(location))
    }

    fn matches_location(&mut self, columns: &Columns, location: &Location, lines: &[Line]) -> bool {
        lines.iter().any(|line| self.matches_line(columns, line)) || self.matches_mapping(columns, location)
    }
}

/// Expressions that select frames and samples.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByName<'a> {
    /// Keep samples with a frame that matches.
    pub focus: Option<&'a GoRegexp>,
    /// Drop samples with a frame that matches.
    pub ignore: Option<&'a GoRegexp>,
    /// Drop frames that match.
    pub hide: Option<&'a GoRegexp>,
    /// Keep only frames that match.
    pub show: Option<&'a GoRegexp>,
}

/// Which expressions of [`ByName`] matched anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// `focus` matched a sample.
    pub focus: bool,
    /// `ignore` matched a sample.
    pub ignore: bool,
    /// `hide` matched a frame.
    pub hide: bool,
    /// `show` matched a frame.
    pub show: bool,
}

/// Accepts or rejects a sample.
pub type SampleTest<'a> = &'a dyn Fn(&Columns, usize) -> bool;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Neutral,
    Focused,
    Ignored,
}

impl Columns {
    /// Selects samples and frames by the names of functions, files and mappings.
    pub fn filter_by_name(&mut self, by: ByName) -> Matched {
        let mut matched = Matched::default();
        if by.focus.is_none() && by.ignore.is_none() && by.hide.is_none() && by.show.is_none() {
            return Matched { focus: true, ..matched };
        }
        let [mut focus, mut ignore, mut hide, mut show] =
            [by.focus, by.ignore, by.hide, by.show].map(|regexp| regexp.map(|r| Memo::new(r, self)));
        let mut verdicts = vec![Verdict::Neutral; self.locations.len()];
        let mut hidden = vec![false; self.locations.len()];
        self.change_lines(|columns, row, location, lines| {
            let is = |memo: &mut Option<Memo>, lines: &[Line]| {
                memo.as_mut().is_some_and(|memo| memo.matches_location(columns, location, lines))
            };
            if is(&mut ignore, lines) {
                (matched.ignore, verdicts[row]) = (true, Verdict::Ignored);
            } else if focus.is_none() || is(&mut focus, lines) {
                (matched.focus, verdicts[row]) = (true, Verdict::Focused);
            }
            if is(&mut hide, lines) {
                matched.hide = true;
                let hide = hide.as_mut().expect("it has matched");
                if hide.matches_mapping(columns, location) {
                    lines.clear();
                } else {
                    lines.retain(|line| !hide.matches_line(columns, line));
                }
                hidden[row] |= lines.is_empty();
            }
            if let Some(show) = &mut show {
                if !show.matches_mapping(columns, location) {
                    lines.retain(|line| line.function == NONE || show.matches_line(columns, line));
                }
                matched.show |= !lines.is_empty();
                hidden[row] |= lines.is_empty();
            }
        });
        let any_hidden = hidden.contains(&true);
        self.retain(any_hidden.then_some(&hidden), |_, stack| {
            let verdicts = || stack.iter().map(|location| verdicts[*location as usize]);
            let kept = verdicts().any(|verdict| verdict == Verdict::Focused)
                && verdicts().all(|verdict| verdict != Verdict::Ignored);
            kept.then_some(0..stack.len())
        });
        matched
    }

    /// Replaces the lines of each location by the result of `change`.
    pub(super) fn change_lines(
        &mut self,
        mut change: impl FnMut(&Columns, usize, &Location, &mut Vec<Line>),
    ) {
        let mut all_lines = Vec::with_capacity(self.lines.len());
        let mut ranges: Vec<Range<u32>> = Vec::with_capacity(self.locations.len());
        let mut lines = Vec::new();
        for (row, location) in self.locations.iter().enumerate() {
            lines.clear();
            lines.extend_from_slice(self.lines_of(location));
            change(self, row, location, &mut lines);
            let start = all_lines.len() as u32;
            all_lines.extend_from_slice(&lines);
            ranges.push(start..all_lines.len() as u32);
        }
        for (location, range) in self.locations.iter_mut().zip(ranges) {
            location.lines = range;
        }
        self.lines = all_lines;
    }

    /// Drops all frames above the root-most matching one, and samples without a match. Returns
    /// whether anything matched.
    pub fn show_from(&mut self, regexp: &GoRegexp) -> bool {
        let mut memo = Memo::new(regexp, self);
        let mut matching = vec![false; self.locations.len()];
        self.change_lines(|columns, row, location, lines| {
            if memo.matches_mapping(columns, location) {
                matching[row] = true;
            } else if let Some(last) = lines.iter().rposition(|line| memo.matches_line(columns, line)) {
                lines.truncate(last + 1);
                matching[row] = true;
            }
        });
        self.retain(None, |_, stack| {
            let root = stack.iter().rposition(|location| matching[*location as usize])?;
            Some(0..root + 1)
        });
        matching.contains(&true)
    }

    /// Keeps samples that `focus` accepts and `ignore` does not. Returns for each whether it ever
    /// accepted one.
    pub fn filter_by_label(&mut self, focus: Option<SampleTest>, ignore: Option<SampleTest>) -> (bool, bool) {
        if focus.is_none() && ignore.is_none() {
            return (self.sample_count() > 0, false);
        }
        let (mut any_focused, mut any_ignored) = (false, false);
        let mut kept = Vec::with_capacity(self.sample_count());
        for sample in 0..self.sample_count() {
            let focused = focus.is_none_or(|focus| focus(self, sample));
            let ignored = ignore.is_some_and(|ignore| ignore(self, sample));
            any_focused |= focused;
            any_ignored |= ignored;
            kept.push(focused && !ignored);
        }
        self.retain(None, |sample, stack| kept[sample].then_some(0..stack.len()));
        (any_focused, any_ignored)
    }

    /// Keeps labels whose key `show` matches and `hide` does not. Returns for each whether it
    /// matched.
    pub fn filter_labels(&mut self, show: Option<&GoRegexp>, hide: Option<&GoRegexp>) -> (bool, bool) {
        let (mut any_shown, mut any_hidden) = (false, false);
        if !self.has_labels() || (show.is_none() && hide.is_none()) {
            return (self.has_labels(), false);
        }
        let texts = self.texts.clone();
        let [mut show, mut hide] = [show, hide].map(|regexp| regexp.map(|r| Memo::new(r, self)));
        let matches = |memo: &mut Option<Memo>, key: TextId| {
            memo.as_mut().map(|memo| {
                *memo.known[key as usize].get_or_insert_with(|| memo.regexp.is_match(texts.get(key)))
            })
        };
        self.relabel(|labels, out| {
            for label in labels {
                let shown = matches(&mut show, label.key).unwrap_or(true);
                let hidden = matches(&mut hide, label.key).unwrap_or(false);
                any_shown |= shown;
                any_hidden |= hidden;
                if shown && !hidden {
                    out.push(*label);
                }
            }
        });
        (any_shown, any_hidden)
    }
}
