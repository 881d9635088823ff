//! The stacks of threads as the profile of a dump names them.

use rustc_hash::FxHashMap;

use crate::profile::proto::{Profile, Sample};

/// How many functions from the leaf on tell what a thread waits for.
const LEAVES: usize = 10;
/// Parts of paths of libraries that wait on behalf of their callers.
const LIBRARY_PATHS: &[&str] = &[
    "/rustc/",
    "/nptl/",
    "/sysdeps/",
    "/c++/",
    "library/std",
    "library/core",
    "registry/src",
    "/misc/",
    "/time/",
    "/io/",
    "/posix/",
    "/socket/",
];
/// Beginnings of the file names of such libraries.
const LIBRARIES: &[&str] = &["libc.so", "libc-", "libpthread", "ld-linux", "ld-musl", "libstdc++", "[vdso]"];

/// A function on a stack.
#[derive(Clone, Debug)]
pub struct StackFrame<'p> {
    /// Its name.
    pub function: &'p str,
    /// `file:line`; empty if not known.
    pub place: String,
    /// The address of the call; 0: it is inlined into the next one, or has no machine code.
    pub address: u64,
    in_library: bool,
}

/// The frames of a thread, leaf first.
#[derive(Clone, Debug, Default)]
pub struct Frames<'p>(pub Vec<StackFrame<'p>>);

impl<'p> Frames<'p> {
    /// The names of the functions next to the leaf.
    pub fn leaves(&self) -> Vec<&'p str> {
        self.0.iter().take(LEAVES).map(|frame| frame.function).collect()
    }

    /// The function that waits: the first one outside of libraries, with its place.
    pub fn waits_in(&self) -> String {
        let own = |frame: &&StackFrame<'_>| !frame.in_library && !frame.function.starts_with('[');
        let found = self.0.iter().find(|frame| own(frame) && !frame.place.is_empty());
        found.or_else(|| self.0.iter().find(own)).map(StackFrame::text).unwrap_or_default()
    }
}

impl StackFrame<'_> {
    /// `transfer (bank.c:8)`
    pub fn text(&self) -> String {
        match self.place.as_str() {
            "" => self.function.to_owned(),
            place => format!("{} ({place})", self.function),
        }
    }
}

/// The stacks of all threads, by process and thread ID.
pub fn by_thread(profile: &Profile) -> FxHashMap<(u32, u32), Frames<'_>> {
    let locations: FxHashMap<u64, usize> = index(profile.location.iter().map(|one| one.id));
    let functions: FxHashMap<u64, usize> = index(profile.function.iter().map(|one| one.id));
    let mappings: FxHashMap<u64, usize> = index(profile.mapping.iter().map(|one| one.id));
    let frames = |id: &u64| -> Vec<StackFrame<'_>> {
        let Some(location) = locations.get(id).and_then(|at| profile.location.get(*at)) else {
            return Vec::new();
        };
        let module = mappings.get(&location.mapping_id).and_then(|at| profile.mapping.get(*at));
        let module = module.map_or("", |module| profile.string(module.filename));
        let file_name = module.rsplit('/').next().unwrap_or_default();
        let in_module = LIBRARIES.iter().any(|name| file_name.starts_with(name));
        let last = location.line.len().saturating_sub(1);
        let lines = location.line.iter().enumerate().filter_map(|(depth, line)| {
            let function = functions.get(&line.function_id).and_then(|at| profile.function.get(*at))?;
            let file = profile.string(function.filename);
            Some(StackFrame {
                function: profile.string(function.name),
                place: place(file, line.line),
                address: if depth == last { location.address } else { 0 },
                in_library: in_module || LIBRARY_PATHS.iter().any(|part| file.contains(part)),
            })
        });
        lines.collect()
    };
    let of_sample = |sample: &Sample| {
        let stack = sample.location_id.iter().flat_map(frames).collect();
        Some(((number(profile, sample, "pid")?, number(profile, sample, "tid")?), Frames(stack)))
    };
    profile.sample.iter().filter_map(of_sample).collect()
}

fn index(ids: impl Iterator<Item = u64>) -> FxHashMap<u64, usize> {
    ids.enumerate().map(|(at, id)| (id, at)).collect()
}

fn place(file: &str, line: i64) -> String {
    let name = file.rsplit('/').next().unwrap_or_default();
    if name.is_empty() { String::new() } else { format!("{name}:{line}") }
}

/// The threads that held the lock of an interpreter when their stacks were read: process and thread
/// ID.
pub fn interpreter_lock_holders(profile: &Profile) -> Vec<(u32, u32)> {
    let holds = |sample: &&Sample| {
        let is_it = |key: &str, text: &str| key == "gil" && text == "held";
        sample.label.iter().any(|label| is_it(profile.string(label.key), profile.string(label.str)))
    };
    let of_sample =
        |sample: &Sample| Some((number(profile, sample, "pid")?, number(profile, sample, "tid")?));
    profile.sample.iter().filter(holds).filter_map(of_sample).collect()
}

/// A number among the labels of a sample.
pub fn number(profile: &Profile, sample: &Sample, key: &str) -> Option<u32> {
    let label = sample.label.iter().find(|label| profile.string(label.key) == key)?;
    u32::try_from(label.num).ok()
}
