//! Live: real processes, sampled by the real kernel. Needs root and a C compiler.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
};

use super::*;
use crate::{arch::native, sampler::Trigger};

/// Burns CPU in its first thread.
const SPIN: &str = "int main(void) { for (volatile long i = 0;; i++); }";

/// Threads that burn 100 microseconds each, one after another.
const CHURN: &str = r#"
#include <pthread.h>
#include <time.h>
static long ns(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
static void *burn(void *a) { while (ns() < 100000); return a; }
int main(void) { for (;;) { pthread_t t; pthread_create(&t, 0, burn, 0); pthread_join(t, 0); } }
"#;

/// 200 frames of a KiB each, in the first thread or (with an argument) in another; with a second
/// argument, a gap of 64 KiB of never touched stack in the middle.
const DEEP: &str = r#"
#include <alloca.h>
#include <pthread.h>
static volatile char *volatile hole;
__attribute__((noinline)) static int spin(volatile char *p) { for (;;) p[0]++; }
__attribute__((noinline)) static int deep(long n, int gap) {
    volatile char pad[1000];
    pad[0] = n;
    if (gap && n == 100) hole = alloca(65536);
    return (n ? deep(n - 1, gap) : spin(pad)) + pad[0];
}
static void *thread(void *gap) { deep(200, gap != 0); return 0; }
int main(int argc, char **argv) {
    if (argc == 2) { pthread_t t; pthread_create(&t, 0, thread, 0); pthread_join(t, 0); }
    return deep(200, argc > 2);
}
"#;

/// A child that burns CPU for 20 ms, again and again, while the parent waits.
const FORKER: &str = r#"
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    for (;;) {
        if (!fork()) { while (clock() < CLOCKS_PER_SEC / 50); _exit(0); }
        wait(0);
    }
}
"#;

/// Burns CPU on a stack of its own making, whose extent it prints.
const COROUTINE: &str = r#"
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
static void burn(void) { for (volatile long i = 0;; i++); }
int main(void) {
    ucontext_t here, there;
    char *stack = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = 65536;
    there.uc_link = &here;
    makecontext(&there, burn, 0);
    printf("%lu\n", (unsigned long)stack);
    fflush(stdout);
    swapcontext(&here, &there);
}
"#;

/// A handler of 5 ms on a stack of its own interrupts work on the first stack every 10 ms.
const ALTERNATE: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long ns(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
static void handler(int number) { for (long end = ns() + 5000000; ns() < end;); }
int main(void) {
    stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART };
    struct itimerval often = { { 0, 10000 }, { 0, 10000 } };
    sigaltstack(&stack, 0);
    sigaction(SIGPROF, &action, 0);
    setitimer(ITIMER_PROF, &often, 0);
    for (volatile long i = 0;; i++);
}
"#;

/// A running program; killed and its folder removed when dropped.
struct Program {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start(source: &str, arguments: &[&str]) -> Program {
        let folder = tempfile::tempdir().expect("folder");
        let (source_path, path) = (folder.path().join("program.c"), folder.path().join("program"));
        fs::write(&source_path, source).expect("write");
        let built = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&path).arg(&source_path).status();
        assert!(built.expect("a C compiler").success());
        let child = Command::new(&path).args(arguments).stdout(Stdio::piped()).spawn().expect("start");
        Program { child, _folder: folder }
    }

    /// Starts a program, and waits until it has left its beginnings behind.
    fn start_busy(source: &str, arguments: &[&str]) -> Program {
        let program = Program::start(source, arguments);
        let end = Instant::now() + Duration::from_secs(20);
        while program.cpu_ns() < 50_000_000 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        program
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn cpu_ns(&self) -> u64 {
        identity::cpu_time_ns(self.pid()).expect("CPU time")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn options(pid: u32) -> SamplerOptions {
    SamplerOptions {
        trigger: Trigger::Time,
        frequency_hz: 999,
        pids: vec![pid],
        follow_forks: false,
        kernel: true,
        max_stack_bytes: 256 << 10,
        language_alone: false,
        buffer_bytes: 0,
        reports_changes: true,
    }
}

/// What a test keeps of a sample.
struct SampleSummary {
    pid: u32,
    tid: u32,
    period: u64,
    stack_start: u64,
    stack_bytes: usize,
    capped: bool,
    sp: Option<u64>,
    pc: Option<u64>,
    comm: Vec<u8>,
    kernel_frames: usize,
}

fn keep(sample: &crate::sampler::RawSample<'_>) -> SampleSummary {
    let register = |number| sample.registers.as_ref().and_then(|registers| registers.get(number));
    SampleSummary {
        pid: sample.pid,
        tid: sample.tid,
        period: sample.values.nanoseconds,
        stack_start: sample.stack.start.0,
        stack_bytes: sample.stack.bytes.len(),
        capped: sample.stack.capped,
        sp: register(native::SP),
        pc: register(native::PC),
        comm: sample.comm.unwrap_or_default().to_vec(),
        kernel_frames: sample.kernel_stack.addresses().count(),
    }
}

/// Polls for so long, keeping samples.
fn watch(sampler: &mut BpfSampler, milliseconds: u64) -> Vec<SampleSummary> {
    let end = Instant::now() + Duration::from_millis(milliseconds);
    let mut seen = Vec::new();
    while Instant::now() < end {
        let mut sink = |event: Event<'_>| {
            if let Event::Sample(sample) = event {
                seen.push(keep(&sample));
            }
        };
        sampler.poll(Duration::from_millis(50), &mut sink).expect("poll");
    }
    seen
}

/// Samples a program for so long and compares the time sampled with what the kernel has charged to
/// it.
fn assert_time_agrees(program: &Program, milliseconds: u64, tolerance: f64) -> Vec<SampleSummary> {
    // We may be kept waiting between any two of these: what the program does meanwhile may count,
    // or not.
    let before_open = program.cpu_ns();
    let mut sampler = open(&options(program.pid())).expect("open");
    let opened = program.cpu_ns();
    let mut seen = watch(&mut sampler, milliseconds);
    let watched = program.cpu_ns();
    sampler.stop().expect("stop");
    let stopped = program.cpu_ns();
    seen.extend(watch(&mut sampler, 1));
    let sampled_ns = seen.iter().map(|sample| sample.period).sum::<u64>() as f64;
    let charged_ns = [watched - opened, stopped - before_open].map(|ns| ns as f64);
    // The kernel tells in ticks of 10 ms.
    let allowed_ns = charged_ns[1] * tolerance + 20e6;
    let (least, most) = (charged_ns[0] - allowed_ns, charged_ns[1] + allowed_ns);
    assert!((least..=most).contains(&sampled_ns), "{sampled_ns} sampled of {charged_ns:?}");
    let counts = sampler.counts().expect("counts");
    assert_eq!((counts.seen, counts.lost), (seen.len() as u64, 0));
    seen
}

#[test]
fn a_busy_process_is_sampled_for_the_time_it_runs() {
    let program = Program::start_busy(SPIN, &[]);
    let seen = assert_time_agrees(&program, 500, 0.05);
    assert!(!seen.is_empty());
    let mappings = crate::process::read_mappings(program.pid()).expect("mappings");
    let in_program = |pc: u64| {
        let holds = |mapping: &&crate::process::Mapping| (mapping.start.0..mapping.end.0).contains(&pc);
        mappings.iter().find(holds).is_some_and(|mapping| mapping.path.ends_with("/program"))
    };
    let inside = seen.iter().filter(|sample| sample.pc.is_some_and(in_program)).count();
    assert!(inside * 10 >= seen.len() * 9, "{inside} of {} pcs are in the program", seen.len());
    for sample in &seen {
        assert_eq!((sample.pid, sample.tid), (program.pid(), program.pid()));
        assert_eq!((sample.period, sample.comm.as_slice()), (1_001_001, &b"program"[..]));
        let below = sample.sp.map(|sp| sp - sample.stack_start);
        assert_eq!(below, Some(crate::arch::native::RED_ZONE), "the copy has the red zone");
        assert!(sample.stack_bytes > 0 && !sample.capped);
    }
}

#[test]
fn threads_shorter_than_a_period_are_sampled_in_proportion() {
    let program = Program::start(CHURN, &[]);
    let seen = assert_time_agrees(&program, 1500, 0.05);
    assert!(seen.iter().any(|sample| sample.tid != program.pid()));
    assert!(seen.iter().any(|sample| sample.kernel_frames > 3));
}

#[test]
fn a_deep_stack_is_copied_whole_in_any_thread() {
    for arguments in [&[][..], &["thread"][..]] {
        let program = Program::start_busy(DEEP, arguments);
        let mut sampler = open(&options(program.pid())).expect("open");
        let seen = watch(&mut sampler, 300);
        let deep: Vec<&SampleSummary> =
            seen.iter().filter(|sample| sample.stack_bytes > 200 * 1000).collect();
        assert!(!deep.is_empty() && deep.len() * 10 >= seen.len() * 9, "{} of {}", deep.len(), seen.len());
        assert!(deep.iter().all(|sample| !sample.capped && sample.stack_bytes < 256 << 10));
    }
}

#[test]
fn a_stack_beyond_the_limit_is_capped_there_and_says_so() {
    let program = Program::start_busy(DEEP, &[]);
    let limited = SamplerOptions { max_stack_bytes: 64 << 10, ..options(program.pid()) };
    let seen = watch(&mut open(&limited).expect("open"), 200);
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|sample| sample.capped && sample.stack_bytes == 64 << 10));
}

#[test]
fn a_stack_with_a_page_that_is_not_there_is_copied_up_to_it() {
    let program = Program::start_busy(DEEP, &["with", "gap"]);
    let seen = watch(&mut open(&options(program.pid())).expect("open"), 200);
    assert!(!seen.is_empty());
    for sample in &seen {
        assert!(sample.capped, "{}", sample.stack_bytes);
        assert!((90_000..180_000).contains(&sample.stack_bytes), "{}", sample.stack_bytes);
        assert_eq!((sample.stack_start + sample.stack_bytes as u64) % 4096, 0);
    }
}

#[test]
fn a_hint_settles_where_a_stack_of_the_programs_own_making_ends() {
    let mut program = Program::start(COROUTINE, &[]);
    let mut line = String::new();
    let output = program.child.stdout.take().expect("output");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("line");
    let start: u64 = line.trim().parse().expect("address");
    let mut sampler = open(&options(program.pid())).expect("open");
    let guessed = watch(&mut sampler, 200);
    assert!(!guessed.is_empty() && guessed.iter().all(|sample| sample.stack_bytes > 0));
    sampler.hint_stack(program.pid(), RuntimeAddr(start), RuntimeAddr(start + 65536));
    watch(&mut sampler, 1);
    let seen = watch(&mut sampler, 200);
    assert!(!seen.is_empty());
    for sample in &seen {
        assert_eq!(sample.stack_start + sample.stack_bytes as u64, start + 65536);
        assert!(!sample.capped);
    }
}

#[test]
fn in_a_signal_handler_the_stack_that_it_interrupted_is_copied_too() {
    let program = Program::start_busy(ALTERNATE, &[]);
    let mut sampler = open(&options(program.pid())).expect("open");
    let (mut samples, mut both) = (0, 0);
    let end = Instant::now() + Duration::from_millis(600);
    while Instant::now() < end {
        let mut sink = |event: Event<'_>| {
            let Event::Sample(sample) = event else { return };
            samples += 1;
            if let Some(interrupted) = sample.interrupted_stack {
                both += 1;
                assert!(!interrupted.bytes.is_empty() && !interrupted.capped);
                assert!(interrupted.start != sample.stack.start && sample.stack.bytes.len() < 65536);
            }
        };
        sampler.poll(Duration::from_millis(20), &mut sink).expect("poll");
    }
    // About half of the time passes in the handler.
    assert!(samples > 50 && both * 4 > samples && both * 4 < samples * 3, "{both} of {samples}");
}

#[test]
fn other_processes_are_not_sampled() {
    let (program, other) = (Program::start(SPIN, &[]), Program::start(SPIN, &[]));
    let seen = watch(&mut open(&options(program.pid())).expect("open"), 300);
    assert!(!seen.is_empty() && seen.iter().all(|sample| sample.pid == program.pid()));
    assert_ne!(program.pid(), other.pid());
}

#[test]
fn children_are_sampled_only_if_forks_are_followed() {
    let program = Program::start(FORKER, &[]);
    let parent = program.pid();
    let mut alone = open(&options(parent)).expect("open");
    assert!(watch(&mut alone, 300).iter().all(|sample| sample.pid == parent));
    drop(alone);
    let mut following = open(&SamplerOptions { follow_forks: true, ..options(parent) }).expect("open");
    let seen = watch(&mut following, 500);
    let children: Vec<&SampleSummary> = seen.iter().filter(|sample| sample.pid != parent).collect();
    assert!(children.len() * 2 > seen.len(), "{} of {}", children.len(), seen.len());
}

#[test]
fn a_fork_is_told_before_the_childs_first_sample() {
    let program = Program::start(FORKER, &[]);
    let parent = program.pid();
    let mut sampler = open(&SamplerOptions { follow_forks: true, ..options(parent) }).expect("open");
    let (mut known, mut ended) = (vec![parent], 0);
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        let mut sink = |event: Event<'_>| match event {
            Event::Forked { pid, .. } => known.push(pid),
            Event::Exited { pid, .. } if known.contains(&pid) => ended += 1,
            Event::Exited { pid, .. } => panic!("{pid} ended and was never told of"),
            Event::Sample(sample) => assert!(known.contains(&sample.pid)),
            _ => {}
        };
        sampler.poll(Duration::from_millis(50), &mut sink).expect("poll");
    }
    assert!(ended > 2, "{ended}");
}

/// The names that /proc/kallsyms has for each text address (several where symbols are aliases),
/// with the module.
fn kernel_functions() -> BTreeMap<u64, Vec<KernelName>> {
    let list = fs::read_to_string("/proc/kallsyms").expect("kallsyms");
    let mut functions: BTreeMap<u64, Vec<KernelName>> = BTreeMap::new();
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let mut word = || words.next().map(str::to_owned);
        let (Some(address), Some(kind), Some(function)) = (word(), word(), word()) else { continue };
        let address = u64::from_str_radix(&address, 16).expect("a number");
        if address != 0 && "TtWw".contains(&kind) {
            functions.entry(address).or_default().push(KernelName { function, module: word() });
        }
    }
    functions
}

#[test]
fn the_kernel_names_its_addresses_as_its_list_of_symbols_does() {
    let functions = kernel_functions();
    let suffixed = |names: &[KernelName]| names.iter().any(|name| name.function.contains(".isra."));
    let every = functions.len() / 400;
    let chosen: Vec<_> = functions.iter().step_by(every.max(1)).collect();
    let chosen: Vec<_> =
        chosen.into_iter().chain(functions.iter().filter(|(_, names)| suffixed(names)).take(50)).collect();
    let addresses: Vec<RuntimeAddr> = chosen.iter().map(|(start, _)| RuntimeAddr(**start)).collect();
    assert!(addresses.len() >= 400, "{} functions are listed", addresses.len());
    let found = kernel_names::names(&addresses).expect("names");
    for ((start, listed), found) in chosen.iter().zip(&found) {
        let found = found.as_ref().unwrap_or_else(|| panic!("{start:#x} has no name, not {listed:?}"));
        assert!(listed.contains(found), "{start:#x}: {found:?} is none of {listed:?}");
    }
    // What lies inside a function has its name; what lies in none has none.
    let (start, listed) =
        functions.iter().find(|(_, names)| names[0].function == "vfs_read").expect("listed");
    let found = kernel_names::names(&[RuntimeAddr(start + 9), RuntimeAddr(8)]).expect("names");
    assert_eq!(found, [Some(listed[0].clone()), None]);
}

#[test]
fn when_the_process_ends_the_sampler_says_so_after_the_last_record() {
    let mut program = Program::start(SPIN, &[]);
    let mut sampler = open(&options(program.pid())).expect("open");
    watch(&mut sampler, 100);
    program.child.kill().expect("kill");
    program.child.wait().expect("wait");
    let mut exited = false;
    let result = (0..20).find_map(|_| {
        let mut sink = |event: Event<'_>| exited |= matches!(event, Event::Exited { .. });
        sampler.poll(Duration::from_millis(20), &mut sink).err()
    });
    assert!(matches!(result, Some(SamplerError::NoTarget)), "{result:?}");
    assert!(exited);
    assert!(matches!(open(&options(program.pid())), Err(SamplerError::NoTarget)));
}

#[test]
fn in_a_pid_namespace_processes_have_the_numbers_seen_there() {
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "sampler::bpf::tests::inside_a_pid_namespace", "--ignored", "--quiet"])
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("unshare").success());
}

#[test]
#[ignore = "run by in_a_pid_namespace_processes_have_the_numbers_seen_there, in a namespace"]
fn inside_a_pid_namespace() {
    assert!(std::process::id() < 100, "not in a namespace of its own");
    let program = Program::start(FORKER, &[]);
    let parent = program.pid();
    let mut sampler = open(&SamplerOptions { follow_forks: true, ..options(parent) }).expect("open");
    let seen = watch(&mut sampler, 400);
    assert!(seen.iter().any(|sample| sample.pid != parent));
    assert!(seen.iter().all(|sample| sample.pid >= parent && sample.pid < parent + 1000));
    assert!(seen.iter().all(|sample| sample.tid == sample.pid));
}
