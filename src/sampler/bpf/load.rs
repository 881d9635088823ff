//! Bringing the compiled programs into the kernel: maps are made, the programs settled on this
//! kernel's types and those maps, checked by the kernel, and kept as descriptors.
//!
//! Not here: events, and reading what the programs write.

use std::{
    collections::HashSet,
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya_obj::{Object, btf::Btf};
use goblin::elf::header::{EM_AARCH64, EM_X86_64};

use super::{kernel_types, offcpu::OffCpu, trace};
use crate::{
    arch::native,
    process::TaskLayout,
    sampler::SamplerError,
    sys::{
        bpf::{self, Instruction, KernelBtf, ProgramKind},
        capabilities,
    },
};

static X86_64: &[u8] = aya::include_bytes_aligned!("cpu.x86_64.bpf.o");
static AARCH64: &[u8] = aya::include_bytes_aligned!("cpu.aarch64.bpf.o");
static OFF_CPU_X86_64: &[u8] = aya::include_bytes_aligned!("offcpu.x86_64.bpf.o");
static OFF_CPU_AARCH64: &[u8] = aya::include_bytes_aligned!("offcpu.aarch64.bpf.o");
static TRACE_X86_64: &[u8] = aya::include_bytes_aligned!("trace.x86_64.bpf.o");
static TRACE_AARCH64: &[u8] = aya::include_bytes_aligned!("trace.aarch64.bpf.o");
static THREADS_X86_64: &[u8] = aya::include_bytes_aligned!("threads.x86_64.bpf.o");
static THREADS_AARCH64: &[u8] = aya::include_bytes_aligned!("threads.aarch64.bpf.o");
static NAMES_X86_64: &[u8] = aya::include_bytes_aligned!("names.x86_64.bpf.o");
static NAMES_AARCH64: &[u8] = aya::include_bytes_aligned!("names.aarch64.bpf.o");

/// `ANSWER_BYTES` of names.bpf.c.
pub const ANSWER_BYTES: usize = 576;

/// `struct settings` of cpu.bpf.c.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub namespace_inode: u32,
    pub first_namespace: bool,
    pub max_stack_bytes: u32,
    pub kernel_stacks: bool,
    pub wake_bytes: u64,
}

impl Settings {
    fn words(self) -> [u64; 3] {
        [
            pair(self.namespace_inode, self.first_namespace.into()),
            pair(self.max_stack_bytes, self.kernel_stacks.into()),
            self.wake_bytes,
        ]
    }
}

/// Two neighbours in a C structure.
fn pair(low: u32, high: u32) -> u64 {
    let [a, b] = [low.to_ne_bytes(), high.to_ne_bytes()];
    u64::from_ne_bytes([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]])
}

/// `struct task_layout` of cpu.bpf.c.
pub fn task_words(layout: &TaskLayout) -> [u64; 6] {
    [
        layout.thread_pointer_offset.unwrap_or(0).cast_unsigned(),
        pair(layout.thread, layout.stack_start),
        pair(layout.stack_end, layout.sp),
        pair(layout.pc, layout.fp),
        pair(layout.labels, layout.task),
        pair(layout.own_task, 0),
    ]
}

/// The loaded programs and their maps.
pub struct Loaded {
    /// What writes a record: for a timer to call, or attached already to what it is called by.
    pub program: OwnedFd,
    /// The attachment of the program that follows forks, if that was asked for.
    _follow_fork: Option<OwnedFd>,
    /// By process number; the value means nothing.
    pub targets: HashMap<MapData, u32, u32>,
    /// By thread number: first address and the one past the last.
    pub stacks: HashMap<MapData, u32, [u64; 2]>,
    /// By process number: [`task_words`].
    pub task_layouts: HashMap<MapData, u32, [u64; 6]>,
    /// For each CPU: samples of targets seen, and of those without room in the ring.
    pub counts: PerCpuArray<MapData, [u64; 2]>,
    pub ring: RingBuf<MapData>,
}

/// What names kernel addresses, and the maps it answers through.
pub struct LoadedNames {
    pub name: OwnedFd,
    /// One element: what the kernel prints, up to a NUL.
    pub answer: Array<MapData, [u8; ANSWER_BYTES]>,
}

/// What calls the program that writes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A timer: `sample`.
    Sample,
    /// The making of a thread, as soon as it is loaded: `thread_created`.
    ThreadCreated,
}

/// Loads the programs, with a ring of `ring_bytes` (a power of two of pages), and attaches the one
/// that follows forks if `follow_forks`.
pub fn load(
    program: Program,
    settings: Settings,
    ring_bytes: u32,
    follow_forks: bool,
) -> Result<Loaded, SamplerError> {
    let (mut object, ()) = parse_and_settle(for_this_cpu(X86_64, AARCH64)?, |_| ())?;
    let mut maps = Maps::create(&mut object, ring_bytes)?;
    maps.settle(&mut object)?;
    let _settings = maps.set("settings", settings.words())?;
    let program = match program {
        Program::Sample => load_program(&object, "sample", ProgramKind::PerfEvent)?,
        Program::ThreadCreated => attach_raw(&object, "thread_created", c"task_newtask")?,
    };
    loaded(&object, maps, program, follow_forks)
}

/// Loads what records waits: of those shorter than `interval_ns` some by chance.
pub fn load_off_cpu(
    settings: Settings,
    ring_bytes: u32,
    follow_forks: bool,
    interval_ns: u64,
) -> Result<(Loaded, OffCpu), SamplerError> {
    const ITERATOR: &str = "bpf_iter_task";
    const TRACEPOINT: &str = "btf_trace_sched_switch";
    let bytes = for_this_cpu(OFF_CPU_X86_64, OFF_CPU_AARCH64)?;
    let (mut object, found) = parse_and_settle(bytes, |types| {
        Some((types.function(ITERATOR.as_bytes())?, types.typedef(TRACEPOINT.as_bytes())?))
    })?;
    let (iterator, tracepoint) = found.ok_or_else(|| {
        SamplerError::Unavailable(format!("the kernel lacks {ITERATOR} or {TRACEPOINT} (Linux 5.8)"))
    })?;
    let mut maps = Maps::create(&mut object, ring_bytes)?;
    maps.settle(&mut object)?;
    let _settings = maps.set("settings", settings.words())?;
    let chance = maps.set("chance", [interval_ns, 0])?;
    let totals = PerCpuArray::try_from(Map::PerCpuArray(maps.take("totals")?)).map_err(broken)?;
    let (instructions, license) = code_of(&object, "sweep")?;
    let sweep = bpf::load_iterator_program("sweep", &instructions, license, iterator).map_err(not_loaded)?;
    let (instructions, license) = code_of(&object, "switched")?;
    let switched = bpf::load_typed_tracepoint("switched", &instructions, license, tracepoint);
    let switched = switched.map_err(not_loaded)?;
    // What ends a wait first: nothing is noted that nobody would record.
    let returned = attach_raw(&object, "returned", c"sys_exit")?;
    let switched = bpf::attach_typed_tracepoint(switched.as_fd()).map_err(not_loaded)?;
    Ok((loaded(&object, maps, returned, follow_forks)?, OffCpu::new(switched, sweep, chance, totals)))
}

/// Loads and attaches what records who runs, waits and wakes.
pub fn load_trace(
    namespace_inode: u32,
    first_namespace: bool,
    ring_bytes: u32,
) -> Result<trace::Loaded, SamplerError> {
    const PROGRAMS: [(&str, &str); 3] = [
        ("trace_made", "btf_trace_sched_wakeup_new"),
        ("trace_waking", "btf_trace_sched_waking"),
        ("trace_switched", "btf_trace_sched_switch"),
    ];
    let (mut object, tracepoints) = parse_and_settle(for_this_cpu(TRACE_X86_64, TRACE_AARCH64)?, |types| {
        PROGRAMS.map(|(_, tracepoint)| types.typedef(tracepoint.as_bytes()))
    })?;
    let mut maps = Maps::create(&mut object, ring_bytes)?;
    maps.settle(&mut object)?;
    let words = [pair(namespace_inode, first_namespace.into()), u64::from(ring_bytes) / 4];
    let _settings = maps.set("settings", words)?;
    let mut links = Vec::new();
    for ((program, name), tracepoint) in PROGRAMS.into_iter().zip(tracepoints) {
        let tracepoint = tracepoint
            .ok_or_else(|| SamplerError::Unavailable(format!("the kernel lacks {name} (Linux 5.5)")))?;
        let (instructions, license) = code_of(&object, program)?;
        let loaded = bpf::load_typed_tracepoint(program, &instructions, license, tracepoint);
        links.push(bpf::attach_typed_tracepoint(loaded.map_err(not_loaded)?.as_fd()).map_err(not_loaded)?);
    }
    Ok(trace::Loaded {
        links,
        targets: HashMap::try_from(Map::HashMap(maps.take("targets")?)).map_err(broken)?,
        lost: PerCpuArray::try_from(Map::PerCpuArray(maps.take("lost")?)).map_err(broken)?,
        ring: RingBuf::try_from(Map::RingBuf(maps.take("ring")?)).map_err(|error| from_map(&error))?,
    })
}

fn loaded(
    object: &Object,
    mut maps: Maps,
    program: OwnedFd,
    follow_forks: bool,
) -> Result<Loaded, SamplerError> {
    let follow_fork = match follow_forks {
        true => Some(attach_raw(object, "follow_fork", c"sched_process_fork")?),
        false => None,
    };
    Ok(Loaded {
        program,
        _follow_fork: follow_fork,
        targets: HashMap::try_from(Map::HashMap(maps.take("targets")?)).map_err(broken)?,
        stacks: HashMap::try_from(Map::LruHashMap(maps.take("stacks")?)).map_err(broken)?,
        task_layouts: HashMap::try_from(Map::LruHashMap(maps.take("task_layouts")?)).map_err(broken)?,
        counts: PerCpuArray::try_from(Map::PerCpuArray(maps.take("counts")?)).map_err(broken)?,
        ring: RingBuf::try_from(Map::RingBuf(maps.take("ring")?)).map_err(|error| from_map(&error))?,
    })
}

/// Loads what names kernel addresses (Linux 5.13).
pub fn load_names() -> Result<LoadedNames, SamplerError> {
    /// The name alone, without the distance from its start (kernel document core-api/printk-formats).
    const FORMAT: [u8; 8] = *b"%ps\0\0\0\0\0";
    let mut object = Object::parse(for_this_cpu(NAMES_X86_64, NAMES_AARCH64)?).map_err(broken)?;
    let mut maps = Maps::create(&mut object, 0)?;
    maps.settle(&mut object)?;
    let format = maps.take("format")?;
    let freeze = |source| SamplerError::System { what: "freezing a BPF map".to_owned(), source };
    let descriptor = format.fd().as_fd().try_clone_to_owned().map_err(freeze)?;
    let mut format = Array::<_, [u8; 8]>::try_from(Map::Array(format)).map_err(broken)?;
    format.set(0, FORMAT, 0).map_err(|error| from_map(&error))?;
    bpf::freeze_map(descriptor.as_fd()).map_err(freeze)?;
    Ok(LoadedNames {
        name: load_program(&object, "name", ProgramKind::RawTracepoint)?,
        answer: Array::try_from(Map::Array(maps.take("answer")?)).map_err(broken)?,
    })
}

/// Of two objects that for the CPU rprof was built for.
fn for_this_cpu(x86_64: &'static [u8], aarch64: &'static [u8]) -> Result<&'static [u8], SamplerError> {
    match native::ELF_MACHINE {
        EM_X86_64 => Ok(x86_64),
        EM_AARCH64 => Ok(aarch64),
        _ => Err(SamplerError::Unavailable("there is no BPF program for this CPU".to_owned())),
    }
}

/// Loads what is called for each thread of the process, and tells it which.
pub fn load_threads(namespace_inode: u32, pid: u32, kernel_stacks: bool) -> Result<OwnedFd, SamplerError> {
    const ITERATOR: &str = "bpf_iter_task";
    let bytes = for_this_cpu(THREADS_X86_64, THREADS_AARCH64)?;
    let (mut object, iterator) = parse_and_settle(bytes, |types| types.function(ITERATOR.as_bytes()))?;
    let iterator = iterator.ok_or_else(|| {
        SamplerError::Unavailable(format!("the kernel has no iterator over threads ({ITERATOR}, Linux 5.8)"))
    })?;
    let mut maps = Maps::create(&mut object, 0)?;
    maps.settle(&mut object)?;
    let _wanted = maps.set("wanted", [pair(namespace_inode, pid), kernel_stacks.into()])?;
    let (instructions, license) = code_of(&object, "look")?;
    bpf::load_iterator_program("look", &instructions, license, iterator).map_err(not_loaded)
}

/// The programs of an object, with the offsets that this kernel's types have; and what is looked up among
/// these.
fn parse_and_settle<T>(
    bytes: &'static [u8],
    look_up: impl FnOnce(&kernel_types::Types<'_>) -> T,
) -> Result<(Object, T), SamplerError> {
    let mut object = Object::parse(bytes).map_err(broken)?;
    let own = object.btf.as_ref().map(Btf::to_bytes).unwrap_or_default();
    let wanted = kernel_types::Types::parse(&own).map(|types| types.structures()).unwrap_or_default();
    let kernel = KernelBtf::open().map_err(|error| {
        SamplerError::Unavailable(format!(
            "the kernel does not describe its types (/sys/kernel/btf/vmlinux: {error}; CONFIG_DEBUG_INFO_BTF)"
        ))
    })?;
    let types = kernel_types::Types::parse(kernel.bytes()).ok_or_else(|| {
        SamplerError::Unavailable("the kernel's description of its types cannot be read".to_owned())
    })?;
    let excerpt = Btf::parse(&types.excerpt(&wanted), aya::Endianness::default()).map_err(broken)?;
    object.relocate_btf(&excerpt).map_err(|error| {
        SamplerError::Unavailable(format!("the BPF program does not fit this kernel: {error}"))
    })?;
    let found = look_up(&types);
    Ok((object, found))
}

/// Each map by name, with its definition.
struct Maps(Vec<(String, aya_obj::Map, MapData)>);

impl Maps {
    fn create(object: &mut Object, ring_bytes: u32) -> Result<Maps, SamplerError> {
        let mut maps = Vec::new();
        for (name, mut map) in object.maps.drain() {
            if name == "ring" {
                map.set_max_entries(ring_bytes);
            }
            // Made without the types of keys and values: nothing needs them, and they cost a load of
            // the object's own type information.
            let plain = aya_obj::Map::new_from_params(
                map.map_type(),
                map.key_size(),
                map.value_size(),
                map.max_entries(),
                map.map_flags(),
            );
            let data = MapData::create(plain, &name, None).map_err(|error| from_map(&error))?;
            maps.push((name, map, data));
        }
        Ok(Maps(maps))
    }

    /// Lets the object's programs point to these maps, and to each other's code.
    fn settle(&self, object: &mut Object) -> Result<(), SamplerError> {
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let maps = self.0.iter().map(|(name, map, data)| (name.as_str(), data.fd().as_fd().as_raw_fd(), map));
        object.relocate_maps(maps, &sections).map_err(broken)?;
        object.relocate_calls(&sections).map_err(broken)
    }

    /// Fills the map of one element, and gives it: it must stay open until programs that use it are loaded.
    fn set<T: aya::Pod>(&mut self, name: &str, value: T) -> Result<Array<MapData, T>, SamplerError> {
        let mut map = Array::<_, T>::try_from(Map::Array(self.take(name)?)).map_err(broken)?;
        map.set(0, value, 0).map_err(|error| from_map(&error))?;
        Ok(map)
    }

    fn take(&mut self, name: &str) -> Result<MapData, SamplerError> {
        let at = self.0.iter().position(|(other, _, _)| other == name);
        at.map(|at| self.0.swap_remove(at).2).ok_or_else(|| broken(format!("it has no map {name}")))
    }
}

fn load_program(object: &Object, name: &str, kind: ProgramKind) -> Result<OwnedFd, SamplerError> {
    let (instructions, license) = code_of(object, name)?;
    bpf::load_program(kind, name, &instructions, license).map_err(not_loaded)
}

fn code_of<'o>(object: &'o Object, name: &str) -> Result<(Vec<Instruction>, &'o CStr), SamplerError> {
    let program = object.programs.get(name).ok_or_else(|| broken(format!("it has no program {name}")))?;
    let function = object.functions.get(&program.function_key());
    let function = function.ok_or_else(|| broken(format!("it has no code for {name}")))?;
    let instructions = function
        .instructions
        .iter()
        .map(|instruction| {
            let registers = instruction.dst_reg() | instruction.src_reg() << 4;
            let [o0, o1] = instruction.off.to_ne_bytes();
            let [i0, i1, i2, i3] = instruction.imm.to_ne_bytes();
            [instruction.code, registers, o0, o1, i0, i1, i2, i3]
        })
        .collect();
    Ok((instructions, &program.license))
}

fn not_loaded(source: io::Error) -> SamplerError {
    match denied(&source) {
        Some(unavailable) => unavailable,
        None => SamplerError::Unavailable(format!("the kernel refuses the BPF program: {source}")),
    }
}

/// Loads a program and has the kernel call it at a tracepoint, until the descriptor is closed.
fn attach_raw(object: &Object, name: &str, tracepoint: &CStr) -> Result<OwnedFd, SamplerError> {
    let program = load_program(object, name, ProgramKind::RawTracepoint)?;
    bpf::attach_raw_tracepoint(tracepoint, program.as_fd()).map_err(|source| {
        let what = format!("attaching a BPF program to {}", tracepoint.to_string_lossy());
        denied(&source).unwrap_or(SamplerError::System { what, source })
    })
}

/// The embedded object is not what this file expects: a mistake in rprof, not in the machine.
fn broken(error: impl std::fmt::Display) -> SamplerError {
    SamplerError::Unavailable(format!("rprof's BPF object is unusable: {error}"))
}

/// What the failure of a map operation means.
pub fn from_map(error: &MapError) -> SamplerError {
    let source = match error {
        MapError::CreateError { io_error, .. } | MapError::IoError(io_error) => Some(io_error),
        MapError::SyscallError(error) => Some(&error.io_error),
        _ => None,
    };
    let code = source.and_then(io::Error::raw_os_error);
    let source = code.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error);
    denied(&source).unwrap_or(SamplerError::System { what: format!("BPF map: {error}"), source })
}

/// If the kernel refused for lack of rights: which.
fn denied(source: &io::Error) -> Option<SamplerError> {
    match source.raw_os_error()? {
        libc::EPERM | libc::EACCES => Some(SamplerError::Unavailable(missing_right())),
        libc::ENOSYS => Some(SamplerError::Unavailable("the kernel has no BPF".to_owned())),
        _ => None,
    }
}

fn missing_right() -> String {
    let held = capabilities::effective();
    if held.has(capabilities::CAP_SYS_ADMIN) || (held.has(capabilities::CAP_BPF) && held.perfmon()) {
        return match capabilities::seccomp_filtered() {
            true => "BPF is not permitted: a seccomp filter forbids it".to_owned(),
            false => "BPF is not permitted: kernel lockdown or a security module forbids it".to_owned(),
        };
    }
    let missing: Vec<&str> = [(capabilities::CAP_BPF, "CAP_BPF"), (capabilities::CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter_map(|(number, name)| (!held.has(number)).then_some(name))
        .collect();
    format!("BPF is not permitted: no {} here; root has all it takes", missing.join(" and no "))
}
