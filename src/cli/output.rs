//! Where a profile goes: the file's name, its format, and how it is written.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use humantime::format_rfc3339_seconds;

use super::args::{FormatArg, OutputArgs};
use crate::{
    process::Identity,
    profile::{
        FileOptions, WriteError,
        file::{self, pipe::PipeWriter},
        proto::Profile,
        write_gzip,
    },
    report::{self, OutputFormat, RenderOptions},
};

/// A destination, checked before sampling starts.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    options: FileOptions,
    /// What is written.
    pub format: OutputFormat,
}

impl Destination {
    /// Reads the flags. Without `--output`, the name consists of the target's name and the time.
    /// Errors: the extension does not determine a format, a binary format would go to a terminal,
    /// or the path is not writable (reported now, not after half a minute of sampling).
    pub fn choose(arguments: &OutputArgs, targets: &[Identity]) -> Result<Destination> {
        let path = arguments.output.clone().unwrap_or_else(|| default_name(arguments.format, targets));
        let format = match arguments.format {
            Some(format) => output_format(format),
            None if path == Path::new("-") => OutputFormat::Pprof,
            // The error that a directory has no extension would be misleading.
            None if path.is_dir() => bail!(WriteError::IsDirectory { path }),
            None => OutputFormat::from_path(&path)?,
        };
        let destination = Destination { path, options: file_options(arguments.file_mode), format };
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
            let stdout = PipeWriter::stdout().context("cannot write to standard output")?;
            let mut stdout = io::BufWriter::with_capacity(1 << 16, stdout);
            return report::render(profile, self.format, &RenderOptions::default(), &mut stdout)
                .and_then(|()| Ok(stdout.flush()?))
                .context("cannot write to standard output");
        }
        let render = |writer: &mut dyn Write| {
            Ok(report::render(profile, self.format, &RenderOptions::default(), writer)?)
        };
        write_or_rescue(
            &self.path,
            &self.options,
            render,
            &default_name(Some(FormatArg::Pprof), &[]),
            |writer| write_gzip(profile, writer),
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
pub fn default_name(format: Option<FormatArg>, targets: &[Identity]) -> PathBuf {
    let extension = match format.unwrap_or(FormatArg::Pprof) {
        FormatArg::Pprof => "pb.gz",
        FormatArg::Folded => "folded",
        FormatArg::Svg => "svg",
        FormatArg::Html => "html",
        FormatArg::Speedscope => "json",
    };
    PathBuf::from(format!("rprof-{}.{extension}", name_and_time(targets)))
}

/// `redis-server-1234-20261123T091500Z`, of several processes `redis-server-1234-and-2-more-2026…`:
/// the common part of the names of the processes' files.
pub fn name_and_time(targets: &[Identity]) -> String {
    let (name, pid) =
        targets.first().map_or(("profile".into(), 0), |first| (first.display_name(), first.pid));
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let more = match targets.len() {
        0 | 1 => String::new(),
        count => format!("and-{}-more-", count - 1),
    };
    let time = format_rfc3339_seconds(std::time::SystemTime::now()).to_string().replace(['-', ':'], "");
    format!("{name}-{pid}-{more}{time}")
}

/// The permissions and the owner of a new file: under sudo(8), in the directories of the user who
/// runs it, it belongs to that user.
pub fn file_options(mode: Option<u32>) -> FileOptions {
    let id = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let user = nix::unistd::geteuid().is_root().then(|| id("SUDO_UID").zip(id("SUDO_GID"))).flatten();
    FileOptions { mode, owner: user.filter(|(user, _)| *user != 0) }
}

/// Writes a file. If that fails (a disk that filled up meanwhile), `write_rescued` saves the data
/// under the name `rescued` in a new private directory below that for temporary files, and the
/// error names it.
pub fn write_or_rescue(
    path: &Path,
    options: &FileOptions,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    rescued: &Path,
    write_rescued: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let Err(error) = file::write_file(path, options, write) else { return Ok(()) };
    let name = rescued.file_name().unwrap_or(rescued.as_os_str());
    match file::write_rescued(&std::env::temp_dir(), name, write_rescued) {
        Ok(elsewhere) => Err(anyhow::Error::new(error).context(super::advice::SavedElsewhere(elsewhere))),
        Err(_) => Err(error.into()),
    }
}
