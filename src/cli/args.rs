//! Declares the command line: verbs, options, types, help. Each verb's module interprets its own
//! options.

use std::{path::PathBuf, time::Duration};

use clap::{
    ArgGroup, Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use regex::Regex;

use super::{
    generate::GenerateArgs,
    help::HelpArgs,
    live_args::{TOP_EXAMPLES, TopArgs},
    redact::{REDACT_EXAMPLES, RedactArgs},
    report_args::{ReportArgs, SettingArgs},
    serve_args::{SERVE_EXAMPLES, ServeArgs},
    snapshot_args::{SNAPSHOT_EXAMPLES, SnapshotArgs},
};
use crate::capture::kinds::{self, Kind, KindRow};

/// pprof for any running process.
#[derive(Debug, Parser)]
#[command(
    name = "rprof",
    version = super::version::SHORT,
    long_version = super::version::long(),
    disable_help_subcommand = true,
    about = "pprof for any running process: profile a live PID without changing or restarting it",
    after_help = EXIT_CODES,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 failure, 2 wrong command line. `record` exits with the exit status of the
command (128+N if signal N killed it), or 1 if the command succeeded but its profile could not be
written.";

/// The verbs, in alphabetical order.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Profile a running process.
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(AttachArgs),
    /// Compare two profiles: which functions grew or shrank, and which changes are significant.
    #[command(after_help = DIFF_HELP)]
    Diff(DiffArgs),
    /// Check what this machine and user allow, and how to allow more.
    Doctor(DoctorArgs),
    /// Show the stack of every thread now, with its state and what it waits for.
    #[command(after_help = DUMP_EXAMPLES)]
    Dump(DumpArgs),
    /// Draw a flame graph of profiles: SVG, or an interactive page (.html).
    Flame(FlameArgs),
    /// Make manual pages and completions.
    #[command(hide = true)]
    Generate(GenerateArgs),
    /// Show the help of a verb, or a document: permissions, sidecar, reports ...
    Help(HelpArgs),
    /// Show facts about a process (Go: release, modules, scheduler, GC).
    Info(InfoArgs),
    /// Annotate the source of matching functions with time per line.
    List(MatchArgs),
    /// Show matching functions with their callers and callees.
    Peek(MatchArgs),
    /// Use the command line of `go tool pprof`: -top, -tree, -list, -dot, -http ...
    #[command(disable_help_flag = true)]
    Pprof(PprofArgs),
    /// Start a command and profile it and its children from the first instruction.
    #[command(after_help = RECORD_EXAMPLES)]
    Record(RecordArgs),
    /// Remove private data from a profile or an incident bundle before it is shared.
    #[command(after_help = REDACT_EXAMPLES)]
    Redact(RedactArgs),
    /// Serve /debug/pprof/ of running processes over HTTP.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Collect an incident bundle: profiles, stacks and facts of a process in one file.
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArgs),
    /// Add missing names to a profile from debug files.
    Symbolize(SymbolizeArgs),
    /// Show the labels of a profile and the total of each value.
    Tags(FileArgs),
    /// Show the hottest functions of a profile, or live of a running process.
    #[command(after_help = TOP_EXAMPLES)]
    Top(Box<TopArgs>),
    /// Show whole stacks, the hottest first.
    Traces(FileArgs),
    /// Show the hottest functions with their callers and callees.
    Tree(FileArgs),
}

/// The arguments of `rprof pprof`, which [`super::pprof`] interprets.
#[derive(Debug, Args)]
pub struct PprofArgs {
    /// Flags, an optional binary, and profiles: see `rprof pprof -h`.
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
  rprof dump 1234 -o threads.pb.gz      then: rprof top threads.pb.gz
  rprof dump 1234 --format json | jq '.threads[] | select(.state == \"running\")'";

const RECORD_EXAMPLES: &str = "\
Examples:
  rprof record -- cargo test
  rprof record -F 999 -o build.svg -- make -j2";

/// The arguments of `rprof attach`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("processes").args(["target", "pid", "name"]).required(true).multiple(true)))]
pub struct AttachArgs {
    /// Process to profile.
    #[arg(value_name = "PID", value_parser = parse_pid, conflicts_with_all = ["pid", "name"])]
    pub target: Option<u32>,
    /// Process to profile; repeatable.
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub pid: Vec<u32>,
    /// All processes whose name or program path matches this regular expression.
    #[arg(short, long, value_name = "REGEX")]
    pub name: Option<Regex>,
    /// With --name: also match command-line arguments.
    #[arg(long, requires = "name")]
    pub match_args: bool,
    /// What to profile.
    #[arg(long, default_value = kinds::DEFAULT.name, value_parser = kind_parser(|_| true))]
    pub kind: Kind,
    /// Also profile child processes: those running now and those started later.
    #[arg(long)]
    pub children: bool,
    /// Sampling time: 30s, 500ms, 2m, or a number of seconds. Ctrl-C ends it early and keeps the
    /// data.
    #[arg(short, long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// How to sample.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
}

/// The arguments of `rprof doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Process to check access to.
    #[arg(value_name = "PID", value_parser = parse_pid, conflicts_with = "pid")]
    pub target: Option<u32>,
    /// Process to check access to (default: rprof itself, for what does not depend on a process).
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub pid: Option<u32>,
    /// For each BPF program that the kernel refuses, also print the end of the verifier's log.
    #[arg(short, long)]
    pub verbose: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `rprof info`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("process").args(["target", "pid"]).required(true)))]
pub struct InfoArgs {
    /// Process to describe.
    #[arg(value_name = "PID", value_parser = parse_pid)]
    pub target: Option<u32>,
    /// Process to describe.
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub pid: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `rprof dump`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("processes").args(["target", "pid", "name"]).required(true).multiple(true)))]
pub struct DumpArgs {
    /// Process to dump.
    #[arg(value_name = "PID", value_parser = parse_pid, conflicts_with_all = ["pid", "name"])]
    pub target: Option<u32>,
    /// Process to dump; repeatable.
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub pid: Vec<u32>,
    /// All processes whose name or program path matches this regular expression.
    #[arg(short, long, value_name = "REGEX")]
    pub name: Option<Regex>,
    /// With --name: also match command-line arguments.
    #[arg(long, requires = "name")]
    pub match_args: bool,
    /// Also dump child processes.
    #[arg(long)]
    pub children: bool,
    /// Show every thread separately, even if stacks are equal.
    #[arg(long)]
    pub each: bool,
    /// File to write; its extension selects the format. Default, or `-`: standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Output format (default: from the file's extension).
    #[arg(long, value_enum)]
    pub format: Option<DumpFormatArg>,
    /// Permissions of the file in octal (default: those of the file that is replaced, else 600,
    /// which is readable only by you).
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub file_mode: Option<u32>,
    /// Method to read a thread (default: per thread, the least intrusive that gives a whole stack).
    #[arg(long, value_enum, default_value_t = LookArg::Auto)]
    pub look: LookArg,
    /// Never stop a thread, not even for microseconds. Stacks that need a stop are cut and
    /// reported.
    #[arg(long, conflicts_with = "consistent")]
    pub no_stop: bool,
    /// Stop all threads of a process together, so that all stacks show the same instant.
    #[arg(long)]
    pub consistent: bool,
    /// Add the kernel frames of sleeping threads. Needs root, or CAP_BPF and CAP_PERFMON.
    #[arg(long)]
    pub kernel: bool,
    /// Go: show threads instead of goroutines.
    #[arg(long)]
    pub threads: bool,
    /// Go: include the runtime's own goroutines.
    #[arg(long)]
    pub system: bool,
    /// Print the cost of the dump and how long threads were stopped.
    #[arg(long)]
    pub stats: bool,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
}

/// The arguments of `rprof record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Stop sampling after this time; the command continues. Default: sample until the command
    /// ends.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// How to sample.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
    /// The command and its arguments. Options of rprof go before it.
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// Options on how samples are taken, shared by the verbs that sample.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Samples per second of CPU time.
    #[arg(short = 'F', long, default_value_t = 99, value_name = "HZ", visible_alias = "rate",
          value_parser = parse_frequency)]
    pub frequency: u32,
    /// Sampling method (default: best one permitted).
    #[arg(long, value_enum, default_value_t = SamplerArg::Auto)]
    pub sampler: SamplerArg,
    /// Leave out kernel frames.
    #[arg(long)]
    pub no_kernel: bool,
    /// Which frames stacks have, for languages with an interpreter (Python).
    #[arg(long, value_enum, default_value_t = FramesArg::Mixed, value_name = "WHICH")]
    pub frames: FramesArg,
    /// Additional labels on each sample, separated by commas. The thread's name is always a label.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KEYS")]
    pub label: Vec<LabelArg>,
    /// Copy at most this many bytes of stack per sample.
    #[arg(long, value_name = "BYTES", default_value_t = 512 << 10,
          value_parser = clap::value_parser!(u32).range(1024..=512 << 10))]
    pub max_stack_bytes: u32,
    /// Memory for the kernel's sample buffers (0: automatic).
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub buffer_bytes: usize,
}

/// Options on where a profile goes, shared by the verbs that write one.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// File to write; its extension selects the format. `-` is standard output. Default:
    /// rprof-NAME-PID-TIME.pb.gz in the current directory.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Output format (default: from the file's extension).
    #[arg(long, value_enum)]
    pub format: Option<FormatArg>,
    /// Permissions of the file in octal (default: those of the file that is replaced, else 600,
    /// which is readable only by you).
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub file_mode: Option<u32>,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print what the profiling itself cost.
    #[arg(long)]
    pub stats: bool,
}

/// Options on debug files, shared by the verbs that name addresses.
#[derive(Debug, Args)]
pub struct DebugArgs {
    /// Directory with debug files, laid out like /usr/lib/debug or holding *.debug; repeatable.
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
    /// Fetch debug files from debuginfod servers (default: those in DEBUGINFOD_URLS).
    #[arg(long, value_name = "URLS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub debuginfod: Option<String>,
}

/// The arguments of `rprof symbolize`.
#[derive(Debug, Args)]
pub struct SymbolizeArgs {
    /// Profile to read.
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// File to write (default: replace the profile).
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Permissions of the file in octal (default: those of the file that is replaced, else 600,
    /// which is readable only by you).
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub file_mode: Option<u32>,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
}

/// The arguments of the reports on whole profiles: `tags`, `traces`, `tree`.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// Profiles to read; several are merged.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// The arguments of the reports on some functions: `list`, `peek`.
#[derive(Debug, Args)]
pub struct MatchArgs {
    /// Functions to show: a regular expression that may match anywhere in the name.
    #[arg(value_name = "REGEX")]
    pub expression: String,
    /// Profiles to read; several are merged.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
}

const DIFF_HELP: &str = "\
Compares shares of each profile's own total, so profiles of different lengths can be compared.
With --cum, the shares include all called functions. `rprof help reports` describes the statistics.";

/// The arguments of `rprof diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The profile to compare with.
    #[arg(value_name = "BASE")]
    pub base: PathBuf,
    /// The newer profile.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Also show changes that are within noise.
    #[arg(long)]
    pub all: bool,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// The arguments of `rprof flame`.
#[derive(Debug, Args)]
pub struct FlameArgs {
    /// Profiles to read; several are merged.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Color frames by how their share changed since this profile.
    #[arg(long, value_name = "BASE")]
    pub diff: Option<PathBuf>,
    /// File to write: .svg or .html (also .folded, and .json for speedscope).
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Permissions of the file in octal (default: those of the file that is replaced, else 600,
    /// which is readable only by you).
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub file_mode: Option<u32>,
    /// Add a row of threads below the root.
    #[arg(long)]
    pub by_thread: bool,
    /// What is counted.
    #[command(flatten)]
    pub counted: SettingArgs,
}

/// `--sampler`: a sampling method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SamplerArg {
    /// The best one permitted.
    Auto,
    /// One event per CPU; a BPF program in the kernel drops samples of other processes. Whole
    /// stacks. Needs root, or CAP_BPF and CAP_PERFMON.
    Bpf,
    /// One event per CPU; samples of other processes are dropped. Needs CAP_PERFMON.
    PerfCpu,
    /// One event per CPU that counts only the target's cgroup. Needs CAP_PERFMON.
    PerfCgroup,
    /// One event per thread and CPU: needs no capability for your own processes.
    PerfThread,
    /// Stops threads one by one for microseconds, at most 1 % of the time. Works where perf events
    /// are forbidden (containers), for processes that a debugger could attach to.
    Ptrace,
}

/// `--format` of `rprof dump`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DumpFormatArg {
    /// Text in the layout of Go's goroutine?debug=2 (.txt).
    Text,
    /// Equal stacks counted, in the layout of Go's goroutine?debug=1.
    Aggregated,
    /// pprof protobuf, gzipped: one sample per thread (.pb.gz).
    Pprof,
    /// Everything (.json).
    Json,
}

/// `--look`: how `rprof dump` reads a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LookArg {
    /// Per thread, the least intrusive method that gives a whole stack.
    Auto,
    /// BPF task iterator, for sleeping threads. Needs root, or CAP_BPF and CAP_PERFMON.
    Bpf,
    /// /proc and the process's memory, for sleeping threads.
    Proc,
    /// A perf event per thread, for running threads.
    Perf,
    /// Stop each thread for microseconds, except threads whose system call would fail.
    Ptrace,
}

/// `--frames`: which frames stacks have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FramesArg {
    /// The language's functions in the place of its interpreter's, between native functions.
    Mixed,
    /// The language's functions alone.
    Language,
    /// Native functions alone, those of the interpreter among them.
    Native,
}

/// `--label`: an additional label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabelArg {
    /// Thread ID.
    Tid,
    /// Process ID.
    Pid,
    /// Process name.
    Process,
}

/// `--format` of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// pprof protobuf, gzipped (.pb.gz).
    Pprof,
    /// Folded stacks, one per line (.folded).
    Folded,
    /// Interactive flame graph (.svg).
    Svg,
    /// Flame graph as a web page (.html).
    Html,
    /// speedscope.app (.json).
    Speedscope,
}

/// Parses the name of a kind of the table that `accepts` accepts; `--help` lists them.
pub fn kind_parser(accepts: fn(Kind) -> bool) -> impl TypedValueParser<Value = Kind> {
    let kinds = kinds::ALL.iter().filter(|kind| accepts(kind));
    let values = kinds.map(|kind| PossibleValue::new(kind.name).help(kind.help).aliases(kind.alias));
    PossibleValuesParser::new(values).try_map(|name| KindRow::named(&name).ok_or("there is no such kind"))
}

/// Parses a sampling frequency in Hz.
fn parse_frequency(text: &str) -> Result<u32, String> {
    let frequency = text.parse().ok().filter(|frequency| (1..=50_000).contains(frequency));
    frequency.ok_or_else(|| "must be a number of samples per second from 1 to 50000".into())
}

/// Parses a process ID. A name is answered with the processes of that name.
pub fn parse_pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(pid) => Ok(pid),
        Err(_) => Err(super::target::no_pid(text)),
    }
}

/// Parses permissions in octal: 0 to 777.
fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "must be octal permissions such as 600 or 644".into())
}

/// Parses `30s`, `1m30s`, `500ms`, or a bare number of seconds. Errors: not a duration, or zero.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }?;
    if parsed.is_zero() { Err("must be greater than 0".into()) } else { Ok(parsed) }
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
    fn durations_are_parsed_with_and_without_a_unit() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2.5"), Ok(Duration::from_millis(2500)));
        for bad in ["0", "-1", "nan", "soon", "", "1e400"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
