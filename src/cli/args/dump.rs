//! The arguments of `rprof dump`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{
    processes::ProcessArgs,
    shared::{DebugArgs, parse_mode},
};

/// Shown below `rprof dump --help`.
pub const DUMP_EXAMPLES: &str = "\
Examples:
  rprof dump --pid 1234          or: rprof dump redis-server
  rprof dump 1234 --each --stats
  rprof dump 1234 -o threads.pb.gz      then: rprof top threads.pb.gz
  rprof dump 1234 --graph               what each thread waits for; --graph=svg: a picture
  rprof dump 1234 --fail-on deadlock    exit status 3 if there is a deadlock
  rprof dump --core core.1234           the threads of a core file; a Go program's goroutines
  rprof dump 1234 --format json | jq '.threads[] | select(.state == \"running\")'";

/// The arguments of `rprof dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Which processes.
    #[command(flatten)]
    pub processes: ProcessArgs,
    /// Read a core file instead of a process: its path, or the PID or the name of a process whose
    /// core systemd-coredump has kept. PID|NAME is then the path of its program, if that is not
    /// where it was.
    #[arg(long, value_name = "FILE|PID|NAME", group = "processes",
          conflicts_with_all = ["pid", "name", "container", "cgroup", "systemd_unit", "children", "look",
                                "no_stop", "consistent", "kernel", "graph", "fail_on"])]
    pub core: Option<PathBuf>,
    /// Show every thread or goroutine separately, even if stacks are equal.
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
    /// Python: show the local variables of threads that sleep or are stopped (`--look ptrace`):
    /// numbers, the beginning of strings, the length of collections. They may be secrets.
    #[arg(long)]
    pub locals: bool,
    /// Show only the graph of waits: every thread that waits, the lock, pipe, socket or process
    /// that it waits for, and who holds it.
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, default_missing_value = "text",
          require_equals = true, conflicts_with = "format")]
    pub graph: Option<GraphArg>,
    /// Exit with status 3 if threads wait for each other for ever.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub fail_on: Option<FailOnArg>,
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

/// `--graph` of `rprof dump`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphArg {
    /// A line for each thread.
    Text,
    /// Graphviz.
    Dot,
    /// A picture, drawn by the built-in Graphviz.
    Svg,
    /// Nodes, edges and verdicts.
    Json,
}

/// `--fail-on` of `rprof dump`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOnArg {
    /// A deadlock whose locks record their owners.
    Deadlock,
    /// Also a deadlock where the holder of a lock follows from evidence only.
    ProbableDeadlock,
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
