//! The frames of a filtered profile: the name of each location, callers before callees.
//!
//! Not here: sums.

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::{
    profile::columns::{Columns, Line, Location, NONE, TextId},
    text::path::base_name,
};

/// The identity of a frame. A field that the granularity does not distinguish is 0 in all frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function.
    pub name: TextId,
    /// The source file.
    pub file: TextId,
    /// The source line.
    pub line: i64,
    /// The source column.
    pub column: i64,
    /// The address, if the granularity distinguishes addresses or the frame has no name.
    pub address: u64,
    /// The file of the mapping.
    pub module: TextId,
}

/// A frame of a location: its number, and whether it is inlined into the frame before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use(u32);

impl Use {
    const INLINED: u32 = 1 << 31;

    fn new(frame: u32, inlined: bool) -> Use {
        Use(frame | if inlined { Use::INLINED } else { 0 })
    }

    /// The number of the frame in [`Frames::all`].
    pub fn frame(self) -> u32 {
        self.0 & !Use::INLINED
    }

    /// Whether the frame is inlined into the one before it.
    pub fn is_inlined(self) -> bool {
        self.0 & Use::INLINED != 0
    }
}

/// All frames, and those of each location.
pub struct Frames {
    /// All frames, by number.
    pub all: Vec<Frame>,
    of_location: Vec<Range<u32>>,
    uses: Vec<Use>,
}

impl Frames {
    /// Collects the frames of all locations.
    pub fn new(columns: &Columns) -> Frames {
        let mut numbers: FxHashMap<Frame, u32> = FxHashMap::default();
        let mut frames = Frames { all: Vec::new(), of_location: Vec::new(), uses: Vec::new() };
        for location in &columns.locations {
            let start = frames.uses.len() as u32;
            let lines = columns.lines_of(location);
            for (depth, line) in lines.iter().rev().enumerate() {
                let frame = frame_of(columns, location, line);
                let use_ = Use::new(frames.number(&mut numbers, frame), depth > 0);
                frames.uses.push(use_);
            }
            if lines.is_empty() {
                let frame = unnamed(columns, location);
                let use_ = Use::new(frames.number(&mut numbers, frame), false);
                frames.uses.push(use_);
            }
            frames.of_location.push(start..frames.uses.len() as u32);
        }
        frames
    }

    fn number(&mut self, numbers: &mut FxHashMap<Frame, u32>, frame: Frame) -> u32 {
        *numbers.entry(frame).or_insert_with(|| {
            self.all.push(frame);
            self.all.len() as u32 - 1
        })
    }

    /// The frames of a location, outermost first; at least one.
    pub fn of(&self, location: u32) -> &[Use] {
        let range = self.of_location[location as usize].clone();
        &self.uses[range.start as usize..range.end as usize]
    }
}

fn frame_of(columns: &Columns, location: &Location, line: &Line) -> Frame {
    let function = match line.function {
        NONE => None,
        row => columns.functions.get(row as usize),
    };
    let Some(function) = function else { return unnamed(columns, location) };
    if function.name == 0 && function.file == 0 {
        return unnamed(columns, location);
    }
    Frame {
        name: function.name,
        file: function.file,
        line: line.line,
        column: line.column,
        address: location.address,
        module: columns.mapping_file(location),
    }
}

fn unnamed(columns: &Columns, location: &Location) -> Frame {
    Frame { address: location.address, module: columns.mapping_file(location), ..Frame::default() }
}

/// The frame as text: address, function, file and line, as far as they are known.
pub fn title(columns: &Columns, frame: &Frame) -> String {
    let mut title = String::new();
    if frame.address != 0 {
        title = format!("{:#x} ", frame.address);
    }
    let (name, file) = (columns.text(frame.name), columns.text(frame.file));
    let place = match (frame.line, frame.column) {
        (0, _) => String::new(),
        (line, 0) => format!(":{line}"),
        (line, column) => format!(":{line}:{column}"),
    };
    title += &match (name, file) {
        ("", "") if frame.module != 0 => format!("[{}]", base_name(columns.text(frame.module))),
        ("", "") if frame.address == 0 => "<unknown>".into(),
        ("", file) => format!("{file}{place}"),
        (name, file) if !place.is_empty() => format!("{name} {}{place}", base_name(file)),
        (name, _) => name.into(),
    };
    title.trim_end().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::profile;

    #[test]
    fn inlined_frames_follow_the_frame_they_are_inlined_into() {
        let columns = profile();
        let frames = Frames::new(&columns);
        let of_leaf: Vec<(String, bool)> = frames
            .of(columns.stack(0)[0])
            .iter()
            .map(|used| (title(&columns, &frames.all[used.frame() as usize]), used.is_inlined()))
            .collect();
        assert_eq!(of_leaf, [("work".into(), false), ("tight".into(), true)]);
    }

    #[test]
    fn a_frame_without_a_name_is_titled_by_address_and_file() {
        let mut columns = Columns::default();
        let file = columns.intern("/usr/lib/libfoo.so");
        let title = |frame: Frame| title(&columns, &frame);
        assert_eq!(title(Frame { address: 0x10, module: file, ..Frame::default() }), "0x10 [libfoo.so]");
        assert_eq!(title(Frame { address: 0x10, ..Frame::default() }), "0x10");
        assert_eq!(title(Frame::default()), "<unknown>");
        assert_eq!(title(Frame { file, line: 3, ..Frame::default() }), "/usr/lib/libfoo.so:3");
    }
}
