//! Profiles that a Go runtime keeps itself: heap, allocs, block, mutex, threadcreate.
//!
//! The counts are the runtime's own, read once; nothing is sampled. Not here: how they are read
//! (`runtime::go`).

use std::time::SystemTime;

use super::{check_pids, go_builder::GoLocations, name::locations::epoch_ns};
use crate::{
    budget::Exhausted,
    issue::Issue,
    process::{Identity, identify},
    profile::{
        builder::{Builder, LabelValue},
        proto::Profile,
    },
    runtime::go::{
        BucketError, BucketKind, Contention, GoError, GoProcess, Heap, scaled, write_contention, write_heap,
    },
};

/// Which of the runtime's profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoKind {
    /// Memory in use: four sample types, `inuse_space` by default.
    Heap,
    /// The same with `alloc_space` by default: all memory ever allocated.
    Allocs,
    /// Waits of goroutines on channels and locks.
    Block,
    /// Contended mutexes, by the code that unlocks them.
    Mutex,
    /// Threads, by the code that created them.
    ThreadCreate,
}

impl GoKind {
    /// The name as in `/debug/pprof/NAME`.
    pub fn name(self) -> &'static str {
        match self {
            GoKind::Heap => "heap",
            GoKind::Allocs => "allocs",
            GoKind::Block => "block",
            GoKind::Mutex => "mutex",
            GoKind::ThreadCreate => "threadcreate",
        }
    }
}

/// A profile of a Go runtime, and its quality.
#[derive(Debug)]
pub struct GoProfile {
    /// The profile.
    pub profile: Profile,
    /// The process it is of.
    pub identity: Identity,
    /// The Go release, such as `go1.22.3`.
    pub version: String,
    /// The number of stacks.
    pub records: usize,
    /// What is missing or uncertain, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads a profile that the process's runtime keeps. Errors: the process keeps no such profile, or
/// cannot be read.
pub fn read(pid: u32, kind: GoKind) -> Result<GoProfile, BucketError> {
    let identity = identify(pid).map_err(GoError::from)?;
    let process = GoProcess::attach(pid)?;
    let mut outcome = ReadOutcome { warnings: Vec::new(), comments: Vec::new(), records: 0 };
    let mut builder = match kind {
        GoKind::Heap | GoKind::Allocs => outcome.heap(&process, kind)?,
        GoKind::Block => outcome.contention(&process, BucketKind::Block)?,
        GoKind::Mutex => outcome.contention(&process, BucketKind::Mutex)?,
        GoKind::ThreadCreate => outcome.thread_create(&process)?,
    };
    if !process.is_known_release {
        outcome.warnings.push(format!(
            "{} is newer than the releases rprof knows: read with the layout of {}, which passed its checks",
            process.version_text, process.layout.source
        ));
    }
    builder.set_time(epoch_ns(SystemTime::now()), 0);
    builder.comment(&format!("kind: {}", kind.name()));
    builder.comment(&format!("target: {} (pid {pid})", identity.display_name()));
    builder.comment(&format!("runtime: {}, its own counting", process.version_text));
    outcome.comments.iter().chain(&outcome.warnings).for_each(|comment| builder.comment(comment));
    builder.comment(&format!("rprof: {}", env!("CARGO_PKG_VERSION")));
    check_pids(std::slice::from_ref(&identity)).map_err(GoError::from)?;
    let profile = builder.finish();
    let version = process.version_text.clone();
    Ok(GoProfile { profile, identity, version, records: outcome.records, warnings: outcome.warnings })
}

/// A profile in Go's text form (`debug=1`); `None` for threadcreate, whose text is made from the
/// profile. Errors: as [`read`].
pub fn text(pid: u32, kind: GoKind) -> Result<Option<Vec<u8>>, BucketError> {
    let process = GoProcess::attach(pid)?;
    let mut text = Vec::new();
    let contention = match kind {
        GoKind::ThreadCreate => return Ok(None),
        GoKind::Heap | GoKind::Allocs => {
            write_heap(&process, &process.heap()?, &mut text).expect("writing to memory does not fail");
            return Ok(Some(text));
        }
        GoKind::Block => BucketKind::Block,
        GoKind::Mutex => BucketKind::Mutex,
    };
    let counted = process.contention(contention)?;
    write_contention(&process, &counted, contention, &mut text).expect("writing to memory does not fail");
    Ok(Some(text))
}

struct ReadOutcome {
    warnings: Vec<String>,
    comments: Vec<String>,
    records: usize,
}

const UNSETTLED: &str = "counts kept changing while they were read: some may be older than others";

impl ReadOutcome {
    fn heap(&mut self, process: &GoProcess, kind: GoKind) -> Result<Builder, BucketError> {
        let Heap { records, rate, is_consistent, limit, .. } = process.heap()?;
        let mut builder = Builder::new(&[
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ]);
        let mut locations = GoLocations::new(process);
        for record in records.iter().filter(|record| record.allocs > 0) {
            let ids = locations.allocation(&record.stack, &mut builder);
            let allocated = scaled(record.allocs, record.alloc_bytes, rate);
            let in_use = scaled(record.in_use_objects(), record.in_use_bytes(), rate);
            let size = LabelValue::Number(record.size.cast_signed(), "bytes");
            builder.sample(&ids, &[allocated.0, allocated.1, in_use.0, in_use.1], &[("bytes", size)]);
        }
        self.limited(limit.or(locations.limit));
        builder.set_period("space", "bytes", rate.cast_signed());
        if kind == GoKind::Allocs {
            builder.set_default_sample_type("alloc_space");
        }
        self.records = builder.sample_count();
        self.comments.push(format!("rate: one allocation per {rate} bytes is sampled, and scaled up"));
        self.settled(is_consistent);
        Ok(builder)
    }

    fn contention(&mut self, process: &GoProcess, kind: BucketKind) -> Result<Builder, BucketError> {
        let Contention { records, rate, is_consistent, ticks_hz, limit } = process.contention(kind)?;
        let mut builder = Builder::new(&[("contentions", "count"), ("delay", "nanoseconds")]);
        let mut locations = GoLocations::new(process);
        for record in &records {
            let ids = locations.returns(&record.stack, &mut builder);
            builder.sample(&ids, &[record.count, record.delay_ns], &[]);
        }
        self.limited(limit.or(locations.limit));
        builder.set_period("contentions", "count", 1);
        self.records = records.len();
        let unit = if kind == BucketKind::Block { "ticks of waiting" } else { "events" };
        self.comments.push(format!("rate: one in {rate} {unit}; {:.0} MHz", ticks_hz / 1e6));
        if rate == 0 {
            self.warnings.push("the program has switched this profile off: it no longer grows".into());
        }
        self.settled(is_consistent);
        Ok(builder)
    }

    fn thread_create(&mut self, process: &GoProcess) -> Result<Builder, BucketError> {
        let threads = process.threads()?;
        let mut builder = Builder::new(&[("threadcreate", "count")]);
        let mut locations = GoLocations::new(process);
        let mut counts: std::collections::BTreeMap<&[u64], i64> = Default::default();
        for thread in &threads {
            *counts.entry(&thread.created_at).or_default() += 1;
        }
        for (stack, count) in counts {
            let ids = match stack {
                [] => vec![locations.synthetic("[started by the scheduler]", &mut builder)],
                stack => locations.returns(stack, &mut builder),
            };
            builder.sample(&ids, &[count], &[]);
        }
        builder.set_period("threadcreate", "count", 1);
        self.records = threads.len();
        Ok(builder)
    }

    fn limited(&mut self, limit: Option<Exhausted>) {
        if let Some(why) = limit {
            let issue =
                Issue::LimitReached { what: "the runtime's profile".to_owned(), why: why.to_string() };
            self.warnings.push(issue.to_string());
        }
    }

    fn settled(&mut self, is_consistent: bool) {
        if !is_consistent {
            self.warnings.push(UNSETTLED.to_owned());
        }
    }
}
