//! The arguments of `rprof heap`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    processes::ProcessArgs,
    shared::{parse_duration, parse_mode},
};

/// Shown below `rprof heap --help`.
pub const HEAP_EXAMPLES: &str = "\
Examples:
  rprof heap 1234                what is in use, by size and type; what is free
  rprof heap 1234 -d 30s         and what grew within 30 seconds
  rprof heap 1234 --leaks        what nothing points to any more
  rprof heap 1234 --holders      which global or stack holds it
  rprof heap 1234 -o heap.pb.gz  then: rprof flame heap.pb.gz
  rprof heap 1234 --format json

Only memory is read: nothing is stopped, written or injected. `rprof help heap` explains the report.";

/// The arguments of `rprof heap`.
#[derive(Debug, Args)]
pub struct HeapArgs {
    /// Which process.
    #[command(flatten)]
    pub processes: ProcessArgs,
    /// Read the heap twice, this long apart, and show what grew: 30s, 2m.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Show who holds the memory: the global variable or the thread's stack that leads to it.
    #[arg(long)]
    pub holders: bool,
    /// Show what is leaked: chunks that nothing points to, in three passes over several seconds.
    #[arg(long)]
    pub leaks: bool,
    /// File to write; its extension selects the format. Default, or `-`: standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Output format (default: from the file's extension).
    #[arg(long, value_enum)]
    pub format: Option<HeapFormatArg>,
    /// Permissions of the file in octal (default: those of the file that is replaced, else 600,
    /// which is readable only by you).
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub file_mode: Option<u32>,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
}

/// `--format` of `rprof heap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HeapFormatArg {
    /// For people (.txt).
    Text,
    /// Everything (.json).
    Json,
    /// pprof protobuf, gzipped (.pb.gz).
    Pprof,
}
