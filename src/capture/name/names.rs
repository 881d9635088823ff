//! Symbolizes the addresses of a capture, each distinct one once, file by file.
//!
//! Not here: the locations of a profile (`locations`), how symbols are found (`symbolize`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Weak},
};

use rustc_hash::FxHashMap;

use super::{
    languages,
    store::{self, Frames, bytes_of},
};
use crate::{
    addr::{ElfAddr, RuntimeAddr},
    budget::{Budget, Resource},
    capture::{
        LabelKeys,
        collector::{Labels, MappingId, ONLY, Place, Weight},
        watch::{
            frames::LanguageFrames,
            images::{Image, ImageKind, SYNTHETIC, Synthetic},
            place::place_at,
            window::Window,
            world::World,
        },
    },
    elf::ElfFile,
    issue::{Issue, Issues},
    process::identity,
    runtime::{PerfMap, PerfMapError},
    sampler::{KernelName, bpf},
    symbolize::{
        self, KernelSymbols, ModuleFiles, SourceFrame, SymbolIssue, SymbolizeOptions, Symbolized, hex,
        symbolize_module,
    },
};

/// The symbolized locations of a window.
#[derive(Default)]
pub struct Names {
    /// The functions of each location, indexed by the location's number.
    pub frames: Vec<Frames>,
    /// The kernel module that owns a location, by the location's number;
    /// `None` for the kernel itself.
    pub kernel_modules: Vec<Option<String>>,
}

/// The file name of a mapping, for messages.
pub fn file_of(window: &Window, id: MappingId) -> String {
    let image = &window.placements.get(id).image;
    if image.is_memory() {
        return format!("code without a file {}", image.mapping_name());
    }
    let path = &image.path;
    Path::new(path).file_name().map_or_else(|| path.clone(), |name| name.to_string_lossy().into_owned())
}

/// The function names of addresses of a process, in the given order; the innermost function where
/// functions are inlined. All `None` where the process cannot be read.
pub fn names(pid: u32, addresses: &[RuntimeAddr], options: &SymbolizeOptions) -> Vec<Option<String>> {
    let mut world = World::within(LabelKeys::default(), &options.budget);
    world.watch(pid, identity::monotonic_ns());
    let Some(space) = world.spaces.get(&pid) else { return vec![None; addresses.len()] };
    let places: Vec<Place> = (addresses.iter())
        .map(|address| place_at(space.modules.find(*address), *address, &world.images))
        .collect();
    let labels = world.collector.labels(Labels {
        thread: String::new(),
        pid: None,
        tid: None,
        process: None,
        own: None,
        lock: None,
    });
    world.collector.add(ONLY, labels, places.iter().copied(), Weight { count: 1, amount: 0 });
    let mut window = world.close();
    let names = name_all(options, &mut window);
    let by_place: FxHashMap<Place, &SourceFrame> = (window.collector.places().iter().zip(&names.frames))
        .filter_map(|(place, frames)| Some((*place, frames.first()?)))
        .collect();
    places.iter().map(|place| by_place.get(place).map(|frame| frame.function.clone())).collect()
}

/// Symbolizes all locations of a window.
pub fn name_all(options: &SymbolizeOptions, window: &mut Window) -> Names {
    NameCache::default().name(options, window)
}

/// Names that are known from earlier windows. Those of files that no process has any more are
/// forgotten.
#[derive(Default)]
pub struct NameCache {
    /// By [`Image::uid`].
    files: FxHashMap<u64, FileNames>,
    /// By address: the function and the kernel module.
    kernel: FxHashMap<u64, (Frames, Option<String>)>,
    bytes: usize,
    /// How many windows have been named since it was empty.
    windows: usize,
}

/// The known names of a file.
struct FileNames {
    image: Weak<Image>,
    by_address: FxHashMap<u64, Frames>,
    bytes: usize,
}

/// The most memory that known names may take between two windows, in bytes.
const MAX_CACHE_BYTES: usize = 128 << 20;

/// After so many windows, all names are looked up again: so those of addresses that are no longer
/// met do not stay.
const MAX_CACHE_WINDOWS: usize = 128;

impl NameCache {
    /// Symbolizes the locations of a window, each distinct address of a file once. JIT code is
    /// looked up in each window: its name may be written after the code, and other code may have
    /// replaced it.
    pub fn name(&mut self, options: &SymbolizeOptions, window: &mut Window) -> Names {
        self.forget_closed_files();
        let places = window.collector.places();
        let mut naming = Naming {
            options,
            names: Names {
                frames: vec![Frames::default(); places.len()],
                kernel_modules: vec![None; places.len()],
            },
            issues: Issues::default(),
        };
        let mut by_image: BTreeMap<u64, (Arc<Image>, Vec<Address>)> = BTreeMap::new();
        for (location, place) in places.iter().enumerate() {
            let placement = window.placements.get(place.mapping);
            let image = &placement.image;
            let (_, addresses) = by_image.entry(image.uid).or_insert_with(|| (Arc::clone(image), Vec::new()));
            let in_file = place.address.wrapping_sub(placement.bias);
            addresses.push(Address { location, place: *place, in_file });
        }
        for (image, mut addresses) in by_image.into_values() {
            if options.budget.take(Resource::Work, 0).is_err() {
                let (what, why) =
                    ("symbols".to_owned(), "rprof was stopped; `rprof symbolize FILE` adds names".into());
                naming.issues.add(Issue::LimitReached { what, why }, 1);
                break;
            }
            match image.kind {
                ImageKind::Kernel => naming.kernel(&addresses, &mut self.kernel),
                ImageKind::Pseudo => naming.synthetic(&addresses),
                ImageKind::Language => naming.language(&addresses, &window.language_frames),
                ImageKind::Anonymous { pid } => naming.jit_code(pid, &image, &addresses),
                ImageKind::Generated { pid } => {
                    self.file(&image, &addresses, &mut naming);
                    addresses.retain(|address| naming.names.frames[address.location].is_empty());
                    naming.jit_code(pid, &image, &addresses);
                }
                ImageKind::File | ImageKind::Vdso => self.file(&image, &addresses, &mut naming),
            }
        }
        window.issues.extend(&naming.issues);
        naming.names
    }

    fn file(&mut self, image: &Arc<Image>, addresses: &[Address], naming: &mut Naming<'_>) {
        let known = self.files.entry(image.uid).or_insert_with(|| FileNames {
            image: Arc::downgrade(image),
            by_address: FxHashMap::default(),
            bytes: 0,
        });
        let mut new: Vec<ElfAddr> = (addresses.iter().map(|address| address.in_file))
            .filter(|address| !known.by_address.contains_key(address))
            .map(ElfAddr)
            .collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            let found = names_of_file(image, &new, naming);
            let before = known.bytes;
            for (address, frames) in new.iter().zip(found) {
                known.bytes += bytes_of(&frames);
                known.by_address.insert(address.0, frames);
            }
            self.bytes += known.bytes - before;
        }
        for address in addresses {
            if let Some(frames) = known.by_address.get(&address.in_file) {
                naming.names.frames[address.location] = Arc::clone(frames);
            }
        }
    }

    /// Called once in each window.
    fn forget_closed_files(&mut self) {
        self.files.retain(|_, file| file.image.strong_count() > 0);
        self.bytes = self.files.values().map(|file| file.bytes).sum();
        if self.memory_bytes() > MAX_CACHE_BYTES || self.windows >= MAX_CACHE_WINDOWS {
            *self = NameCache::default();
        }
        self.windows += 1;
    }

    /// About how many bytes the known names take.
    pub fn memory_bytes(&self) -> usize {
        const KERNEL_NAME_BYTES: usize = 128;
        self.bytes + self.kernel.len() * KERNEL_NAME_BYTES
    }
}

/// The names of addresses of a file, in their order: those that any capture knows, and the others
/// looked up.
fn names_of_file(image: &Image, addresses: &[ElfAddr], naming: &mut Naming<'_>) -> Vec<Frames> {
    let Some(elf) = &image.elf else {
        let (found, _) = look_up(image, addresses, naming);
        return found;
    };
    let root = (image.kind == ImageKind::File).then(|| root_of(image));
    let key = store::Key::of(elf, naming.options, &image.path, root.as_deref());
    let mut names = store::known(key, addresses);
    let is_unnamed = |frames: &Option<Frames>| frames.as_ref().is_some_and(|frames| frames.is_empty());
    let unnamed = names.iter().filter(|frames| is_unnamed(frames)).count();
    naming.add_unnamed(image, elf, unnamed);
    let is_new = |(_, known): &(&ElfAddr, &Option<Frames>)| known.is_none();
    let new: Vec<ElfAddr> = addresses.iter().zip(&names).filter(is_new).map(|(at, _)| *at).collect();
    if !new.is_empty() {
        let (found, is_complete) = look_up(image, &new, naming);
        if is_complete {
            store::keep(key, elf, new.iter().copied().zip(found.iter().cloned()));
        }
        let mut found = found.into_iter();
        names.iter_mut().filter(|known| known.is_none()).for_each(|slot| *slot = found.next());
    }
    names.into_iter().map(Option::unwrap_or_default).collect()
}

/// Looks names up. `true`: they would be the same if they were looked up again.
fn look_up(image: &Image, addresses: &[ElfAddr], naming: &mut Naming<'_>) -> (Vec<Frames>, bool) {
    let mut is_complete = true;
    let found = languages::name(image, addresses, |others| {
        let (found, is_certain) = name_module(image, others, naming);
        is_complete &= is_certain;
        found
    });
    (found.into_iter().map(|found| found.frames.into()).collect(), is_complete)
}

/// The root of the file system that a process sees which has the image mapped.
fn root_of(image: &Image) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", image.seen_in_pid))
}

/// A location to be named.
struct Address {
    /// Its location number as an index.
    location: usize,
    place: Place,
    /// The ELF address, for files.
    in_file: u64,
}

/// The names of one window, while they are looked up.
struct Naming<'n> {
    options: &'n SymbolizeOptions,
    names: Names,
    issues: Issues,
}

impl Naming<'_> {
    fn add_unnamed(&mut self, image: &Image, elf: &ElfFile, count: usize) {
        if matches!(image.kind, ImageKind::Generated { .. }) {
            return;
        }
        let build_id = hex(elf.build_id().unwrap_or_default());
        self.issues.add(Issue::UnnamedFrames { file: image.path.clone(), build_id }, count as u64);
    }

    fn kernel(&mut self, addresses: &[Address], known: &mut FxHashMap<u64, (Frames, Option<String>)>) {
        let new: Vec<RuntimeAddr> = (addresses.iter().map(|address| address.place.address))
            .filter(|address| !known.contains_key(address))
            .map(RuntimeAddr)
            .collect();
        let found = kernel_names(&new, &mut self.issues);
        for (address, name) in new.iter().zip(found) {
            let Some(name) = name else { continue };
            known.insert(address.0, ([plain(&name.function)].into(), name.module));
        }
        for address in addresses {
            if let Some((frames, module)) = known.get(&address.place.address) {
                self.names.frames[address.location] = Arc::clone(frames);
                self.names.kernel_modules[address.location] = module.clone();
            }
        }
    }

    fn synthetic(&mut self, addresses: &[Address]) {
        for address in addresses.iter().filter(|address| address.place.mapping == SYNTHETIC) {
            let known = Synthetic::ALL.iter().find(|kind| **kind as u64 == address.place.address);
            if let Some(kind) = known {
                self.names.frames[address.location] = [plain(kind.name())].into();
            }
        }
    }

    fn language(&mut self, addresses: &[Address], frames: &LanguageFrames) {
        for address in addresses {
            self.names.frames[address.location] = frames.lines(address.place.address).into();
        }
    }

    fn jit_code(&mut self, pid: u32, image: &Image, addresses: &[Address]) {
        if addresses.is_empty() {
            return;
        }
        let at: Vec<_> = addresses.iter().map(|address| RuntimeAddr(address.place.address)).collect();
        let found = names_of_jit_code(pid, image.owner, &at, &self.options.budget, &mut self.issues);
        let mut unnamed = addresses.len() as u64;
        for (address, name) in addresses.iter().zip(found) {
            let Some(name) = name else { continue };
            self.names.frames[address.location] = [plain(&name)].into();
            unnamed -= 1;
        }
        let pid = image.owner.map_or(pid, |(inner_pid, _)| inner_pid);
        let generator = image.generator.get().map(|generator| (generator.name, generator.advice));
        self.issues.add(Issue::UnnamedJit { pid, generator }, unnamed);
    }
}

/// Names addresses by debug information and symbol tables. `true`: nothing is missing of these.
fn name_module(image: &Image, addresses: &[ElfAddr], naming: &mut Naming<'_>) -> (Vec<Symbolized>, bool) {
    let options = naming.options;
    let Some(elf) = &image.elf else { return (vec![Symbolized::default(); addresses.len()], true) };
    let is_file = image.kind == ImageKind::File;
    let files = ModuleFiles {
        // A budget for this naming: the file may be named again and again for months.
        file: Arc::new(elf.within(&options.budget)),
        path: is_file.then(|| PathBuf::from(&image.path)),
        root: is_file.then(|| root_of(image)),
    };
    let output = symbolize_module(&files, addresses, options);
    elf.release_pages();
    let is_complete = output.issues.iter().all(|issue| matches!(issue, SymbolIssue::Unnamed(_)));
    for issue in output.issues {
        let file = image.path.clone();
        match issue {
            SymbolIssue::Unnamed(count) => naming.add_unnamed(image, elf, count),
            // Most installed files have no debug file: the symbol table suffices.
            SymbolIssue::DebugFileMissing(_) => {}
            SymbolIssue::Limit(why) => {
                naming.issues.add(Issue::LimitReached { what: file, why: why.to_string() }, 1);
            }
            other => naming.issues.add(Issue::DebugInfo { file, why: other.to_string() }, 1),
        }
    }
    (output.addresses, is_complete)
}

/// Names of the kernel's addresses, in their order: from the kernel by BPF, else from
/// `/proc/kallsyms`. Empty where the kernel hides its addresses.
fn kernel_names(addresses: &[RuntimeAddr], issues: &mut Issues) -> Vec<Option<KernelName>> {
    if addresses.is_empty() {
        return Vec::new();
    }
    if let Some(names) = bpf::kernel_names(addresses) {
        return names;
    }
    let listed = |name: symbolize::KernelName| {
        let module = Some(name.module).filter(|module| module != "[kernel.kallsyms]");
        KernelName { function: name.function, module }
    };
    match KernelSymbols::default().names(addresses) {
        Ok(names) => names.into_iter().map(|name| name.map(listed)).collect(),
        Err(error) => {
            issues.add(Issue::KernelSymbolsHidden { why: error.to_string() }, 1);
            Vec::new()
        }
    }
}

/// Names of JIT code, from the perf map (`/tmp/perf-PID.map`) that many runtimes write.
fn names_of_jit_code(
    pid: u32,
    owner: Option<(u32, u32)>,
    addresses: &[RuntimeAddr],
    budget: &Budget,
    issues: &mut Issues,
) -> Vec<Option<Rc<str>>> {
    let Some((inner_pid, uid)) = owner else { return Vec::new() };
    let mut root = PathBuf::from(format!("/proc/{pid}/root"));
    // It has ended. If it was in our PID namespace, it was most likely in our mount namespace too.
    if inner_pid == pid && !root.exists() {
        root = PathBuf::from("/");
    }
    let what = format!("/tmp/perf-{inner_pid}.map");
    let map = match PerfMap::open(&root, inner_pid, uid) {
        Ok(map) => map,
        Err(PerfMapError::Missing(_)) => return Vec::new(),
        Err(error) => {
            issues.add(Issue::UnreadableFile { path: what, why: error.to_string() }, 1);
            return Vec::new();
        }
    };
    match map.names(addresses, &budget.process().file()) {
        Ok(found) => {
            if let Some(why) = found.limit {
                issues.add(Issue::LimitReached { what, why: why.to_string() }, 1);
            }
            found.names
        }
        Err(error) => {
            issues.add(Issue::UnreadableFile { path: what, why: error.to_string() }, 1);
            Vec::new()
        }
    }
}

fn plain(name: &str) -> SourceFrame {
    SourceFrame {
        function: name.to_owned(),
        system_name: name.to_owned(),
        file: None,
        line: 0,
        column: 0,
        start_line: 0,
        inlined: false,
    }
}
