//! Blanks the fields that a report does not distinguish: addresses, lines, columns, files, function
//! names.
//!
//! Not here: adding up. Nodes of a report are equal if their remaining fields are equal.

use super::Columns;

/// The fields that remain distinct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Keep inlined frames; otherwise only the outermost function of a location.
    pub inlines: bool,
    /// Keep function names.
    pub functions: bool,
    /// Keep source files.
    pub files: bool,
    /// Keep line numbers.
    pub lines: bool,
    /// Keep column numbers.
    pub columns: bool,
    /// Keep addresses.
    pub addresses: bool,
}

impl Columns {
    /// Blanks all fields that `detail` does not keep.
    pub fn aggregate(&mut self, detail: Detail) {
        for mapping in &mut self.mappings {
            mapping.has_inline_frames &= detail.inlines;
            mapping.has_functions &= detail.functions;
            mapping.has_filenames &= detail.files;
            mapping.has_line_numbers &= detail.lines;
        }
        for function in &mut self.functions {
            if !detail.functions {
                (function.name, function.system_name) = (0, 0);
            }
            if !detail.files {
                function.file = 0;
            }
        }
        for location in &mut self.locations {
            if !detail.inlines && location.lines.len() > 1 {
                location.lines.start = location.lines.end - 1;
            }
            if !detail.addresses {
                location.address = 0;
            }
        }
        for line in &mut self.lines {
            if !detail.lines {
                line.line = 0;
            }
            if !detail.lines || !detail.columns {
                line.column = 0;
            }
        }
    }
}
