//! `rprof pprof`: the command line of `go tool pprof` with byte-identical reports.
//!
//! `report::pprof` makes the reports, [`flags`] parses the flags.

pub use collection::unpack_any;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
};

use super::spool;
use crate::{
    profile::columns::Columns,
    report::{
        output::{FORMATS, ReportRequest, TextFormat, build_report, has_reference_text, is_supported},
        pprof::{Command, Settings, commands::Delivery, generate_to, generate_with},
    },
    shell::pprof::Outlet,
};

mod binaries;
mod collection;
mod cpp_names;
mod drawing;
mod flags;
mod names;
mod object;
mod sources;
mod symbolize;
mod usage;
mod viewer;
pub(super) mod web;
mod words;

pub use flags::{Flags, Outcome};

/// Runs `rprof pprof` with the arguments after it. Reports go to `out`, messages to `err`. Returns
/// the exit status: 0, or 2 for any error, as `go tool pprof` does.
pub fn run(arguments: &[String], out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let mut say = |text: &str| {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        // A failure to print a message cannot be reported.
        let _ = write!(err, "{text}{end}");
    };
    let status = match try_run(arguments, out, &mut say) {
        Ok(status) => status,
        Err(error) => {
            say(&error);
            2
        }
    };
    viewer::remove_shown();
    status
}

fn try_run(arguments: &[String], out: &mut dyn Write, say: &mut dyn FnMut(&str)) -> Result<u8, String> {
    let mut flags = match flags::parse(arguments) {
        Outcome::Flags(flags) => *flags,
        Outcome::Help => {
            say(&usage::text());
            return Ok(0);
        }
        Outcome::Refused(error) => {
            say(&error);
            say(&usage::text());
            return Ok(2);
        }
    };
    if flags.arguments.is_empty() {
        say(&usage::text());
    }
    let command = flags.interpret(&mut |path| object::opens(path), say)?;
    let requested = command.as_ref().map(|(command, _)| *command);
    check_format(&flags.format, requested)?;
    if !flags.http.is_empty() {
        web::run(&flags, say)?;
        return Ok(0);
    }
    flags.arguments = spool::expand(&flags.arguments)?;
    let columns = sources::fetch(&flags, say)?;
    match command {
        Some((command, argument)) if is_other_format(&flags.format, command) => {
            let text = formatted(columns, command, argument.as_deref(), &flags, say)?;
            let outlet = Outlet { writer: out, takes_bytes: true };
            // Text, so it is printed, whatever the report's usual delivery is.
            deliver(text.into_bytes(), Delivery::Print, &flags.settings.output, outlet, say)?;
        }
        Some((command, argument)) => {
            let outlet = Outlet { writer: out, takes_bytes: !io::stdout().is_terminal() };
            report(columns, command, argument.as_deref(), &flags.settings, outlet, say)?;
        }
        None => {
            viewer::stay_at_prompt();
            crate::shell::pprof::run(columns, flags.settings.clone(), out, say, &mut report)?;
        }
    }
    Ok(0)
}

/// Checks that the report has this format, which is an extension of `go tool pprof`.
fn check_format(format: &str, command: Option<&Command>) -> Result<(), String> {
    if format.is_empty() {
        return Ok(());
    }
    if TextFormat::find(format).is_none() {
        let known = FORMATS.map(|(name, _)| name).join(", ");
        return Err(format!("-format={format}: unknown format; known are {known}"));
    }
    match command {
        Some(command) if is_supported(command) => Ok(()),
        Some(command) => Err(format!("-format={format} is not available for -{}", command.name)),
        None => Err(format!("-format={format} requires a report, such as -top")),
    }
}

/// Whether the report has another format than in `go tool pprof`.
fn is_other_format(format: &str, command: &Command) -> bool {
    let is_text = TextFormat::find(format) == Some(TextFormat::Text);
    !(format.is_empty() || is_text && has_reference_text(command))
}

/// A report in a format that `go tool pprof` does not have.
fn formatted(
    columns: Columns,
    command: &'static Command,
    argument: Option<&str>,
    flags: &Flags,
    say: &mut dyn FnMut(&str),
) -> Result<String, String> {
    let mut messages = Vec::new();
    let count = usize::try_from(flags.settings.nodecount).ok().map(|count| match count {
        0 => usize::MAX,
        count => count,
    });
    let request = ReportRequest { argument, count, tool: Some(&binaries::LocalFiles) };
    let output = build_report(columns, command, request, &flags.settings, &mut messages);
    messages.iter().for_each(|message| say(message));
    Ok(output?.print(TextFormat::find(&flags.format).unwrap_or_default(), None, false))
}

/// Reads profiles and merges them, for the short forms. For each profile that cannot be read, `say`
/// gets a message that starts with its name.
pub(super) fn fetch(sources: &[String], say: &mut dyn FnMut(&str)) -> Result<Columns, String> {
    sources::fetch(&Flags::of_sources(&spool::expand(sources)?), say)
}

/// Makes a report and delivers it.
pub fn report(
    columns: Columns,
    command: &Command,
    argument: Option<&str>,
    settings: &Settings,
    outlet: Outlet,
    say: &mut dyn FnMut(&str),
) -> Result<(), String> {
    if matches!(command.delivery, Delivery::Print) && settings.output.is_empty() {
        let out = outlet.writer;
        let written = generate_to(&binaries::LocalFiles, columns, command, argument, settings, say, out)?;
        return printed(written.and_then(|()| out.flush()));
    }
    let mut messages = Vec::new();
    let output = generate_with(&binaries::LocalFiles, columns, command, argument, settings, &mut messages);
    messages.iter().for_each(|message| say(message));
    deliver(output?, command.delivery, &settings.output, outlet, say)
}

/// Delivers a finished report to a file, standard output or a viewer.
pub fn deliver(
    mut bytes: Vec<u8>,
    delivery: Delivery,
    output: &str,
    outlet: Outlet,
    say: &mut dyn FnMut(&str),
) -> Result<(), String> {
    match delivery {
        Delivery::Drawing(format) => bytes = drawing::draw(bytes, format, say)?,
        Delivery::Viewer { drawing, .. } if !drawing.is_empty() => {
            bytes = drawing::draw(bytes, drawing, say)?
        }
        _ => {}
    }
    if !output.is_empty() {
        say(&format!("Generating report in {output}"));
        let failed = |error: io::Error| format!("open {output}: {}", words::system_words(&error));
        return fs::write(output, bytes).map_err(failed);
    }
    match delivery {
        Delivery::File(suffix) | Delivery::Drawing(suffix) if !outlet.takes_bytes => {
            let (name, mut file) = numbered_file(Path::new(""), "profile", suffix)?;
            say(&format!("Generating report in {name}"));
            file.write_all(&bytes).map_err(|error| error.to_string())
        }
        Delivery::Viewer { suffix, programs, .. } => viewer::show(&bytes, suffix, programs),
        _ => printed(outlet.writer.write_all(&bytes).and_then(|()| outlet.writer.flush())),
    }
}

fn printed(written: io::Result<()>) -> Result<(), String> {
    match written {
        // A pipe closed early (`| head`) is not an error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Creates `<prefix>001.<suffix>`, or the file with the next free number.
fn numbered_file(folder: &Path, prefix: &str, suffix: &str) -> Result<(String, fs::File), String> {
    for number in 1..10_000 {
        let path = folder.join(format!("{prefix}{number:03}.{suffix}"));
        match fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path.display().to_string(), file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(format!("open {}: {}", path.display(), words::system_words(&error)));
            }
        }
    }
    Err(format!("could not create file of the form {prefix}001.{suffix}"))
}
