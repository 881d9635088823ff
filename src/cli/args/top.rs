//! The arguments of `rprof top`: profiles to report on, or processes to watch.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Command};

use super::{
    processes::SelectorArgs,
    report::ReportArgs,
    shared::{DebugArgs, SamplingArgs, kind_parser, parse_duration},
};
use crate::capture::kinds::{self, Kind};

/// Shown below `rprof top --help`.
pub const TOP_EXAMPLES: &str = "\
Examples:
  rprof top cpu.pb.gz                  the hottest functions of a profile
  rprof top redis-server               live, of a running process (? shows the keys)
  rprof top --name '^postgres' --kind offcpu
  rprof top SPOOL --since 1h --service web     the last hour of a spool (`rprof sidecar`)";

/// The arguments of `rprof top`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source")
    .args(["files", "pid", "name", "container", "cgroup", "systemd_unit"]).required(true).multiple(true)))]
// -n is the number of functions, and --unit the unit of values.
#[command(mut_arg("name", |name| name.short(None)))]
#[command(mut_arg("systemd_unit", |unit| unit.long("systemd-unit")))]
pub struct TopArgs {
    /// Profiles to read; several are merged. A single word that is not a file is a process to
    /// watch: its PID, or its name or a part of it.
    #[arg(value_name = "FILE|PID|NAME",
          conflicts_with_all = ["pid", "name", "container", "cgroup", "systemd_unit"])]
    pub files: Vec<PathBuf>,
    /// Which profiles of a spool.
    #[command(flatten)]
    pub spool: SpoolArgs,
    /// The live view.
    #[command(flatten)]
    pub live: LiveArgs,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Which profiles of a spool are read; --kind selects their kind.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading a spool")]
pub struct SpoolArgs {
    /// Windows that end after this: a duration before now (1h), or a time (2026-11-30T10:00, UTC).
    #[arg(long, value_name = "TIME", requires = "files")]
    pub since: Option<String>,
    /// Windows that begin before this.
    #[arg(long, value_name = "TIME", requires = "files")]
    pub until: Option<String>,
    /// Of this service.
    #[arg(long, value_name = "NAME", requires = "files")]
    pub service: Option<String>,
}

impl SpoolArgs {
    /// The query that these options and a kind stand for: `since=1h&kind=cpu`.
    pub fn query(&self, kind: Option<&str>) -> String {
        let options = [
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("service", self.service.as_deref()),
            ("kind", kind),
        ];
        let words = options.iter().filter_map(|(key, value)| Some(format!("{key}={}", (*value)?)));
        words.collect::<Vec<_>>().join("&")
    }
}

/// The options of the live view.
#[derive(Debug, Args)]
#[command(next_help_heading = "Watching processes")]
pub struct LiveArgs {
    /// Which processes to watch.
    #[command(flatten)]
    pub selectors: SelectorArgs,
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
