//! The arguments of `rprof compare`.

use std::path::PathBuf;

use clap::Args;

use super::{
    files::{DiffOptions, text_formats},
    shared::{DebugArgs, SamplingArgs},
};
use crate::report::output::TextFormat;

/// Shown below `rprof compare --help`.
pub const COMPARE_HELP: &str = "\
Runs the commands in turn (A B A B ...), profiles each run like `rprof record`, and compares them like
`rprof diff --base … --new …`: a change counts if it is larger than runs of one command differ.
What the commands print goes to standard error. A run that fails ends the comparison.

Examples:
  rprof compare -n 5 -- ./bench-old -- ./bench-new
  rprof compare -n 5 --fail-on +3pp --markdown --per requests=10000 -- ./old load.txt -- ./new load.txt";

/// The arguments of `rprof compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Runs of each command.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub runs: u32,
    /// What is compared, and what counts as a failure.
    #[command(flatten)]
    pub options: DiffOptions,
    /// Print Markdown, for a pull request.
    #[arg(long, conflicts_with = "format")]
    pub markdown: bool,
    /// Output format.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = text_formats())]
    pub format: TextFormat,
    /// Sort and compare by cumulative values, which include called functions.
    #[arg(long)]
    pub cum: bool,
    /// Keep the profiles in this directory, as base-1.pb.gz, new-1.pb.gz ...
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Do not print which run is going on.
    #[arg(short, long)]
    pub quiet: bool,
    /// How to sample.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Where names come from.
    #[command(flatten)]
    pub debug: DebugArgs,
    /// The command to compare with, `--`, and the newer command.
    #[arg(last = true, required = true, value_name = "OLD... -- NEW...")]
    pub commands: Vec<std::ffi::OsString>,
}
