//! The arguments of `rprof redact`.

use std::path::PathBuf;

use clap::Args;

/// Shown below `rprof redact --help`.
pub const REDACT_EXAMPLES: &str = "\
Examples:
  rprof redact incident.tar.gz                            writes incident.redacted.tar.gz
  rprof redact cpu.pb.gz --label thread --label request_id -o share.pb.gz";

/// The arguments of `rprof redact`.
#[derive(Debug, Args)]
pub struct RedactArgs {
    /// Profile, dump (.pb.gz) or snapshot (.tar.gz) to redact. Command-line arguments and paths
    /// under home directories are always removed.
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// File to write, readable by its owner only (default: FILE with `.redacted` before the
    /// extension).
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Label to remove, with its values wherever they occur: `thread` for thread names; repeatable.
    #[arg(long, value_name = "KEY")]
    pub label: Vec<String>,
    /// Text to remove wherever it occurs, at least 3 bytes long; repeatable.
    #[arg(long, value_name = "TEXT")]
    pub text: Vec<String>,
    /// Another directory whose paths are removed, beside /home/*, /root and /Users/*; repeatable.
    #[arg(long, value_name = "DIR")]
    pub home: Vec<String>,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
}
