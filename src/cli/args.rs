//! The command line as it is declared: words, types, help. What they mean is decided by the module of
//! each verb.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use regex::Regex;

use super::{
    generate::GenerateArgs,
    help::HelpArgs,
    live_args::{TOP_EXAMPLES, TopArgs},
    report_args::{ReportArgs, SettingArgs},
    serve_args::{SERVE_EXAMPLES, ServeArgs},
    snapshot_args::{SNAPSHOT_EXAMPLES, SnapshotArgs},
};

/// pprof for any running process.
#[derive(Debug, Parser)]
#[command(
    name = "rprof",
    version = super::version::SHORT,
    long_version = super::version::long(),
    disable_help_subcommand = true,
    about = "pprof for any running process: attaches to a live PID, samples it, names every frame, writes pprof",
    after_help = EXIT_CODES,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes: 0 a profile was written (or the answer given), 1 it could not be, 2 the command line was wrong.
With `record`, the command's own exit status is printed, not passed on.";

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Profile a running process: nothing in it is changed, stopped or restarted.
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(AttachArgs),
    /// Show what grew and what shrank between two profiles, and whether that is more than chance.
    #[command(after_help = DIFF_HELP)]
    Diff(DiffArgs),
    /// Say what works here and what does not, why, and what unlocks it.
    Doctor(DoctorArgs),
    /// Show what every thread does now: its state, what it waits in, its whole stack.
    #[command(after_help = DUMP_EXAMPLES)]
    Dump(DumpArgs),
    /// Draw a flame graph: an SVG picture, or a page for a browser (.html).
    Flame(FlameArgs),
    /// Make manual pages and completions.
    #[command(hide = true)]
    Generate(GenerateArgs),
    /// Show the help of a verb, or a document: permissions, sidecar, reports ...
    Help(HelpArgs),
    /// Say who a process is, and of a Go program: release, modules, scheduler, garbage collection.
    Info(InfoArgs),
    /// Show source lines with what each has, of functions that match.
    List(MatchArgs),
    /// Show functions that match, with their callers and callees.
    Peek(MatchArgs),
    /// Read a profile with the command line of `go tool pprof`: -top, -tree, -list, -dot ...
    #[command(disable_help_flag = true)]
    Pprof(PprofArgs),
    /// Start a command and profile it, with its children, from the first instruction.
    #[command(after_help = RECORD_EXAMPLES)]
    Record(RecordArgs),
    /// Serve /debug/pprof/ of running processes over HTTP, as a Go program does of itself.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Collect all that can be known of a process now and in the next seconds, in one file.
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArgs),
    /// Name what a profile left unnamed, with debug files that were not at hand then.
    Symbolize(SymbolizeArgs),
    /// Show the labels of a profile, and how much each of their values has.
    Tags(FileArgs),
    /// Show the functions that have the most: of a profile, or of a running process as it runs.
    #[command(after_help = TOP_EXAMPLES)]
    Top(Box<TopArgs>),
    /// Show whole stacks with what they have, those with most first.
    Traces(FileArgs),
    /// Show the functions that have the most, with their callers and callees.
    Tree(FileArgs),
}

#[derive(Debug, Args)]
pub struct PprofArgs {
    /// Flags, the binary perhaps, and profiles; `rprof pprof -h` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<std::ffi::OsString>,
}

const ATTACH_EXAMPLES: &str = "\
Examples:
  rprof attach --pid 1234 --duration 30s
  rprof attach 1234 -d 10s -F 999 -o flame.svg
  rprof attach --name '^postgres' --children -o db.pb.gz";

const DUMP_EXAMPLES: &str = "\
Examples:
  rprof dump --pid 1234
  rprof dump 1234 --each --stats
  rprof dump 1234 -o threads.pb.gz      then: rprof pprof -top threads.pb.gz
  rprof dump 1234 --format json | jq '.threads[] | select(.state == \"running\")'";

const RECORD_EXAMPLES: &str = "\
Examples:
  rprof record -- cargo test
  rprof record -F 999 -o build.svg -- make -j2";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("who").args(["target", "pid", "name"]).required(true).multiple(true)))]
pub struct AttachArgs {
    /// Process to profile.
    #[arg(value_name = "PID", conflicts_with_all = ["pid", "name"])]
    pub target: Option<u32>,
    /// Process to profile; may be given several times.
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// All processes whose name, program or command line matches this regular expression.
    #[arg(short, long, value_name = "REGEX")]
    pub name: Option<Regex>,
    /// What to profile.
    #[arg(long, value_enum, default_value_t = KindArg::Cpu)]
    pub kind: KindArg,
    /// Also their child processes, those running now and those started later.
    #[arg(long)]
    pub children: bool,
    /// How long to sample: 30s, 500ms, 2m, or a number of seconds. Ctrl-C ends earlier and keeps the
    /// data.
    #[arg(short, long, default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub debug: DebugArgs,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Process to try things on.
    #[arg(value_name = "PID", conflicts_with = "pid")]
    pub target: Option<u32>,
    /// Process to try things on. Without one, what depends on a process is tried on rprof itself.
    #[arg(short, long, value_name = "PID")]
    pub pid: Option<u32>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whom").args(["target", "pid"]).required(true)))]
pub struct InfoArgs {
    /// Process to ask about.
    #[arg(value_name = "PID")]
    pub target: Option<u32>,
    /// Process to ask about.
    #[arg(short, long, value_name = "PID")]
    pub pid: Option<u32>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whose").args(["target", "pid", "name"]).required(true).multiple(true)))]
pub struct DumpArgs {
    /// Process to look at.
    #[arg(value_name = "PID", conflicts_with_all = ["pid", "name"])]
    pub target: Option<u32>,
    /// Process to look at; may be given several times.
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// All processes whose name, program or command line matches this regular expression.
    #[arg(short, long, value_name = "REGEX")]
    pub name: Option<Regex>,
    /// Also their child processes.
    #[arg(long)]
    pub children: bool,
    /// Every thread by itself, also those whose stacks are equal.
    #[arg(long)]
    pub each: bool,
    /// File to write; its extension chooses the format. Standard output if not given, or `-`.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Format, whatever the extension.
    #[arg(long, value_enum)]
    pub format: Option<DumpFormatArg>,
    /// How to look; for each thread the gentlest way that gives its whole stack, unless forced.
    #[arg(long, value_enum, default_value_t = LookArg::Auto)]
    pub look: LookArg,
    /// Never stop a thread, not even for microseconds: stacks that need it are cut, and say so.
    #[arg(long, conflicts_with = "consistent")]
    pub no_stop: bool,
    /// Stop all threads of a process together, so that all stacks are of one moment.
    #[arg(long)]
    pub consistent: bool,
    /// Kernel frames too, of threads that sleep: where in the kernel one is stuck. Needs root, or CAP_BPF
    /// and CAP_PERFMON.
    #[arg(long)]
    pub kernel: bool,
    /// Of a Go program: its threads, not its goroutines.
    #[arg(long)]
    pub threads: bool,
    /// Of a Go program: its runtime's own goroutines too.
    #[arg(long)]
    pub system: bool,
    /// Say what looking has cost, and how long threads stood still.
    #[arg(long)]
    pub stats: bool,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub debug: DebugArgs,
}

#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Stop sampling after this time (the command runs on).
    #[arg(short, long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub debug: DebugArgs,
    /// The command and its arguments, behind `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Samples for each second of CPU time.
    #[arg(short = 'F', long, default_value_t = 99, value_name = "HZ", visible_alias = "rate",
          value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub frequency: u32,
    /// How to look; the best that the rights allow unless forced.
    #[arg(long, value_enum, default_value_t = SamplerArg::Auto)]
    pub sampler: SamplerArg,
    /// Leave kernel frames out.
    #[arg(long)]
    pub no_kernel: bool,
    /// More labels on samples than the thread's name.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KEYS")]
    pub label: Vec<LabelArg>,
    /// The most stack that is copied with a sample.
    #[arg(long, value_name = "BYTES", default_value_t = 512 << 10,
          value_parser = clap::value_parser!(u32).range(1024..=512 << 10))]
    pub max_stack_bytes: u32,
    /// Memory for the buffers that the kernel fills (0: chosen by itself).
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub buffer_bytes: usize,
}

#[derive(Debug, Args)]
pub struct OutputArgs {
    /// File to write; its extension chooses the format. `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Format, whatever the extension.
    #[arg(long, value_enum)]
    pub format: Option<FormatArg>,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// Say what the profiling itself has cost.
    #[arg(long)]
    pub stats: bool,
}

#[derive(Debug, Args)]
pub struct DebugArgs {
    /// Folder with debug files, laid out like /usr/lib/debug or holding *.debug; may be given several
    /// times.
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
    /// Ask debuginfod servers for debug files (by default those in DEBUGINFOD_URLS).
    #[arg(long, value_name = "URLS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub debuginfod: Option<String>,
}

#[derive(Debug, Args)]
pub struct SymbolizeArgs {
    /// Profile to read.
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// File to write (by default the profile itself is replaced).
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub debug: DebugArgs,
}

#[derive(Debug, Args)]
pub struct FileArgs {
    /// Profiles to read; several are put together.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Debug, Args)]
pub struct MatchArgs {
    /// Which functions: a regular expression that matches anywhere in the name.
    #[arg(value_name = "REGEX")]
    pub expression: String,
    /// Profiles to read; several are put together.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub report: ReportArgs,
}

const DIFF_HELP: &str = "\
Shares of each profile's own total are compared, so that profiles of different length can be. With --cum,
of what functions have with all they call. docs/REPORTS.md says how chance is reckoned with.";

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Profile to compare with.
    #[arg(value_name = "BASE")]
    pub base: PathBuf,
    /// The newer profile.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Also what changed by no more than chance explains.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Debug, Args)]
pub struct FlameArgs {
    /// Profiles to read; several are put together.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Colour frames by how their share has changed since this profile.
    #[arg(long, value_name = "BASE")]
    pub diff: Option<PathBuf>,
    /// File to write: .svg or .html (also .folded, .json for speedscope).
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// A row of threads under the root.
    #[arg(long)]
    pub by_thread: bool,
    #[command(flatten)]
    pub counted: SettingArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SamplerArg {
    /// The best that works.
    Auto,
    /// One event a CPU with a BPF filter: whole stacks, nothing to pay for other processes. Needs root,
    /// or CAP_BPF and CAP_PERFMON.
    Bpf,
    /// One event a CPU, other processes' samples dropped. Needs CAP_PERFMON.
    PerfCpu,
    /// One event a CPU that counts only the target's control group. Needs CAP_PERFMON.
    PerfCgroup,
    /// One event for each thread and CPU: works on your own processes without any capability.
    PerfThread,
    /// Threads held one by one for microseconds, at most 1 % of the time: works where perf events are
    /// forbidden (containers), on processes that a debugger could attach to.
    Ptrace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// Where CPU time goes.
    Cpu,
    /// Where all time goes, also that of threads that sleep. Threads are looked at one by one.
    Wall,
    /// Where threads wait, and for how long: every wait that lasts longer than 1/F of a second (-F), shorter
    /// ones by chance. Needs root, or CAP_BPF and CAP_PERFMON.
    #[value(name = "offcpu", alias = "off-cpu")]
    OffCpu,
    /// What each thread did when, for ui.perfetto.dev: it ran, was ready to, waited, was woken and by whom.
    /// Needs root, or CAP_BPF and CAP_PERFMON.
    Trace,
    /// What every thread does now, one sample a thread (see `rprof dump`).
    Threads,
    /// Go: what is in use of the heap, by what allocated it; as the program's runtime counts it.
    Heap,
    /// Go: all that was ever allocated, by what allocated it.
    Allocs,
    /// Go: where goroutines have waited for each other, if the program counts that.
    Block,
    /// Go: who has held others up, if the program counts that.
    Mutex,
    /// What every goroutine of a Go program does now, equal ones counted; of any other program the same
    /// as threads.
    Goroutine,
    /// Where memory grows: which code touches pages of memory for the first time (page faults).
    Faults,
    /// Which code makes threads: the stacks that made those of this time, and the start functions of those
    /// that were there before. Of a Go program what its runtime noted, unless --sampler bpf is given.
    Threadcreate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DumpFormatArg {
    /// Text in the layout of Go's goroutine?debug=2 (.txt).
    Text,
    /// Equal stacks counted, in the layout of debug=1.
    Aggregated,
    /// pprof protobuf, gzipped: one sample a thread (.pb.gz).
    Pprof,
    /// Everything (.json).
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LookArg {
    /// The gentlest that gives the whole stack.
    Auto,
    /// BPF task iterator: threads that sleep. Needs root, or CAP_BPF and CAP_PERFMON.
    Bpf,
    /// /proc and memory: threads that sleep.
    Proc,
    /// A perf event for each thread: threads that run.
    Perf,
    /// Stop each thread for some microseconds, but none that its system call would fail for.
    Ptrace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabelArg {
    Tid,
    Pid,
    Process,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// pprof protobuf, gzipped (.pb.gz).
    Pprof,
    /// Folded stacks, one a line (.folded).
    Folded,
    /// Interactive flame graph (.svg).
    Svg,
    /// The same as a page (.html).
    Html,
    /// speedscope.app (.json).
    Speedscope,
}

/// `30s`, `1m30s`, `500ms`, or a bare number of seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }?;
    if parsed.is_zero() { Err("must be longer than nothing".into()) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2.5"), Ok(Duration::from_millis(2500)));
        for bad in ["0", "-1", "nan", "soon", "", "1e400"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
