//! Go's tables behind the interfaces of the rest of rprof: names of addresses, and the frame
//! layouts that the unwinder needs.
//!
//! Not here: goroutines.

use super::{
    find::GoTables,
    pclntab::{FLAG_SP_WRITE, Function},
};
use crate::{
    addr::ElfAddr,
    symbolize::SourceFrame,
    unwind::{RuntimeFrame, RuntimeTables},
};

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

impl RuntimeTables for GoTables {
    fn frame(&self, address: ElfAddr) -> RuntimeFrame {
        let Some(function) = self.function_at(address) else { return RuntimeFrame::NotMine };
        if function.flags & FLAG_SP_WRITE != 0 {
            return RuntimeFrame::Unknown;
        }
        match self.pclntab.stack_depth(&function, address).and_then(|depth| u32::try_from(depth).ok()) {
            Some(depth) => RuntimeFrame::Depth(depth),
            None => RuntimeFrame::Unknown,
        }
    }

    fn functions(&self, each: &mut dyn FnMut(&[u8], u64, u64)) {
        for function in self.pclntab.functions() {
            each(
                self.pclntab.name(&function).as_bytes(),
                function.entry,
                function.end.saturating_sub(function.entry),
            );
        }
    }
}
