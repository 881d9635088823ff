//! Symbolizes the addresses of a capture, each distinct one once, file by file.
//!
//! Not here: the locations of a profile (`locations`), how symbols are found (`symbolize`).

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{
    languages,
    store::{self, Frames},
};
use crate::{
    addr::{ElfAddr, RuntimeAddr},
    budget::{Budget, Resource},
    capture::{
        LabelKeys,
        collector::{Labels, LocationId, MappingId, Place, Weight},
        watch::{
            images::{Image, ImageId, ImageKind, SYNTHETIC, Synthetic},
            world::{World, place_at},
        },
    },
    issue::{Issue, Issues},
    process::identity,
    sampler::KernelName,
    symbolize::{
        self, KernelSymbols, ModuleFiles, PerfMap, PerfMapError, SourceFrame, SymbolIssue, SymbolizeOptions,
        Symbolized, hex, symbolize_module,
    },
};

/// The symbolized locations of a capture.
#[derive(Default)]
pub struct Names {
    /// The functions of each location, indexed by [`LocationId`], the innermost inlined one first;
    /// empty where it has no name.
    pub frames: Vec<Vec<SourceFrame>>,
    /// The kernel module that owns a location, by [`LocationId`]; `None` for the kernel itself.
    pub kernel_modules: Vec<Option<String>>,
}

impl Names {
    /// How many locations have been looked up.
    pub fn count(&self) -> usize {
        self.frames.len()
    }
}

/// The file name of a mapping, for messages.
pub fn file_of(world: &World, id: MappingId) -> String {
    let image = world.images.image(world.images.placement(id).image);
    if matches!(image.kind, ImageKind::Anonymous { .. }) {
        return "code without a file (JIT)".into();
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
    });
    world.collector.add(labels, places.iter().copied(), Weight { count: 1, amount: 0 });
    let names = name_all(options, &mut world);
    let by_place: FxHashMap<Place, &SourceFrame> = (world.collector.places().iter().zip(&names.frames))
        .filter_map(|(place, frames)| Some((*place, frames.first()?)))
        .collect();
    places.iter().map(|place| by_place.get(place).map(|frame| frame.function.clone())).collect()
}

/// Symbolizes all locations.
pub fn name_all(options: &SymbolizeOptions, world: &mut World) -> Names {
    let mut names = Names::default();
    name_new(options, world, &mut names);
    names
}

/// Symbolizes the locations added since `names` was filled. JIT code is looked up again: its name
/// may be written after the code, and other code may have replaced it.
pub fn name_new(options: &SymbolizeOptions, world: &mut World, names: &mut Names) {
    let first = names.count();
    let kernel_names = kernel_names(world, first);
    let places = world.collector.places();
    names.frames.resize_with(places.len(), Vec::new);
    names.kernel_modules.resize(places.len(), None);
    let mut by_image: std::collections::BTreeMap<ImageId, Vec<LocationId>> = Default::default();
    let image_of = |location: usize| world.images.placement(places[location].mapping).image;
    let used = if first > 0 { world.collector.used() } else { Vec::new() };
    let again = (0..first).filter(|location| {
        let image = world.images.image(image_of(*location));
        used[*location] && matches!(image.kind, ImageKind::Anonymous { .. })
    });
    for location in again.chain(first..places.len()) {
        by_image.entry(image_of(location)).or_default().push(location as LocationId);
    }
    let budget = options.budget.clone();
    for (image, locations) in by_image {
        if budget.take(Resource::Work, 0).is_err() {
            let (what, why) =
                ("symbols".to_owned(), "rprof was stopped; `rprof symbolize FILE` adds names".into());
            world.issues.add(Issue::LimitReached { what, why }, 1);
            break;
        }
        let image = world.images.image(image);
        let at = |location: &LocationId| places[*location as usize];
        match image.kind {
            ImageKind::Kernel => name_kernel(&locations, &kernel_names, names),
            ImageKind::Pseudo => name_synthetic(&locations, at, names),
            ImageKind::Language => {
                for location in &locations {
                    names.frames[*location as usize] = world.language_frames.lines(at(location).address);
                }
            }
            ImageKind::Anonymous { pid } => {
                let addresses: Vec<_> =
                    locations.iter().map(at).map(|place| RuntimeAddr(place.address)).collect();
                let found = names_of_jit_code(pid, image.owner, &addresses, &budget, &mut world.issues);
                let named = locations.iter().zip(found).filter_map(|(at, name)| Some((at, name?)));
                let mut unnamed = locations.len() as u64;
                for (location, name) in named {
                    names.frames[*location as usize] = vec![plain(&name)];
                    unnamed -= 1;
                }
                let pid = image.owner.map_or(pid, |(inner_pid, _)| inner_pid);
                world.issues.add(Issue::UnnamedJit { pid }, unnamed);
            }
            ImageKind::File | ImageKind::Vdso => {
                let addresses: Vec<ElfAddr> = locations
                    .iter()
                    .map(at)
                    .map(|place| {
                        ElfAddr(place.address.wrapping_sub(world.images.placement(place.mapping).bias))
                    })
                    .collect();
                let found = names_of_file(options, image, &addresses, &mut world.issues);
                for (location, frames) in locations.iter().zip(found) {
                    names.frames[*location as usize] = frames.to_vec();
                }
            }
        }
    }
}

/// The names of addresses of a file, in their order: those that any capture knows, and the others
/// looked up.
fn names_of_file(
    options: &SymbolizeOptions,
    image: &Image,
    addresses: &[ElfAddr],
    issues: &mut Issues,
) -> Vec<Frames> {
    let Some(elf) = &image.elf else { return look_up(options, image, addresses, issues).0 };
    let root = (image.kind == ImageKind::File).then(|| root_of(image));
    let key = store::Key::of(elf, options, &image.path, root.as_deref());
    let mut names = store::known(key, addresses);
    let is_unnamed = |frames: &&Option<Frames>| frames.as_ref().is_some_and(|frames| frames.is_empty());
    add_unnamed(image, names.iter().filter(is_unnamed).count(), issues);
    let is_new = |(_, known): &(&ElfAddr, &Option<Frames>)| known.is_none();
    let new: Vec<ElfAddr> = addresses.iter().zip(&names).filter(is_new).map(|(at, _)| *at).collect();
    if !new.is_empty() {
        let (found, is_complete) = look_up(options, image, &new, issues);
        if is_complete {
            store::keep(key, elf, new.iter().copied().zip(found.iter().cloned()));
        }
        let mut found = found.into_iter();
        names.iter_mut().filter(|known| known.is_none()).for_each(|slot| *slot = found.next());
    }
    names.into_iter().map(Option::unwrap_or_default).collect()
}

/// Looks names up. `true`: they would be the same if they were looked up again.
fn look_up(
    options: &SymbolizeOptions,
    image: &Image,
    addresses: &[ElfAddr],
    issues: &mut Issues,
) -> (Vec<Frames>, bool) {
    let mut is_complete = true;
    let found = languages::name(image, addresses, |others| {
        let (found, is_certain) = name_module(options, image, others, issues);
        is_complete &= is_certain;
        found
    });
    (found.into_iter().map(|found| found.frames.into()).collect(), is_complete)
}

/// The root of the file system that a process sees which has the image mapped.
fn root_of(image: &Image) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", image.seen_in_pid))
}

fn add_unnamed(image: &Image, count: usize, issues: &mut Issues) {
    let build_id = hex(image.elf.as_ref().and_then(|elf| elf.build_id()).unwrap_or_default());
    issues.add(Issue::UnnamedFrames { file: image.path.clone(), build_id }, count as u64);
}

/// Names addresses by debug information and symbol tables. `true`: nothing is missing of these.
fn name_module(
    options: &SymbolizeOptions,
    image: &Image,
    addresses: &[ElfAddr],
    issues: &mut Issues,
) -> (Vec<Symbolized>, bool) {
    let Some(elf) = &image.elf else { return (vec![Symbolized::default(); addresses.len()], true) };
    let is_file = image.kind == ImageKind::File;
    let files = ModuleFiles {
        file: Arc::clone(elf),
        path: is_file.then(|| PathBuf::from(&image.path)),
        root: is_file.then(|| root_of(image)),
    };
    let output = symbolize_module(&files, addresses, options);
    elf.release_pages();
    let is_complete = output.issues.iter().all(|issue| matches!(issue, SymbolIssue::Unnamed(_)));
    for issue in output.issues {
        let file = image.path.clone();
        match issue {
            SymbolIssue::Unnamed(count) => add_unnamed(image, count, issues),
            // Most installed files have no debug file: the symbol table suffices.
            SymbolIssue::DebugFileMissing(_) => {}
            SymbolIssue::Limit(why) => {
                issues.add(Issue::LimitReached { what: file, why: why.to_string() }, 1);
            }
            other => issues.add(Issue::DebugInfo { file, why: other.to_string() }, 1),
        }
    }
    (output.addresses, is_complete)
}

/// Names of the kernel's addresses, in the order of their locations from `first` on: from the
/// sampler, else from `/proc/kallsyms`. Empty where the kernel hides its addresses.
fn kernel_names(world: &mut World, first: usize) -> Vec<Option<KernelName>> {
    if let Some(names) = world.kernel_names.take() {
        return names;
    }
    let listed = |name: symbolize::KernelName| {
        let module = Some(name.module).filter(|module| module != "[kernel.kallsyms]");
        KernelName { function: name.function, module }
    };
    let addresses = world.kernel_addresses(first);
    if addresses.is_empty() {
        return Vec::new();
    }
    match KernelSymbols::default().names(&addresses) {
        Ok(names) => names.into_iter().map(|name| name.map(listed)).collect(),
        Err(error) => {
            world.issues.add(Issue::KernelSymbolsHidden { why: error.to_string() }, 1);
            Vec::new()
        }
    }
}

fn name_kernel(locations: &[LocationId], found: &[Option<KernelName>], names: &mut Names) {
    for (location, name) in locations.iter().zip(found) {
        let Some(name) = name else { continue };
        names.frames[*location as usize] = vec![plain(&name.function)];
        names.kernel_modules[*location as usize] = name.module.clone();
    }
}

fn name_synthetic(locations: &[LocationId], at: impl Fn(&LocationId) -> Place, names: &mut Names) {
    for location in locations {
        let place = at(location);
        let known = Synthetic::ALL.iter().find(|kind| **kind as u64 == place.address);
        if let Some(kind) = known.filter(|_| place.mapping == SYNTHETIC) {
            names.frames[*location as usize] = vec![plain(kind.name())];
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
