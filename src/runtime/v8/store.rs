//! What was read of a process: functions, scripts and code, each read once and checked before it is
//! used again.
//!
//! Not here: how they are read.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    functions::{self, Function, Script},
    heap::Heap,
    machine_code::MachineCode,
};

/// The most functions, scripts and pieces of code that are kept; then all are read anew.
const MAX_FUNCTIONS: usize = 1 << 16;
const MAX_SCRIPTS: usize = 4096;
const MAX_CODES: usize = 1 << 14;
/// The most mappings.
const MAX_REGIONS: usize = 1024;
/// The most lines of all scripts that are kept.
const MAX_LINES: usize = 8 << 20;
/// How long it is remembered that an address is in no code.
const MISSES_FOR: Duration = Duration::from_secs(1);
/// How many addresses that are in no code are searched for in that time.
const MAX_MISSES: usize = 512;

/// The objects of a process.
#[derive(Debug)]
pub struct Store {
    /// Its heap.
    pub heap: Heap,
    known: Mutex<Known>,
    /// Where code of V8 is, and whether it is generated.
    regions: RwLock<Vec<(Range<u64>, bool)>>,
}

#[derive(Debug)]
struct Known {
    functions: FxHashMap<u64, (u64, Arc<Function>)>,
    scripts: FxHashMap<u64, ([u64; 2], Arc<Script>)>,
    lines: usize,
    /// Code by its first instruction.
    codes: BTreeMap<u64, Arc<MachineCode>>,
    /// Code by its `Code` object.
    objects: FxHashMap<u64, Arc<MachineCode>>,
    missed: FxHashSet<u64>,
    missed_since: Instant,
}

impl Store {
    /// An empty store.
    pub fn new(heap: Heap) -> Store {
        let known = Known {
            functions: FxHashMap::default(),
            scripts: FxHashMap::default(),
            lines: 0,
            codes: BTreeMap::new(),
            objects: FxHashMap::default(),
            missed: FxHashSet::default(),
            missed_since: Instant::now(),
        };
        Store { heap, known: Mutex::new(known), regions: RwLock::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No code panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function at an address.
    pub fn function(&self, at: u64) -> Option<Arc<Function>> {
        let cookie = functions::generation(&self.heap, at)?;
        let known = self.known().functions.get(&at).cloned();
        if let Some((_, function)) = known.filter(|(known, _)| *known == cookie) {
            return Some(function);
        }
        let function = Arc::new(functions::read(&self.heap, at, |script| self.script(script))?);
        let mut known = self.known();
        if known.functions.len() >= MAX_FUNCTIONS {
            known.functions.clear();
        }
        known.functions.insert(at, (cookie, Arc::clone(&function)));
        Some(function)
    }

    fn script(&self, at: u64) -> Option<Arc<Script>> {
        let heap = &self.heap;
        let [source, name, _] = heap.layout.at.script;
        let cookie = [heap.word(at, source)?, heap.word(at, name)?];
        let known = self.known().scripts.get(&at).cloned();
        if let Some((_, script)) = known.filter(|(known, _)| *known == cookie) {
            return Some(script);
        }
        let script = Arc::new(functions::read_script(heap, at)?);
        let mut known = self.known();
        known.lines += script.line_ends.len();
        if known.scripts.len() >= MAX_SCRIPTS || known.lines > MAX_LINES {
            known.scripts.clear();
            known.lines = script.line_ends.len();
        }
        known.scripts.insert(at, (cookie, Arc::clone(&script)));
        Some(script)
    }

    /// Notes where code of V8 is; it replaces what was there.
    pub fn add_region(&self, range: Range<u64>, is_generated: bool) {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        regions.retain(|(known, _)| known.end <= range.start || range.end <= known.start);
        if regions.len() < MAX_REGIONS {
            regions.push((range, is_generated));
        }
    }

    fn region(&self, pc: u64) -> Option<(Range<u64>, bool)> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        regions.iter().find(|(range, _)| range.contains(&pc)).cloned()
    }

    /// Whether an address is in code of V8.
    pub fn is_code(&self, pc: u64) -> bool {
        self.region(pc).is_some()
    }

    /// The generated code that contains an address.
    pub fn generated(&self, pc: u64) -> Option<Arc<MachineCode>> {
        let (region, _) = self.region(pc).filter(|(_, is_generated)| *is_generated)?;
        self.code(pc, &region)
    }

    /// The known code of a `Code` object.
    pub fn code_object(&self, code: u64) -> Option<Arc<MachineCode>> {
        self.known().objects.get(&code).cloned()
    }

    /// The code that contains an address of a mapping.
    pub fn code(&self, pc: u64, region: &Range<u64>) -> Option<Arc<MachineCode>> {
        let mut known = self.known();
        if known.missed_since.elapsed() > MISSES_FOR {
            known.missed.clear();
            known.missed_since = Instant::now();
        }
        let found = known.codes.range(..=pc).next_back().map(|(_, code)| Arc::clone(code));
        let is_missed = known.missed.contains(&pc) || known.missed.len() >= MAX_MISSES;
        drop(known);
        if let Some(code) = found.filter(|code| code.range.contains(&pc) && code.is_current(&self.heap)) {
            return Some(code);
        }
        if is_missed {
            return None;
        }
        let code = MachineCode::find(&self.heap, pc, region).map(Arc::new);
        let mut known = self.known();
        match &code {
            Some(code) => {
                if known.codes.len() >= MAX_CODES {
                    known.codes.clear();
                    known.objects.clear();
                }
                known.objects.insert(code.code, Arc::clone(code));
                known.codes.insert(code.range.start, Arc::clone(code));
            }
            None => {
                known.missed.insert(pc);
            }
        }
        code
    }
}
