//! `list`: the source lines of matching functions, with their values.
//!
//! Not here: finding the files (`pprof::source_path`).

use std::{cmp::Reverse, collections::BTreeMap};

use hashbrown::HashMap;

use super::{
    super::pprof::{
        graph::{Info, Weights, nodes::Places, weigh::weigh},
        prepare::Report,
        source_path::Search,
    },
    Cell, Entry, List, Shape,
    rows::{id, percent},
};

/// Lines shown before and after each line with samples.
const MARGIN: i64 = 5;
/// Functions shown by default.
const COUNT: usize = 20;
/// The longest source line, in characters.
const MAX_LINE_CHARS: usize = 500;

const SOURCES: Shape = Shape {
    name: "functions",
    one: "function",
    columns: &["id", "name", "file", "flat", "flat_percent", "cum", "cum_percent", "missing"],
    groups: &[&LINES],
    sums: &["flat", "flat_percent"],
};

const LINES: Shape = Shape {
    name: "lines",
    one: "line",
    columns: &["line", "flat", "flat_percent", "cum", "cum_percent", "source"],
    groups: &[],
    sums: &["flat", "flat_percent"],
};

/// A function in a file.
struct Function {
    name: u32,
    file: u32,
    weights: Weights,
    start_line: i64,
    lines: BTreeMap<i64, Weights>,
}

/// Functions whose names match, the hottest first. A recursive line or function counts once per
/// stack, so that no value exceeds the total. Errors: there is no argument, or no function matches.
pub(super) fn list(report: &mut Report, count: Option<usize>) -> Result<List, String> {
    let argument =
        report.argument.clone().ok_or("list needs an argument: a regular expression of function names")?;
    let places = report.places();
    let functions = functions(report, &places);
    let mut functions: Vec<Function> = functions
        .into_values()
        .filter(|function| argument.is_match(report.columns.text(function.name)))
        .collect();
    if functions.is_empty() {
        return Err(format!("no function matches `{}`", argument.as_str()));
    }
    functions.sort_by_key(|function| {
        let weight = |weight: i64| Reverse(weight.unsigned_abs());
        let name = report.columns.text(function.name).to_string();
        (weight(function.weights.flat.value()), weight(function.weights.cum.value()), name)
    });
    let search = Search::of(&report.settings)?;
    let count = count.unwrap_or(COUNT);
    let mut list = List::new(&SOURCES, Vec::new());
    let mut known = HashMap::default();
    for (at, function) in functions.iter().enumerate() {
        // Files are read only for shown functions.
        let lines = (at < count).then(|| source(report, function, &search, &mut known));
        list.entries.push(entry(report, function, lines));
    }
    list.truncate(count);
    Ok(list)
}

/// Sums by function and file, and in these by line.
fn functions(report: &Report, places: &Places) -> HashMap<(u32, u32), Function> {
    let by_function = |info: &Info| Info { name: info.name, file: info.file, ..Info::default() };
    let by_line = |info: &Info| Info { line: info.line, ..by_function(info) };
    let mut functions: HashMap<(u32, u32), Function> = HashMap::default();
    let whole = places.merged(by_function);
    for (info, weights) in whole.infos.iter().zip(weigh(&report.columns, &whole, report.measure)) {
        if !weights.flat.is_zero() || !weights.cum.is_zero() {
            let function =
                Function { name: info.name, file: info.file, weights, start_line: 0, lines: BTreeMap::new() };
            functions.insert((info.name, info.file), function);
        }
    }
    let lines = places.merged(by_line);
    for (info, weights) in lines.infos.iter().zip(weigh(&report.columns, &lines, report.measure)) {
        if let Some(function) = functions.get_mut(&(info.name, info.file))
            && !(weights.flat.is_zero() && weights.cum.is_zero())
        {
            function.lines.insert(info.line, weights);
        }
    }
    for info in &places.infos {
        if let Some(function) = functions.get_mut(&(info.name, info.file))
            && info.start_line > 0
            && (function.start_line == 0 || info.start_line < function.start_line)
        {
            function.start_line = info.start_line;
        }
    }
    functions
}

type Known = HashMap<u32, Result<Vec<String>, String>>;

/// The lines around those with samples, and the function's first line; or why there are none.
fn source(
    report: &Report,
    function: &Function,
    search: &Search,
    known: &mut Known,
) -> Result<Vec<Entry>, String> {
    let text = known.entry(function.file).or_insert_with(|| match report.columns.text(function.file) {
        "" => Err("the profile has no file name for it".into()),
        file => {
            let text = search.read(file)?;
            Ok(text.lines().map(String::from).collect())
        }
    });
    let text = text.as_ref().map_err(Clone::clone)?;
    let mut numbers: Vec<i64> = vec![function.start_line];
    for number in function.lines.keys() {
        let first = number.saturating_sub(MARGIN).max(function.start_line);
        numbers.extend(first..=number.saturating_add(MARGIN));
    }
    numbers.sort_unstable();
    numbers.dedup();
    let source = |number: i64| usize::try_from(number - 1).ok().and_then(|at| text.get(at));
    let lines = numbers.into_iter().filter_map(|number| Some((number, source(number)?)));
    Ok(lines.map(|(number, source)| line(report, function, number, source)).collect())
}

fn line(report: &Report, function: &Function, number: i64, source: &str) -> Entry {
    let weights = function.lines.get(&number).copied().unwrap_or_default();
    let mut cells = vec![Cell::Number(number)];
    cells.extend(weight_cells(&weights, report.total));
    cells.push(Cell::Text(source.chars().take(MAX_LINE_CHARS).collect()));
    Entry { cells, groups: Vec::new() }
}

fn weight_cells(weights: &Weights, total: i64) -> [Cell; 4] {
    let (flat, cum) = (weights.flat.value(), weights.cum.value());
    [Cell::Value(flat), percent(flat, total), Cell::Value(cum), percent(cum, total)]
}

/// `lines`: `None` where they were not read.
fn entry(report: &Report, function: &Function, lines: Option<Result<Vec<Entry>, String>>) -> Entry {
    let (name, file) = (report.columns.text(function.name), report.columns.text(function.file));
    let mut cells = vec![Cell::Text(id(name, file, None)), Cell::Text(name.into())];
    cells.push(if file.is_empty() { Cell::Nothing } else { Cell::Text(file.into()) });
    cells.extend(weight_cells(&function.weights, report.total));
    let (entries, missing) = match lines {
        // The numbers are shown without the source.
        Some(Err(why)) => (bare(report, function), Cell::Text(why)),
        Some(Ok(lines)) if lines.is_empty() => {
            let why = "the file has no such lines: it is not the version that the program was built from";
            (bare(report, function), Cell::Text(why.into()))
        }
        Some(Ok(lines)) => (lines, Cell::Nothing),
        None => (Vec::new(), Cell::Nothing),
    };
    cells.push(missing);
    Entry { cells, groups: vec![List::new(&LINES, entries)] }
}

fn bare(report: &Report, function: &Function) -> Vec<Entry> {
    function.lines.keys().map(|number| line(report, function, *number, "")).collect()
}
