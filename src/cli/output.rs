//! Where a profile goes: the file's name, its format, and how it is written.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use humantime::format_rfc3339_seconds;

use super::args::{FormatArg, OutputArgs};
use crate::{
    process::Identity,
    profile::{WriteError, file, proto::Profile, write_gzip},
    report::{self, OutputFormat, RenderOptions},
};

/// A destination, checked before sampling starts.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    /// What is written.
    pub format: OutputFormat,
}

impl Destination {
    /// Reads the flags. Without `--output`, the name consists of the target's name and the time.
    /// Errors: the extension does not determine a format, a binary format would go to a terminal,
    /// or the path is not writable (reported now, not after half a minute of sampling).
    pub fn choose(arguments: &OutputArgs, first: Option<&Identity>) -> Result<Destination> {
        let path = arguments.output.clone().unwrap_or_else(|| default_name(arguments.format, first));
        let format = match arguments.format {
            Some(format) => output_format(format),
            None if path == Path::new("-") => OutputFormat::Pprof,
            None => OutputFormat::from_path(&path)?,
        };
        let destination = Destination { path, format };
        if destination.is_stdout() && format == OutputFormat::Pprof && std::io::stdout().is_terminal() {
            bail!("a pprof file is binary, and standard output is a terminal: use -o FILE or a pipe");
        }
        if !destination.is_stdout() {
            file::check_writable(&destination.path)?;
        }
        Ok(destination)
    }

    /// Whether the profile goes to standard output (`-o -`).
    pub fn is_stdout(&self) -> bool {
        self.path == Path::new("-")
    }

    /// The file; `-` for standard output.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the profile. If that fails (a disk that filled up meanwhile), the profile is saved in
    /// the directory for temporary files instead, and the error names that file.
    pub fn write(&self, profile: &Profile) -> Result<()> {
        if self.is_stdout() {
            let mut stdout = std::io::stdout().lock();
            return report::render(profile, self.format, &RenderOptions::default(), &mut stdout)
                .and_then(|()| Ok(stdout.flush()?))
                .context("cannot write to standard output");
        }
        let render = |writer: &mut dyn Write| {
            Ok(report::render(profile, self.format, &RenderOptions::default(), writer)?)
        };
        write_or_rescue(
            &self.path,
            |path| file::write_atomically(path, render),
            &default_name(Some(FormatArg::Pprof), None),
            |path| file::write_atomically(path, |writer| write_gzip(profile, writer)),
        )
    }
}

fn output_format(format: FormatArg) -> OutputFormat {
    match format {
        FormatArg::Pprof => OutputFormat::Pprof,
        FormatArg::Folded => OutputFormat::Folded,
        FormatArg::Svg => OutputFormat::Svg,
        FormatArg::Html => OutputFormat::Html,
        FormatArg::Speedscope => OutputFormat::Speedscope,
    }
}

/// `rprof-redis-server-1234-20261123T091500Z.pb.gz` in the current directory.
pub fn default_name(format: Option<FormatArg>, first: Option<&Identity>) -> PathBuf {
    let extension = match format.unwrap_or(FormatArg::Pprof) {
        FormatArg::Pprof => "pb.gz",
        FormatArg::Folded => "folded",
        FormatArg::Svg => "svg",
        FormatArg::Html => "html",
        FormatArg::Speedscope => "json",
    };
    PathBuf::from(format!("rprof-{}.{extension}", name_and_time(first)))
}

/// `redis-server-1234-20261123T091500Z`: the common part of the names of a process's files.
pub fn name_and_time(of: Option<&Identity>) -> String {
    let (name, pid) = of.map_or(("profile".into(), 0), |first| (first.display_name(), first.pid));
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let time = format_rfc3339_seconds(std::time::SystemTime::now()).to_string().replace(['-', ':'], "");
    format!("{name}-{pid}-{time}")
}

/// Writes a file with `write`. If that fails (a disk that filled up meanwhile), `write_rescued`
/// saves it as `rescued` in the directory for temporary files, and the error names that file.
pub fn write_or_rescue(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), WriteError>,
    rescued: &Path,
    write_rescued: impl FnOnce(&Path) -> Result<(), WriteError>,
) -> Result<()> {
    let Err(error) = write(path) else { return Ok(()) };
    let elsewhere = std::env::temp_dir().join(rescued);
    match write_rescued(&elsewhere) {
        Ok(()) => Err(anyhow::Error::new(error).context(super::advice::SavedElsewhere(elsewhere))),
        Err(_) => Err(error.into()),
    }
}
