//! The files that run in the processes being watched, each opened and parsed once, and where their
//! parts were first placed in memory.
//!
//! A file mapped by many processes at as many addresses is one image; a part of it is one placement,
//! whose first address stands for all. So equal code has equal addresses in the profile, whoever runs
//! it. Not here: which process has mapped what (see `space`), names.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::collector::MappingId;
use crate::{
    addr::{ElfAddr, FileOffset, RuntimeAddr},
    elf::ElfFile,
    issue::{Issue, Issues},
    process::{files, identity, memory},
    runtime::go,
    unwind::{Module, RuntimeTables, UnwindTables},
};

pub type ImageId = u32;

/// Placement of everything in the kernel.
pub const KERNEL: MappingId = 0;
/// Addresses that lay in no executable mapping.
pub const UNMAPPED: MappingId = 1;
/// Frames that stand for something that is not code; the address is a [`Synthetic`].
pub const SYNTHETIC: MappingId = 2;

/// Frames that rprof adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Synthetic {
    /// Root of a stack that could not be followed to its end.
    Truncated = 1,
    /// Samples for which there was no room in a buffer.
    Lost = 2,
    /// Stacks for which there was no room in the table.
    Overflow = 3,
    /// A thread whose stack could not be read at all, or that has none any more.
    NoStack = 4,
}

impl Synthetic {
    pub const ALL: [Synthetic; 4] =
        [Synthetic::Truncated, Synthetic::Lost, Synthetic::Overflow, Synthetic::NoStack];

    pub fn name(self) -> &'static str {
        match self {
            Synthetic::Truncated => "[truncated stack]",
            Synthetic::Lost => "[lost samples]",
            Synthetic::Overflow => "[too many different stacks]",
            Synthetic::NoStack => "[no stack]",
        }
    }
}

/// What kind of thing code lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    Kernel,
    File,
    Vdso,
    /// Memory without a file (code made at run time), of this process.
    Anonymous {
        pid: u32,
    },
    Pseudo,
}

/// A file, or what stands for one.
#[derive(Debug)]
pub struct Image {
    pub kind: ImageKind,
    /// The path as the target has it, or `[vdso]`, `//anon`, `[kernel.kallsyms]`.
    pub path: String,
    pub elf: Option<Arc<ElfFile>>,
    /// Go's own tables, where the file has Go code.
    pub go: Option<Arc<go::GoTables>>,
    tables: Option<Arc<UnwindTables>>,
    /// A process that had it mapped: its root is where debug files are looked for.
    pub seen_in_pid: u32,
    /// Of anonymous memory: the process's number in its own PID namespace and its user, learnt while it
    /// lived.
    pub owner: Option<(u32, u32)>,
}

/// A part of an image, as it was first placed.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    pub image: ImageId,
    pub start: RuntimeAddr,
    pub end: RuntimeAddr,
    pub file_offset: u64,
    /// Run-time address (of the first placement) = ELF address + bias, wrapping.
    pub bias: u64,
}

/// An executable mapping of a process, from maps or from a perf record.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    pub pid: u32,
    pub start: RuntimeAddr,
    pub end: RuntimeAddr,
    pub file_offset: u64,
    pub device_major: u32,
    pub device_minor: u32,
    pub inode: u64,
    pub path: &'a str,
}

/// All images and placements of a capture.
#[derive(Debug)]
pub struct Images {
    images: Vec<Image>,
    placements: Vec<Placement>,
    by_file: FxHashMap<(u32, u32, u64, String), ImageId>,
    by_anonymous: FxHashMap<(u32, String), ImageId>,
    by_placement: FxHashMap<(ImageId, u64), MappingId>,
}

impl Images {
    pub fn new() -> Images {
        let mut images = Images {
            images: Vec::new(),
            placements: Vec::new(),
            by_file: FxHashMap::default(),
            by_anonymous: FxHashMap::default(),
            by_placement: FxHashMap::default(),
        };
        for (kind, name) in [
            (ImageKind::Kernel, "[kernel.kallsyms]"),
            (ImageKind::Pseudo, "[unmapped]"),
            (ImageKind::Pseudo, "[rprof]"),
        ] {
            let image = images.add_image(kind, name.to_owned(), 0, None);
            let (start, end) = match kind {
                ImageKind::Kernel => (RuntimeAddr(1 << 63), RuntimeAddr(u64::MAX)),
                _ => (RuntimeAddr(0), RuntimeAddr(0)),
            };
            images.placements.push(Placement { image, start, end, file_offset: 0, bias: 0 });
        }
        images
    }

    pub fn image(&self, id: ImageId) -> &Image {
        &self.images[id as usize]
    }

    pub fn placement(&self, id: MappingId) -> &Placement {
        &self.placements[id as usize]
    }

    /// The module that unwinding needs for a region; opens and parses its file when it is first met.
    pub fn module(&mut self, region: &Region<'_>, issues: &mut Issues) -> Module {
        let image = self.image_of(region, issues);
        let elf = self.images[image as usize].elf.as_deref();
        // The region's first byte is this byte of the file, which the file wants at this address.
        let elf_start = elf.and_then(|elf| elf.address_of(FileOffset(region.file_offset)));
        let bias = region.start.0.wrapping_sub(elf_start.unwrap_or(ElfAddr(region.file_offset)).0);
        // Memory without a file has no offset to know it by: its address is its identity.
        let identity = match self.images[image as usize].kind {
            ImageKind::Anonymous { .. } => region.start.0,
            _ => region.file_offset,
        };
        let next = self.placements.len() as MappingId;
        let id = *self.by_placement.entry((image, identity)).or_insert_with(|| {
            let (start, end, file_offset) = (region.start, region.end, region.file_offset);
            self.placements.push(Placement { image, start, end, file_offset, bias });
            next
        });
        let placement = &mut self.placements[id as usize];
        let length = region.end.0 - region.start.0;
        placement.end = placement.end.max(placement.start.offset(length as i64));
        let tables = self.images[image as usize].tables.clone();
        Module { start: region.start, end: region.end, bias, tables, id }
    }

    fn image_of(&mut self, region: &Region<'_>, issues: &mut Issues) -> ImageId {
        if region.path == "[vdso]" {
            return self
                .named(ImageKind::Vdso, region, || ElfFile::from_bytes(memory::own_mapping("[vdso]")?).ok());
        }
        if region.inode == 0 || !region.path.starts_with('/') || region.path.starts_with("//") {
            return self.named(ImageKind::Anonymous { pid: region.pid }, region, || None);
        }
        let key = (region.device_major, region.device_minor, region.inode, region.path.to_owned());
        if let Some(id) = self.by_file.get(&key) {
            return *id;
        }
        let id = match open_elf(region) {
            Ok(elf) => self.add_image(ImageKind::File, region.path.to_owned(), region.pid, Some(elf)),
            Err(why) => {
                issues.add(Issue::UnreadableFile { path: region.path.to_owned(), why }, 1);
                self.add_image(ImageKind::File, region.path.to_owned(), region.pid, None)
            }
        };
        self.by_file.insert(key, id);
        id
    }

    fn named(
        &mut self,
        kind: ImageKind,
        region: &Region<'_>,
        load: impl FnOnce() -> Option<ElfFile>,
    ) -> ImageId {
        let pid = if matches!(kind, ImageKind::Anonymous { .. }) { region.pid } else { 0 };
        let name = if region.path.is_empty() { "//anon" } else { region.path };
        if let Some(id) = self.by_anonymous.get(&(pid, name.to_owned())) {
            return *id;
        }
        let id = self.add_image(kind, name.to_owned(), region.pid, load());
        self.by_anonymous.insert((pid, name.to_owned()), id);
        id
    }

    fn add_image(&mut self, kind: ImageKind, path: String, pid: u32, elf: Option<ElfFile>) -> ImageId {
        let elf = elf.map(Arc::new);
        let go = elf.as_ref().filter(|elf| go::is_marked(elf)).and_then(go::GoTables::find).map(Arc::new);
        let tables = elf.as_ref().map(|elf| {
            let tables = UnwindTables::new(Arc::clone(elf));
            Arc::new(match &go {
                Some(go) => tables.with_runtime(Arc::clone(go) as Arc<dyn RuntimeTables>),
                None => tables,
            })
        });
        let owner = match kind {
            ImageKind::Anonymous { pid } => identity::namespace_pid_and_uid(pid).ok(),
            _ => None,
        };
        self.images.push(Image { kind, path, elf, go, tables, seen_in_pid: pid, owner });
        self.images.len() as ImageId - 1
    }
}

fn open_elf(region: &Region<'_>) -> Result<ElfFile, String> {
    let file = files::open(&files::MappedFile {
        pid: region.pid,
        start: region.start,
        end: region.end,
        device_major: region.device_major,
        device_minor: region.device_minor,
        inode: region.inode,
        path: region.path,
    });
    ElfFile::open(&file.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
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
        let (mut images, mut issues) = (Images::new(), Issues::default());
        let here = images.module(&region(0), &mut issues);
        let there = images.module(&region(0x1000_0000), &mut issues);
        assert_eq!(here.id, there.id);
        assert_eq!(there.bias, here.bias.wrapping_add(0x1000_0000));
        assert!(issues.is_empty());
        assert!(images.image(images.placement(here.id).image).elf.is_some());
    }
}
