//! Options and values that several verbs share.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use super::view::ViewArgs;
use crate::capture::kinds::{self, Kind, KindRow};

/// Options on how samples are taken, shared by the verbs that sample.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Samples per second of CPU time.
    #[arg(short = 'F', long, default_value_t = 99, value_name = "HZ", visible_alias = "rate",
          value_parser = parse_frequency)]
    pub frequency: u32,
    /// Sampling method (default: best one permitted).
    #[arg(long, value_enum, default_value_t = SamplerArg::Auto)]
    pub sampler: SamplerArg,
    /// Leave out kernel frames.
    #[arg(long)]
    pub no_kernel: bool,
    /// Which frames stacks have, for languages with an interpreter (Python).
    #[arg(long, value_enum, default_value_t = FramesArg::Mixed, value_name = "WHICH")]
    pub frames: FramesArg,
    /// Additional labels on each sample, separated by commas. The thread's name is always a label.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KEYS")]
    pub label: Vec<LabelArg>,
    /// Copy at most this many bytes of stack per sample.
    #[arg(long, value_name = "BYTES", default_value_t = 512 << 10,
          value_parser = clap::value_parser!(u32).range(1024..=512 << 10))]
    pub max_stack_bytes: u32,
    /// Memory for the kernel's sample buffers (0: automatic).
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub buffer_bytes: usize,
}

/// Options on where a profile goes, shared by the verbs that write one.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// File to write; its extension selects the format. `-` is standard output. Default:
    /// rprof-NAME-PID-TIME.pb.gz in the current directory.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Output format (default: from the file's extension).
    #[arg(long, value_enum)]
    pub format: Option<FormatArg>,
    /// Permissions of the file in octal (default: those of the file that is replaced, else 600,
    /// which is readable only by you).
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub file_mode: Option<u32>,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print what the profiling itself cost.
    #[arg(long)]
    pub stats: bool,
    /// How the first look at the profile is printed.
    #[command(flatten)]
    pub view: ViewArgs,
}

/// Options on debug files, shared by the verbs that name addresses.
#[derive(Debug, Args)]
pub struct DebugArgs {
    /// Directory with debug files, laid out like /usr/lib/debug or holding *.debug; repeatable.
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,
    /// Fetch debug files from debuginfod servers (default: those in DEBUGINFOD_URLS).
    #[arg(long, value_name = "URLS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub debuginfod: Option<String>,
}

/// `--sampler`: a sampling method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SamplerArg {
    /// The best one permitted.
    Auto,
    /// One event per CPU; a BPF program in the kernel drops samples of other processes. Whole
    /// stacks. Needs root, or CAP_BPF and CAP_PERFMON.
    Bpf,
    /// One event per CPU; samples of other processes are dropped. Needs CAP_PERFMON.
    PerfCpu,
    /// One event per CPU that counts only the target's cgroup. Needs CAP_PERFMON.
    PerfCgroup,
    /// One event per thread and CPU: needs no capability for your own processes.
    PerfThread,
    /// Stops threads one by one for microseconds, at most 1 % of the time. Works where perf events
    /// are forbidden (containers), for processes that a debugger could attach to.
    Ptrace,
}

/// `--frames`: which frames stacks have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FramesArg {
    /// The language's functions in the place of its interpreter's, between native functions.
    Mixed,
    /// The language's functions alone.
    Language,
    /// Native functions alone, those of the interpreter among them.
    Native,
}

/// `--label`: an additional label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabelArg {
    /// Thread ID.
    Tid,
    /// Process ID.
    Pid,
    /// Process name.
    Process,
}

/// `--format` of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// pprof protobuf, gzipped (.pb.gz).
    Pprof,
    /// Folded stacks, one per line (.folded).
    Folded,
    /// Interactive flame graph (.svg).
    Svg,
    /// Flame graph as a web page (.html).
    Html,
    /// speedscope.app (.json).
    Speedscope,
}

/// Parses the name of a kind of the table that `accepts` accepts; `--help` lists them.
pub fn kind_parser(accepts: fn(Kind) -> bool) -> impl TypedValueParser<Value = Kind> {
    let kinds = kinds::ALL.iter().filter(|kind| accepts(kind));
    let values = kinds.map(|kind| PossibleValue::new(kind.name).help(kind.help).aliases(kind.alias));
    PossibleValuesParser::new(values).try_map(|name| KindRow::named(&name).ok_or("there is no such kind"))
}

/// Parses a sampling frequency in Hz.
pub fn parse_frequency(text: &str) -> Result<u32, String> {
    let frequency = text.parse().ok().filter(|frequency| (1..=50_000).contains(frequency));
    frequency.ok_or_else(|| "must be a number of samples per second from 1 to 50000".into())
}

/// Parses permissions in octal: 0 to 777.
pub fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "must be octal permissions such as 600 or 644".into())
}

/// Parses `30s`, `1m30s`, `500ms`, or a bare number of seconds. Errors: not a duration, or zero.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }?;
    if parsed.is_zero() { Err("must be greater than 0".into()) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_with_and_without_a_unit() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2.5"), Ok(Duration::from_millis(2500)));
        for bad in ["0", "-1", "nan", "soon", "", "1e400"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
