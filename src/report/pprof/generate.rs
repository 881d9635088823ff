//! Generates the report of a command: prepares it, and prints it as its kind demands.

use std::io::{self, Write};

use super::{
    Command, Settings, callgrind,
    commands::ReportKind,
    disasm, dot, list,
    objects::{NoObjects, ObjectTool},
    prepare::{Messages, Report, prepare},
    raw, tags, top, top_proto, traces, tree, weblist,
};
use crate::{profile::columns::Columns, text::go::truncate};

/// Generates the report of `command`. Messages for the user are added to `messages`, also when
/// there is an error. Errors: the texts of the reference.
pub fn generate(
    columns: Columns,
    command: &Command,
    argument: Option<&str>,
    settings: &Settings,
    messages: &mut Messages,
) -> Result<Vec<u8>, String> {
    generate_with(&NoObjects, columns, command, argument, settings, messages)
}

/// As [`generate`]; reports with instructions open programs with `tool`.
pub fn generate_with(
    tool: &dyn ObjectTool,
    columns: Columns,
    command: &Command,
    argument: Option<&str>,
    settings: &Settings,
    messages: &mut Messages,
) -> Result<Vec<u8>, String> {
    let mut report = prepare(columns, command, argument, settings, messages)?;
    let mut bytes = Vec::new();
    match write_long(&mut report, &mut bytes) {
        Some(written) => written.map(|()| bytes).map_err(|error| error.to_string()),
        None => print(report, tool, messages),
    }
}

/// As [`generate_with`], but passes on the messages first, and writes long reports while they are
/// generated. The inner error is that of the writer.
pub fn generate_to(
    tool: &dyn ObjectTool,
    columns: Columns,
    command: &Command,
    argument: Option<&str>,
    settings: &Settings,
    say: &mut dyn FnMut(&str),
    out: &mut dyn Write,
) -> Result<io::Result<()>, String> {
    let mut messages = Vec::new();
    let prepared = prepare(columns, command, argument, settings, &mut messages);
    messages.drain(..).for_each(|message| say(&message));
    let mut report = prepared?;
    if let Some(written) = write_long(&mut report, out) {
        return Ok(written);
    }
    let text = print(report, tool, &mut messages);
    messages.iter().for_each(|message| say(message));
    Ok(out.write_all(&text?))
}

/// Writes a report with a part for each sample; `None` if it is not such a report.
fn write_long(report: &mut Report, out: &mut dyn Write) -> Option<io::Result<()>> {
    match report.kind {
        ReportKind::Raw => Some(raw::write(&report.columns, out)),
        ReportKind::Traces => Some(traces::write(report, out)),
        _ => None,
    }
}

fn print(mut report: Report, tool: &dyn ObjectTool, messages: &mut Messages) -> Result<Vec<u8>, String> {
    match report.kind {
        ReportKind::Callgrind => Ok(callgrind::print(&mut report)),
        ReportKind::Comments => Ok(comments(&report)),
        ReportKind::Dot => Ok(dot::print(&mut report)),
        ReportKind::List => list::print(&mut report),
        ReportKind::Proto => proto(&mut report),
        ReportKind::Tags => Ok(tags::print(&report)),
        ReportKind::Text => Ok(top::print(&mut report)),
        ReportKind::TopProto => top_proto::print(&mut report),
        ReportKind::Tree => tree::print(&mut report),
        ReportKind::Raw | ReportKind::Traces => unreachable!("written while they are generated"),
        ReportKind::Disassembly => disasm::print(&mut report, tool, messages),
        ReportKind::WebList => weblist::print(&report, tool),
    }
}

fn comments(report: &Report) -> Vec<u8> {
    let comments = report.columns.header.comments.iter();
    comments.flat_map(|comment| [report.columns.text(*comment), "\n"]).collect::<String>().into_bytes()
}

fn proto(report: &mut Report) -> Result<Vec<u8>, String> {
    if report.format.divides() {
        let ratio = report.format.ratio;
        report.columns.change_values(|values| {
            values.iter_mut().for_each(|value| *value = truncate(*value as f64 * ratio));
            true
        });
    }
    let mut out = Vec::new();
    report.columns.write_gzip(&mut out).map_err(|error| error.to_string())?;
    Ok(out)
}
