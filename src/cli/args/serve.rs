//! The arguments of `rprof serve`.

use std::path::PathBuf;

use clap::Args;

use super::{
    processes::ProcessArgs,
    shared::{DebugArgs, SamplingArgs},
};
use crate::serve::Address;

/// Shown below `rprof serve --help`.
pub const SERVE_EXAMPLES: &str = "\
Examples:
  rprof serve redis-server
      then: go tool pprof http://127.0.0.1:6060/debug/pprof/profile?seconds=10
  rprof serve --name '^postgres' --listen unix:/run/rprof.sock
  rprof serve --all-mine --listen 0.0.0.0:6060 --token-file TOKEN --tls-cert C.pem --tls-key K.pem";

/// The arguments of `rprof serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Which processes. Those of --name, --container, --cgroup and --unit are the processes that
    /// match at the time of each request; your own processes only, unless --any-user is given.
    #[command(flatten)]
    pub processes: ProcessArgs,
    /// All your own processes.
    #[arg(long, group = "processes",
          conflicts_with_all = ["target", "pid", "name", "container", "cgroup", "systemd_unit"])]
    pub all_mine: bool,
    /// With --name, --container, --cgroup and --unit: include processes of other users. (Otherwise
    /// only your own processes are served.)
    #[arg(long, conflicts_with_all = ["target", "pid", "all_mine"])]
    pub any_user: bool,
    /// Where to listen: an IP address and a port, or unix:PATH. An address that other machines can
    /// reach requires --token-file or --tls-client-ca.
    #[arg(short, long, value_name = "ADDRESS", default_value = "127.0.0.1:6060")]
    pub listen: Address,
    /// Require the token on the first line of this file: `Authorization: Bearer TOKEN`, or as the
    /// password in http://any:TOKEN@HOST/.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Serve TLS with this certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Require a client certificate signed by one of these authorities (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Additional host name that requests may use for this machine; repeatable.
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// Show command-line arguments, which may contain secrets; by default only the program.
    #[arg(long)]
    pub show_arguments: bool,
    /// The default; accepted for older scripts.
    #[arg(long, hide = true, conflicts_with = "show_arguments")]
    pub redact_cmdline: bool,
    /// Directory whose files the source view of /ui/ may show; repeatable. Other files are never
    /// shown, because the profiled process chooses the paths of its sources.
    #[arg(long, value_name = "DIR")]
    pub source_path: Vec<PathBuf>,
    /// The longest profile a request may ask for.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub max_seconds: u64,
    /// How many captures with a duration may run at the same time. Further requests get status 503.
    /// Profiles without a duration (heap, goroutine ...) wait up to 5 seconds for their turn.
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub max_captures: u16,
    /// The largest profile to send.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    pub max_bytes: usize,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
    /// How to sample.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
}
