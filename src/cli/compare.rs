//! `rprof compare -- OLD -- NEW`: runs two commands in turn, profiles each run, and compares the
//! profiles.
//!
//! Each run is a `rprof record` of its own; `report::changes` compares, as for `rprof diff`.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    args::{CompareArgs, DebugArgs, SamplingArgs, stdout_width},
    report::{self, Comparison},
    sampling::check_debug_options,
    say,
    signals::stop_on_signals,
};
use crate::{
    capture::Stop,
    profile::columns::Columns,
    report::{
        output::{NameStyle, TextFormat, runs::total_change},
        pprof::Settings,
    },
};

/// The names of the sides in files and messages.
const SIDES: [&str; 2] = ["base", "new"];
/// From this probability on, a change of the total is noise.
const MAX_CHANCE: f64 = 0.01;

/// Runs the verb. Returns the exit status: that of `rprof diff`.
pub fn run(arguments: &CompareArgs) -> Result<u8> {
    let commands = both(&arguments.commands)?;
    check_debug_options(&arguments.debug)?;
    let kept = match &arguments.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            None
        }
        None => Some(tempfile::Builder::new().prefix("rprof-compare-").tempdir()?),
    };
    let folder = match (&kept, &arguments.keep) {
        (Some(folder), _) => folder.path(),
        (None, keep) => keep.as_deref().unwrap_or(Path::new(".")),
    };
    let runs = record_all(arguments, &commands, folder)?;
    let settings =
        Settings { sort: if arguments.cum { "cum" } else { "flat" }.into(), ..Settings::default() };
    let notes = total_note(&runs).into_iter().collect();
    let names = commands.map(words);
    let comparison = Comparison { settings, count: None, options: &arguments.options, notes };
    let format = if arguments.markdown { TextFormat::Markdown } else { arguments.format };
    report::changes(runs, names, comparison, |mut output| {
        output.names = NameStyle { full: false, width: stdout_width() };
        report::to_stdout(output.print(format, None, false).as_bytes())
    })
}

/// The two commands, which `--` separates.
fn both(words: &[OsString]) -> Result<[&[OsString]; 2]> {
    let mut parts = words.split(|word| word == "--");
    match (parts.next(), parts.next(), parts.next()) {
        (Some(old), Some(new), None) if !old.is_empty() && !new.is_empty() => Ok([old, new]),
        _ => bail!("two commands are needed, separated by --: rprof compare -- OLD -- NEW"),
    }
}

fn words(command: &[OsString]) -> String {
    command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The profiles of all runs of both commands.
fn record_all(
    arguments: &CompareArgs,
    commands: &[&[OsString]; 2],
    folder: &Path,
) -> Result<[Vec<Columns>; 2]> {
    let ended = stop_on_signals()?;
    let options = options(&arguments.sampling, &arguments.debug);
    let mut files: [Vec<PathBuf>; 2] = Default::default();
    for run in 1..=arguments.runs {
        for (side, command) in commands.iter().enumerate() {
            if ended.is_set() {
                bail!("interrupted in run {run} of {}", arguments.runs);
            }
            if !arguments.quiet {
                say(&format!("run {run} of {}: {}", arguments.runs, words(command)));
            }
            let file = folder.join(format!("{}-{run}.pb.gz", SIDES[side]));
            record(&options, command, &file, &ended)
                .with_context(|| format!("run {run} of `{}` failed", words(command)))?;
            files[side].push(file);
        }
    }
    let [base, new] = files.map(|files| {
        files.iter().map(|file| report::read(std::slice::from_ref(file))).collect::<Result<Vec<Columns>>>()
    });
    Ok([base?, new?])
}

/// How often it is checked whether a run has ended.
const WAIT_EVERY: Duration = Duration::from_millis(20);

/// Profiles one run of a command.
fn record(options: &[OsString], command: &[OsString], file: &Path, ended: &Stop) -> Result<()> {
    // A file of an earlier comparison would be taken for that of this run.
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", file.display()));
        }
        _ => {}
    }
    let mut child = Command::new("/proc/self/exe")
        .args(["record", "--quiet", "-o"].map(OsStr::new))
        .arg(file)
        .args(options)
        .arg("--")
        .args(command)
        // Standard output is the report's.
        .stdout(Stdio::from(io::stderr()))
        .spawn()
        .context("cannot start rprof record")?;
    let mut is_told = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if ended.is_set() && !std::mem::replace(&mut is_told, true) {
            // The run passes it on to its command.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        }
        std::thread::sleep(WAIT_EVERY);
    };
    if !status.success() {
        bail!("{status}: only runs that succeed are compared");
    }
    if !file.is_file() {
        bail!("it has no profile");
    }
    Ok(())
}

/// The options of `rprof record` that have the same meaning.
fn options(sampling: &SamplingArgs, debug: &DebugArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut add = |name: &str, value: &dyn std::fmt::Display| {
        words.push(format!("--{name}={value}").into());
    };
    add("frequency", &sampling.frequency);
    add("max-stack-bytes", &sampling.max_stack_bytes);
    add("buffer-bytes", &sampling.buffer_bytes);
    for (name, value) in
        [("sampler", sampling.sampler.to_possible_value()), ("frames", sampling.frames.to_possible_value())]
    {
        if let Some(value) = value {
            add(name, &value.get_name());
        }
    }
    for label in sampling.label.iter().filter_map(ValueEnum::to_possible_value) {
        add("label", &label.get_name());
    }
    if let Some(urls) = &debug.debuginfod {
        add("debuginfod", urls);
    }
    if sampling.no_kernel {
        words.push("--no-kernel".into());
    }
    for folder in &debug.debug_dir {
        words.extend(["--debug-dir".into(), folder.clone().into_os_string()]);
    }
    words
}

/// How the total of a run changed: each run is the whole command.
fn total_note(runs: &[Vec<Columns>; 2]) -> Option<String> {
    let totals = runs.each_ref().map(|runs| runs.iter().map(total).collect::<Vec<f64>>());
    let change = total_change(&totals[0], &totals[1])?;
    let verdict = if change.p < MAX_CHANCE { "significant" } else { "within noise" };
    Some(format!("the total of a run is {:.3} times the base's (p {:.4}): {verdict}", change.ratio, change.p))
}

fn total(columns: &Columns) -> f64 {
    let value = columns.value_index("").unwrap_or(0);
    (0..columns.sample_count())
        .filter_map(|at| columns.values(at).get(value))
        .map(|value| *value as f64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_separated_by_two_hyphens() {
        let list = |words: &str| words.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        let words = list("old -x -- new");
        let [old, new] = both(&words).expect("two commands");
        assert_eq!((old.len(), new.len()), (2, 1));
        for wrong in ["old new", "old --", "-- new", "a -- b -- c"] {
            assert!(both(&list(wrong)).is_err(), "{wrong}");
        }
    }
}
