//! The arguments of `rprof doctor`.

use clap::Args;

/// The arguments of `rprof doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Process to check access to: its PID or its name (default: rprof itself, for what does not
    /// depend on a process).
    #[arg(value_name = "PID|NAME", conflicts_with = "pid")]
    pub target: Option<String>,
    /// Process to check access to.
    #[arg(short, long, value_name = "PID")]
    pub pid: Option<u32>,
    /// For each BPF program that the kernel refuses, also print the end of the verifier's log.
    #[arg(short, long)]
    pub verbose: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
