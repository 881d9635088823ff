//! The arguments of `rprof info`.

use clap::{ArgGroup, Args};

use super::shared::parse_pid;

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
