//! Any bytes as a file with Go's tables: finds the tables, names addresses of the first functions,
//! and asks how their frames are unwound.

use std::sync::Arc;

use rprof::{
    addr::{ElfAddr, FrameAddr, RuntimeAddr},
    elf::ElfFile,
    runtime::{
        self,
        go::{BuildInfo, GoTables},
    },
    unwind::{CodeAt, Module},
};

/// See the module.
pub fn run(bytes: &[u8]) {
    let Ok(elf) = ElfFile::from_bytes(bytes.to_vec()) else { return };
    let elf = Arc::new(elf);
    let _ = BuildInfo::read(&elf);
    let code = runtime::code_of(&runtime::detect(&elf, "/program"));
    let Some(tables) = GoTables::find(&elf) else { return };
    let module = Module {
        start: RuntimeAddr(0),
        end: RuntimeAddr(u64::MAX),
        bias: 0,
        tables: None,
        code: code.clone(),
        id: 0,
    };
    for function in tables.pclntab.functions().take(16) {
        for address in [function.entry, function.entry.wrapping_add(1), function.end.wrapping_sub(1)] {
            let _ = tables.name(ElfAddr(address));
            let addr = FrameAddr::Pc(RuntimeAddr(address));
            let _ = code.as_ref().map(|code| code.role(CodeAt { addr, module: &module }));
        }
    }
}
