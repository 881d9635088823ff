//! A dump of threads as text: in the layout of Go's `goroutine?debug=2` (one block per thread, or
//! per group of threads with the same stack), aggregated like `debug=1`, and as JSON.
//!
//! ```text
//! thread 4711 [futex wait, 3 minutes, "worker", cpu 1.20s]:
//! __futex_abstimed_wait_common(...)
//!     ./nptl/futex-internal.c:57 pc=0x7f0c2a688d95
//! ```
//!
//! The input is the profile of a dump: one sample per thread, described by labels (`thread tid pid
//! state wait syscall cpu waited look cut waits_for holder`). Not here: making that profile.

mod outliers;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    io::{self, Write},
};

use serde_json::{Value, json};

use super::{stacks::printable, units::format_duration_ns};
use crate::profile::{
    ids::IdIndex,
    proto::{Label, Location, Profile, Sample},
};

/// How many thread IDs the header of a group lists.
const TIDS_SHOWN: usize = 16;
/// How many process IDs the header of a group lists.
const PIDS_SHOWN: usize = 8;
/// How many thread names the header of a group lists.
const NAMES_SHOWN: usize = 4;

/// The threads of a dump, read from its profile.
pub struct Threads<'p> {
    profile: &'p Profile,
    locations: IdIndex,
    functions: IdIndex,
    mappings: IdIndex,
    threads: Vec<Thread<'p>>,
}

/// One thread.
struct Thread<'p> {
    tid: i64,
    pid: i64,
    name: Cow<'p, str>,
    /// The whole name that the program has given to it, in its language.
    own_name: Option<Cow<'p, str>>,
    /// What a language runtime did on it.
    runtime: Option<Cow<'p, str>>,
    process: Option<Cow<'p, str>>,
    state: Cow<'p, str>,
    wait: Option<Cow<'p, str>>,
    syscall: Option<Cow<'p, str>>,
    cpu_ns: Option<i64>,
    waited_ns: Option<i64>,
    look: Option<Cow<'p, str>>,
    /// What it waits for.
    waits_for: Option<Cow<'p, str>>,
    /// It got the signal that ended the process.
    has_signal: bool,
    /// Who can end the wait.
    holders: Vec<Cow<'p, str>>,
    cut: Option<Cow<'p, str>>,
    /// The number of threads; more than 1 if the profile counts equal threads together.
    count: i64,
    locations: &'p [u64],
    /// Local variables: the index of the location, the name, the value.
    variables: Vec<(usize, Cow<'p, str>, Cow<'p, str>)>,
}

/// One function of a stack.
struct Frame<'p> {
    function: Cow<'p, str>,
    file: Cow<'p, str>,
    line: i64,
    inlined: bool,
    module: Cow<'p, str>,
    /// Offset in the file, if known.
    offset: Option<u64>,
    address: u64,
    /// Its location's index in the stack.
    index: usize,
}

impl<'p> Threads<'p> {
    /// Reads the profile of a dump. (In other profiles, each sample counts as a thread.)
    pub fn new(profile: &'p Profile) -> Threads<'p> {
        let mut threads: Vec<Thread<'p>> =
            profile.sample.iter().map(|sample| Thread::read(profile, sample)).collect();
        threads.sort_by_key(|thread| (!thread.has_signal, thread.pid, thread.tid));
        Threads {
            profile,
            locations: IdIndex::new(profile.location.iter().map(|location| location.id)).0,
            functions: IdIndex::new(profile.function.iter().map(|function| function.id)).0,
            mappings: IdIndex::new(profile.mapping.iter().map(|mapping| mapping.id)).0,
            threads,
        }
    }

    /// Writes the layout of `debug=2`. `each`: one block per thread. Errors: those of the writer.
    pub fn write_text(&self, each: bool, writer: &mut dyn Write) -> io::Result<()> {
        let several = self.threads.iter().map(|thread| thread.pid).collect::<BTreeSet<_>>().len() > 1;
        if several && !each {
            self.write_outliers(writer)?;
        }
        // Equal stacks of several processes are together.
        for group in self.groups(each, Thread::what) {
            writeln!(writer, "{}", head(&group, several))?;
            if let Some(what) = group[0].wait_line() {
                writeln!(writer, "{what}")?;
            }
            for frame in self.frames(group[0].locations) {
                write_frame(&frame, writer)?;
                for (name, value) in group[0].variables_of(&frame) {
                    writeln!(writer, "\t\t{name} = {value}")?;
                }
            }
            if let Some(why) = &group[0].cut {
                writeln!(writer, "...cut: {why}")?;
            }
            writeln!(writer)?;
        }
        Ok(())
    }

    /// Writes the layout of `debug=1`: equal stacks counted, the most frequent first. Errors: those
    /// of the writer.
    pub fn write_aggregated(&self, writer: &mut dyn Write) -> io::Result<()> {
        let count = |group: &Vec<&Thread<'p>>| group.iter().map(|thread| thread.count).sum::<i64>();
        let mut groups = self.groups(false, |_| ());
        groups.sort_by_key(|group| std::cmp::Reverse(count(group)));
        let total: i64 = groups.iter().map(count).sum();
        writeln!(writer, "{} profile: total {total}", self.kind())?;
        for group in groups {
            let frames = self.frames(group[0].locations);
            write!(writer, "{} @", count(&group))?;
            for frame in frames.iter().filter(|frame| !frame.inlined) {
                write!(writer, " {:#x}", frame.address)?;
            }
            writeln!(writer)?;
            for frame in &frames {
                writeln!(writer, "#\t{:#x}\t{}\t{}", frame.address, frame.function, frame.place())?;
            }
            writeln!(writer)?;
        }
        Ok(())
    }

    /// The counted thing, in the singular.
    fn kind(&self) -> &str {
        let kind = self.profile.sample_type.first().map(|kind| self.profile.string(kind.r#type));
        kind.unwrap_or_default().trim_end_matches('s')
    }

    /// Writes everything as one JSON object, with the tasks that the threads run (an object for
    /// each runtime) and the graph of waits. Errors: those of the writer.
    pub fn write_json(
        &self,
        tasks: &[Value],
        waits: Option<Value>,
        writer: &mut dyn Write,
    ) -> io::Result<()> {
        let threads: Vec<Value> = self.threads.iter().map(|thread| self.thread_json(thread)).collect();
        let comments: Vec<&str> =
            self.profile.comment.iter().map(|comment| self.profile.string(*comment)).collect();
        let mut all = json!({
            "time_ns": self.profile.time_nanos,
            "duration_ns": self.profile.duration_nanos,
            "comments": comments,
            "threads": threads,
        });
        if !tasks.is_empty() {
            all["tasks"] = tasks.into();
        }
        if let Some(waits) = waits {
            all["waits"] = waits;
        }
        serde_json::to_writer_pretty(&mut *writer, &all)?;
        writeln!(writer)
    }

    fn thread_json(&self, thread: &Thread<'_>) -> Value {
        let frames: Vec<Value> = self
            .frames(thread.locations)
            .iter()
            .map(|frame| {
                let mut value = json!({
                    "function": frame.function,
                    "file": none_if_empty(&frame.file),
                    "line": (frame.line > 0).then_some(frame.line),
                    "inlined": frame.inlined,
                    "module": none_if_empty(&frame.module),
                    "address": format!("{:#x}", frame.address),
                });
                let variable = |(name, value)| json!({ "name": name, "value": value });
                let variables: Vec<Value> = thread.variables_of(frame).map(variable).collect();
                if !variables.is_empty() {
                    value["locals"] = variables.into();
                }
                value
            })
            .collect();
        let mut value = json!({
            "tid": thread.tid,
            "pid": thread.pid,
            "name": thread.name,
            "process": thread.process,
            "state": thread.state,
            "wait": thread.wait,
            "syscall": thread.syscall,
            "cpu_ns": thread.cpu_ns,
            "waited_ns": thread.waited_ns,
            "look": thread.look,
            "whole": thread.cut.is_none(),
            "cut": thread.cut,
            "stack": frames,
        });
        for (key, of_language) in [("own_name", &thread.own_name), ("runtime", &thread.runtime)] {
            if let Some(text) = of_language {
                value[key] = json!(text);
            }
        }
        if let Some(what) = &thread.waits_for {
            value["waits_for"] = json!(what);
            value["holders"] = json!(thread.holders);
        }
        value
    }

    /// Groups threads with equal stacks and equal keys, ordered by their first thread. `each`: one
    /// group per thread.
    fn groups<K: Ord>(&self, each: bool, key: impl Fn(&Thread<'p>) -> K) -> Vec<Vec<&Thread<'p>>> {
        if each {
            return self.threads.iter().map(|thread| vec![thread]).collect();
        }
        let mut groups: Vec<Vec<&Thread<'p>>> = Vec::new();
        let mut known = BTreeMap::new();
        for thread in &self.threads {
            let next = groups.len();
            let wait = (thread.waits_for.as_deref(), &thread.holders);
            let same = (key(thread), wait, thread.locations, thread.cut.as_deref(), &thread.variables);
            let at = *known.entry(same).or_insert(next);
            if at == next {
                groups.push(Vec::new());
            }
            groups[at].push(thread);
        }
        groups
    }

    /// The frames of a stack, leaf first. The marker of a truncated stack is left out: the label
    /// `cut` has the reason.
    fn frames(&self, locations: &[u64]) -> Vec<Frame<'p>> {
        let mut frames = Vec::with_capacity(locations.len());
        for (index, id) in locations.iter().enumerate() {
            let Some(at) = self.locations.position(*id) else { continue };
            self.location(&self.profile.location[at], index, &mut frames);
        }
        if frames.last().is_some_and(|frame| frame.function == "[truncated stack]") {
            frames.pop();
        }
        frames
    }

    fn location(&self, location: &'p Location, index: usize, frames: &mut Vec<Frame<'p>>) {
        let mapping = self.mappings.position(location.mapping_id).map(|at| &self.profile.mapping[at]);
        let module =
            mapping.map_or(Cow::Borrowed(""), |mapping| printable(self.profile.string(mapping.filename)));
        // An offset in the kernel's file is of no use.
        let offset = mapping.filter(|_| !module.starts_with("[kernel")).and_then(|mapping| {
            let inside = (mapping.memory_start..mapping.memory_limit).contains(&location.address);
            inside.then(|| (location.address - mapping.memory_start).checked_add(mapping.file_offset))?
        });
        let last = location.line.len().saturating_sub(1);
        let frame = |function, file, line, inlined| Frame {
            function,
            file,
            line,
            inlined,
            module: module.clone(),
            offset,
            address: location.address,
            index,
        };
        if location.line.is_empty() {
            frames.push(frame(Cow::Borrowed("[unknown]"), Cow::Borrowed(""), 0, false));
        }
        for (depth, line) in location.line.iter().enumerate() {
            let function = self.functions.position(line.function_id).map(|at| &self.profile.function[at]);
            let text = |index: Option<i64>| printable(self.profile.string(index.unwrap_or(0)));
            let name = match text(function.map(|function| function.name)) {
                name if name.is_empty() => Cow::Borrowed("[unknown]"),
                name => name,
            };
            frames.push(frame(
                name,
                text(function.map(|function| function.filename)),
                line.line,
                depth < last,
            ));
        }
    }
}

/// The labels `local` of a sample: `3 name = value`.
fn variables<'p>(profile: &'p Profile, sample: &Sample) -> Vec<(usize, Cow<'p, str>, Cow<'p, str>)> {
    let local = |label: &&Label| profile.string(label.key) == "local";
    let parse = |label: &Label| {
        let (index, rest) = profile.string(label.str).split_once(' ')?;
        let (name, value) = rest.split_once(" = ")?;
        Some((index.parse().ok()?, printable(name), printable(value)))
    };
    sample.label.iter().filter(local).filter_map(parse).collect()
}

fn none_if_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

impl<'p> Thread<'p> {
    fn read(profile: &'p Profile, sample: &'p Sample) -> Thread<'p> {
        let labels: HashMap<&str, &Label> =
            sample.label.iter().map(|label| (profile.string(label.key), label)).collect();
        let text = |key: &str| labels.get(key).map(|label| printable(profile.string(label.str)));
        let number = |key: &str| labels.get(key).map(|label| label.num);
        Thread {
            tid: number("tid").unwrap_or(0),
            pid: number("pid").unwrap_or(0),
            name: text("thread").unwrap_or_default(),
            own_name: labels.keys().find(|key| key.ends_with("_thread")).and_then(|key| text(key)),
            runtime: text("runtime"),
            process: text("process"),
            state: text("state").unwrap_or_default(),
            wait: text("wait"),
            syscall: text("syscall"),
            cpu_ns: number("cpu"),
            waited_ns: number("waited"),
            look: text("look"),
            waits_for: text("waits_for"),
            has_signal: labels.contains_key("signal"),
            holders: (sample.label.iter())
                .filter(|label| profile.string(label.key) == "holder")
                .map(|label| printable(profile.string(label.str)))
                .collect(),
            cut: text("cut"),
            count: sample.value.first().copied().unwrap_or(1),
            locations: &sample.location_id,
            variables: variables(profile, sample),
        }
    }

    /// The local variables of a frame that is not inlined.
    fn variables_of(&self, frame: &Frame<'_>) -> impl Iterator<Item = (&str, &str)> {
        let (index, is_inlined) = (frame.index, frame.inlined);
        let own = self.variables.iter().filter(move |(of, ..)| *of == index && !is_inlined);
        own.map(|(_, name, value)| (&**name, &**value))
    }

    /// `...waits for mutex 0x5579 `g_lock` in bank: thread 2861 'worker'`
    fn wait_line(&self) -> Option<String> {
        let what = self.waits_for.as_deref()?;
        let holders = if self.holders.is_empty() { "" } else { ": " };
        Some(format!("...waits for {what}{holders}{}", self.holders.join(" or ")))
    }

    /// The first text in the brackets: what the thread waits for, or its state.
    fn what(&self) -> String {
        match &self.wait {
            Some(wait) if self.state == "uninterruptible" => format!("{wait}, uninterruptible"),
            Some(wait) => wait.to_string(),
            None => self.state.to_string(),
        }
    }
}

impl Frame<'_> {
    /// `file:line`; if unknown, `module+0x1f30`.
    fn place(&self) -> String {
        if !self.file.is_empty() {
            return format!("{}:{}", self.file, self.line);
        }
        match self.offset {
            Some(offset) => format!("{}+{offset:#x}", self.module),
            None => self.module.to_string(),
        }
    }
}

fn write_frame(frame: &Frame<'_>, writer: &mut dyn Write) -> io::Result<()> {
    let has_address = frame.address >= 16;
    if frame.function.starts_with('[') && frame.module.starts_with("[rprof]")
        || !has_address && frame.file.is_empty()
    {
        return writeln!(writer, "{}", frame.function);
    }
    writeln!(writer, "{}(...)", frame.function)?;
    match frame.inlined {
        true => writeln!(writer, "\t{} (inlined)", frame.place()),
        // A function of a language with an interpreter has no machine code.
        false if !has_address => writeln!(writer, "\t{}", frame.place()),
        false => writeln!(writer, "\t{} pc={:#x}", frame.place(), frame.address),
    }
}

/// `thread 4711 [futex wait, 3 minutes, "worker", cpu 1.20s]:`
fn head(group: &[&Thread<'_>], several_processes: bool) -> String {
    let first = group[0];
    let mut text = match group {
        [one] => format!("thread {}", one.tid),
        _ => {
            let mut text = "threads".to_owned();
            for thread in group.iter().take(TIDS_SHOWN) {
                let _ = write!(text, " {}", thread.tid);
            }
            if group.len() > TIDS_SHOWN {
                let _ = write!(text, " and {} more", group.len() - TIDS_SHOWN);
            }
            let _ = write!(text, " ({})", group.len());
            text
        }
    };
    let _ = write!(text, " [{}", first.what());
    if let Some(runtime) = &first.runtime {
        let _ = write!(text, ", {}", runtime.replace([']', '['], "_"));
    }
    let waited = |pick: fn(i64, i64) -> i64| group.iter().filter_map(|thread| thread.waited_ns).reduce(pick);
    if let (Some(least), Some(most)) = (waited(i64::min), waited(i64::max)) {
        text.push_str(&minutes(least, most));
    }
    let name = |thread: &&Thread<'_>| thread.own_name.as_deref().unwrap_or(&thread.name).to_owned();
    let names: BTreeSet<String> = group.iter().map(name).collect();
    for name in names.iter().take(NAMES_SHOWN) {
        let _ = write!(text, ", \"{}\"", name.replace(['"', ']', '['], "_"));
    }
    if names.len() > NAMES_SHOWN {
        let _ = write!(text, ", {} more names", names.len() - NAMES_SHOWN);
    }
    let cpu_ns: Option<i64> = group.iter().filter_map(|thread| thread.cpu_ns).reduce(i64::saturating_add);
    if let Some(cpu_ns) = cpu_ns {
        let _ = write!(text, ", cpu {}", format_duration_ns(cpu_ns));
    }
    if several_processes {
        text.push_str(&processes(group));
    }
    text.push_str("]:");
    text
}

/// `, rank 4711`; of threads of several processes `, 8 processes 4711 4712 …`.
fn processes(group: &[&Thread<'_>]) -> String {
    let pids: BTreeSet<i64> = group.iter().map(|thread| thread.pid).collect();
    if pids.len() == 1 {
        let name = group[0].process.as_deref().map(|name| name.replace([']', '['], "_"));
        return name.map_or_else(String::new, |name| format!(", {name} {}", group[0].pid));
    }
    let shown: String = pids.iter().take(PIDS_SHOWN).map(|pid| format!(" {pid}")).collect();
    let more = if pids.len() > PIDS_SHOWN { " …" } else { "" };
    format!(", {} processes{shown}{more}", pids.len())
}

/// Waiting times are shown from one minute on, as in Go.
fn minutes(least_ns: i64, most_ns: i64) -> String {
    let minutes = |ns: i64| ns / 60_000_000_000;
    match (minutes(least_ns), minutes(most_ns)) {
        (_, 0) => String::new(),
        (least, most) if least == most => format!(", {most} minutes"),
        (least, most) => format!(", {least} to {most} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, LabelValue, LineSpec, MappingSpec};

    fn profile() -> Profile {
        let mut builder = Builder::new(&[("threads", "count")]);
        let mapping = builder.mapping(&MappingSpec {
            start: 0x1000,
            limit: 0x9000,
            filename: "/bin/server",
            ..MappingSpec::default()
        });
        let wait = builder.function("wait", "wait", "", 0);
        let inner = builder.function("inner", "inner", "/src/a.c", 1);
        let outer = builder.function("outer", "outer", "/src/a.c", 9);
        let leaf =
            builder.location(Some(mapping), 0x1010, &[LineSpec { function: wait, line: 0, column: 0 }]);
        let lines = [
            LineSpec { function: inner, line: 3, column: 0 },
            LineSpec { function: outer, line: 12, column: 0 },
        ];
        let middle = builder.location(Some(mapping), 0x2020, &lines);
        let minute = 60_000_000_000;
        for (tid, waited) in [(7, 3 * minute), (8, 5 * minute)] {
            let labels = [
                ("thread", LabelValue::Text("wor]ker")),
                ("tid", LabelValue::Number(tid, "")),
                ("pid", LabelValue::Number(7, "")),
                ("state", LabelValue::Text("sleeping")),
                ("wait", LabelValue::Text("futex wait")),
                ("cpu", LabelValue::Number(1_500_000, "nanoseconds")),
                ("waited", LabelValue::Number(waited, "nanoseconds")),
            ];
            builder.sample(&[leaf, middle], &[1], &labels);
        }
        let labels = [
            ("thread", LabelValue::Text("main")),
            ("java_thread", LabelValue::Text("the main [one]")),
            ("runtime", LabelValue::Text("parked")),
            ("tid", LabelValue::Number(9, "")),
            ("pid", LabelValue::Number(7, "")),
            ("state", LabelValue::Text("running")),
            ("cut", LabelValue::Text("no more")),
        ];
        builder.sample(&[middle], &[1], &labels);
        builder.finish()
    }

    fn text(write: impl Fn(&Threads<'_>, &mut Vec<u8>)) -> String {
        let profile = profile();
        let mut bytes = Vec::new();
        write(&Threads::new(&profile), &mut bytes);
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn threads_with_the_same_stack_share_a_block_in_gos_layout() {
        let text = text(|threads, bytes| threads.write_text(false, bytes).expect("written"));
        let expected = "threads 7 8 (2) [futex wait, 3 to 5 minutes, \"wor_ker\", cpu 3ms]:\n\
             wait(...)\n\t/bin/server+0x10 pc=0x1010\n\
             inner(...)\n\t/src/a.c:3 (inlined)\n\
             outer(...)\n\t/src/a.c:12 pc=0x2020\n\n\
             thread 9 [running, parked, \"the main _one_\"]:\n\
             inner(...)\n\t/src/a.c:3 (inlined)\n\
             outer(...)\n\t/src/a.c:12 pc=0x2020\n\
             ...cut: no more\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn each_thread_can_have_its_own_block() {
        let text = text(|threads, bytes| threads.write_text(true, bytes).expect("written"));
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("thread")).collect();
        assert_eq!(
            heads,
            [
                "thread 7 [futex wait, 3 minutes, \"wor_ker\", cpu 1.50ms]:",
                "thread 8 [futex wait, 5 minutes, \"wor_ker\", cpu 1.50ms]:",
                "thread 9 [running, parked, \"the main _one_\"]:"
            ]
        );
    }

    #[test]
    fn aggregated_threads_are_readable_as_a_legacy_profile() {
        let text = text(|threads, bytes| threads.write_aggregated(bytes).expect("written"));
        assert!(
            text.starts_with(
                "thread profile: total 3\n2 @ 0x1010 0x2020\n#\t0x1010\twait\t/bin/server+0x10\n"
            )
        );
        let columns = crate::profile::legacy::read(text.as_bytes()).expect("the legacy format");
        assert_eq!(columns.sample_count(), 2);
    }

    #[test]
    fn json_has_every_thread_and_frame() {
        let text = text(|threads, bytes| {
            threads.write_json(&[json!({ "runtime": "a" })], Some(json!(7)), bytes).expect("written")
        });
        let value: Value = serde_json::from_str(&text).expect("json");
        assert_eq!(value["threads"].as_array().map(Vec::len), Some(3));
        assert_eq!(value["threads"][0]["wait"], "futex wait");
        assert_eq!(value["threads"][0]["stack"][1]["function"], "inner");
        assert_eq!(value["threads"][0]["stack"][1]["inlined"], true);
        assert_eq!(value["threads"][2]["whole"], false);
        assert_eq!(value["threads"][2]["own_name"], "the main [one]");
        assert_eq!(value["threads"][2]["name"], "main");
        assert_eq!(value["tasks"][0]["runtime"], "a");
        assert_eq!(value["waits"], 7);
    }
}
