//! Goroutines in Go's text forms: `goroutine?debug=2`, each goroutine with its stack as in a crash,
//! and `debug=1`, equal stacks counted (source: `src/runtime/traceback.go`,
//! `src/runtime/pprof/pprof.go` of each release; where releases differ, the form of the target's
//! release is used).
//!
//! A goroutine whose stack could not be read has a line that says so instead. Not here: reading
//! them.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use rustc_hash::FxHashMap;

use super::{
    columns,
    goroutines::{
        COPYING, DEAD, DEAD_EXTRA, Goroutine, Goroutines, IDLE, LEAKED, RUNNABLE, RUNNING, SYSCALL, WAITING,
    },
    loaded::read_string,
    process::GoProcess,
    sites::{Site, SiteFunction, Sites},
    walk::{ARGS_CLOSE, ARGS_END, ARGS_MORE, ARGS_OPEN, ARGS_TOO_FAR, Frame},
};
use crate::{addr::RuntimeAddr, process::identity, text::go::quote};

/// Frames shown from the leaf of a long stack (Go 1.21 and newer).
const SHOWN_INNER: usize = 50;
/// Frames shown from the root of a long stack.
const SHOWN_OUTER: usize = 50;
/// Limit of the frames that older releases print, including hidden ones.
const SHOWN_AT_MOST: usize = 100;

/// Writes the goroutines of one process.
pub struct Text<'a> {
    pub(super) process: &'a GoProcess,
    pub(super) goroutines: &'a Goroutines,
    pub(super) sites: Sites<'a>,
    reasons: FxHashMap<u8, String>,
    now_ns: u64,
    pub(super) shows_labels: bool,
    /// Leave out what differs between goroutines with the same stack: argument values, parents.
    is_common: bool,
    /// Include the runtime's own goroutines.
    pub system: bool,
}

impl<'a> Text<'a> {
    /// A writer for these goroutines.
    pub fn new(process: &'a GoProcess, goroutines: &'a Goroutines) -> Text<'a> {
        let at = process.globals.traceback_labels;
        Text {
            process,
            goroutines,
            sites: Sites::new(process),
            reasons: FxHashMap::default(),
            now_ns: match process.view.ended {
                // A core file does not say when it was written, by this clock.
                Some(_) => 0,
                None => identity::monotonic_ns_in(process.pid),
            },
            shows_labels: at.is_some_and(|at| process.memory.read_u32(at) == Some(1)),
            is_common: false,
            system: false,
        }
    }

    pub(super) fn shown(&self) -> impl Iterator<Item = &'a Goroutine> + use<'a> {
        let system = self.system;
        self.goroutines.all.iter().filter(move |goroutine| system || !goroutine.is_system)
    }

    /// Whether rprof must end now, with the text as it is.
    pub(super) fn is_stopped(&self) -> bool {
        self.process.budget.is_stopped()
    }

    /// Writes every goroutine: `debug=2`. Errors: those of `writer`.
    pub fn write_each(&mut self, writer: &mut dyn Write) -> io::Result<()> {
        for (number, goroutine) in self.shown().enumerate() {
            if number > 0 {
                writer.write_all(b"\n")?;
            }
            if self.is_stopped() {
                return write_left_out(self.shown().count() - number, writer);
            }
            writer.write_all(self.one(goroutine).as_bytes())?;
        }
        Ok(())
    }

    /// One goroutine as in `debug=2`.
    pub(super) fn one(&mut self, goroutine: &Goroutine) -> String {
        let mut text = String::new();
        self.header(goroutine, &mut text);
        self.stack(goroutine, &mut text);
        self.created_by(goroutine, &mut text);
        text
    }

    /// The stack of a goroutine and its creator, without what differs between goroutines.
    pub(super) fn common_stack(&mut self, goroutine: &Goroutine) -> String {
        let mut text = String::new();
        self.is_common = true;
        self.stack(goroutine, &mut text);
        self.created_by(goroutine, &mut text);
        self.is_common = false;
        text
    }

    /// A goroutine's state, or its wait reason.
    pub fn state(&mut self, goroutine: &Goroutine) -> String {
        let waits = matches!(goroutine.status, WAITING | LEAKED) && goroutine.wait_reason != 0;
        if waits && let Some(reason) = self.reason(goroutine.wait_reason) {
            return reason.to_owned();
        }
        state_word(goroutine.status).to_owned()
    }

    fn reason(&mut self, reason: u8) -> Option<&str> {
        let table = self.process.globals.wait_reasons?;
        let memory = &self.process.memory;
        let read = || read_string(memory, table.offset(i64::from(reason) * 16), 64).unwrap_or_default();
        let text = self.reasons.entry(reason).or_insert_with(read);
        (!text.is_empty()).then_some(text.as_str())
    }

    /// How long it has waited, in whole minutes.
    pub fn minutes(&self, goroutine: &Goroutine) -> u64 {
        let waits = matches!(goroutine.status, WAITING | SYSCALL) && goroutine.wait_since != 0;
        if waits { self.now_ns.saturating_sub(goroutine.wait_since) / 60_000_000_000 } else { 0 }
    }

    fn header(&mut self, goroutine: &Goroutine, text: &mut String) {
        let state = self.state(goroutine);
        let minor = self.process.version.minor;
        let _ = write!(text, "goroutine {} [{state}", goroutine.id);
        if goroutine.status == LEAKED && minor >= 26 {
            text.push_str(" (leaked)");
        }
        if goroutine.is_scanned {
            text.push_str(" (scan)");
        }
        if minor >= 25 && goroutine.bubble.is_some() && is_durable(goroutine, &state) {
            text.push_str(" (durable)");
        }
        let minutes = self.minutes(goroutine);
        if minutes >= 1 {
            let _ = write!(text, ", {minutes} minutes");
        }
        if goroutine.is_locked {
            text.push_str(", locked to thread");
        }
        if let Some(bubble) = goroutine.bubble {
            let word = if minor >= 25 { "bubble" } else { "group" };
            let _ = write!(text, ", synctest {word} {bubble}");
        }
        let labels = goroutine.labels.as_ref().filter(|_| self.shows_labels);
        if minor < 27 {
            labels.into_iter().for_each(|labels| push_labels(labels, " labels:", true, text));
            text.push(']');
        } else {
            text.push(']');
            labels.into_iter().for_each(|labels| push_labels(labels, " ", false, text));
        }
        text.push_str(":\n");
    }

    fn stack(&mut self, goroutine: &Goroutine, text: &mut String) {
        let goroutines = self.goroutines;
        let Some((frames, _)) = goroutine.stack.and_then(|id| goroutines.stacks.get(id as usize)) else {
            text.push_str(match goroutine.status {
                RUNNING => "\tgoroutine running on other thread; stack unavailable\n",
                _ => "\tgoroutine kept changing while it was read; stack unavailable\n",
            });
            return;
        };
        if self.frames(frames, &goroutine.arguments, false, text) == 0 {
            self.frames(frames, &goroutine.arguments, true, text);
        }
    }

    /// Writes the frames that Go shows. Returns their number.
    fn frames(&mut self, frames: &[Frame], values: &[u64], all: bool, text: &mut String) -> usize {
        let minor = self.process.version.minor;
        let mut lines: Vec<(usize, usize)> = Vec::new();
        let mut values = values;
        let mut callee: Option<Box<str>> = None;
        let looked_at = if minor < 21 { SHOWN_AT_MOST } else { usize::MAX };
        for frame in frames.iter().take(looked_at) {
            let site = self.sites.at(*frame);
            let (mine, later) = values.split_at(values.len().min(argument_count(&site.arguments)));
            values = later;
            for function in &site.functions {
                let is_shown = all || shows(function, lines.is_empty(), callee.as_deref(), minor);
                callee = Some(function.name.clone());
                if is_shown {
                    let from = text.len();
                    push_frame(&site, function, (!self.is_common).then_some(mine), text);
                    lines.push((from, text.len()));
                }
            }
        }
        if minor < 21 {
            if lines.len() >= SHOWN_AT_MOST {
                text.push_str("...additional frames elided...\n");
            }
            return lines.len();
        }
        let elided = lines.len().saturating_sub(SHOWN_INNER + SHOWN_OUTER);
        if elided > 0 {
            let (from, to) = (lines[SHOWN_INNER].0, lines[SHOWN_INNER + elided].0);
            text.replace_range(from..to, &format!("...{elided} frames elided...\n"));
        }
        lines.len()
    }

    fn created_by(&mut self, goroutine: &Goroutine, text: &mut String) {
        let minor = self.process.version.minor;
        let at = RuntimeAddr(goroutine.created_at);
        let Some((file, function, inside)) = self.process.function_at(at) else { return };
        let table = &file.tables.pclntab;
        let name = table.name(&function);
        if goroutine.id == 1 || !is_shown_name(name, minor) {
            return;
        }
        let _ = write!(text, "created by {}", printed(name));
        if goroutine.parent != 0 && !self.is_common {
            let _ = write!(text, " in goroutine {}", goroutine.parent);
        }
        let offset = inside.0 - function.entry;
        let call = crate::addr::ElfAddr(inside.0 - u64::from(offset > 0));
        let (path, line) = table.file_line(&function, call);
        let _ = write!(text, "\n\t{path}:{line}");
        if offset > 0 {
            let _ = write!(text, " +{offset:#x}");
        }
        text.push('\n');
    }

    /// The function that created it.
    pub(super) fn creator(&self, goroutine: &Goroutine) -> Option<String> {
        Some(printed(self.process.name_at(RuntimeAddr(goroutine.created_at))?).into_owned())
    }

    /// Writes the distinct stacks and label sets with counts: `debug=1`. Errors: those of `writer`.
    pub fn write_counted(&mut self, writer: &mut dyn Write) -> io::Result<()> {
        let mut total = 0u64;
        let mut groups: FxHashMap<(u32, Option<String>), u64> = FxHashMap::default();
        for goroutine in self.shown() {
            total += 1;
            if let Some(stack) = goroutine.stack {
                let labels = goroutine.labels.as_ref().map(|labels| counted_labels(labels));
                *groups.entry((stack, labels)).or_default() += 1;
            }
        }
        // Go counts by the shown text: different physical frames may be equal.
        let mut shown: FxHashMap<String, (u64, u32)> = FxHashMap::default();
        let mut texts: FxHashMap<u32, String> = FxHashMap::default();
        for ((stack, labels), count) in groups {
            let addresses = texts.entry(stack).or_insert_with(|| {
                let functions = self.sites.shown(&self.goroutines.stacks[stack as usize].0);
                functions
                    .iter()
                    .fold("@".to_owned(), |text, function| format!("{text} {:#x}", function.pc + 1))
            });
            let key =
                labels.map_or_else(|| addresses.clone(), |labels| format!("{addresses}\n# labels: {labels}"));
            shown.entry(key).or_insert((0, stack)).0 += count;
        }
        let mut shown: Vec<(String, (u64, u32))> = shown.into_iter().collect();
        shown.sort_by(|(a_key, (a, _)), (b_key, (b, _))| b.cmp(a).then_with(|| a_key.cmp(b_key)));
        writeln!(writer, "goroutine profile: total {total}")?;
        for (key, (count, stack)) in shown {
            writeln!(writer, "{count} {key}")?;
            let functions = self.sites.shown(&self.goroutines.stacks[stack as usize].0);
            write_stack_record(&functions, false, writer)?;
        }
        Ok(())
    }
}

/// The line that ends a text that a signal cut short.
pub(super) fn write_left_out(count: usize, writer: &mut dyn Write) -> io::Result<()> {
    writeln!(writer, "...{count} more goroutines were read; rprof was stopped before it wrote them...")
}

/// Writes a stack as in all of Go's `debug=1` forms. Without `all`, the runtime's functions at the
/// leaf are left out, unless there are no others. Errors: those of `writer`.
pub fn write_stack_record(functions: &[SiteFunction], all: bool, writer: &mut dyn Write) -> io::Result<()> {
    let first = functions.iter().position(|function| all || !function.printed.starts_with("runtime."));
    let shown =
        functions[first.unwrap_or(0)..].iter().filter(|function| &*function.printed != "runtime.goexit");
    let rows = shown.map(|function| {
        [
            "#".to_owned(),
            format!("{:#x}", function.pc),
            format!("{}+{:#x}", function.printed, function.offset),
            format!("{}:{}", function.path, function.line),
        ]
    });
    columns::write(rows.collect(), writer)?;
    writeln!(writer)
}

/// The word for a state (`gStatusStrings`).
pub fn state_word(status: u32) -> &'static str {
    match status {
        IDLE => "idle",
        RUNNABLE => "runnable",
        RUNNING => "running",
        SYSCALL => "syscall",
        WAITING => "waiting",
        DEAD => "dead",
        COPYING => "copystack",
        9 => "preempted",
        LEAKED => "leaked",
        DEAD_EXTRA => "waiting for cgo callback",
        _ => "???",
    }
}

/// Whether a goroutine of a synctest bubble is durably blocked (nothing outside the bubble can wake
/// it), where the wait reason does not imply that.
fn is_durable(goroutine: &Goroutine, state: &str) -> bool {
    const IDLE_REASONS: [&str; 8] = [
        "chan receive (nil chan)",
        "chan send (nil chan)",
        "select (no cases)",
        "sleep",
        "sync.Cond.Wait",
        "coroutine",
        "synctest.Run",
        "synctest.Wait",
    ];
    goroutine.status == WAITING && IDLE_REASONS.contains(&state)
}

fn push_labels(labels: &[(String, String)], before: &str, always_quoted: bool, text: &mut String) {
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./_".contains(&byte));
    let shown = |part: &str| if always_quoted || !plain(part) { quote(part) } else { part.to_owned() };
    let pairs: Vec<String> =
        labels.iter().map(|(key, value)| format!("{}: {}", shown(key), shown(value))).collect();
    let _ = write!(text, "{before}{{{}}}", pairs.join(", "));
}

fn counted_labels(labels: &[(String, String)]) -> String {
    let pairs: Vec<String> =
        labels.iter().map(|(key, value)| format!("{}:{}", quote(key), quote(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn printed(name: &str) -> std::borrow::Cow<'_, str> {
    if name == "runtime.gopanic" { "panic".into() } else { super::pclntab::printed_name(name) }
}

fn shows(function: &SiteFunction, is_first: bool, callee: Option<&str>, minor: u32) -> bool {
    const ALWAYS: [&str; 2] = ["runtime.runFinalizers", "runtime.runCleanups"];
    let name = &*function.name;
    !function.is_left_out(callee)
        && ((minor >= 25 && ALWAYS.contains(&name))
            || (name == "runtime.gopanic" && !is_first)
            || is_shown_name(name, minor))
}

/// Whether Go shows a function with this name: internal functions of the runtime are hidden.
fn is_shown_name(name: &str, minor: u32) -> bool {
    let Some(rest) = name.strip_prefix("runtime.") else { return name.contains('.') };
    let is_upper = |text: &str| text.starts_with(|first: char| first.is_ascii_uppercase());
    match rest.rsplit_once('.').filter(|_| minor >= 23) {
        Some((receiver, method)) => {
            let pointer = receiver.strip_prefix("(*").and_then(|inner| inner.strip_suffix(')'));
            is_upper(method) && is_upper(pointer.unwrap_or(receiver))
        }
        None => is_upper(rest),
    }
}

/// Without `values`, the arguments are left out.
fn push_frame(site: &Site, function: &SiteFunction, values: Option<&[u64]>, text: &mut String) {
    text.push_str(&printed(&function.name));
    text.push('(');
    match values.filter(|_| !function.is_inlined) {
        None => text.push_str("..."),
        Some(values) => push_arguments(site, values, text),
    }
    let _ = write!(text, ")\n\t{}:{}", function.path, function.line);
    if !function.is_inlined && site.offset > 0 {
        let _ = write!(text, " +{:#x}", site.offset);
    }
    text.push('\n');
}

/// How many values the operations refer to.
fn argument_count(operations: &[u8]) -> usize {
    let (mut count, mut rest) = (0, operations.iter());
    while let Some(operation) = rest.next().filter(|operation| **operation != ARGS_END) {
        if *operation < ARGS_TOO_FAR {
            rest.next();
            count += 1;
        }
    }
    count
}

fn push_arguments(site: &Site, values: &[u64], text: &mut String) {
    let (mut values, mut slot, mut is_first) = (values.iter(), 0usize, true);
    let mut rest = site.arguments.iter();
    while let Some(&operation) = rest.next().filter(|operation| **operation != ARGS_END) {
        if operation == ARGS_CLOSE {
            text.push('}');
            is_first = false;
            continue;
        }
        if !is_first {
            text.push_str(", ");
        }
        is_first = operation == ARGS_OPEN;
        match operation {
            ARGS_OPEN => text.push('{'),
            ARGS_MORE => text.push_str("..."),
            ARGS_TOO_FAR => text.push('_'),
            offset => {
                rest.next();
                let _ = write!(text, "{:#x}", values.next().copied().unwrap_or(0));
                let bit = site.live.get(slot / 8).is_none_or(|bits| bits >> (slot % 8) & 1 == 1);
                if offset >= site.live_from && !site.live.is_empty() && !bit {
                    text.push('?');
                }
                slot += usize::from(offset >= site.live_from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_functions_of_the_runtime_are_hidden() {
        for (name, minor, shown) in [
            ("main.main", 21, true),
            ("runtime.gopark", 27, false),
            ("runtime.Gosched", 18, true),
            ("runtime.(*Func).Name", 22, false),
            ("runtime.(*Func).Name", 23, true),
            ("runtime.(*mheap).Alloc", 27, false),
            ("_cgoexp", 27, false),
        ] {
            assert_eq!(is_shown_name(name, minor), shown, "{name}");
        }
    }

    #[test]
    fn arguments_are_printed_as_go_prints_them() {
        let site = Site {
            arguments: vec![0, 8, ARGS_OPEN, 8, 8, 16, 4, ARGS_CLOSE, ARGS_MORE, ARGS_END],
            live_from: 8,
            live: vec![0b01],
            ..Site::default()
        };
        let mut text = String::new();
        push_arguments(&site, &[1, 0xc000, 7], &mut text);
        assert_eq!(text, "0x1, {0xc000, 0x7?}, ...");
        assert_eq!(argument_count(&site.arguments), 3);
    }

    #[test]
    fn labels_are_quoted_as_in_each_release() {
        let labels = [("job".to_owned(), "a b".to_owned())];
        let mut text = String::new();
        push_labels(&labels, " ", false, &mut text);
        push_labels(&labels, " labels:", true, &mut text);
        assert_eq!(text, " {job: \"a b\"} labels:{\"job\": \"a b\"}");
        assert_eq!(counted_labels(&labels), "{\"job\":\"a b\"}");
    }
}
