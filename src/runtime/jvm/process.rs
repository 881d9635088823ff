//! The Java virtual machine of one process: its layout, and what was read of it, cached.
//!
//! Code is freed and its memory used again. What is cached is therefore checked again after a
//! short time: compiled code by the number of its compilation, a method by its `ConstMethod`. Not
//! here: unwinding, threads.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustc_hash::{FxHashMap, FxHasher};

use super::{
    code_cache::{self, Blob, BlobKind, CodeHeap},
    debug_info::DebugInfo,
    layout::Layout,
    leaf::{CODE_BEFORE, LeafRule},
    memory::Memory,
    methods::{self, Method},
    structs::{Exports, VmStructs},
};
use crate::process::{ProcessMemory, identity};

/// How long what is cached is used without a check, in nanoseconds.
const CHECK_EVERY_NS: u64 = 10_000_000;
/// The most addresses and methods that are cached.
const MAX_ENTRIES: usize = 1 << 16;
/// The most bytes of debug information that are cached.
const MAX_INFO_BYTES: usize = 64 << 20;
/// The bytes after a leaf's pc that are looked at.
const CODE_AFTER: usize = 16;

/// Why a virtual machine cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JvmError {
    /// It is being started.
    #[error("the Java virtual machine is not initialized yet")]
    NotInitialized,
    /// Its tables cannot be read.
    #[error("the tables of libjvm.so that describe its structures cannot be read")]
    NoTables,
    /// A structure has a form that rprof does not know.
    #[error("Java {release} is not supported: its {what} has an unknown form")]
    UnknownLayout {
        /// The release.
        release: String,
        /// The structure.
        what: &'static str,
    },
    /// The CPU.
    #[error("frames of Java are read on x86-64 only")]
    OtherCpu,
}

/// A Java virtual machine.
#[derive(Debug)]
pub struct Jvm {
    /// The process's memory.
    pub memory: Memory,
    /// What it states about itself.
    pub structs: VmStructs,
    /// The offsets that are used.
    pub layout: Layout,
    /// Its heaps of code.
    pub heaps: Vec<CodeHeap>,
    /// The release: `17.0.15+6-Debian-1deb12u1`.
    pub release: String,
    /// Where calls from native code to Java return to.
    pub call_stub_return: u64,
    caches: Mutex<Caches>,
}

#[derive(Debug, Default)]
struct Caches {
    places: FxHashMap<u64, Checked<Option<Place>>>,
    methods: FxHashMap<u64, Checked<Option<Arc<Method>>>>,
    info: FxHashMap<(u64, u32), Arc<DebugInfo>>,
    info_bytes: usize,
    routines: Option<Arc<Vec<(u64, String)>>>,
}

/// Something that was read, what it is identified by, and when that was checked last.
#[derive(Clone, Debug)]
struct Checked<T> {
    what: T,
    identity: u64,
    at_ns: u64,
}

/// An address in the code cache.
#[derive(Clone, Debug)]
pub struct Place {
    /// The piece of code.
    pub blob: Arc<Blob>,
    /// If the address was asked for as a leaf's: how its caller is found.
    pub leaf: Option<LeafRule>,
}

impl Jvm {
    /// Reads the virtual machine whose libjvm.so exports `exports`.
    pub fn attach(memory: Arc<ProcessMemory>, exports: &Exports) -> Result<Jvm, JvmError> {
        let memory = Memory(memory);
        let structs = VmStructs::read(&memory, exports).ok_or(JvmError::NoTables)?;
        let release = release(&memory, &structs).ok_or(JvmError::NotInitialized)?;
        let layout = match Layout::of(&structs) {
            Ok(layout) => layout,
            Err(what) => return Err(JvmError::UnknownLayout { release, what }),
        };
        let heaps = code_cache::heaps(&memory, &structs, &layout.heap).ok_or(JvmError::NotInitialized)?;
        let call_stub = structs.address(&["StubRoutines._call_stub_return_address"]);
        let call_stub_return = call_stub.and_then(|at| memory.pointer(at)).ok_or(JvmError::NotInitialized)?;
        let caches = Mutex::default();
        Ok(Jvm { memory, structs, layout, heaps, release, call_stub_return, caches })
    }

    /// A virtual machine of parts that were read elsewhere.
    pub fn of_parts(memory: Memory, structs: VmStructs, layout: Layout, heaps: Vec<CodeHeap>) -> Jvm {
        let (release, caches) = (String::new(), Mutex::default());
        Jvm { memory, structs, layout, heaps, release, call_stub_return: 0, caches }
    }

    fn caches(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an address is in the memory for code.
    pub fn is_code(&self, address: u64) -> bool {
        self.heaps.iter().any(|heap| heap.range.contains(&address))
    }

    /// The piece of code at an address; for a leaf also how its caller is found. `None`: there is
    /// no code.
    pub fn place(&self, pc: u64, is_leaf: bool) -> Option<Place> {
        let now_ns = identity::monotonic_ns();
        let key = pc << 1 | u64::from(is_leaf);
        let known = self.caches().places.get(&key).cloned();
        if let Some(known) = &known
            && now_ns < known.at_ns + CHECK_EVERY_NS
        {
            return known.what.clone();
        }
        let address = code_cache::blob_address(&self.memory, &self.heaps, &self.layout.heap, pc);
        let blob = address.and_then(|address| code_cache::read_blob(&self.memory, &self.layout, address));
        let blob = blob.filter(|blob| blob.code.contains(&pc) || blob.kind != BlobKind::Compiled);
        let identity = blob.as_ref().map_or(0, identity_of);
        let what = match known.filter(|known| known.identity == identity) {
            Some(known) => known.what,
            None => blob.map(|blob| {
                let leaf = (is_leaf && blob.kind == BlobKind::Compiled).then(|| self.leaf_rule(&blob, pc));
                Place { blob: Arc::new(blob), leaf }
            }),
        };
        let mut caches = self.caches();
        if caches.places.len() >= MAX_ENTRIES {
            caches.places.clear();
        }
        caches.places.insert(key, Checked { what: what.clone(), identity, at_ns: now_ns });
        what
    }

    fn leaf_rule(&self, blob: &Blob, pc: u64) -> LeafRule {
        let start = blob.code.start.max(pc.saturating_sub(CODE_BEFORE));
        let before = (pc - start) as usize;
        let bytes = self.memory.some_bytes(start, before + CODE_AFTER);
        let offset = i64::try_from(pc - blob.code.start).unwrap_or(i64::MAX);
        match bytes.split_at_checked(before) {
            Some((before, after)) => LeafRule::of(before, after, offset < blob.frame_complete),
            None => LeafRule::Complete,
        }
    }

    /// The method at an address; `None`: there is none.
    pub fn method(&self, address: u64) -> Option<Arc<Method>> {
        let now_ns = identity::monotonic_ns();
        let known = self.caches().methods.get(&address).cloned();
        if let Some(known) = &known
            && now_ns < known.at_ns + CHECK_EVERY_NS
        {
            return known.what.clone();
        }
        let identity = self.method_generation(address).unwrap_or(0);
        let what = match known.filter(|known| known.identity == identity) {
            Some(known) => known.what,
            None => methods::read(&self.memory, &self.layout, address).map(Arc::new),
        };
        let mut caches = self.caches();
        if caches.methods.len() >= MAX_ENTRIES {
            caches.methods.clear();
        }
        caches.methods.insert(address, Checked { what: what.clone(), identity, at_ns: now_ns });
        what
    }

    /// A number that changes when another method is at an address.
    pub fn method_generation(&self, address: u64) -> Option<u64> {
        methods::identity(&self.memory, &self.layout, address).map(|identity| hash(&identity))
    }

    /// A number that changes when another piece of code is at an address.
    pub fn blob_generation(&self, address: u64) -> Option<u64> {
        code_cache::read_blob(&self.memory, &self.layout, address).map(|blob| identity_of(&blob))
    }

    /// The piece of code at its own address.
    pub fn blob(&self, address: u64) -> Option<Blob> {
        code_cache::read_blob(&self.memory, &self.layout, address)
    }

    /// The debug information of compiled code.
    pub fn debug_info(&self, blob: &Blob) -> Option<Arc<DebugInfo>> {
        let key = (blob.address, blob.compile_id);
        if let Some(known) = self.caches().info.get(&key) {
            return Some(Arc::clone(known));
        }
        let info = Arc::new(DebugInfo::read(&self.memory, &self.layout, blob)?);
        let mut caches = self.caches();
        if caches.info_bytes > MAX_INFO_BYTES {
            caches.info.clear();
            caches.info_bytes = 0;
        }
        caches.info_bytes += info.size();
        caches.info.insert(key, Arc::clone(&info));
        Some(info)
    }

    /// The stub routine at an address: where it begins, and its name. `None`: not known.
    pub fn routine(&self, pc: u64, within: &Blob) -> Option<(u64, String)> {
        let known = self.caches().routines.clone();
        let routines = known.unwrap_or_else(|| {
            let read = Arc::new(self.read_routines());
            self.caches().routines = Some(Arc::clone(&read));
            read
        });
        let after = routines.partition_point(|(start, _)| *start <= pc);
        let (start, name) = routines.get(after.checked_sub(1)?)?;
        within.code.contains(start).then(|| (*start, name.clone()))
    }

    /// The routines that HotSpot names, by address.
    fn read_routines(&self) -> Vec<(u64, String)> {
        let fields = self.structs.statics("StubRoutines._");
        let routine = |(name, at): (&str, u64)| {
            // `_call_stub_return_address` is where the only call of the routine `call_stub` returns.
            let name = name.trim_end_matches("_return_address").trim_end_matches("_entry");
            Some((self.memory.pointer(at)?, name.to_owned()))
        };
        let mut routines: Vec<(u64, String)> = fields.filter_map(routine).collect();
        routines.retain(|(start, _)| self.is_code(*start));
        routines.sort();
        routines.dedup_by_key(|(start, _)| *start);
        routines
    }
}

fn release(memory: &Memory, structs: &VmStructs) -> Option<String> {
    let text = structs.address(&["Abstract_VM_Version._s_vm_release"])?;
    let release = memory.text(memory.pointer(text)?)?;
    (!release.is_empty()).then_some(release)
}

fn identity_of(blob: &Blob) -> u64 {
    hash(&(blob.address, blob.compile_id, blob.method, blob.code.clone(), blob.frame_bytes, &blob.name))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    what.hash(&mut hasher);
    hasher.finish() | 1
}
