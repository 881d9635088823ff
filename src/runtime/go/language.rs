//! Go behind the interfaces of all languages: its files, and how their code is unwound.
//!
//! Not here: Go's tables themselves (`find`, `pclntab`), attaching (`loaded_runtime`), a process
//! (`instance`).

use std::sync::{Arc, OnceLock};

use super::{
    account,
    cpu::CPU,
    find::{GoTables, is_marked},
    pclntab::FLAG_SP_WRITE,
};
use crate::{
    addr::{ElfAddr, FrameAddr, RuntimeAddr},
    arch::{Registers, native},
    elf::ElfFile,
    process::LanguageId,
    runtime::{Language, LoadedRuntime},
    unwind::{Code, CodeAt, FrameKey, NextStack, Role, StackMemory, Step, fixed_caller},
};

/// The Go language.
#[derive(Debug)]
pub struct Go;

impl Language for Go {
    fn id(&self) -> LanguageId {
        LanguageId(1)
    }

    fn name(&self) -> &'static str {
        "Go"
    }

    fn detect(&self, elf: &Arc<ElfFile>, path: &str) -> Option<Arc<dyn LoadedRuntime>> {
        is_marked(elf).then(|| Arc::new(GoFile::new(elf, path)) as Arc<dyn LoadedRuntime>)
    }

    fn is_marked(&self, elf: &ElfFile, _path: &str) -> bool {
        is_marked(elf)
    }

    fn search(&self, elf: &Arc<ElfFile>, path: &str) -> Option<Arc<dyn LoadedRuntime>> {
        let file = GoFile::new(elf, path);
        file.tables.is_some().then(|| Arc::new(file) as Arc<dyn LoadedRuntime>)
    }

    fn idle_functions(&self) -> &'static [&'static str] {
        &[
            "runtime.findRunnable",
            "runtime.stopm",
            "runtime.sysmon",
            "runtime.templateThread",
            "runtime.sigqueue",
        ]
    }

    fn accounts(&self) -> &'static [&'static str] {
        &account::NAMES
    }

    fn dumps_tasks(&self) -> bool {
        true
    }
}

/// A file with Go code.
#[derive(Debug)]
pub struct GoFile {
    elf: Arc<ElfFile>,
    /// Its path in the mount namespace of a process that maps it.
    pub path: String,
    /// `None`: of a release before Go 1.18, or modified.
    pub tables: Option<Arc<GoTables>>,
    special: OnceLock<SpecialFunctions>,
}

/// Address ranges of functions that the unwinder treats specially.
#[derive(Debug, Default)]
struct SpecialFunctions {
    roots: Vec<(u64, u64)>,
    switches: Vec<(u64, u64)>,
    resting_places: Vec<(u64, u64)>,
}

/// Outermost functions.
const ROOTS: [&str; 5] =
    ["runtime.goexit", "runtime.rt0_go", "runtime.mstart", "runtime.mcall", "runtime.clone"];
/// Functions that run another function on the thread's own stack for the goroutine. Most of them
/// leave a frame pointer that leads back to the goroutine's stack.
const SWITCHES: [&str; 3] = ["runtime.systemstack", "runtime.asmcgocall", "runtime.morestack"];
/// Functions that mark where a goroutine left its stack.
const RESTING_PLACES: [&str; 1] = ["runtime.systemstack_switch"];
/// Most symbols that are searched in a file without Go's function table.
const MAX_SYMBOLS: usize = 1 << 20;

impl GoFile {
    fn new(elf: &Arc<ElfFile>, path: &str) -> GoFile {
        let tables = GoTables::find(elf).map(Arc::new);
        GoFile { elf: Arc::clone(elf), path: path.to_owned(), tables, special: OnceLock::new() }
    }

    fn special(&self) -> &SpecialFunctions {
        self.special.get_or_init(|| {
            let mut special = SpecialFunctions::default();
            match &self.tables {
                Some(tables) => special.add_from(tables),
                None => {
                    for symbol in self.elf.symbols().take(MAX_SYMBOLS) {
                        let name = std::str::from_utf8(symbol.name).unwrap_or_default();
                        special.add(name, symbol.address.0, symbol.size);
                    }
                }
            }
            special
        })
    }

    /// Go records a function that is never run as the place where a goroutine left its stack; the
    /// registers of its caller, and whether the pc is exact.
    fn left_at(&self, at: CodeAt<'_>, left: Registers, stack: &mut dyn StackMemory) -> (Registers, bool) {
        let Some(pc) = left.get(native::PC).map(RuntimeAddr) else { return (left, true) };
        let inside = CodeAt { addr: FrameAddr::Pc(pc), module: at.module };
        if !within(&self.special().resting_places, inside.elf_addr()) {
            return (left, true);
        }
        let Role::Fixed(frame) = self.role_by_table(inside.elf_addr()) else { return (left, true) };
        match fixed_caller(&frame, &left, stack) {
            Some(caller) => (caller, false),
            None => (left, true),
        }
    }

    fn role_by_table(&self, address: ElfAddr) -> Role {
        let Some(tables) = &self.tables else { return Role::NotMine };
        let Some(function) = tables.function_at(address) else { return Role::NotMine };
        if function.flags & FLAG_SP_WRITE != 0 {
            return Role::NotMine;
        }
        match tables.pclntab.stack_depth(&function, address).and_then(|depth| u32::try_from(depth).ok()) {
            Some(depth) => Role::Fixed((CPU.frame)(i64::from(depth))),
            None => Role::NotMine,
        }
    }
}

impl SpecialFunctions {
    /// Adds from all functions: the function itself and a wrapper for another calling convention
    /// have the same name in the table.
    fn add_from(&mut self, tables: &GoTables) {
        for function in tables.pclntab.functions() {
            let name = tables.pclntab.name(&function);
            if name.starts_with("runtime.") {
                self.add(name, function.entry, function.end.saturating_sub(function.entry));
            }
        }
    }

    fn add(&mut self, name: &str, start: u64, size: u64) {
        let name = name.strip_suffix(".abi0").unwrap_or(name);
        let ranges = if ROOTS.contains(&name) {
            &mut self.roots
        } else if SWITCHES.contains(&name) {
            &mut self.switches
        } else if RESTING_PLACES.contains(&name) {
            &mut self.resting_places
        } else {
            return;
        };
        // A crafted file may repeat a name; real ones have each at most twice.
        if ranges.len() < 16 {
            ranges.push((start, start.saturating_add(size.clamp(16, 4096))));
        }
    }
}

fn within(ranges: &[(u64, u64)], address: ElfAddr) -> bool {
    ranges.iter().any(|(start, end)| (*start..*end).contains(&address.0))
}

impl Code for GoFile {
    fn role(&self, at: CodeAt<'_>) -> Role {
        if (CPU.is_goexit)(at.bytes()) || within(&self.special().roots, at.elf_addr()) {
            return Role::Root;
        }
        if within(&self.special().switches, at.elf_addr()) {
            return Role::Own;
        }
        self.role_by_table(at.elf_addr())
    }

    /// From a function that runs on the thread's own stack for a goroutine, to where the goroutine
    /// left its stack, if that is known.
    fn step(
        &self,
        at: CodeAt<'_>,
        _registers: &Registers,
        stack: &mut dyn StackMemory,
        _key: &mut Option<FrameKey>,
    ) -> Step {
        let Some(left) = stack.task_registers().copied() else { return Step::Native { switches: true } };
        let (registers, exact) = self.left_at(at, left, stack);
        Step::Switch { registers, exact, stack: NextStack::Task }
    }

    fn functions(&self, each: &mut dyn FnMut(&[u8], u64, u64)) {
        let Some(tables) = &self.tables else { return };
        for function in tables.pclntab.functions() {
            let name = tables.pclntab.name(&function).as_bytes();
            each(name, function.entry, function.end.saturating_sub(function.entry));
        }
    }

    fn keeps_frame_pointers(&self) -> bool {
        true
    }
}
