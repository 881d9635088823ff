//! The options on which processes a verb reads: the same for every verb.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use regex::Regex;

use crate::{
    process::{filter::Filter, select::MatchOn},
    text::shell::{quote, quote_path},
};

/// Which processes: a PID or a name without an option, or options.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("processes")
    .args(["target", "pid", "name", "container", "cgroup", "systemd_unit"]).required(true).multiple(true)))]
pub struct ProcessArgs {
    /// A process: its PID, or its name or a part of it. If several processes match, rprof lists
    /// them.
    #[arg(value_name = "PID|NAME", conflicts_with_all = ["pid", "name", "container", "cgroup", "systemd_unit"])]
    pub target: Option<String>,
    /// Options that select processes.
    #[command(flatten)]
    pub selectors: SelectorArgs,
}

/// Options that select processes. Conditions given together must all hold; the processes of `--pid`
/// are added.
#[derive(Debug, Default, Args)]
pub struct SelectorArgs {
    /// PID of a process; repeatable.
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub pid: Vec<u32>,
    /// All processes whose name or program path matches this regular expression.
    #[arg(short, long, value_name = "REGEX", value_parser = parse_name)]
    pub name: Option<Regex>,
    /// With --name: also match command-line arguments.
    #[arg(long, requires = "name")]
    pub match_args: bool,
    /// All processes in this container: its name (needs root), or at least the first 12 digits of
    /// its ID. Docker, containerd, CRI-O and Podman.
    #[arg(long, value_name = "ID|NAME")]
    pub container: Option<String>,
    /// All processes in this control group and the groups in it: a path as in /proc/PID/cgroup, or
    /// a folder in /sys/fs/cgroup.
    #[arg(long, value_name = "PATH", value_parser = parse_cgroup)]
    pub cgroup: Option<PathBuf>,
    /// All processes of this systemd unit; without a suffix, of UNIT.service.
    #[arg(long = "unit", visible_alias = "systemd-unit", value_name = "UNIT")]
    pub systemd_unit: Option<String>,
    /// Also child processes: those running now and, while samples are taken, those started later.
    #[arg(long)]
    pub children: bool,
}

impl SelectorArgs {
    /// The conditions.
    pub fn filter(&self) -> Filter {
        Filter {
            name: self.name.clone(),
            on: if self.match_args { MatchOn::CommandLine } else { MatchOn::Program },
            container: self.container.clone(),
            cgroup: self.cgroup.clone(),
            unit: self.systemd_unit.clone(),
        }
    }

    /// The conditions as options: `--name redis --unit web`.
    pub fn conditions(&self) -> String {
        let mut options = Vec::new();
        options.extend(self.name.as_ref().map(|name| format!("--name {}", quote(name.as_str()))));
        options.extend(self.container.as_ref().map(|container| format!("--container {}", quote(container))));
        options.extend(self.cgroup.as_ref().map(|path| format!("--cgroup {}", quote_path(path))));
        options.extend(self.systemd_unit.as_ref().map(|unit| format!("--unit {}", quote(unit))));
        options.join(" ")
    }
}

/// Parses the regular expression of `--name`, which must not match every process.
fn parse_name(text: &str) -> Result<Regex, String> {
    match text {
        "" => Err("it matches every process: give a part of a name".into()),
        _ => Regex::new(text).map_err(|error| error.to_string()),
    }
}

/// Parses the PID of `--pid`.
fn parse_pid(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("it is not a process ID; omit --pid to give a name: {}", quote(text)))
}

/// Parses a control group other than the root, which has every process.
fn parse_cgroup(text: &str) -> Result<PathBuf, String> {
    match text.trim_matches('/') {
        "" | "sys/fs/cgroup" => Err("it has every process: name a control group in it".into()),
        _ => Ok(PathBuf::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        processes: ProcessArgs,
    }

    fn parsed(words: &[&str]) -> Result<ProcessArgs, String> {
        let parsed = Words::try_parse_from([&["rprof"], words].concat());
        parsed.map(|words| words.processes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_process_is_given_without_an_option_or_by_options() {
        assert_eq!(parsed(&["redis"]).expect("a name").target.as_deref(), Some("redis"));
        let selectors = parsed(&["--name", "a b", "--unit", "web", "--pid", "7", "--children"]);
        let selectors = selectors.expect("options").selectors;
        assert_eq!(selectors.conditions(), "--name 'a b' --unit web");
        assert_eq!((selectors.pid, selectors.children), (vec![7], true));
    }

    #[test]
    fn a_process_is_required_and_is_not_given_in_two_ways() {
        for wrong in [&[][..], &["--children"], &["redis", "--pid", "1"], &["1", "--unit", "web"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_root_of_the_control_groups_is_refused() {
        for root in ["/", "", "/sys/fs/cgroup/"] {
            assert!(
                parsed(&["--cgroup", root]).is_err_and(|error| error.contains("every process")),
                "{root}"
            );
        }
    }
}
