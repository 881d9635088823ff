//! The files mapped by the profiled processes, each opened and parsed once, and where their parts
//! were first placed in memory.
//!
//! A file that many processes map at different addresses is one image. Each mapped part of it is
//! one placement, and the profile uses the address of its first placement. So equal code has equal
//! addresses in the profile, in whichever process it runs. Not here: what each process has mapped
//! (see `space`), names.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    addr::{ElfAddr, FileOffset, RuntimeAddr},
    budget::Budget,
    capture::collector::MappingId,
    elf::{ElfError, ElfFile, cache},
    issue::{Issue, Issues},
    process::{LanguageId, files, identity, memory},
    runtime::{self, Generator, Language, LoadedRuntime, Piece},
    unwind::{Module, UnwindTables},
};

/// The placement of the kernel.
pub const KERNEL: MappingId = 0;
/// The placement of addresses outside all executable mappings.
pub const UNMAPPED: MappingId = 1;
/// The placement of frames that are not code; the address is a [`Synthetic`].
pub const SYNTHETIC: MappingId = 2;

/// Frames that rprof adds to stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Synthetic {
    /// The root of a truncated stack.
    Truncated = 1,
    /// Samples that did not fit into a buffer.
    Lost = 2,
    /// Stacks that did not fit into the table.
    Overflow = 3,
    /// A thread without a stack, or whose stack could not be read at all.
    NoStack = 4,
}

impl Synthetic {
    /// All variants.
    pub const ALL: [Synthetic; 4] =
        [Synthetic::Truncated, Synthetic::Lost, Synthetic::Overflow, Synthetic::NoStack];

    /// The function name in the profile.
    pub fn name(self) -> &'static str {
        match self {
            Synthetic::Truncated => "[truncated stack]",
            Synthetic::Lost => "[lost samples]",
            Synthetic::Overflow => "[too many different stacks]",
            Synthetic::NoStack => "[no stack]",
        }
    }
}

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// The kernel and its modules.
    Kernel,
    /// A file.
    File,
    /// The vDSO that the kernel maps into each process.
    Vdso,
    /// Memory without a file, such as JIT code.
    Anonymous {
        /// The process that has it.
        pid: u32,
    },
    /// A piece of generated code that the process describes ([`Piece`]).
    Generated {
        /// The process that has it.
        pid: u32,
    },
    /// Frames of a language that are not addresses: a place has the number of a frame.
    Language,
    /// No code: unmapped addresses and synthetic frames.
    Pseudo,
}

/// A file, or code that is in no file.
#[derive(Debug)]
pub struct Image {
    /// Distinguishes it from all images that rprof has opened, in any session.
    pub uid: u64,
    /// What it is.
    pub kind: ImageKind,
    /// The path in the target's mount namespace, or `[vdso]`, `//anon`, `[kernel.kallsyms]`.
    pub path: String,
    /// The parsed file; `None` where it is not an ELF file or could not be opened.
    pub elf: Option<Arc<ElfFile>>,
    /// The language runtimes in the file.
    pub runtimes: Vec<Arc<dyn LoadedRuntime>>,
    /// Its unwinding tables; `None` where `elf` is.
    pub tables: Option<Arc<UnwindTables>>,
    /// A process that had it mapped: debug files are searched below that process's root.
    pub seen_in_pid: u32,
    /// For memory without a file: what generated the code in it, once that is recognized.
    pub generator: Arc<OnceLock<&'static Generator>>,
    /// For memory without a file: the process's number in its own PID namespace and its user ID,
    /// read while the process was alive.
    pub owner: Option<(u32, u32)>,
}

impl Image {
    /// Whether it is memory without a file, whose addresses mean nothing to a reader.
    pub fn is_memory(&self) -> bool {
        matches!(self.kind, ImageKind::Anonymous { .. } | ImageKind::Generated { .. })
    }

    /// The name of its mappings in profiles, and of code in memory that has no other name.
    pub fn mapping_name(&self) -> Cow<'_, str> {
        if !self.is_memory() {
            return Cow::Borrowed(&self.path);
        }
        runtime::memory_name(&self.path, self.generator.get().copied()).into()
    }
}

/// A mapped part of an image, where it was first mapped.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The image it is part of.
    pub image: Arc<Image>,
    /// First address.
    pub start: RuntimeAddr,
    /// End address, exclusive.
    pub end: RuntimeAddr,
    /// Offset of `start` in the file, in bytes.
    pub file_offset: u64,
    /// Run-time address (of the first placement) = ELF address + bias, wrapping.
    pub bias: u64,
}

/// An executable mapping of a process, from `/proc/PID/maps` or a perf record.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    /// The process.
    pub pid: u32,
    /// First address.
    pub start: RuntimeAddr,
    /// End address, exclusive.
    pub end: RuntimeAddr,
    /// Offset of `start` in the file, in bytes.
    pub file_offset: u64,
    /// Major number of the file's device.
    pub device_major: u32,
    /// Minor number of the file's device.
    pub device_minor: u32,
    /// Inode number of the file; 0 for anonymous memory.
    pub inode: u64,
    /// The path, or a name such as `[vdso]`; empty for anonymous memory.
    pub path: &'a str,
}

/// The placements of some mappings, with their images: what naming needs of [`Images`].
#[derive(Clone, Debug, Default)]
pub struct Placements(FxHashMap<MappingId, Placement>);

impl Placements {
    /// The placement with this number; that of unmapped addresses if it is not known.
    pub fn get(&self, id: MappingId) -> &Placement {
        self.0.get(&id).unwrap_or_else(|| &self.0[&UNMAPPED])
    }
}

/// The images and placements of the watched processes.
#[derive(Debug)]
pub struct Images {
    budget: Budget,
    /// `None`: the number is free.
    placements: Vec<Option<Placement>>,
    free: Vec<MappingId>,
    by_file: FxHashMap<(u32, u32, u64, String), Arc<Image>>,
    by_anonymous: FxHashMap<(u32, String), Arc<Image>>,
    by_placement: FxHashMap<(u64, u64), MappingId>,
    by_language: FxHashMap<LanguageId, MappingId>,
}

/// The placements that every session has: kernel, unmapped, synthetic.
const FIXED: usize = 3;

impl Images {
    /// The images and placements that every capture has: kernel, unmapped, synthetic.
    /// No files yet. They are read within `budget`.
    pub fn within(budget: &Budget) -> Images {
        let mut images = Images {
            budget: budget.clone(),
            placements: Vec::new(),
            free: Vec::new(),
            by_file: FxHashMap::default(),
            by_anonymous: FxHashMap::default(),
            by_placement: FxHashMap::default(),
            by_language: FxHashMap::default(),
        };
        for (kind, name) in [
            (ImageKind::Kernel, "[kernel.kallsyms]"),
            (ImageKind::Pseudo, "[unmapped]"),
            (ImageKind::Pseudo, "[rprof]"),
        ] {
            let image = open_image(kind, name.to_owned(), 0, None);
            let (start, end) = match kind {
                ImageKind::Kernel => (RuntimeAddr(1 << 63), RuntimeAddr(u64::MAX)),
                _ => (RuntimeAddr(0), RuntimeAddr(0)),
            };
            images.placements.push(Some(Placement { image, start, end, file_offset: 0, bias: 0 }));
        }
        images
    }

    /// What reading files and processes may cost.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The placement with this number; that of unmapped addresses if it was forgotten.
    pub fn placement(&self, id: MappingId) -> &Placement {
        let known = self.placements.get(id as usize).and_then(Option::as_ref);
        known.or(self.placements[UNMAPPED as usize].as_ref()).expect("fixed placements are never freed")
    }

    /// The placements of these mappings, and the fixed ones.
    pub fn placements_of(&self, ids: impl Iterator<Item = MappingId>) -> Placements {
        let mut found: FxHashMap<MappingId, Placement> = FxHashMap::default();
        for id in ids.chain(0..FIXED as MappingId) {
            found.entry(id).or_insert_with(|| self.placement(id).clone());
        }
        Placements(found)
    }

    /// How many placements there are.
    pub fn placement_count(&self) -> usize {
        self.placements.len() - self.free.len()
    }

    /// Forgets the placements that are not in `used`, and files that have none left. The numbers of
    /// forgotten placements are used again.
    pub fn keep_only(&mut self, used: &FxHashSet<MappingId>) {
        for (id, slot) in self.placements.iter_mut().enumerate().skip(FIXED) {
            let is_language =
                slot.as_ref().is_some_and(|placement| placement.image.kind == ImageKind::Language);
            if slot.is_some() && !is_language && !used.contains(&(id as MappingId)) {
                *slot = None;
                self.free.push(id as MappingId);
            }
        }
        self.by_placement.retain(|_, id| used.contains(id));
        // The only reference is the table's own.
        self.by_file.retain(|_, image| Arc::strong_count(image) > 1);
        self.by_anonymous.retain(|_, image| Arc::strong_count(image) > 1);
    }

    /// About how many bytes of anonymous memory the tables take; of files, which are mapped, only
    /// what describes them.
    pub fn memory_bytes(&self) -> usize {
        const IMAGE_BYTES: usize = 4096;
        let images = self.by_file.len() + self.by_anonymous.len();
        self.placements.capacity() * size_of::<Option<Placement>>() + images * IMAGE_BYTES
    }

    /// The module that the unwinder needs for a region. Opens and parses the file if it is new.
    pub fn module(&mut self, region: &Region<'_>, issues: &mut Issues) -> Module {
        let image = self.image_of(region, issues);
        let elf = image.elf.as_deref();
        // The address that the file's program headers give the first byte of the region.
        let elf_start = elf.and_then(|elf| elf.address_of(FileOffset(region.file_offset)));
        let bias = region.start.0.wrapping_sub(elf_start.unwrap_or(ElfAddr(region.file_offset)).0);
        // Memory without a file has no meaningful offset: its address is its identity.
        let identity = match image.kind {
            ImageKind::Anonymous { .. } => region.start.0,
            _ => region.file_offset,
        };
        let tables = image.tables.clone();
        let id = match self.by_placement.get(&(image.uid, identity)) {
            Some(id) => *id,
            None => self.add_placement(image, identity, region, bias),
        };
        if let Some(placement) = &mut self.placements[id as usize] {
            let length = region.end.0 - region.start.0;
            placement.end = placement.end.max(placement.start.offset(length as i64));
        }
        Module { start: region.start, end: region.end, bias, tables, code: None, id }
    }

    /// The image of a piece of generated code in the mapping `home`.
    pub fn generated(&self, pid: u32, home: &Module, piece: &Piece) -> Arc<Image> {
        let around = &self.placement(home.id).image;
        let elf = Arc::clone(&piece.elf);
        Arc::new(Image {
            uid: next_uid(),
            kind: ImageKind::Generated { pid },
            path: around.path.clone(),
            runtimes: piece.runtime.iter().cloned().collect(),
            tables: Some(Arc::new(UnwindTables::new(Arc::clone(&elf)))),
            elf: Some(elf),
            seen_in_pid: pid,
            generator: Arc::clone(&around.generator),
            owner: around.owner,
        })
    }

    /// The module of a part of such an image. Its placement is that of `home`.
    pub fn module_of_generated(&mut self, image: &Arc<Image>, home: &Module, part: Range<u64>) -> Module {
        let around = self.placement(home.id);
        let (start, end) = (around.start, around.end);
        let region = Region {
            pid: image.seen_in_pid,
            start,
            end,
            file_offset: around.file_offset,
            device_major: 0,
            device_minor: 0,
            inode: 0,
            path: "",
        };
        let known = self.by_placement.get(&(image.uid, home.start.0)).copied();
        let id = known.unwrap_or_else(|| self.add_placement(Arc::clone(image), home.start.0, &region, 0));
        let (start, end) = (RuntimeAddr(part.start), RuntimeAddr(part.end));
        Module { start, end, bias: 0, tables: image.tables.clone(), code: None, id }
    }

    /// Notes what generated the code in the memory of a process that is no file.
    pub fn note_generator(&self, pid: u32, generator: &'static Generator) {
        for (_, image) in self.by_anonymous.iter().filter(|((owner, _), _)| *owner == pid) {
            image.generator.get_or_init(|| generator);
        }
    }

    /// The placement of the frames of a language.
    pub fn of_language(&mut self, language: &dyn Language) -> MappingId {
        if let Some(id) = self.by_language.get(&language.id()) {
            return *id;
        }
        let image = open_image(ImageKind::Language, format!("[{}]", language.name()), 0, None);
        let (start, end) = (RuntimeAddr(0), RuntimeAddr(0));
        self.placements.push(Some(Placement { image, start, end, file_offset: 0, bias: 0 }));
        let id = self.placements.len() as MappingId - 1;
        self.by_language.insert(language.id(), id);
        id
    }

    fn add_placement(
        &mut self,
        image: Arc<Image>,
        identity: u64,
        region: &Region<'_>,
        bias: u64,
    ) -> MappingId {
        let key = (image.uid, identity);
        let (start, end, file_offset) = (region.start, region.end, region.file_offset);
        let placement = Some(Placement { image, start, end, file_offset, bias });
        let id = match self.free.pop() {
            Some(id) => {
                self.placements[id as usize] = placement;
                id
            }
            None => {
                self.placements.push(placement);
                self.placements.len() as MappingId - 1
            }
        };
        self.by_placement.insert(key, id);
        id
    }

    /// The file that is mapped at a region. Opens and parses it if it is new.
    pub fn file(&mut self, region: &Region<'_>, issues: &mut Issues) -> Option<Arc<ElfFile>> {
        self.image_of(region, issues).elf.clone()
    }

    fn image_of(&mut self, region: &Region<'_>, issues: &mut Issues) -> Arc<Image> {
        if region.path == "[vdso]" {
            return self
                .named(ImageKind::Vdso, region, || ElfFile::from_bytes(memory::own_mapping("[vdso]")?).ok());
        }
        if region.inode == 0 || !region.path.starts_with('/') || region.path.starts_with("//") {
            return self.named(ImageKind::Anonymous { pid: region.pid }, region, || None);
        }
        let key = (region.device_major, region.device_minor, region.inode, region.path.to_owned());
        if let Some(image) = self.by_file.get(&key) {
            return Arc::clone(image);
        }
        let image = match open_elf(region, &self.budget) {
            Ok(elf) => open_image(ImageKind::File, region.path.to_owned(), region.pid, Some(elf)),
            // Shared memory, in which JIT compilers write code too.
            Err(Unusable::NotElf) => {
                return self.named(ImageKind::Anonymous { pid: region.pid }, region, || None);
            }
            Err(Unusable::Other(why)) => {
                issues.add(Issue::UnreadableFile { path: region.path.to_owned(), why }, 1);
                open_image(ImageKind::File, region.path.to_owned(), region.pid, None)
            }
        };
        self.by_file.insert(key, Arc::clone(&image));
        image
    }

    /// Takes a file of a process that has ended; later regions of this process that name it refer
    /// to it. `elf`: `None` if it is missing.
    pub fn add_file(&mut self, region: &Region<'_>, elf: Option<ElfFile>) {
        // Debug files are searched as rprof itself sees them.
        let pid = std::process::id();
        if region.path == "[vdso]" {
            let image = open_image(ImageKind::Vdso, region.path.to_owned(), pid, elf);
            self.by_anonymous.insert((0, region.path.to_owned()), image);
            return;
        }
        let key = (region.device_major, region.device_minor, region.inode, region.path.to_owned());
        let image = open_image(ImageKind::File, region.path.to_owned(), pid, elf);
        self.by_file.insert(key, image);
    }

    fn named(
        &mut self,
        kind: ImageKind,
        region: &Region<'_>,
        load: impl FnOnce() -> Option<ElfFile>,
    ) -> Arc<Image> {
        let pid = if matches!(kind, ImageKind::Anonymous { .. }) { region.pid } else { 0 };
        let name = if region.path.is_empty() { "//anon" } else { region.path };
        if let Some(image) = self.by_anonymous.get(&(pid, name.to_owned())) {
            return Arc::clone(image);
        }
        let image = open_image(kind, name.to_owned(), region.pid, load());
        self.by_anonymous.insert((pid, name.to_owned()), Arc::clone(&image));
        image
    }
}

fn next_uid() -> u64 {
    static NEXT_UID: AtomicU64 = AtomicU64::new(0);
    NEXT_UID.fetch_add(1, Ordering::Relaxed)
}

fn open_image(kind: ImageKind, path: String, pid: u32, elf: Option<ElfFile>) -> Arc<Image> {
    let elf = elf.map(Arc::new);
    let runtimes = elf.as_ref().map(|elf| runtime::detect(elf, &path)).unwrap_or_default();
    let tables = elf.as_ref().map(|elf| {
        let tables = UnwindTables::new(Arc::clone(elf));
        Arc::new(match runtime::code_of(&runtimes) {
            Some(code) => tables.with_code(code),
            None => tables,
        })
    });
    let owner = match kind {
        ImageKind::Anonymous { pid } => identity::namespace_pid_and_uid(pid).ok(),
        _ => None,
    };
    let (uid, generator) = (next_uid(), Arc::default());
    Arc::new(Image { uid, kind, path, elf, runtimes, tables, seen_in_pid: pid, generator, owner })
}

/// Why a mapped file is of no use.
enum Unusable {
    /// It holds something else than a program or a library.
    NotElf,
    Other(String),
}

fn open_elf(region: &Region<'_>, budget: &Budget) -> Result<ElfFile, Unusable> {
    let file = files::open(&files::MappedFile {
        pid: region.pid,
        start: region.start,
        end: region.end,
        device_major: region.device_major,
        device_minor: region.device_minor,
        inode: region.inode,
        path: region.path,
    });
    let file = file.map_err(|error| Unusable::Other(error.to_string()))?;
    cache::open(&file, budget).map_err(|error| match error {
        ElfError::NotElf => Unusable::NotElf,
        other => Unusable::Other(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::read_mappings;

    #[test]
    fn one_file_at_two_addresses_is_one_placement() {
        let pid = std::process::id();
        let maps = read_mappings(pid).expect("maps");
        let map = maps.iter().find(|map| map.executable && map.inode != 0).expect("a program");
        let region = |shift: u64| Region {
            pid,
            start: RuntimeAddr(map.start.0 + shift),
            end: RuntimeAddr(map.end.0 + shift),
            file_offset: map.file_offset,
            device_major: map.device_major,
            device_minor: map.device_minor,
            inode: map.inode,
            path: &map.path,
        };
        let (mut images, mut issues) = (Images::within(&Budget::session()), Issues::default());
        let here = images.module(&region(0), &mut issues);
        let there = images.module(&region(0x1000_0000), &mut issues);
        assert_eq!(here.id, there.id);
        assert_eq!(there.bias, here.bias.wrapping_add(0x1000_0000));
        assert!(issues.is_empty());
        assert!(images.placement(here.id).image.elf.is_some());
    }

    #[test]
    fn a_file_that_no_mapping_uses_is_forgotten_and_its_number_used_again() {
        let region = |start: u64| Region {
            pid: 1,
            start: RuntimeAddr(start),
            end: RuntimeAddr(start + 4096),
            file_offset: 0,
            device_major: 0,
            device_minor: 0,
            inode: 0,
            path: "",
        };
        let (mut images, mut issues) = (Images::within(&Budget::session()), Issues::default());
        let (first, second) =
            (images.module(&region(0x1000), &mut issues).id, images.module(&region(0x9000), &mut issues).id);
        let held = images.placements_of([first].into_iter());
        images.keep_only(&[second].into_iter().collect());
        assert_eq!(images.placement_count(), FIXED + 1);
        assert_eq!(images.placement(first).image.kind, ImageKind::Pseudo);
        assert_eq!(held.get(first).start, RuntimeAddr(0x1000), "a window keeps what it has");
        assert_eq!(images.module(&region(0x5000), &mut issues).id, first);
        drop(held);
        images.keep_only(&FxHashSet::default());
        assert!(images.by_anonymous.is_empty() && images.by_placement.is_empty());
    }
}
