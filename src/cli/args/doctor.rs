//! The arguments of `rprof doctor`.

use clap::Args;

use super::shared::parse_pid;

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
