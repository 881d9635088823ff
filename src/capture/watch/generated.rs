//! Code that a process generates at run time and describes itself: the modules that are made of
//! these descriptions, inside the mappings of the memory.
//!
//! A description is read when a stack has a frame in such memory. Not here: reading descriptions
//! (`crate::runtime::jit`), code of a language's runtime (`languages`).

use std::{collections::BTreeMap, fs::File, ops::Range, sync::Arc};

use super::images::{Image, ImageKind, Images};
use crate::{
    addr::RuntimeAddr,
    process::{self, ProcessMemory, files, identity},
    runtime::{self, Generated, Generator, Piece},
    unwind::{Frame, Module, Modules},
};

/// How often descriptions are read, in nanoseconds.
const READ_EVERY_NS: u64 = 10_000_000;
/// Reading may take at most one part in this many of the time.
const READ_SHARE: u64 = 50;
/// How much of the stack is searched for return addresses: as much as the unwinder scans.
const STACK_WORDS: usize = 512;
/// The most parts of generated code with a module of their own, of one process.
const MAX_PARTS: usize = 1 << 15;

/// The generated code of one process.
#[derive(Debug, Default)]
pub struct GeneratedCode {
    /// `None`: no frame was met in such code yet.
    source: Option<Generated>,
    /// By start of their code.
    parts: BTreeMap<u64, Part>,
    /// When the descriptions were read, and how long that took.
    read_at_ns: u64,
    read_took_ns: u64,
    /// What generates code, by the files that are mapped, with its rank.
    generator: Option<(usize, &'static Generator)>,
}

/// A part of a piece of code.
#[derive(Debug)]
struct Part {
    module: Module,
    /// The mapping around it.
    home: Module,
    _piece: Arc<Piece>,
}

impl GeneratedCode {
    /// Notes a file that the process has mapped.
    pub fn note_file(&mut self, path: &str) {
        let found = Generator::of_file(path);
        let is_better = |(rank, _): &(usize, _)| self.generator.is_none_or(|(known, _)| *rank < known);
        self.generator = found.filter(is_better).or(self.generator);
    }

    /// What generates code in this process, as far as it is recognized.
    pub fn generator(&self) -> Option<&'static Generator> {
        self.generator.map(|(_, generator)| generator)
    }

    /// The mappings around its modules.
    pub fn homes(&self) -> impl Iterator<Item = u32> + '_ {
        self.parts.values().map(|part| part.home.id)
    }

    /// Puts the modules back that a new record of the mapping around them has covered: JIT
    /// compilers change the rights of their memory again and again.
    pub fn place_again(&mut self, home: &Module, modules: &mut Modules) {
        for (_, part) in self.parts.range_mut(home.start.0..home.end.0) {
            part.home = home.clone();
            modules.insert(part.module.clone());
        }
    }

    /// The child of a fork has the mappings without these modules: it describes its code itself.
    pub fn remove_from(&self, modules: &mut Modules) {
        self.parts.values().for_each(|part| part.remove_from(modules));
    }

    /// Reads what is new, if it is time, and makes what was stated up to a sample's time count.
    pub fn advance(&mut self, time_ns: u64, modules: &mut Modules) {
        let Some(source) = self.source.as_mut().filter(|source| !source.is_empty()) else { return };
        let parts = &mut self.parts;
        let mut gone = |range: Range<u64>| forget(parts, &range, modules);
        let pause_ns = READ_EVERY_NS.max(self.read_took_ns.saturating_mul(READ_SHARE));
        if time_ns >= self.read_at_ns.saturating_add(pause_ns) {
            let began_ns = identity::monotonic_ns();
            source.read_on(time_ns, &mut gone);
            (self.read_at_ns, self.read_took_ns) =
                (time_ns, identity::monotonic_ns().saturating_sub(began_ns));
        }
        source.advance(time_ns, gone);
    }

    /// Adds a piece of code.
    fn place(&mut self, pid: u32, piece: Piece, modules: &mut Modules, images: &mut Images) {
        let piece = Arc::new(piece);
        let mut image = None;
        for home in free_memory(modules, images) {
            for part in runtime::parts_in(&piece.code, home.start..home.end) {
                if self.parts.len() >= MAX_PARTS {
                    return;
                }
                let image = image.get_or_insert_with(|| images.generated(pid, &home, &piece));
                let module = images.module_of_generated(image, &home, part.clone());
                modules.insert(module.clone());
                let (home, _piece) = (home.clone(), Arc::clone(&piece));
                self.parts.insert(part.start, Part { module, home, _piece });
            }
        }
    }
}

impl Part {
    /// Gives its addresses back to the mapping around it, unless something else is there by now.
    fn remove_from(&self, modules: &mut Modules) {
        let Module { start, end, id, .. } = self.module;
        if modules.find(start).is_some_and(|now| now.id == id) {
            modules.insert(Module { start, end, ..self.home.clone() });
        }
    }
}

fn forget(parts: &mut BTreeMap<u64, Part>, range: &Range<u64>, modules: &mut Modules) {
    let starts: Vec<u64> = parts.range(range.clone()).map(|(start, _)| *start).collect();
    for part in starts.iter().filter_map(|start| parts.remove(start)) {
        part.remove_from(modules);
    }
}

/// The memory without a file that nothing describes. Parts of a mapping that became free one after
/// the other are one again: code may lie across their borders.
fn free_memory(modules: &Modules, images: &Images) -> Vec<Module> {
    let mut free: Vec<Module> = Vec::new();
    for module in modules.as_slice().iter().filter(|module| is_free_memory(module, images)) {
        match free.last_mut().filter(|last| last.end == module.start && last.id == module.id) {
            Some(last) => last.end = module.end,
            None => free.push(module.clone()),
        }
    }
    free
}

/// Whether a mapping is memory without a file that no runtime owns.
fn is_free_memory(module: &Module, images: &Images) -> bool {
    module.code.is_none()
        && module.tables.is_none()
        && matches!(images.placement(module.id).image.kind, ImageKind::Anonymous { .. })
}

/// A process, as its descriptions are found.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// Its number.
    pub pid: u32,
    /// Its memory.
    pub memory: &'a Arc<ProcessMemory>,
}

impl GeneratedCode {
    /// Makes modules of the descriptions of code that frames are in. If there is such a frame, the
    /// code that return addresses on the copied stack lead to is described too, because the
    /// unwinder finds callers by their code. `true`: there are new modules, so the stack should be
    /// walked again.
    pub fn find(
        &mut self,
        process: Described<'_>,
        (frames, stack, time_ns): (&[Frame], &[u8], u64),
        modules: &mut Modules,
        images: &mut Images,
    ) -> bool {
        let is_memory =
            |frame: &&Frame| frame.module.is_some_and(|id| images.placement(id).image.is_memory());
        let mut met: Vec<RuntimeAddr> =
            frames.iter().filter(is_memory).map(|frame| frame.addr.lookup()).collect();
        if met.is_empty() {
            return false;
        }
        if self.source.is_none() && met.iter().any(|address| is_free_at(*address, modules, images)) {
            self.source = Some(descriptions(process, time_ns, modules, images));
            self.advance(time_ns, modules);
        }
        if self.source.as_ref().is_none_or(Generated::is_empty) {
            return false;
        }
        let words = stack.as_chunks::<8>().0.iter().take(STACK_WORDS).map(|word| u64::from_le_bytes(*word));
        met.extend(words.map(|word| RuntimeAddr(word.wrapping_sub(1))));
        let mut is_new = false;
        for address in met {
            if !is_free_at(address, modules, images) {
                continue;
            }
            let source = self.source.as_ref();
            if let Some(piece) = source.and_then(|source| source.piece_at(address.0)) {
                self.place(process.pid, piece, modules, images);
                is_new = true;
            }
        }
        is_new
    }
}

/// Whether an address is in memory without a file that nothing describes and no runtime owns.
fn is_free_at(address: RuntimeAddr, modules: &Modules, images: &Images) -> bool {
    modules.find(address).is_some_and(|module| is_free_memory(module, images))
}

/// Finds what the process states about its code.
fn descriptions(process: Described<'_>, now_ns: u64, modules: &Modules, images: &Images) -> Generated {
    let budget = images.budget().process();
    let (mut lists, mut dump) = (Vec::new(), None);
    for module in modules.as_slice() {
        let image = &images.placement(module.id).image;
        let list = image.elf.as_deref().and_then(runtime::descriptor_in);
        lists.extend(list.map(|address| address.wrapping_add(module.bias)));
        dump = dump.or_else(|| dump_at(process.pid, module, image));
    }
    lists.sort_unstable();
    lists.dedup();
    Generated::new(process.memory, &budget, lists.into_iter(), dump, now_ns)
}

/// The jitdump file, if a mapping is of it: programs map its first page as a mark.
fn dump_at(pid: u32, module: &Module, image: &Image) -> Option<File> {
    if !runtime::is_jitdump(&image.path) {
        return None;
    }
    let mappings = process::read_executable_mappings(pid).ok()?;
    let mapping = mappings.iter().find(|mapping| mapping.start == module.start)?;
    files::open(&files::MappedFile::of(pid, mapping)).ok()
}
