//! Loads the compiled programs: creates their maps, relocates the programs for this kernel's types
//! and those maps, has the kernel check them, and keeps the descriptors.
//!
//! Not here: which object fits the kernel (`objects`), what a refusal means (`refusal`), perf
//! events, reading what the programs write.

use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya_obj::Object;

use super::{
    objects,
    program::{Maps, Room, attach_raw, attach_typed, code_of, load_program, load_typed, parse_and_relocate},
    record::ValueKind,
    refusal::{broken, from_map, not_loaded},
    walkers::{self, Target, Walkers},
};
use crate::{
    arch::native,
    process::{TaskLayout, TaskPointer},
    sampler::SamplerError,
    sys::bpf::{self, ProgramKind},
};

/// `ANSWER_BYTES` of names.bpf.c.
pub const ANSWER_BYTES: usize = 576;

/// `struct settings` of gather.bpf.h.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Inode number of the PID namespace whose numbers rprof uses.
    pub namespace_inode: u32,
    /// That is the first PID namespace: the kernel's own numbers are the right ones.
    pub first_namespace: bool,
    /// The most stack copied with a sample.
    pub max_stack_bytes: u32,
    /// Copy kernel frames too.
    pub kernel_stacks: bool,
    /// Wake the reader when this many bytes wait in the ring.
    pub wake_bytes: u64,
    /// The value of a sample that a perf event's period is.
    pub period_kind: ValueKind,
    /// Copy no stack where a walker has found frames.
    pub language_alone: bool,
}

impl Settings {
    fn words(self) -> [u64; 4] {
        [
            pair(self.namespace_inode, self.first_namespace.into()),
            pair(self.max_stack_bytes, self.kernel_stacks.into()),
            self.wake_bytes,
            pair(self.period_kind as u32, self.language_alone.into()),
        ]
    }
}

/// Two adjacent `__u32` members of a C structure.
fn pair(low: u32, high: u32) -> u64 {
    let [a, b] = [low.to_ne_bytes(), high.to_ne_bytes()];
    u64::from_ne_bytes([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]])
}

/// `struct task_layout` of gather.bpf.h.
pub fn task_words(layout: &TaskLayout) -> [u64; 6] {
    let (offset, register) = match layout.current {
        TaskPointer::ThreadPointer(offset) => (offset, 0),
        TaskPointer::Register(number) => (0, register_word(number).unwrap_or(0)),
    };
    [
        offset.cast_unsigned(),
        pair(layout.thread, layout.stack_start),
        pair(layout.stack_end, layout.sp),
        pair(layout.pc, layout.fp),
        pair(layout.labels, layout.task),
        pair(layout.own_task, register),
    ]
}

/// Where a record has the register with this DWARF number, in words.
fn register_word(number: u16) -> Option<u32> {
    (0..native::PT_REGS_WORDS as u32).find(|word| {
        let mut words = [0; native::PT_REGS_WORDS];
        words[*word as usize] = 1;
        native::registers_from_pt_regs(&words).get(number) == Some(1)
    })
}

/// The loaded programs and their maps.
pub struct Loaded {
    /// The program that writes a record: for a perf event to call, or already attached to a
    /// tracepoint.
    pub program: OwnedFd,
    /// The attachment of the program that follows forks, if that was asked for.
    _follow_fork: Option<OwnedFd>,
    /// The target processes, by process number.
    pub targets: HashMap<MapData, u32, Target>,
    /// By thread number: first address and the one past the last.
    pub stacks: HashMap<MapData, u32, [u64; 2]>,
    /// The walkers of languages.
    pub walkers: Walkers,
    /// The states that languages keep for threads, by thread number.
    pub thread_states: HashMap<MapData, u32, u64>,
    /// By process number: [`task_words`].
    pub task_layouts: HashMap<MapData, u32, [u64; 6]>,
    /// The program that completes a record.
    _finish: OwnedFd,
    /// For each CPU: samples of targets taken, and those of them that found no room in the ring.
    pub counts: PerCpuArray<MapData, [u64; 2]>,
    /// The records.
    pub ring: RingBuf<MapData>,
}

/// The programs that record waits (`offcpu.bpf.c`), and their maps.
pub struct WaitPrograms {
    /// The attachments to context switches and wake-ups; empty after the end.
    pub links: Vec<OwnedFd>,
    /// The iterator over threads.
    pub sweep: OwnedFd,
    /// The interval, what a sweep does with waits, and which waits count.
    pub chance: Array<MapData, [u64; 3]>,
    /// For each CPU: waits, their nanoseconds, and waits that found no room.
    pub totals: PerCpuArray<MapData, [u64; 3]>,
}

/// Which waits count: `mode` of offcpu.bpf.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitMode {
    /// All.
    All = 0,
    /// Those for other threads and processes, by their system call.
    Blocked = 1,
    /// Those for futexes, charged to the threads that end them.
    Released = 2,
}

/// The attached programs of a trace, and their maps.
pub struct LoadedTrace {
    /// The attachments.
    pub links: Vec<OwnedFd>,
    /// The target processes, by number; the value is not used.
    pub targets: HashMap<MapData, u32, u32>,
    /// For each CPU: events that found no room.
    pub lost: PerCpuArray<MapData, u64>,
    /// The events.
    pub ring: RingBuf<MapData>,
}

/// The program that names kernel addresses, and the map that it writes to.
pub struct LoadedNames {
    /// The program, to be run on demand.
    pub name: OwnedFd,
    /// One element: what the kernel prints, up to a NUL.
    pub answer: Array<MapData, [u8; ANSWER_BYTES]>,
}

/// Which program begins the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `sample`: a perf event calls it.
    Sample,
    /// `thread_created`: called when a thread is created, from the time that it is loaded.
    ThreadCreated,
}

/// Loads the programs, and attaches the one that follows forks if `follow_forks`.
pub fn load(
    program: Program,
    settings: Settings,
    room: Room,
    follow_forks: bool,
) -> Result<Loaded, SamplerError> {
    let (mut object, ()) = parse_and_relocate(&objects::CPU, |_| ())?;
    let mut maps = Maps::create(&mut object, room)?;
    maps.relocate(&mut object)?;
    let _settings = maps.set("settings", settings.words())?;
    let kind = match program {
        Program::Sample => ProgramKind::PerfEvent,
        Program::ThreadCreated => ProgramKind::RawTracepoint,
    };
    let finish = load_finish(&object, &maps, kind)?;
    let program = match program {
        Program::Sample => load_program(&object, "sample", kind)?,
        Program::ThreadCreated => attach_raw(&object, "thread_created", c"task_newtask")?,
    };
    loaded(&object, maps, (kind, finish, program), follow_forks)
}

/// Loads the program that completes a record, and puts it where the others find it.
fn load_finish(object: &Object, maps: &Maps, kind: ProgramKind) -> Result<OwnedFd, SamplerError> {
    let name = if kind == ProgramKind::PerfEvent { "finish_event" } else { "finish" };
    let program = load_program(object, name, kind)?;
    walkers::add_program(maps.get("walkers")?.fd().as_fd(), 0, &program)?;
    Ok(program)
}

/// Loads the programs that record waits of this mode: all of `interval_ns` and longer, shorter ones
/// by chance.
pub fn load_off_cpu(
    settings: Settings,
    room: Room,
    follow_forks: bool,
    (mode, interval_ns): (WaitMode, u64),
) -> Result<(Loaded, WaitPrograms), SamplerError> {
    const ITERATOR: &str = "bpf_iter_task";
    const SWITCHED: &str = "btf_trace_sched_switch";
    const WOKEN: &str = "btf_trace_sched_waking";
    let (mut object, found) = parse_and_relocate(&objects::OFF_CPU, |types| {
        let tracepoints = (types.typedef(SWITCHED.as_bytes())?, types.typedef(WOKEN.as_bytes())?);
        Some((types.function(ITERATOR.as_bytes())?, tracepoints))
    })?;
    let (iterator, (on_switch, on_waking)) = found.ok_or_else(|| {
        SamplerError::Unavailable(format!("the kernel lacks {ITERATOR}, {SWITCHED} or {WOKEN} (Linux 5.8)"))
    })?;
    let mut maps = Maps::create(&mut object, room)?;
    maps.relocate(&mut object)?;
    let _settings = maps.set("settings", settings.words())?;
    let finish = load_finish(&object, &maps, ProgramKind::RawTracepoint)?;
    let chance = maps.set("chance", [interval_ns, 0, mode as u64])?;
    let totals = PerCpuArray::try_from(Map::PerCpuArray(maps.take("totals")?)).map_err(broken)?;
    let (instructions, license) = code_of(&object, "sweep")?;
    let sweep = bpf::load_iterator_program("sweep", &instructions, license, iterator)
        .map_err(|error| not_loaded("sweep", error))?;
    let switched = load_typed(&object, "switched", on_switch)?;
    let woken = match mode {
        WaitMode::Released => Some(load_typed(&object, "woken", on_waking)?),
        WaitMode::All | WaitMode::Blocked => None,
    };
    // The program that ends waits is attached first: otherwise a wait could begin that nothing
    // records.
    let returned = attach_raw(&object, "returned", c"sys_exit")?;
    let links = [Some(switched), woken].iter().flatten().map(attach_typed).collect::<Result<_, _>>()?;
    let programs = (ProgramKind::RawTracepoint, finish, returned);
    let waits = WaitPrograms { links, sweep, chance, totals };
    Ok((loaded(&object, maps, programs, follow_forks)?, waits))
}

/// Loads and attaches the programs that record which thread runs, waits and wakes.
pub fn load_trace(
    namespace_inode: u32,
    first_namespace: bool,
    ring_bytes: u32,
) -> Result<LoadedTrace, SamplerError> {
    const PROGRAMS: [(&str, &str); 3] = [
        ("trace_made", "btf_trace_sched_wakeup_new"),
        ("trace_waking", "btf_trace_sched_waking"),
        ("trace_switched", "btf_trace_sched_switch"),
    ];
    let (mut object, tracepoints) = parse_and_relocate(&objects::TRACE, |types| {
        PROGRAMS.map(|(_, tracepoint)| types.typedef(tracepoint.as_bytes()))
    })?;
    let mut maps = Maps::create(&mut object, Room { ring_bytes, buffers: 0 })?;
    maps.relocate(&mut object)?;
    let words = [pair(namespace_inode, first_namespace.into()), u64::from(ring_bytes) / 4];
    let _settings = maps.set("settings", words)?;
    let mut links = Vec::new();
    for ((program, name), tracepoint) in PROGRAMS.into_iter().zip(tracepoints) {
        let tracepoint = tracepoint
            .ok_or_else(|| SamplerError::Unavailable(format!("the kernel lacks {name} (Linux 5.5)")))?;
        links.push(attach_typed(&load_typed(&object, program, tracepoint)?)?);
    }
    Ok(LoadedTrace {
        links,
        targets: HashMap::try_from(Map::HashMap(maps.take("targets")?)).map_err(broken)?,
        lost: PerCpuArray::try_from(Map::PerCpuArray(maps.take("lost")?)).map_err(broken)?,
        ring: RingBuf::try_from(Map::RingBuf(maps.take("ring")?)).map_err(|error| from_map(&error))?,
    })
}

fn loaded(
    object: &Object,
    mut maps: Maps,
    (kind, finish, program): (ProgramKind, OwnedFd, OwnedFd),
    follow_forks: bool,
) -> Result<Loaded, SamplerError> {
    let follow_fork = match follow_forks {
        true => Some(attach_raw(object, "follow_fork", c"sched_process_fork")?),
        false => None,
    };
    let walkers = Walkers::new(
        kind,
        maps.copy_of("walkers")?,
        maps.copy_of("records")?,
        maps.copy_of("thread_states")?,
    );
    Ok(Loaded {
        program,
        _finish: finish,
        walkers,
        thread_states: HashMap::try_from(Map::LruHashMap(maps.take("thread_states")?)).map_err(broken)?,
        _follow_fork: follow_fork,
        targets: HashMap::try_from(Map::HashMap(maps.take("targets")?)).map_err(broken)?,
        stacks: HashMap::try_from(Map::LruHashMap(maps.take("stacks")?)).map_err(broken)?,
        task_layouts: HashMap::try_from(Map::LruHashMap(maps.take("task_layouts")?)).map_err(broken)?,
        counts: PerCpuArray::try_from(Map::PerCpuArray(maps.take("counts")?)).map_err(broken)?,
        ring: RingBuf::try_from(Map::RingBuf(maps.take("ring")?)).map_err(|error| from_map(&error))?,
    })
}

/// Loads the program that names kernel addresses (Linux 5.13).
pub fn load_names() -> Result<LoadedNames, SamplerError> {
    /// The name alone, without the distance from its start (kernel document
    /// core-api/printk-formats).
    const FORMAT: [u8; 8] = *b"%ps\0\0\0\0\0";
    let mut object = Object::parse(objects::NAMES).map_err(broken)?;
    let mut maps = Maps::create(&mut object, Room { ring_bytes: 0, buffers: 0 })?;
    maps.relocate(&mut object)?;
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

/// Loads the program that the kernel's iterator calls for each thread, for the threads of this
/// process.
pub fn load_threads(namespace_inode: u32, pid: u32, kernel_stacks: bool) -> Result<OwnedFd, SamplerError> {
    const ITERATOR: &str = "bpf_iter_task";
    let (mut object, iterator) =
        parse_and_relocate(&objects::THREADS, |types| types.function(ITERATOR.as_bytes()))?;
    let iterator = iterator.ok_or_else(|| {
        SamplerError::Unavailable(format!("the kernel has no iterator over threads ({ITERATOR}, Linux 5.8)"))
    })?;
    let mut maps = Maps::create(&mut object, Room { ring_bytes: 0, buffers: 0 })?;
    maps.relocate(&mut object)?;
    let _wanted = maps.set("wanted", [pair(namespace_inode, pid), kernel_stacks.into()])?;
    let (instructions, license) = code_of(&object, "read_thread")?;
    bpf::load_iterator_program("read_thread", &instructions, license, iterator)
        .map_err(|error| not_loaded("read_thread", error))
}
