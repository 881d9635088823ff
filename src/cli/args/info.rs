//! The arguments of `rprof info`.

use clap::Args;

use super::processes::ProcessArgs;

/// The arguments of `rprof info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Which processes.
    #[command(flatten)]
    pub processes: ProcessArgs,
    /// Print JSON: an object; of processes that options other than --pid select, an array.
    #[arg(long)]
    pub json: bool,
    /// Show every part of the resident memory, and the objects of runtimes whose heap is read.
    #[arg(long)]
    pub memory: bool,
}
