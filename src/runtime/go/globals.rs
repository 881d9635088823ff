//! Finds the runtime's own variables: by symbol where the program has symbols, else through
//! functions that are known to use them. In both cases the memory at the address must pass a check.
//!
//! ```text
//! variable            used by                                   check
//! allglen, allgptr    forEachGRace, allgadd, tracebackothers    a table of g with g.sched.g = g
//! allm                mcommoninit                               m.g0.m = m
//! bucket lists        stkbucket                                 a bucket of kind 1, 2 or 3
//! waitReasonStrings   waitReason.String                         "", …, "IO wait"
//! ```
//! Not here: the meaning of the variables.

use std::collections::HashMap;

use super::{
    error::GoError,
    layouts::{G_SCHED_G, Layout},
    loaded::{Loaded, read_string},
    recognize,
};
use crate::{
    addr::{ElfAddr, RuntimeAddr},
    arch::references::{Reference, Use, references},
    process::ProcessMemory,
};

/// The addresses of the variables. `None`: not found, or not linked into the program.
#[derive(Clone, Debug)]
pub struct Globals {
    /// `allglen`.
    pub all_g_count: RuntimeAddr,
    /// `allgptr`.
    pub all_g_table: RuntimeAddr,
    /// `allm`.
    pub all_m: Option<RuntimeAddr>,
    /// Heads of the lists of memory, block and mutex buckets; empty lists cannot be distinguished.
    pub bucket_lists: Vec<RuntimeAddr>,
    /// `MemProfileRate`.
    pub mem_profile_rate: Option<RuntimeAddr>,
    /// `disableMemoryProfiling`.
    pub disable_mem_profiling: Option<RuntimeAddr>,
    /// `blockprofilerate`.
    pub block_profile_rate: Option<RuntimeAddr>,
    /// `mutexprofilerate`.
    pub mutex_profile_rate: Option<RuntimeAddr>,
    /// `mProfCycle`.
    pub mem_profile_cycle: Option<RuntimeAddr>,
    /// `fingStatus`, or the older `fingRunning`, and its size.
    pub finalizer_state: Option<(RuntimeAddr, usize)>,
    /// `waitReasonStrings`.
    pub wait_reasons: Option<RuntimeAddr>,
    /// Whether goroutine headers show labels (`GODEBUG=tracebacklabels=1`).
    pub traceback_labels: Option<RuntimeAddr>,
    /// `ticks.val`.
    pub ticks: Option<RuntimeAddr>,
    /// `gomaxprocs`.
    pub gomaxprocs: Option<RuntimeAddr>,
    /// `sched`.
    pub sched: Option<RuntimeAddr>,
    /// `memstats`.
    pub memstats: Option<RuntimeAddr>,
    /// `gcController`.
    pub gc_controller: Option<RuntimeAddr>,
}

/// A larger number of goroutines is rejected as invalid.
pub const MAX_GOROUTINES: u64 = 1 << 25;
/// How many goroutines of the table are checked.
const CHECKED: usize = 64;
/// The longest function that is searched, in bytes of code.
const MAX_CODE: u64 = 64 << 10;

impl Globals {
    /// Finds all variables. Errors: the table of goroutines was not found.
    pub fn find(file: &Loaded, memory: &ProcessMemory, layout: &Layout) -> Result<Globals, GoError> {
        let finder = Finder { file, memory, layout, symbols: symbols(file) };
        let (all_g_count, all_g_table) = finder.goroutine_table().ok_or(GoError::Variable {
            what: "table of goroutines",
            why: "it was not found in the functions that use it (the process may have just started)",
        })?;
        let gc = finder.gc_variables();
        Ok(Globals {
            all_g_count,
            all_g_table,
            all_m: finder.threads(),
            bucket_lists: finder.bucket_lists(),
            mem_profile_rate: finder.variable("MemProfileRate", &["allocmcache", "nextSample"], |use_| {
                use_.bytes == 8 && use_.kind == Use::Load
            }),
            disable_mem_profiling: finder.disable_mem_profiling(),
            block_profile_rate: finder.variable("blockprofilerate", &["blockevent"], loads_8),
            mutex_profile_rate: finder.mutex_profile_rate(),
            mem_profile_cycle: finder
                .variable("mProfCycle", &["mProf_Free", "mProf_Flush"], |use_| use_.bytes == 4),
            finalizer_state: finder.finalizer_state(),
            wait_reasons: finder.wait_reasons(),
            traceback_labels: finder.traceback_labels(),
            ticks: finder.ticks(),
            gomaxprocs: finder
                .variable("gomaxprocs", &["schedtrace"], |use_| use_.bytes == 4 && use_.kind == Use::Load),
            sched: finder.sched(),
            memstats: gc.0,
            gc_controller: gc.1,
        })
    }
}

/// `runtime.buildVersion`, found through `schedinit`: for programs without build information.
pub fn build_version(file: &Loaded, memory: &ProcessMemory) -> Option<String> {
    let uses = uses_in(file, "runtime.schedinit");
    uses.iter().filter(|use_| use_.bytes == 8 || use_.kind == Use::Address).find_map(|use_| {
        let at = file.at(ElfAddr(use_.address));
        let text = read_string(memory, at, 64)?;
        (text.starts_with("go1.") || text.starts_with("devel ")).then_some(text)
    })
}

fn loads_8(use_: &Reference) -> bool {
    use_.bytes == 8 && use_.kind == Use::Load
}

/// The data that a function refers to, in the order of its instructions.
fn uses_in(file: &Loaded, function: &str) -> Vec<Reference> {
    let table = &file.tables.pclntab;
    let Some(function) = file.tables.function(function) else { return Vec::new() };
    let code = table.elf().bytes_from(ElfAddr(function.entry)).unwrap_or_default();
    let length = function.end.saturating_sub(function.entry).min(MAX_CODE).min(code.len() as u64);
    references(table.elf().machine(), &code[..length as usize], function.entry)
}

/// Variables of the runtime that have a symbol.
fn symbols(file: &Loaded) -> HashMap<String, ElfAddr> {
    let wanted = [
        "allglen",
        "allgptr",
        "allm",
        "mbuckets",
        "bbuckets",
        "xbuckets",
        "MemProfileRate",
        "disableMemoryProfiling",
        "blockprofilerate",
        "mutexprofilerate",
        "mProfCycle",
        "fingStatus",
        "fingRunning",
        "waitReasonStrings",
        "ticks",
        "gomaxprocs",
        "sched",
        "memstats",
        "gcController",
    ];
    let mut found = HashMap::new();
    for table in file.tables.pclntab.elf().symbol_tables() {
        for symbol in table.defined_symbols() {
            let name = symbol.name.strip_prefix(b"runtime.").and_then(|name| std::str::from_utf8(name).ok());
            if let Some(name) = name.filter(|name| wanted.contains(name)) {
                found.insert(name.to_owned(), symbol.address);
            }
        }
    }
    found
}

struct Finder<'a> {
    file: &'a Loaded,
    memory: &'a ProcessMemory,
    layout: &'a Layout,
    symbols: HashMap<String, ElfAddr>,
}

impl Finder<'_> {
    fn symbol(&self, name: &str) -> Option<RuntimeAddr> {
        self.symbols.get(name).map(|address| self.file.at(*address))
    }

    fn uses(&self, function: &str) -> Vec<Reference> {
        uses_in(self.file, &format!("runtime.{function}"))
    }

    /// A variable by its symbol, or the first suitable one that one of the functions uses.
    fn variable(
        &self,
        name: &str,
        functions: &[&str],
        fits: impl Fn(&Reference) -> bool,
    ) -> Option<RuntimeAddr> {
        self.symbol(name).or_else(|| {
            let used = functions.iter().find_map(|function| self.uses(function).into_iter().find(&fits));
            used.map(|use_| self.file.at(ElfAddr(use_.address)))
        })
    }

    fn words_used(&self, functions: &[&str]) -> Vec<RuntimeAddr> {
        let mut found = Vec::new();
        for use_ in functions.iter().flat_map(|function| self.uses(function)) {
            let at = self.file.at(ElfAddr(use_.address));
            if (use_.bytes == 8 || use_.kind == Use::Address) && !found.contains(&at) {
                found.push(at);
            }
        }
        found
    }

    fn goroutine_table(&self) -> Option<(RuntimeAddr, RuntimeAddr)> {
        if let (Some(count), Some(table)) = (self.symbol("allglen"), self.symbol("allgptr"))
            && self.is_goroutine_table(count, table)
        {
            return Some((count, table));
        }
        let functions =
            ["forEachGRace", "allgadd", "tracebackothers", "tracebacksomeothers", "checkdead", "schedtrace"];
        functions.iter().find_map(|function| {
            let words = self.words_used(&[function]);
            words.iter().find_map(|count| {
                let table = words.iter().find(|table| self.is_goroutine_table(*count, **table))?;
                Some((*count, *table))
            })
        })
    }

    fn is_goroutine_table(&self, count: RuntimeAddr, table: RuntimeAddr) -> bool {
        let length = self.memory.read_word(count).filter(|length| (1..=MAX_GOROUTINES).contains(length));
        let Some((length, start)) = length.zip(self.memory.read_word(table)) else { return false };
        let mut bytes = vec![0; (length as usize).min(CHECKED) * 8];
        if start == 0 || !self.memory.read_exact(RuntimeAddr(start), &mut bytes) {
            return false;
        }
        let all = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let good = all
            .clone()
            .filter(|g| self.memory.read_word(RuntimeAddr(g.wrapping_add(G_SCHED_G as u64))) == Some(*g));
        // A goroutine that is being created does not have it yet.
        good.count() * 10 >= all.len() * 9
    }

    fn threads(&self) -> Option<RuntimeAddr> {
        let named = self.symbol("allm").into_iter();
        let used = self.words_used(&["mcommoninit", "checkmcount", "mcount", "allocm", "schedtrace"]);
        let length = |at: RuntimeAddr| {
            let first = self.memory.read_word(at).unwrap_or(0);
            recognize::chain_length(self.memory, self.layout, RuntimeAddr(first))
        };
        let all = named.chain(used).map(|at| (length(at), at)).filter(|(length, _)| *length > 0);
        all.max_by_key(|(length, at)| (*length, std::cmp::Reverse(*at))).map(|(_, at)| at)
    }

    fn bucket_lists(&self) -> Vec<RuntimeAddr> {
        let named = ["mbuckets", "bbuckets", "xbuckets"].iter().filter_map(|name| self.symbol(name));
        let mut all: Vec<RuntimeAddr> = named.collect();
        if all.is_empty() {
            all = self.words_used(&["stkbucket", "newBucket", "mProf_FlushLocked", "mProf_Flush"]);
        }
        all.retain(|at| {
            let first = self.memory.read_word(*at).unwrap_or(0);
            recognize::kind_of(self.memory, RuntimeAddr(first)).is_some()
        });
        all
    }

    fn disable_mem_profiling(&self) -> Option<RuntimeAddr> {
        // `if disableMemoryProfiling { MemProfileRate = 0 }`, the only byte compared before that.
        self.symbol("disableMemoryProfiling").or_else(|| {
            let rate = self
                .variable("MemProfileRate", &["allocmcache", "nextSample"], loads_8)?
                .0
                .wrapping_sub(self.file.bias);
            let uses = self.uses("schedinit");
            let store = uses.iter().position(|use_| use_.address == rate && use_.kind == Use::Store)?;
            let byte = uses[..store].iter().rev().find(|use_| use_.bytes == 1)?;
            Some(self.file.at(ElfAddr(byte.address)))
        })
    }

    fn mutex_profile_rate(&self) -> Option<RuntimeAddr> {
        if let Some(at) = self.symbol("mutexprofilerate") {
            return Some(at);
        }
        let functions = [
            "sync.event",
            "runtime.mutexevent",
            "runtime.(*mLockProfile).storeSlow",
            "runtime.(*mLockProfile).store",
        ];
        let used =
            functions.iter().find_map(|function| uses_in(self.file, function).into_iter().find(loads_8));
        used.map(|use_| self.file.at(ElfAddr(use_.address)))
    }

    fn finalizer_state(&self) -> Option<(RuntimeAddr, usize)> {
        if let Some(at) = self.symbol("fingStatus") {
            return Some((at, 4));
        }
        if let Some(at) = self.symbol("fingRunning") {
            return Some((at, 1));
        }
        let size = if self.layout.minor >= 20 { 4 } else { 1 };
        let uses = self.uses("isSystemGoroutine");
        let found = uses.iter().find(|use_| use_.bytes == size && use_.kind == Use::Load)?;
        Some((self.file.at(ElfAddr(found.address)), size))
    }

    fn wait_reasons(&self) -> Option<RuntimeAddr> {
        let fits = |at: &RuntimeAddr| {
            read_string(self.memory, at.offset(32), 16).as_deref() == Some("IO wait")
                && self.memory.read_word(at.offset(8)) == Some(0)
        };
        let named = self.symbol("waitReasonStrings").filter(fits);
        named.or_else(|| {
            let functions = ["waitReason.String", "goroutineheader", "casGToWaiting", "gopark"];
            functions.iter().find_map(|function| self.words_used(&[function]).into_iter().find(fits))
        })
    }

    fn traceback_labels(&self) -> Option<RuntimeAddr> {
        if self.layout.minor < 26 {
            return None;
        }
        let uses = self.uses("goroutineheader");
        let last = uses.iter().rev().find(|use_| use_.bytes == 4)?;
        let at = self.file.at(ElfAddr(last.address));
        self.memory.read_u32(at).filter(|value| *value <= 1).map(|_| at)
    }

    /// `runtime.ticks`: `ticksPerSecond` reads its field `val` first.
    fn ticks(&self) -> Option<RuntimeAddr> {
        let value = if self.layout.minor >= 22 { 24 } else { 8 };
        self.symbol("ticks").or_else(|| {
            let functions = ["ticksPerSecond", "tickspersecond"];
            let used = functions.iter().find_map(|function| self.uses(function).into_iter().find(loads_8))?;
            Some(self.file.at(ElfAddr(used.address)).offset(-value))
        })
    }

    /// `runtime.sched`: `schedtrace` reads its counts of idle threads and processors, at a known
    /// distance.
    fn sched(&self) -> Option<RuntimeAddr> {
        self.symbol("sched").or_else(|| {
            let words: Vec<u64> = self
                .uses("schedtrace")
                .iter()
                .filter(|use_| use_.bytes == 4)
                .map(|use_| use_.address)
                .collect();
            let distance = |field: usize| (field - self.layout.sched_nmidle) as u64;
            let (idle, spinning) =
                (distance(self.layout.sched_npidle), distance(self.layout.sched_nmspinning));
            let first = words.iter().find(|at| {
                words.contains(&at.wrapping_add(idle)) && words.contains(&at.wrapping_add(spinning))
            })?;
            Some(self.file.at(ElfAddr(first.wrapping_sub(self.layout.sched_nmidle as u64))))
        })
    }

    /// `runtime.memstats` and `runtime.gcController`: `gcMarkTermination` increments fields of the
    /// first, `gcControllerState.resetLive` sets fields of the second.
    fn gc_variables(&self) -> (Option<RuntimeAddr>, Option<RuntimeAddr>) {
        let memstats = self.symbol("memstats").or_else(|| {
            let uses = self.uses("gcMarkTermination");
            let has = |base: u64, field: usize| {
                uses.iter().any(|use_| use_.address == base.wrapping_add(field as u64))
            };
            let layout = self.layout;
            let bases = uses.iter().filter_map(|use_| use_.address.checked_sub(layout.mstats_numgc as u64));
            let mut fitting = bases.filter(|base| {
                has(*base, layout.mstats_pause_total) && has(*base, layout.mstats_last_gc_unix)
            });
            fitting.next().map(|base| self.file.at(ElfAddr(base)))
        });
        (memstats, self.symbol("gcController").or_else(|| self.gc_controller()))
    }

    /// Found by content: a percentage, and the minimum heap derived from it (4 MiB for 100).
    fn gc_controller(&self) -> Option<RuntimeAddr> {
        let minimum = if self.layout.gc_memory_limit == 0 { 8 } else { 16 };
        let fits = |at: &RuntimeAddr| {
            let percent = self.memory.read_u32(*at).unwrap_or(0);
            let heap = self.memory.read_word(at.offset(minimum));
            (1..=10_000).contains(&percent) && heap == Some(u64::from(percent) * (4 << 20) / 100)
        };
        let functions = ["gcinit", "schedinit", "gcStart", "gcMarkTermination", "gcEnable"];
        self.words_used(&functions).into_iter().find(fits)
    }
}
