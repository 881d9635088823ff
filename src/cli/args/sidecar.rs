//! The arguments of `rprof sidecar`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    processes::SelectorArgs,
    shared::{DebugArgs, FramesArg, SamplerArg, kind_parser, parse_duration, parse_frequency},
};
use crate::{
    capture::kinds::{Form, Kind},
    serve::Address,
    sidecar::{log::LogForm, select::Share, triggers::Trigger},
};

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogArg {
    /// Words and `key=value`.
    Text,
    /// A JSON object a line.
    Json,
}

impl From<LogArg> for LogForm {
    fn from(form: LogArg) -> LogForm {
        match form {
            LogArg::Text => LogForm::Text,
            LogArg::Json => LogForm::Json,
        }
    }
}

/// Shown below `rprof sidecar --help`.
pub const SIDECAR_EXAMPLES: &str = "\
Examples:
  rprof sidecar --name '^redis' --spool /var/lib/rprof
  rprof sidecar --kinds cpu,offcpu --every 60s --for 10s --spool SPOOL --spool-size 2GiB
  rprof sidecar --any-user --share 10% --config /etc/rprof.conf --spool SPOOL
  rprof pprof -http : SPOOL          browse: service, kind, time; merge and compare
  rprof top SPOOL --since 1h         the hottest functions of the last hour
A process opts out with the environment variable RPROF=off. SIGHUP reads --config again.
`rprof help sidecar` describes the spool, the labels and the configuration file.";

/// The arguments of `rprof sidecar`.
#[derive(Debug, Args)]
pub struct SidecarArgs {
    /// Which processes; without any of these options, all your own.
    #[command(flatten)]
    pub processes: SelectorArgs,
    /// Include processes of other users.
    #[arg(long)]
    pub any_user: bool,
    /// Directory for the profiles; created if it does not exist.
    #[arg(long, value_name = "DIR", required_unless_present = "check")]
    pub spool: Option<PathBuf>,
    /// The most disk space of the spool; the oldest profiles are removed (default: 1GiB; 0: no
    /// limit).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub spool_size: Option<u64>,
    /// How long profiles are kept (default: 7d).
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub spool_age: Option<Duration>,
    /// How often a window begins, on multiples of this time of the clock (default: 60s).
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub every: Option<Duration>,
    /// How long a window lasts (default: as long as --every, without a pause).
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub window: Option<Duration>,
    /// The kinds of profiles, separated by commas (default: cpu).
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = kind_parser(is_sidecar_kind))]
    pub kinds: Vec<Kind>,
    /// Samples per second of CPU time (default: 19).
    #[arg(short = 'F', long, value_name = "HZ", visible_alias = "rate", value_parser = parse_frequency)]
    pub frequency: Option<u32>,
    /// Profile only this share of the matching processes, chosen by a stable hash: 10%.
    #[arg(long, value_name = "PERCENT", value_parser = parse_share)]
    pub share: Option<Share>,
    /// Exclude processes whose name or program path matches this regular expression; repeatable.
    #[arg(long, value_name = "REGEX")]
    pub exclude_name: Vec<regex::Regex>,
    /// Exclude processes in this control group and the groups in it; repeatable.
    #[arg(long, value_name = "PATH")]
    pub exclude_cgroup: Vec<PathBuf>,
    /// Exclude processes in pods of this Kubernetes namespace; repeatable.
    #[arg(long, value_name = "NAMESPACE")]
    pub exclude_namespace: Vec<String>,
    /// Only processes that were started with the environment variable RPROF=on.
    #[arg(long)]
    pub opt_in: bool,
    /// The name of the service, for all processes (default: OTEL_SERVICE_NAME or
    /// OTEL_RESOURCE_ATTRIBUTES of the process, its container, its name).
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// The name of this machine in labels (default: NODE_NAME, or the host name).
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub host: Option<String>,
    /// A file for each process instead of one for each service.
    #[arg(long)]
    pub per_process: bool,
    /// The most values of each label at a time; further ones become `other` (default: 100).
    #[arg(long, value_name = "COUNT")]
    pub label_values: Option<usize>,
    /// Write an incident when this is true, with what was sampled before: cpu>80%:30s, rss>2GiB,
    /// rss+10%/min, oom, exit, threads>1000, fd>90%, throttled>20%, psi.cpu>20%; repeatable.
    /// SIGUSR1 writes one at any time.
    #[arg(long = "on", value_name = "CONDITION")]
    pub triggers: Vec<Trigger>,
    /// How much of what came before an incident has (default with --on: 5m; 0s: nothing).
    #[arg(long, value_name = "DURATION", value_parser = parse_time)]
    pub ring: Option<Duration>,
    /// How long a condition writes no further incident of the same service (default: 10m).
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub cooldown: Option<Duration>,
    /// The most CPU time of rprof itself, in percent of one core, averaged over 60 s; it lowers the
    /// rate, then the depth, then the kinds (default: 2%; 0: no limit).
    #[arg(long, value_name = "PERCENT", value_parser = parse_cpu)]
    pub max_cpu: Option<f64>,
    /// The most memory of rprof itself, anonymous and shared (default: 128MiB; 0: no limit).
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_memory: Option<u64>,
    /// Serve /metrics (Prometheus), /healthz and POST /trigger: 127.0.0.1:6061, or unix:PATH.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<Address>,
    /// Clients of --listen need this token: the first line of a file.
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub token_file: Option<PathBuf>,
    /// Write what happens to the standard error, one event a line.
    #[arg(long, value_enum, value_name = "FORM")]
    pub log: Option<LogArg>,
    /// Only check whether the sidecar that listens on this address works (for liveness probes).
    #[arg(long, value_name = "ADDRESS", exclusive = true)]
    pub check: Option<Address>,
    /// Configuration file: lines `key = value`, where keys are options without `--`. An option on
    /// the command line has precedence.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sampling method (default: best one permitted).
    #[arg(long, value_enum, default_value_t = SamplerArg::Auto)]
    pub sampler: SamplerArg,
    /// Leave out kernel frames.
    #[arg(long)]
    pub no_kernel: bool,
    /// Which frames stacks have, for languages with an interpreter (Python).
    #[arg(long, value_enum, default_value_t = FramesArg::Mixed, value_name = "WHICH")]
    pub frames: FramesArg,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Whether a sidecar can capture a kind: all but timelines.
pub fn is_sidecar_kind(kind: Kind) -> bool {
    kind.form == Form::Profile
}

/// Parses `2%`, or a number of cores: 0.02. Returns the number of cores.
pub fn parse_cpu(text: &str) -> Result<f64, String> {
    let number = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.trim().parse::<f64>(),
    };
    number
        .ok()
        .filter(|cores| *cores == 0.0 || (0.001..=64.0).contains(cores))
        .ok_or_else(|| "must be a share of one core such as 2%, at least 0.1%".into())
}

/// Parses a time, which may be 0.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    match text.trim() {
        "0" | "0s" => Ok(Duration::ZERO),
        text => parse_duration(text),
    }
}

/// Parses `512MiB`, `2GiB`, `1.5GB`, or a number of bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 13] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("k", 1 << 10),
        ("m", 1 << 20),
        ("g", 1 << 30),
        ("t", 1 << 40),
        ("b", 1),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((&lower, 1));
    let number: f64 = number.trim().parse().ok().filter(|number: &f64| *number >= 0.0).ok_or(WRONG_SIZE)?;
    let bytes = number * factor as f64;
    if bytes < 9e18 { Ok(bytes as u64) } else { Err(WRONG_SIZE.to_owned()) }
}

const WRONG_SIZE: &str = "must be a size such as 512MiB or 2GiB";

/// Parses `10%`, or a number from 0 to 1.
pub fn parse_share(text: &str) -> Result<Share, String> {
    let number = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.trim().parse::<f64>(),
    };
    number.ok().and_then(Share::new).ok_or_else(|| "must be a share such as 10%, more than 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_parsed_with_and_without_a_unit() {
        assert_eq!(
            (parse_size("2GiB"), parse_size("1.5 kB"), parse_size("7")),
            (Ok(2 << 30), Ok(1500), Ok(7))
        );
        assert_eq!((parse_size("3m"), parse_size("0")), (Ok(3 << 20), Ok(0)));
        for bad in ["", "GiB", "-1", "1e99", "nan", "x"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_share("10%"), parse_share("0.1"));
        assert_eq!((parse_cpu("2%"), parse_cpu("0.5"), parse_cpu("0")), (Ok(0.02), Ok(0.5), Ok(0.0)));
        for bad in ["", "-1%", "0.01%", "nan", "x%", "1e9"] {
            assert!(parse_cpu(bad).is_err(), "{bad}");
        }
        assert_eq!((parse_time("0s"), parse_time("5m")), (Ok(Duration::ZERO), Ok(Duration::from_secs(300))));
        for bad in ["", "0", "101%", "-5%", "nan"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }
}
