//! Facts about a Go process: release, modules, processors, threads, garbage collection.
//!
//! Not here: how they are printed.

use super::{process::GoProcess, version::BuildInfo};
use crate::addr::RuntimeAddr;

/// Facts about a process, read once. `None`: not found in this program.
#[derive(Clone, Debug, Default)]
pub struct GoInfo {
    /// The release, such as `go1.22.3`.
    pub version: String,
    /// The release whose layout is used.
    pub layout: &'static str,
    /// Whether the layout is that of the program's own release.
    pub is_known_release: bool,
    /// The build information.
    pub build: Option<BuildInfo>,
    /// `GOMAXPROCS`.
    pub gomaxprocs: Option<u32>,
    /// Entries of the table of goroutines, including ended ones that can be reused.
    pub goroutine_slots: Option<u64>,
    /// Threads of the runtime.
    pub threads: Option<usize>,
    /// Idle threads.
    pub idle_threads: Option<u32>,
    /// Threads that search for work.
    pub spinning_threads: Option<u32>,
    /// Idle processors (Ps).
    pub idle_processors: Option<u32>,
    /// Completed garbage collections.
    pub collections: Option<u32>,
    /// Garbage collections forced by the program (`runtime.GC`).
    pub forced_collections: Option<u32>,
    /// The sum of all pauses, in nanoseconds.
    pub pause_total_ns: Option<u64>,
    /// When the last one ended, in nanoseconds since 1970; 0: never.
    pub last_collection_unix_ns: Option<u64>,
    /// `GOGC`; negative: off.
    pub gc_percent: Option<i32>,
    /// `GOMEMLIMIT` in bytes.
    pub memory_limit: Option<i64>,
    /// Bytes of the heap that are live or allocated since the last collection.
    pub heap_live_bytes: Option<u64>,
    /// Bytes of the heap that the last collection marked as live.
    pub heap_marked_bytes: Option<u64>,
    /// One allocation per this many bytes is sampled; 0: none.
    pub mem_profile_rate: Option<u64>,
    /// One block event per this many ticks of waiting is sampled; 0: none.
    pub block_profile_rate: Option<u64>,
    /// One mutex event per this many is sampled; 0: none.
    pub mutex_profile_fraction: Option<u64>,
}

impl GoProcess {
    /// Reads the facts.
    pub fn info(&self) -> GoInfo {
        let globals = &self.globals;
        let layout = &self.layout;
        let u32_at =
            |base: Option<RuntimeAddr>, offset: usize| self.memory.read_u32(base?.offset(offset as i64));
        let word_at =
            |base: Option<RuntimeAddr>, offset: usize| self.memory.read_word(base?.offset(offset as i64));
        let has_limit = layout.gc_memory_limit != 0;
        GoInfo {
            version: self.version_text.clone(),
            layout: layout.source,
            is_known_release: self.is_known_release,
            build: self.build_info.clone(),
            gomaxprocs: u32_at(globals.gomaxprocs, 0),
            goroutine_slots: self.memory.read_word(globals.all_g_count),
            threads: self.threads().ok().map(|threads| threads.len()),
            idle_threads: u32_at(globals.sched, layout.sched_nmidle),
            spinning_threads: u32_at(globals.sched, layout.sched_nmspinning),
            idle_processors: u32_at(globals.sched, layout.sched_npidle),
            collections: u32_at(globals.memstats, layout.mstats_numgc),
            forced_collections: u32_at(globals.memstats, layout.mstats_numforcedgc),
            pause_total_ns: word_at(globals.memstats, layout.mstats_pause_total),
            last_collection_unix_ns: word_at(globals.memstats, layout.mstats_last_gc_unix),
            gc_percent: u32_at(globals.gc_controller, 0).map(u32::cast_signed),
            memory_limit: word_at(globals.gc_controller.filter(|_| has_limit), layout.gc_memory_limit)
                .map(u64::cast_signed),
            heap_live_bytes: word_at(globals.gc_controller, layout.gc_heap_live),
            heap_marked_bytes: word_at(globals.gc_controller, layout.gc_heap_marked),
            mem_profile_rate: word_at(globals.mem_profile_rate, 0),
            block_profile_rate: word_at(globals.block_profile_rate, 0),
            mutex_profile_fraction: word_at(globals.mutex_profile_rate, 0),
        }
    }
}
