//! Names of addresses by Go's tables.
//!
//! Not here: goroutines.

use super::{find::GoTables, pclntab::Function};
use crate::{addr::ElfAddr, symbolize::SourceFrame};

impl GoTables {
    /// The functions at a lookup address, the innermost inlined one first; `None` if it is not Go
    /// code.
    pub fn name(&self, address: ElfAddr) -> Option<Vec<SourceFrame>> {
        let function = self.function_at(address)?;
        let frames = self.pclntab.frames(&function, address);
        let frames = frames.into_iter().map(|frame| SourceFrame {
            function: frame.name.to_owned(),
            system_name: frame.name.to_owned(),
            file: (frame.file != "?").then(|| frame.file.to_owned()),
            line: frame.line,
            column: 0,
            start_line: frame.start_line,
            inlined: frame.is_inlined,
        });
        Some(frames.collect())
    }

    /// The Go function that contains an address. (The table has an entry without a name for gaps in
    /// the text, where cgo programs have C code.)
    pub fn function_at(&self, address: ElfAddr) -> Option<Function> {
        self.pclntab.find(address).filter(|function| !self.pclntab.name(function).is_empty())
    }
}
