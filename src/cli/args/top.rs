//! The arguments of `rprof top`: profiles to report on, or processes to watch.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Command};
use regex::Regex;

use super::{
    report::ReportArgs,
    shared::{DebugArgs, SamplingArgs, kind_parser, parse_duration, parse_pid},
};
use crate::capture::kinds::{self, Kind};

/// Shown below `rprof top --help`.
pub const TOP_EXAMPLES: &str = "\
Examples:
  rprof top cpu.pb.gz                  the hottest functions of a profile
  rprof top --pid 1234                 live, of a running process (? shows the keys)
  rprof top --name '^postgres' --kind offcpu";

/// The arguments of `rprof top`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").args(["files", "pid", "name"]).required(true).multiple(true)))]
pub struct TopArgs {
    /// Profiles to read; several are merged. A number that is not a file is a process to watch.
    #[arg(value_name = "FILE", conflicts_with_all = ["pid", "name"])]
    pub files: Vec<PathBuf>,
    /// The live view.
    #[command(flatten)]
    pub live: LiveArgs,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// The options of the live view.
#[derive(Debug, Args)]
#[command(next_help_heading = "Watching processes")]
pub struct LiveArgs {
    /// Process to watch until q is pressed; repeatable.
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub pid: Vec<u32>,
    /// All processes whose name or program path matches this regular expression.
    #[arg(long, value_name = "REGEX")]
    pub name: Option<Regex>,
    /// With --name: also match command-line arguments.
    #[arg(long, requires = "name")]
    pub match_args: bool,
    /// Also watch child processes: those running now and those started later.
    #[arg(long)]
    pub children: bool,
    /// What to watch.
    #[arg(long, default_value = kinds::DEFAULT.name, value_parser = kind_parser(|kind| kind.watch.is_some()))]
    pub kind: Kind,
    /// How often the view is updated.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,
    /// How to sample.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
}

/// Whether none of these arguments was given, that is, whether all have their declared defaults.
pub fn are_defaults<A: Args + std::fmt::Debug>(given: &A) -> bool {
    let command = A::augment_args(Command::new("").no_binary_name(true));
    let defaults = command.try_get_matches_from([""; 0]).and_then(|matches| A::from_arg_matches(&matches));
    defaults.is_ok_and(|defaults| format!("{defaults:?}") == format!("{given:?}"))
}

/// Parses 100ms to 1m.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&interval) {
        Ok(interval)
    } else {
        Err("must be between 100ms and 1m".into())
    }
}
