//! What `rprof top` takes: files to report on, or processes to watch.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Command, ValueEnum};
use regex::Regex;

use super::{
    args::{DebugArgs, SamplingArgs, parse_duration},
    report_args::ReportArgs,
};

pub const TOP_EXAMPLES: &str = "\
Examples:
  rprof top cpu.pb.gz                  the functions with most, of a file
  rprof top --pid 1234                 the same of a running process, as it runs (? shows the keys)
  rprof top --name '^postgres' --kind offcpu";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("of").args(["files", "pid", "name"]).required(true).multiple(true)))]
pub struct TopArgs {
    /// Profiles to read; several are put together. (A number that is no file: a process to watch.)
    #[arg(value_name = "FILE", conflicts_with_all = ["pid", "name"])]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub live: LiveArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Watching processes")]
pub struct LiveArgs {
    /// Process to watch, until q is pressed; may be given several times.
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// All processes whose name, program or command line matches this regular expression.
    #[arg(long, value_name = "REGEX")]
    pub name: Option<Regex>,
    /// Also their child processes, those running now and those started later.
    #[arg(long)]
    pub children: bool,
    /// What to watch.
    #[arg(long, value_enum, default_value_t = LiveKindArg::Cpu)]
    pub kind: LiveKindArg,
    /// How often the view changes.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    pub interval: Duration,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub debug: DebugArgs,
}

/// Whether none of these arguments was given. As their declaration has it: they are what they are when nothing
/// is said.
pub fn are_unsaid<A: Args + std::fmt::Debug>(given: &A) -> bool {
    let command = A::augment_args(Command::new("").no_binary_name(true));
    let unsaid = command.try_get_matches_from([""; 0]).and_then(|matches| A::from_arg_matches(&matches));
    unsaid.is_ok_and(|unsaid| format!("{unsaid:?}") == format!("{given:?}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LiveKindArg {
    /// Where CPU time goes.
    Cpu,
    /// Where all time goes, also that of threads that sleep.
    Wall,
    /// Where threads wait, and for how long.
    #[value(name = "offcpu", alias = "off-cpu")]
    OffCpu,
    /// Where memory grows.
    Faults,
}

/// From a tenth of a second to a minute.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&interval) {
        Ok(interval)
    } else {
        Err("must be between 100ms and 1m".into())
    }
}
