//! The arguments of `rprof record`.

use std::time::Duration;

use clap::Args;

use super::shared::{DebugArgs, OutputArgs, SamplingArgs, parse_duration};

/// Shown below `rprof record --help`.
pub const RECORD_EXAMPLES: &str = "\
Examples:
  rprof record -- cargo test
  rprof record -F 999 -o build.svg -- make -j2";

/// The arguments of `rprof record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Stop sampling after this time; the command continues. Default: sample until the command
    /// ends.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// How to sample.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
    /// The command and its arguments. Options of rprof go before it.
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}
