//! The arguments of `rprof symbolize`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{DebugArgs, parse_mode};

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
