//! The arguments of `rprof attach`.

use std::time::Duration;

use clap::Args;

use super::{
    processes::ProcessArgs,
    shared::{DebugArgs, OutputArgs, SamplingArgs, kind_parser, parse_duration},
};
use crate::capture::kinds::{self, Kind};

/// Shown below `rprof attach --help`.
pub const ATTACH_EXAMPLES: &str = "\
Examples:
  rprof attach redis-server --duration 30s
  rprof attach 1234 -d 10s -F 999 -o flame.svg
  rprof attach --name '^postgres' --children -o db.pb.gz
  rprof attach --container web -d 10s";

/// The arguments of `rprof attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Which processes.
    #[command(flatten)]
    pub processes: ProcessArgs,
    /// What to profile.
    #[arg(long, default_value = kinds::DEFAULT.name, value_parser = kind_parser(|_| true))]
    pub kind: Kind,
    /// Sampling time: 30s, 500ms, 2m, or a number of seconds. Ctrl-C ends it early and keeps the
    /// data.
    #[arg(short, long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// How to sample.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where the result goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
}
