//! Puts Python frames in the place of the interpreter's own frames on the native stack.
//!
//! One run of the evaluator, a C function, executes one Python function (3.8 to 3.10) or a group of
//! functions that called each other directly (3.11 and newer). A function that C code calls
//! (`sorted(key=…)`) begins a new run. So groups and native frames of the evaluator correspond in
//! order.
//!
//! *By address* (3.12 and newer): each run has a frame of its own, the shim, as a local variable on
//! the C stack. The native frame whose part of the stack holds it is the evaluator's, whatever its
//! symbol is.
//!
//! *By symbol* (3.8 to 3.11): the code of the evaluator is known, and the n-th group belongs to the
//! n-th native frame in it, counted from the outside. The innermost native frame may have no group
//! yet, when the evaluator is being entered: it stays.
//!
//! Not here: reading frames, names.

use std::ops::Range;

use super::{layouts::Layout, walker::Section};

/// A native frame, leaf first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NativeFrame {
    /// Its part of the stack: from its stack pointer up to its canonical frame address. `None`: it
    /// is not known, or not a native frame.
    pub bounds: Option<(u64, u64)>,
    /// Its code is the evaluator's.
    pub is_evaluator: bool,
}

/// A frame of the combined stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The native frame with this index.
    Native(usize),
    /// The frame of the section with this index.
    Python(usize),
}

impl Part {
    /// The index in the section.
    pub fn python(&self) -> Option<usize> {
        match self {
            Part::Python(index) => Some(*index),
            Part::Native(_) => None,
        }
    }
}

/// How well the frames fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Every Python frame is in the place of its evaluator's frame.
    Whole,
    /// The native stack ends before the evaluators' frames: the outer Python frames follow it.
    Cut,
    /// A group has no native frame, although the native stack is whole.
    Misfit,
}

/// A run of the evaluator: its frames in the section, and its shim.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    frames: Range<usize>,
    anchor: Option<u64>,
}

/// Combines native and Python frames, both leaf first. `is_whole`: the native stack reaches its
/// root.
pub fn combine(
    layout: &Layout,
    section: &Section,
    native: &[NativeFrame],
    is_whole: bool,
) -> (Vec<Part>, Fit) {
    let groups = groups(layout, section);
    let places =
        if layout.has_shims { by_address(&groups, native) } else { by_symbol(&groups, native, is_whole) };
    let mut parts = Vec::with_capacity(native.len() + section.frames.len());
    let mut placed =
        groups.iter().zip(&places).filter_map(|(group, place)| Some((group, (*place)?))).peekable();
    for index in 0..native.len() {
        match placed.next_if(|(_, place)| *place == index) {
            Some((group, _)) => parts.extend(group.frames.clone().map(Part::Python)),
            None => parts.push(Part::Native(index)),
        }
    }
    let rest =
        groups.iter().zip(&places).filter(|(group, place)| place.is_none() && !group.frames.is_empty());
    let rest: Vec<_> = rest.map(|(group, _)| group.frames.clone()).collect();
    let fit = match (rest.is_empty(), is_whole) {
        (true, _) => Fit::Whole,
        (false, false) => Fit::Cut,
        (false, true) => Fit::Misfit,
    };
    parts.extend(rest.into_iter().flatten().map(Part::Python));
    (parts, fit)
}

/// The runs of the evaluator, the innermost first. The outermost may have no shim, if the chain was
/// cut.
fn groups(layout: &Layout, section: &Section) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut start = 0;
    for (index, frame) in section.frames.iter().enumerate() {
        if layout.is_shim(frame.entry()) {
            groups.push(Group { frames: start..index, anchor: Some(frame.frame()) });
            start = index + 1;
        } else if !layout.has_shims && (layout.entry_min > 255 || layout.is_entry(frame.entry())) {
            groups.push(Group { frames: start..index + 1, anchor: None });
            start = index + 1;
        }
    }
    if start < section.frames.len() {
        groups.push(Group { frames: start..section.frames.len(), anchor: None });
    }
    groups
}

/// The native frame that holds each group's anchor. Anchors are further out from group to group.
fn by_address(groups: &[Group], native: &[NativeFrame]) -> Vec<Option<usize>> {
    let mut from = 0;
    let place = |group: &Group| {
        let anchor = group.anchor?;
        let holds =
            |frame: &NativeFrame| frame.bounds.is_some_and(|(start, end)| start <= anchor && anchor < end);
        let found = from + native.get(from..)?.iter().position(holds)?;
        from = found + 1;
        Some(found)
    };
    groups.iter().map(place).collect()
}

/// The n-th native frame of the evaluator, counted from the outside if the stack is whole.
fn by_symbol(groups: &[Group], native: &[NativeFrame], is_whole: bool) -> Vec<Option<usize>> {
    let evaluators: Vec<usize> =
        native.iter().enumerate().filter(|(_, frame)| frame.is_evaluator).map(|(index, _)| index).collect();
    let spare = evaluators.len().saturating_sub(groups.len());
    let (skip, missing) =
        if is_whole { (spare, groups.len().saturating_sub(evaluators.len())) } else { (0, 0) };
    (0..groups.len()).map(|group| evaluators.get(skip + group.checked_sub(missing)?).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::python::walker::{ADDRESS_BITS, SectionHead, WalkedFrame};

    fn layout(minor: u32) -> Layout {
        Layout::of(minor).expect("a row")
    }

    fn section(frames: &[(u64, u8)]) -> Section {
        let frame = |(address, entry): &(u64, u8)| WalkedFrame {
            address: address | u64::from(*entry) << ADDRESS_BITS,
            ..WalkedFrame::default()
        };
        Section { head: SectionHead::default(), frames: frames.iter().map(frame).collect() }
    }

    /// Native frames of 0x100 bytes each, from 0x1000 on; `e` is the evaluator.
    fn native(kinds: &str) -> Vec<NativeFrame> {
        let frame = |(index, kind): (usize, char)| {
            let start = 0x1000 + index as u64 * 0x100;
            NativeFrame { bounds: Some((start, start + 0x100)), is_evaluator: kind == 'e' }
        };
        kinds.chars().enumerate().map(frame).collect()
    }

    fn text(parts: &[Part]) -> String {
        let word = |part: &Part| match part {
            Part::Native(index) => format!("n{index}"),
            Part::Python(index) => format!("p{index}"),
        };
        parts.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn groups_replace_the_frames_that_hold_their_shims_whatever_their_symbol() {
        // Two functions of one run, its shim in frame 1; one function, its shim in frame 3.
        let section = section(&[(0x9000, 0), (0x9100, 0), (0x1110, 3), (0x9200, 0), (0x13f0, 3)]);
        let (parts, fit) = combine(&layout(12), &section, &native("cccccc"), true);
        assert_eq!((text(&parts).as_str(), fit), ("n0 p0 p1 n2 p3 n4 n5", Fit::Whole));
    }

    #[test]
    fn a_base_frame_outside_of_the_stack_changes_nothing() {
        let section = section(&[(0x9000, 0), (0x1110, 3), (0x7_0000, 3)]);
        let (parts, fit) = combine(&layout(15), &section, &native("ccc"), true);
        assert_eq!((text(&parts).as_str(), fit), ("n0 p0 n2", Fit::Whole));
    }

    #[test]
    fn a_cut_native_stack_is_continued_by_the_outer_functions() {
        let section = section(&[(0x9000, 0), (0x1010, 3), (0x9200, 0), (0x5000, 3)]);
        let (parts, fit) = combine(&layout(13), &section, &native("cc"), false);
        assert_eq!((text(&parts).as_str(), fit), ("p0 n1 p2", Fit::Cut));
        assert_eq!(combine(&layout(13), &section, &native("cc"), true).1, Fit::Misfit);
    }

    #[test]
    fn each_function_of_3_8_has_an_evaluator_of_its_own() {
        let section = section(&[(0x9000, 0), (0x9100, 0)]);
        let (parts, fit) = combine(&layout(8), &section, &native("cecec"), true);
        assert_eq!((text(&parts).as_str(), fit), ("n0 p0 n2 p1 n4", Fit::Whole));
    }

    #[test]
    fn an_evaluator_that_is_being_entered_stays() {
        let section = section(&[(0x9000, 0), (0x9100, 0)]);
        let (parts, fit) = combine(&layout(9), &section, &native("ecece"), true);
        assert_eq!((text(&parts).as_str(), fit), ("n0 n1 p0 n3 p1", Fit::Whole));
    }

    #[test]
    fn the_functions_of_one_run_of_3_11_end_at_its_entry() {
        let section = section(&[(0x9000, 0), (0x9100, 1), (0x9200, 0), (0x9300, 1)]);
        let (parts, fit) = combine(&layout(11), &section, &native("ecec"), true);
        assert_eq!((text(&parts).as_str(), fit), ("p0 p1 n1 p2 p3 n3", Fit::Whole));
        let (parts, fit) = combine(&layout(11), &section, &native("ec"), false);
        assert_eq!((text(&parts).as_str(), fit), ("p0 p1 n1 p2 p3", Fit::Cut));
    }
}
