//! What `rprof snapshot` takes.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args};

use super::args::{DebugArgs, parse_duration};

pub const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  rprof snapshot --pid 1234 -o incident.tar.gz
  rprof snapshot 1234 --duration 30s";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whom").args(["target", "pid"]).required(true)))]
pub struct SnapshotArgs {
    /// Process to look at.
    #[arg(value_name = "PID")]
    pub target: Option<u32>,
    /// Process to look at.
    #[arg(short, long, value_name = "PID")]
    pub pid: Option<u32>,
    /// How long the profiles are: 10s, 500ms, 2m, or a number of seconds. Ctrl-C ends earlier and keeps
    /// the data.
    #[arg(short, long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// File to write (.tar.gz); by default named after the process and the time. Only its owner may read
    /// it.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Leave arguments out of the command line: they may hold secrets.
    #[arg(long)]
    pub redact_cmdline: bool,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub debug: DebugArgs,
}
