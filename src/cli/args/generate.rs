//! The arguments of `rprof generate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

/// The arguments of `rprof generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// What to make.
    #[command(subcommand)]
    pub what: What,
}

/// What to make.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages into a directory, one for rprof and one per verb.
    Man {
        /// The directory, which is created if it does not exist.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}
