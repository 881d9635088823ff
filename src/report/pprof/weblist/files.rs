//! From instructions by source line to the functions of the page.
//!
//! Not here: how they are written.

use super::{Collected, Instruction, SourceFile, SourceInstruction};
use crate::{
    profile::unit::percentage,
    report::pprof::{prepare::Report, source_path::Sources},
};

/// Lines of one function nearer than this are shown together.
const GAP: i64 = 20;
/// Lines shown around them.
const MARGIN: i64 = 5;

/// A function of the page.
pub(super) struct Function {
    pub name: String,
    pub file: String,
    pub flat: String,
    pub cum: String,
    pub percent: String,
    pub lines: Vec<Line>,
}

/// A line of source.
pub(super) struct Line {
    pub number: i64,
    pub text: String,
    pub flat: String,
    pub cum: String,
    pub assembly: Vec<Assembly>,
}

/// An instruction, or (`text` empty) an address without one.
pub(super) struct Assembly {
    /// Not what stands behind the one before.
    pub starts_block: bool,
    pub flat: String,
    pub cum: String,
    pub address: u64,
    pub text: String,
    pub file: String,
    pub line: i64,
    /// Inlined calls that lead here: the source, the file, and the line.
    pub calls: Vec<Call>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub source: String,
    pub file: String,
    pub line: i64,
}

/// A stretch of lines of one function.
struct Stretch {
    name: String,
    /// The first line, and that behind the last.
    begin: i64,
    end: i64,
    flat: i64,
    cum: i64,
}

/// The functions of the page, file by file.
pub(super) fn arrange(report: &Report, collected: Collected) -> Result<Vec<Function>, String> {
    let mut names: Vec<&String> = collected.files.keys().collect();
    names.sort_unstable();
    let mut sources = Sources::new(report)?;
    let mut functions = Vec::new();
    for name in names {
        let file = &collected.files[name];
        for stretch in stretches(report, &collected, file) {
            if stretch.cum != 0 {
                functions.push(function(report, &collected, (name, file), stretch, &mut sources));
            }
        }
    }
    Ok(functions)
}

fn stretches(report: &Report, collected: &Collected, file: &SourceFile) -> Vec<Stretch> {
    let mut numbers: Vec<i64> = file.lines.keys().copied().collect();
    numbers.sort_unstable();
    let mut stretches: Vec<Stretch> = Vec::new();
    for number in numbers {
        let name = file.functions.get(&number).map_or("", |name| readable(report, collected, name));
        let (mut flat, mut cum) = (0i64, 0i64);
        for instruction in file.lines.get(&number).into_iter().flatten() {
            let (own_flat, own_cum) = collected
                .instructions
                .get(&instruction.address)
                .map_or((0, 0), |found| (found.flat, found.cum));
            flat = flat.wrapping_add(own_flat);
            cum = cum.wrapping_add(own_cum);
        }
        match stretches.last_mut() {
            Some(last) if number.saturating_sub(last.end) < GAP && last.name == name => {
                last.end = number.saturating_add(1);
                last.flat = last.flat.wrapping_add(flat);
                last.cum = last.cum.wrapping_add(cum);
            }
            _ => {
                let end = number.saturating_add(1);
                stretches.push(Stretch { name: name.into(), begin: number, end, flat, cum });
            }
        }
    }
    widen(&mut stretches);
    stretches
}

/// The name that is shown for the linker's name of a function.
fn readable<'r>(report: &'r Report, collected: &Collected, name: &'r str) -> &'r str {
    let known = report.columns.texts.find(name).and_then(|text| collected.readable.get(&text));
    known.map_or(name, |readable| report.columns.text(*readable))
}

/// Shows some lines before and behind, divided fairly where two stretches are near.
fn widen(stretches: &mut [Stretch]) {
    for at in 0..stretches.len() {
        let begin = stretches[at].begin;
        stretches[at].begin = match at {
            // Line 0 is what has no line; it stays alone.
            0 if begin > MARGIN => begin - MARGIN,
            0 if begin > 1 => 1,
            0 => begin,
            _ => {
                let half = (begin.saturating_sub(stretches[at - 1].end) / 2).min(MARGIN);
                stretches[at - 1].end = stretches[at - 1].end.saturating_add(half);
                begin.saturating_sub(half)
            }
        };
    }
    if let Some(last) = stretches.last_mut() {
        last.end = last.end.saturating_add(MARGIN);
    }
}

fn function(
    report: &Report,
    collected: &Collected,
    (name, file): (&str, &SourceFile),
    stretch: Stretch,
    sources: &mut Sources,
) -> Function {
    let mut lines = Vec::new();
    for number in stretch.begin..stretch.end {
        let instructions = file.lines.get(&number).map_or(&[][..], |instructions| instructions);
        let text = match sources.line(name, number) {
            Some(text) => text.to_string(),
            None if instructions.is_empty() => continue,
            None if number == 0 => "<instructions with unknown line numbers>".into(),
            None => "???".into(),
        };
        lines.push(line(report, collected, number, text, instructions, sources));
    }
    Function {
        name: stretch.name,
        file: name.into(),
        flat: report.format.value(stretch.flat),
        cum: report.format.value(stretch.cum),
        percent: percentage(stretch.cum, report.total),
        lines,
    }
}

fn line(
    report: &Report,
    collected: &Collected,
    number: i64,
    text: String,
    instructions: &[SourceInstruction],
    sources: &mut Sources,
) -> Line {
    let (mut flat, mut cum) = (0i64, 0i64);
    let mut assembly = Vec::new();
    let mut behind_last = 0;
    let unknown = Instruction::default();
    for (at, placed) in instructions.iter().enumerate() {
        let instruction = collected.instructions.get(&placed.address).unwrap_or(&unknown);
        flat = flat.wrapping_add(instruction.flat);
        cum = cum.wrapping_add(instruction.cum);
        let calls: Vec<Call> = placed
            .calls
            .iter()
            .map(|(file, line)| Call {
                source: sources.line(file, *line).unwrap_or("").trim().into(),
                file: file.clone(),
                line: *line,
            })
            .collect();
        assembly.push(Assembly {
            starts_block: at != 0 && placed.address != behind_last,
            flat: report.format.value_or_dot(instruction.flat),
            cum: report.format.value_or_dot(instruction.cum),
            address: instruction.address,
            text: instruction.text.clone(),
            file: instruction.file.clone(),
            line: instruction.line,
            calls,
        });
        behind_last = placed.address.wrapping_add(instruction.length);
    }
    Line {
        number,
        text,
        flat: report.format.value_or_dot(flat),
        cum: report.format.value_or_dot(cum),
        assembly,
    }
}
