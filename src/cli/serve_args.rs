//! What `rprof serve` takes.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use regex::Regex;

use super::args::{DebugArgs, SamplingArgs};
use crate::serve::Address;

pub const SERVE_EXAMPLES: &str = "\
Examples:
  rprof serve --pid 1234                  then: go tool pprof http://127.0.0.1:6060/debug/pprof/profile?seconds=10
  rprof serve --name '^postgres' --listen unix:/run/rprof.sock
  rprof serve --all-mine --listen 0.0.0.0:6060 --token-file TOKEN --tls-cert C.pem --tls-key K.pem";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("served").args(["target", "pid", "name", "all_mine"]).required(true).multiple(false)))]
pub struct ServeArgs {
    /// Process to serve.
    #[arg(value_name = "PID")]
    pub target: Option<u32>,
    /// Process to serve; may be given several times.
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// All processes whose name, program or command line matches this regular expression, at the time of
    /// each request; your own, unless --any-user.
    #[arg(short, long, value_name = "REGEX")]
    pub name: Option<Regex>,
    /// All processes of your own.
    #[arg(long)]
    pub all_mine: bool,
    /// With --name: processes of other users too.
    #[arg(long, requires = "name")]
    pub any_user: bool,
    /// Where to listen: an IP address and a port, or unix:PATH. What other machines can reach needs
    /// --token-file, or --tls-client-ca.
    #[arg(short, long, value_name = "ADDRESS", default_value = "127.0.0.1:6060")]
    pub listen: Address,
    /// Answer only those that show the token on this file's first line: `Authorization: Bearer TOKEN`, or
    /// as the password in http://any:TOKEN@HOST/.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Speak TLS, with this certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Answer only those that show a certificate signed by one of these (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Another name by which this machine may be called; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// Leave arguments out of command lines: they may hold secrets.
    #[arg(long)]
    pub redact_cmdline: bool,
    /// Folder whose files the source view of /ui/ may show; may be given several times. Others are not shown: a process
    /// says itself which files its source is.
    #[arg(long, value_name = "FOLDER")]
    pub source_path: Vec<PathBuf>,
    /// The longest profile that may be asked for.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub max_seconds: u64,
    /// How many captures may run at one time; what is of a moment waits for its turn.
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub max_captures: u16,
    /// The largest profile that is sent.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    pub max_bytes: usize,
    /// Say nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub debug: DebugArgs,
}
