//! From counted stacks to a profile: each different address is named once, file by file, and all
//! that is known of the capture's quality is written into the profile's comments.
//!
//! Not here: sampling, writing files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Capture, Clock, Ended, Progress, Request,
    collector::{Labels, LocationId, MappingId, Place},
    images::{Image, ImageId, ImageKind, KERNEL, SYNTHETIC, Synthetic},
    world::World,
};
use crate::{
    addr::{ElfAddr, RuntimeAddr},
    issue::{Issue, Issues},
    profile::builder::{self, Builder, LabelValue, LineSpec, MappingSpec},
    sampler::KernelName,
    symbolize::{
        self, KernelSymbols, ModuleFiles, PerfMap, SourceFrame, SymbolIssue, SymbolizeOptions, Symbolized,
        hex, symbolize_module,
    },
};

/// How many reasons for cut stacks a comment names.
const REASONS_SHOWN: usize = 3;

/// Names of all locations, by [`LocationId`]; innermost inlined function first.
pub(super) struct Names {
    frames: Vec<Vec<SourceFrame>>,
    /// By location: the kernel module that owns it, where it is not the kernel itself.
    kernel_modules: Vec<Option<String>>,
}

pub(super) fn finish(
    request: &Request,
    mut world: World,
    started_at: SystemTime,
    capture: &mut Capture,
    progress: &mut dyn FnMut(Progress<'_>),
) {
    count_issues(&mut world);
    progress(Progress::Naming { addresses: world.collector.places().len() });
    let names = name_all(&request.symbolize, &mut world);
    capture.unnamed_share = unnamed_share(&world, &names);
    let time = match request.clock {
        Clock::Cpu => "cpu",
        Clock::Wall => "wall",
    };
    let mut builder = Builder::new(&[("samples", "count"), (time, "nanoseconds")]);
    let executable = capture.identities.first().and_then(|identity| identity.executable.as_deref());
    let locations = add_locations(&world, &names, &mut builder, executable);
    add_samples(&world, &locations, &mut builder, request.frequency_hz);
    builder.set_period(time, "nanoseconds", 1_000_000_000 / i64::from(request.frequency_hz.max(1)));
    builder.set_default_sample_type(time);
    let since_epoch = started_at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    builder.set_time(nanos(since_epoch), nanos(capture.elapsed));
    capture.issues = std::mem::take(&mut world.issues);
    for comment in comments(request, capture, &world) {
        builder.comment(&comment);
    }
    capture.profile = builder.finish();
}

pub(super) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn count_issues(world: &mut World) {
    let cuts = world.tally.cuts(|id| file_of(world, id));
    for (why, count) in cuts {
        world.issues.add(Issue::CutStack { why }, count);
    }
    world.issues.add(Issue::LostSamples, world.tally.lost);
    world.issues.add(Issue::StackTableFull, world.collector.overflow().count);
}

/// The file of a mapping, for a person.
pub(super) fn file_of(world: &World, id: MappingId) -> String {
    let image = world.images.image(world.images.placement(id).image);
    if matches!(image.kind, ImageKind::Anonymous { .. }) {
        return "code made at run time".into();
    }
    let path = &image.path;
    Path::new(path).file_name().map_or_else(|| path.clone(), |name| name.to_string_lossy().into_owned())
}

pub(super) fn name_all(options: &SymbolizeOptions, world: &mut World) -> Names {
    let kernel_names = kernel_names(world);
    let places = world.collector.places();
    let mut names =
        Names { frames: vec![Vec::new(); places.len()], kernel_modules: vec![None; places.len()] };
    let mut by_image: std::collections::BTreeMap<ImageId, Vec<LocationId>> = Default::default();
    for (location, place) in places.iter().enumerate() {
        by_image.entry(world.images.placement(place.mapping).image).or_default().push(location as LocationId);
    }
    for (image, locations) in by_image {
        let image = world.images.image(image);
        let at = |location: &LocationId| places[*location as usize];
        match image.kind {
            ImageKind::Kernel => name_kernel(&locations, &kernel_names, &mut names),
            ImageKind::Pseudo => name_synthetic(&locations, at, &mut names),
            ImageKind::Anonymous { pid } => {
                name_compiled_at_run_time(pid, image.owner, &locations, at, &mut names);
            }
            ImageKind::File | ImageKind::Vdso => {
                let addresses: Vec<ElfAddr> = locations
                    .iter()
                    .map(at)
                    .map(|place| {
                        ElfAddr(place.address.wrapping_sub(world.images.placement(place.mapping).bias))
                    })
                    .collect();
                let found = name_module(options, image, &addresses, &mut world.issues);
                for (location, found) in locations.iter().zip(found) {
                    names.frames[*location as usize] = found.frames;
                }
            }
        }
    }
    names
}

fn name_module(
    options: &SymbolizeOptions,
    image: &Image,
    addresses: &[ElfAddr],
    issues: &mut Issues,
) -> Vec<Symbolized> {
    let Some(elf) = &image.elf else { return vec![Symbolized::default(); addresses.len()] };
    let is_file = image.kind == ImageKind::File;
    let files = ModuleFiles {
        file: Arc::clone(elf),
        path: is_file.then(|| PathBuf::from(&image.path)),
        root: is_file.then(|| PathBuf::from(format!("/proc/{}/root", image.seen_in_pid))),
    };
    let answer = symbolize_module(&files, addresses, options);
    elf.release_pages();
    for issue in answer.issues {
        let file = image.path.clone();
        match issue {
            SymbolIssue::Unnamed(count) => {
                let build_id = hex(elf.build_id().unwrap_or_default());
                issues.add(Issue::UnnamedFrames { file, build_id }, count as u64);
            }
            // Most installed files have no debug file: the symbol table serves.
            SymbolIssue::DebugFileMissing(_) => {}
            other => issues.add(Issue::DebugInfo { file, why: other.to_string() }, 1),
        }
    }
    answer.addresses
}

/// Names of the kernel's addresses, in the order of their locations: the sampler's, else those of the
/// kernel's list of all its symbols. None where the kernel hides that.
fn kernel_names(world: &mut World) -> Vec<Option<KernelName>> {
    if let Some(names) = world.kernel_names.take() {
        return names;
    }
    let listed = |name: symbolize::KernelName| {
        let module = Some(name.module).filter(|module| module != "[kernel.kallsyms]");
        KernelName { function: name.function, module }
    };
    let addresses = world.kernel_addresses();
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

/// Code that a runtime compiled while running: named by the file that many runtimes keep for perf.
fn name_compiled_at_run_time(
    pid: u32,
    owner: Option<(u32, u32)>,
    locations: &[LocationId],
    at: impl Fn(&LocationId) -> Place,
    names: &mut Names,
) {
    let Some((inner_pid, uid)) = owner else { return };
    let mut root = PathBuf::from(format!("/proc/{pid}/root"));
    // It has ended; where it saw the same numbers as we do, it saw the same files as a rule.
    if inner_pid == pid && !root.exists() {
        root = PathBuf::from("/");
    }
    let Ok(map) = PerfMap::load(&root, inner_pid, uid) else { return };
    for location in locations {
        if let Some(name) = map.lookup(RuntimeAddr(at(location).address)) {
            names.frames[*location as usize] = vec![plain(name)];
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

/// The share of all frames, weighted by how often they were seen, that have no name.
fn unnamed_share(world: &World, names: &Names) -> f64 {
    let (mut all, mut unnamed) = (0u64, 0u64);
    for (_, locations, weight) in world.collector.stacks() {
        let without = locations.iter().filter(|id| names.frames[**id as usize].is_empty()).count();
        all += weight.count * locations.len() as u64;
        unnamed += weight.count * without as u64;
    }
    if all == 0 { 0.0 } else { unnamed as f64 / all as f64 }
}

/// Adds every location, with its mapping and functions; gives their numbers by [`LocationId`].
pub(super) fn add_locations(
    world: &World,
    names: &Names,
    builder: &mut Builder,
    executable: Option<&Path>,
) -> Vec<builder::LocationId> {
    let mut main = None;
    let places = world.collector.places().iter().enumerate();
    let locations = places
        .map(|(index, place)| {
            let placement = world.images.placement(place.mapping);
            let image = world.images.image(placement.image);
            let mapping = (place.mapping != SYNTHETIC).then(|| {
                let spec = mapping_spec(world, *place, names.kernel_modules[index].as_deref());
                let build_id = hex(image.elf.as_ref().and_then(|elf| elf.build_id()).unwrap_or_default());
                builder.mapping(&MappingSpec { build_id: &build_id, ..spec })
            });
            if image.kind == ImageKind::File && executable == Some(Path::new(&image.path)) {
                main = main.or(mapping);
            }
            let lines = lines(&names.frames[index], builder);
            builder.location(mapping, place.address, &lines)
        })
        .collect();
    if let Some(main) = main {
        builder.set_main_mapping(main);
    }
    locations
}

fn mapping_spec<'a>(world: &'a World, place: Place, kernel_module: Option<&'a str>) -> MappingSpec<'a> {
    let placement = world.images.placement(place.mapping);
    let image = world.images.image(placement.image);
    MappingSpec {
        start: placement.start.0,
        limit: placement.end.0,
        file_offset: placement.file_offset,
        filename: kernel_module.filter(|_| place.mapping == KERNEL).unwrap_or(&image.path),
        build_id: "",
        symbolized: true,
    }
}

fn lines(frames: &[SourceFrame], builder: &mut Builder) -> Vec<LineSpec> {
    frames
        .iter()
        .map(|frame| {
            let file = frame.file.as_deref().unwrap_or_default();
            let function = builder.function(&frame.function, &frame.system_name, file, frame.start_line);
            LineSpec { function, line: frame.line, column: frame.column }
        })
        .collect()
}

fn add_samples(world: &World, locations: &[builder::LocationId], builder: &mut Builder, frequency_hz: u32) {
    for (labels, stack, weight) in world.collector.stacks() {
        let ids: Vec<_> = stack.iter().map(|id| locations[*id as usize]).collect();
        let labels = label_list(world.collector.labels_of(labels));
        builder.sample(&ids, &[clamp(weight.count), clamp(weight.time_ns)], &labels);
    }
    let period_ns = 1_000_000_000 / u64::from(frequency_hz.max(1));
    let lost = (world.tally.lost, world.tally.lost.saturating_mul(period_ns));
    let overflow = world.collector.overflow();
    for (kind, (count, time_ns)) in
        [(Synthetic::Lost, lost), (Synthetic::Overflow, (overflow.count, overflow.time_ns))]
    {
        if count > 0 {
            let function = builder.function(kind.name(), kind.name(), "", 0);
            let line = LineSpec { function, line: 0, column: 0 };
            let location = builder.location(None, kind as u64, &[line]);
            builder.sample(&[location], &[clamp(count), clamp(time_ns)], &[]);
        }
    }
}

pub(super) fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn label_list(labels: &Labels) -> Vec<(&'static str, LabelValue<'_>)> {
    let mut list = vec![("thread", LabelValue::Text(&labels.thread))];
    list.extend(labels.process.as_deref().map(|name| ("process", LabelValue::Text(name))));
    list.extend(labels.pid.map(|pid| ("pid", LabelValue::Number(i64::from(pid), ""))));
    list.extend(labels.tid.map(|tid| ("tid", LabelValue::Number(i64::from(tid), ""))));
    list
}

/// What a reader must know to judge the profile, as `key: value` lines.
fn comments(request: &Request, capture: &Capture, world: &World) -> Vec<String> {
    let tally = &capture.tally;
    let seconds = |ns: u64| ns as f64 / 1e9;
    let percent = |share: f64| share * 100.0;
    let mut comments: Vec<String> = capture
        .identities
        .iter()
        .map(|identity| format!("target: {} (pid {})", identity.display_name(), identity.pid))
        .collect();
    let sampler = &capture.sampler;
    comments.push(format!("sampler: {} ({})", sampler.name, sampler.event));
    comments.push(format!("how: {}", sampler.summary));
    let whole = percent(tally.whole_share());
    comments.push(format!("stacks: whole {whole:.2}%, cut {:.2}%{}", 100.0 - whole, reasons(capture)));
    if tally.without_user_stack > 0 {
        comments.push(format!(
            "no user stack: {} samples (the kernel was starting or ending a program)",
            tally.without_user_stack
        ));
    }
    comments.push(format!("unnamed: {:.2}% of frames", percent(capture.unnamed_share)));
    comments.push(format!("samples: {}", tally.samples));
    comments.push(format!("lost: {} samples", tally.lost));
    comments.push(format!("rate: asked {} Hz{}", request.frequency_hz, achieved(capture)));
    comments.push(match capture.kernel_cpu_ns {
        Some(kernel) => {
            format!(
                "cpu: sampled {:.2} s, the kernel accounts {:.2} s",
                seconds(tally.time_ns),
                seconds(kernel)
            )
        }
        None => format!("cpu: sampled {:.2} s", seconds(tally.time_ns)),
    });
    if capture.clock == Clock::Wall {
        comments.pop();
        comments.push(format!("wall: sampled {:.2} s of all threads' time", seconds(tally.time_ns)));
    }
    comments.push(format!("kernel frames: {}", if sampler.kernel { "yes" } else { "no" }));
    comments.push(format!("scanned: {} of {} user frames", tally.scanned_frames, tally.frames));
    comments.push(format!("different stacks: {}", world.collector.stack_count()));
    let ended = match capture.ended {
        Ended::Duration => "duration",
        Ended::Stopped => "stopped early",
        Ended::TargetsGone => "the target ended",
        Ended::Failed => "the sampler failed",
    };
    comments.push(format!("ended: {ended} after {:.2} s", capture.elapsed.as_secs_f64()));
    comments.push(format!("rprof: {}", env!("CARGO_PKG_VERSION")));
    comments
}

/// Samples for each second of CPU time that the kernel accounts; only where its clock (10 ms) is fine
/// enough to say.
fn achieved(capture: &Capture) -> String {
    match capture.kernel_cpu_ns {
        Some(kernel_ns) if kernel_ns >= 500_000_000 => {
            let rate = (capture.tally.samples + capture.tally.lost) as f64 / (kernel_ns as f64 / 1e9);
            format!(", achieved {rate:.1} Hz of CPU time")
        }
        _ => String::new(),
    }
}

fn reasons(capture: &Capture) -> String {
    let mut cuts: Vec<(&str, u64)> = capture
        .issues
        .iter()
        .filter_map(|(issue, count)| match issue {
            Issue::CutStack { why } => Some((why.as_str(), count)),
            _ => None,
        })
        .collect();
    cuts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown: Vec<String> =
        cuts.iter().take(REASONS_SHOWN).map(|(why, count)| format!("{count}: {why}")).collect();
    if shown.is_empty() { String::new() } else { format!(" ({})", shown.join("; ")) }
}
