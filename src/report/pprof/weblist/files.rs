//! Groups instructions by source line into the functions of the page.
//!
//! Not here: writing them.

use super::{Collected, Instruction, SourceFile, SourceInstruction};
use crate::{
    profile::unit::percentage,
    report::pprof::{prepare::Report, source_path::Sources},
};

/// Lines of one function nearer than this are shown together.
const GAP: i64 = 20;
/// Lines shown before and after.
const MARGIN: i64 = 5;

/// A function of the page.
pub(super) struct Function {
    /// The name.
    pub name: String,
    /// The source file.
    pub file: String,
    /// The flat value.
    pub flat: String,
    /// The cumulative value.
    pub cum: String,
    /// The share of the total.
    pub percent: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A line of source.
pub(super) struct Line {
    /// The line number.
    pub number: i64,
    /// The source text.
    pub text: String,
    /// The flat value.
    pub flat: String,
    /// The cumulative value.
    pub cum: String,
    /// Its instructions.
    pub assembly: Vec<Assembly>,
}

/// An instruction, or an address without one (`text` is empty).
pub(super) struct Assembly {
    /// Whether it does not follow the previous one in memory.
    pub starts_block: bool,
    /// The flat value.
    pub flat: String,
    /// The cumulative value.
    pub cum: String,
    /// The address in the file.
    pub address: u64,
    /// The assembly text.
    pub text: String,
    /// The source file.
    pub file: String,
    /// The line.
    pub line: i64,
    /// The inlined calls that lead here.
    pub calls: Vec<Call>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The source text of the call.
    pub source: String,
    /// The source file.
    pub file: String,
    /// The line.
    pub line: i64,
}

/// A range of lines of one function.
struct Stretch {
    name: String,
    /// The first line.
    begin: i64,
    end: i64,
    flat: i64,
    cum: i64,
}

/// The functions of the page, file by file.
pub(super) fn arrange(report: &Report, collected: Collected) -> Result<Vec<Function>, String> {
    let mut names: Vec<&String> = collected.files.keys().collect();
    names.sort_unstable();
    let mut sources = Sources::new(&report.settings)?;
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

/// The shown name for the linker's name of a function.
fn readable<'r>(report: &'r Report, collected: &Collected, name: &'r str) -> &'r str {
    let known = report.columns.texts.find(name).and_then(|text| collected.readable.get(&text));
    known.map_or(name, |readable| report.columns.text(*readable))
}

/// Adds lines before and after; lines between two near ranges are divided equally.
fn widen(stretches: &mut [Stretch]) {
    for at in 0..stretches.len() {
        let begin = stretches[at].begin;
        stretches[at].begin = match at {
            // Line 0 means no line; it is not extended.
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
