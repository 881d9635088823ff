//! Functions of a jitdump file behind the interfaces of languages: their names and lines.
//!
//! Not here: the file.

use std::sync::Arc;

use super::jitdump::Function;
use crate::{
    addr::ElfAddr,
    elf::ElfFile,
    process::LanguageId,
    runtime::{Attach, Language, LoadedRuntime, ProcessView, Refusal},
    symbolize::{SourceFrame, demangle},
};

/// Code of any language that was generated at run time. It is in no file, so it is not detected.
#[derive(Debug)]
pub struct GeneratedCode;

impl Language for GeneratedCode {
    fn id(&self) -> LanguageId {
        LanguageId(250)
    }

    fn name(&self) -> &'static str {
        "generated code"
    }

    fn detect(&self, _elf: &Arc<ElfFile>, _path: &str) -> Option<Arc<dyn LoadedRuntime>> {
        None
    }

    fn is_marked(&self, _elf: &ElfFile, _path: &str) -> bool {
        false
    }
}

/// A generated function.
#[derive(Debug)]
pub struct GeneratedFunction {
    function: Function,
    shown_name: String,
}

impl GeneratedFunction {
    /// Keeps the name and the lines; the code is in the ELF file that was made of it.
    pub fn new(function: Function) -> GeneratedFunction {
        let shown_name = demangle(&function.name);
        GeneratedFunction { function: Function { code: Vec::new(), ..function }, shown_name }
    }
}

impl LoadedRuntime for GeneratedFunction {
    fn language(&self) -> &'static dyn Language {
        &GeneratedCode
    }

    fn name(&self, address: ElfAddr) -> Option<Vec<SourceFrame>> {
        let place = self.function.line_at(address.0);
        let first = self.function.lines.first().map_or(0, |(_, _, line)| *line);
        Some(vec![SourceFrame {
            function: self.shown_name.clone(),
            system_name: self.function.name.clone(),
            file: place.map(|(file, _)| file.to_owned()),
            line: place.map_or(0, |(_, line)| line),
            column: 0,
            start_line: first,
            inlined: false,
        }])
    }

    fn attach(self: Arc<Self>, _process: &ProcessView, _bias: u64) -> Attach {
        Attach::No(Refusal::OnlyCode)
    }
}
