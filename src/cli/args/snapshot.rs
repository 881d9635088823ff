//! The arguments of `rprof snapshot`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    processes::ProcessArgs,
    shared::{DebugArgs, parse_duration},
};

/// Shown below `rprof snapshot --help`.
pub const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  rprof snapshot --pid 1234 -o incident.tar.gz
  rprof snapshot 1234 --duration 30s
  rprof snapshot --name '^php-fpm' --children";

/// The arguments of `rprof snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// Which processes.
    #[command(flatten)]
    pub processes: ProcessArgs,
    /// Sampling time: 10s, 500ms, 2m, or a number of seconds. Ctrl-C ends it early and keeps the
    /// data.
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// File to write (.tar.gz), readable by its owner only (default: named after process and time).
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Include the command-line arguments, which may contain secrets; by default only the program.
    #[arg(long)]
    pub show_arguments: bool,
    /// The default; accepted for older scripts.
    #[arg(long, hide = true, conflicts_with = "show_arguments")]
    pub redact_cmdline: bool,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
}
