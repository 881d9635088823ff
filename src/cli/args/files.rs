//! The arguments of the verbs that read profiles: `tags`, `traces`, `tree`, `list`, `peek`, `diff`,
//! `flame`.

use std::path::PathBuf;

use clap::{Args, builder::TypedValueParser};

use super::{
    report::{ColorArg, ReportArgs, SettingArgs},
    shared::parse_mode,
};
use crate::report::output::TextFormat;

/// The arguments of the reports on whole profiles: `tags`, `traces`, `tree`.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// Profiles to read; several are merged.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// The arguments of the reports on some functions: `list`, `peek`.
#[derive(Debug, Args)]
pub struct MatchArgs {
    /// Functions to show: a regular expression that may match anywhere in the name.
    #[arg(value_name = "REGEX")]
    pub expression: String,
    /// Profiles to read; several are merged.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Shown below `rprof diff --help`.
pub const DIFF_HELP: &str = "\
Compares shares of each profile's own total, so profiles of different lengths can be compared.
With --cum, the shares include all called functions. `rprof help reports` describes the statistics.

Examples:
  rprof diff before.pb.gz after.pb.gz
  rprof diff --base a1.pb.gz,a2.pb.gz,a3.pb.gz --new b1.pb.gz,b2.pb.gz,b3.pb.gz --fail-on +3pp";

/// The arguments of `rprof diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The profile to compare with, and the newer profile.
    #[arg(value_name = "BASE NEW", num_args = 2, required_unless_present_any = ["base", "new"],
          conflicts_with_all = ["base", "new"])]
    pub files: Vec<PathBuf>,
    /// Profiles of several runs to compare with, separated by commas.
    #[arg(long, value_name = "FILES", value_delimiter = ',', requires = "new")]
    pub base: Vec<PathBuf>,
    /// Profiles of several runs of the newer program.
    #[arg(long, value_name = "FILES", value_delimiter = ',', requires = "base")]
    pub new: Vec<PathBuf>,
    /// What is compared, and what counts as a failure.
    #[command(flatten)]
    pub options: DiffOptions,
    /// Print Markdown, for a pull request.
    #[arg(long, conflicts_with = "format")]
    pub markdown: bool,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Options of comparisons.
#[derive(Debug, Args)]
pub struct DiffOptions {
    /// Exit with status 3 if the share of a function grew significantly by at least this many
    /// percentage points: +3pp.
    #[arg(long, value_name = "POINTS", value_parser = parse_points)]
    pub fail_on: Option<f64>,
    /// Also show changes that are within noise.
    #[arg(long)]
    pub all: bool,
    /// Also show values per request (or what you count): requests=1000 for each run, or
    /// requests=1000,1200 for each run of the base and of the newer program.
    #[arg(long, value_name = "NAME=N", value_parser = parse_per)]
    pub per: Option<Per>,
}

/// What values are divided by: `--per`.
#[derive(Clone, Debug, PartialEq)]
pub struct Per {
    /// What was counted: `requests`.
    pub name: String,
    /// How many there were in each run of the base, and of the newer program.
    pub counts: [f64; 2],
}

/// `requests=1000`, `requests=1000,1200`.
fn parse_per(text: &str) -> Result<Per, String> {
    const WRONG: &str = "it must be a name and a number greater than 0 (requests=1000), or a number for each side \
                         (requests=1000,1200)";
    let (name, numbers) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(WRONG)?;
    let number =
        |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    let (base, new) = numbers.split_once(',').unwrap_or((numbers, numbers));
    match (number(base), number(new)) {
        (Some(base), Some(new)) => Ok(Per { name: name.into(), counts: [base, new] }),
        _ => Err(WRONG.into()),
    }
}

/// Parses the name of a format of reports.
pub fn text_formats() -> impl TypedValueParser<Value = TextFormat> {
    super::report::text_format()
}

/// Percentage points: `+3pp`, `3pp`, `0.5`.
fn parse_points(text: &str) -> Result<f64, String> {
    let number = text.trim_start_matches('+').trim_end_matches("pp");
    match number.parse::<f64>() {
        Ok(points) if points.is_finite() && points >= 0.0 => Ok(points),
        _ => Err("it must be a number of percentage points, for example +3pp".into()),
    }
}

/// Shown below `rprof flame --help`.
pub const FLAME_EXAMPLES: &str = "\
Examples:
  rprof flame cpu.pb.gz                          in the terminal
  rprof flame cpu.pb.gz --focus parse --depth 0
  rprof flame cpu.pb.gz -o cpu.svg               for a browser
  rprof flame --diff before.pb.gz after.pb.gz -o diff.html";

/// The arguments of `rprof flame`.
#[derive(Debug, Args)]
pub struct FlameArgs {
    /// Profiles to read; several are merged.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Color frames by how their share changed since this profile.
    #[arg(long, value_name = "BASE")]
    pub diff: Option<PathBuf>,
    /// File to write: .svg or .html (also .folded, and .json for speedscope). `-` is SVG on
    /// standard output. Default: text on standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Without -o: the most rows to draw (0: all; default: as many as the terminal has).
    #[arg(long, value_name = "ROWS", conflicts_with = "output")]
    pub depth: Option<usize>,
    /// Without -o: print function names in full.
    #[arg(long, conflicts_with = "output")]
    pub full_names: bool,
    /// Without -o: when to use colors.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorArg::Auto)]
    pub color: ColorArg,
    /// Permissions of the file in octal (default: those of the file that is replaced, else 600,
    /// which is readable only by you).
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub file_mode: Option<u32>,
    /// Add a row of threads below the root.
    #[arg(long)]
    pub by_thread: bool,
    /// What is counted.
    #[command(flatten)]
    pub counted: SettingArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_given_for_both_sides_or_for_each() {
        let per = |counts| Ok(Per { name: "requests".into(), counts });
        assert_eq!(parse_per("requests=10"), per([10.0, 10.0]));
        assert_eq!(parse_per("requests=10,12.5"), per([10.0, 12.5]));
        for wrong in ["10", "=10", "requests=", "requests=0", "requests=-1", "requests=10,", "requests=nan"] {
            assert!(parse_per(wrong).is_err(), "{wrong}");
        }
    }
}
