//! `diff`: which functions grew or shrank between two profiles, and whether that is statistically
//! significant.
//!
//! Not here: the statistics ([`super::statistics`]).
//!
//! The comparison uses each function's share of its own profile's total, so that profiles of
//! different length can be compared. A share also grows when everything else shrinks. So where both
//! profiles have a duration, each entry also has the ratio of its values per second.

use std::{collections::BTreeMap, fmt::Write};

use hashbrown::HashMap;

use super::{
    super::pprof::{
        Command, Messages, Settings,
        prepare::{Report, prepare},
    },
    Cell, Entry, Facts, List, ReportOutput, ReportRequest, Shape,
    rows::{Named, percent},
    runs::{RunShares, dispersions},
    statistics::{Share, Z_95, interval, probability, q_values},
};
use crate::profile::columns::{Columns, merge, scale};

/// Entries shown by default.
const COUNT: usize = 30;
/// The accepted rate of false discoveries.
const MAX_FALSE_RATE: f64 = 0.05;

const CHANGES: Shape = Shape {
    name: "changes",
    one: "change",
    columns: &[
        "id",
        "name",
        "file",
        "line",
        "address",
        "base",
        "base_percent",
        "new",
        "new_percent",
        "change",
        "low",
        "high",
        "p",
        "q",
        "per_second",
        "verdict",
    ],
    groups: &[],
    sums: &["base", "base_percent", "new", "new_percent", "change"],
};

/// Facts about the comparison as a whole.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The base profile.
    pub base: Facts,
    /// The names of the profiles, base first.
    pub names: [String; 2],
    /// The number of samples of each profile, base first.
    pub hits: [f64; 2],
    /// Which value is compared: `flat` or `cum`.
    pub by: &'static str,
    /// How many entries are left out because their change is not significant.
    pub hidden: usize,
}

impl ReportOutput {
    /// The largest significant growth of a function in a comparison, in percentage points, with its
    /// name.
    pub fn largest_growth(&self) -> Option<(f64, String)> {
        let list = &self.list;
        let growth = list.entries.iter().filter_map(|entry| {
            let is_significant = !matches!(list.cell(entry, "verdict"), Cell::Word("not significant"));
            match (list.cell(entry, "change"), list.cell(entry, "name")) {
                (Cell::Percent(change), Cell::Text(name)) if is_significant => Some((*change, name.clone())),
                _ => None,
            }
        });
        growth.filter(|(change, _)| *change > 0.0).max_by(|a, b| a.0.total_cmp(&b.0))
    }
}

/// How many functions have a note on their values per count.
const NOTED: usize = 10;

impl ReportOutput {
    /// Adds notes on the values per count (`requests`), of the total and of the changes with the
    /// largest values; `counts` are the counts of all runs of the base and of the new profile.
    pub fn note_per(&mut self, name: &str, counts: [f64; 2]) {
        let Some(compared) = &self.compared else { return };
        let per = |value: i64, side: usize| value as f64 / counts[side];
        let line = |what: &str, base: i64, new: i64| {
            let (base, new) = (per(base, 0), per(new, 1));
            let ratio = if base > 0.0 { format!("{:.3} times", new / base) } else { "new".into() };
            let unit = &self.facts.unit;
            format!("per {name}: {what}: {base:.6} -> {new:.6} {unit} ({ratio})")
        };
        let mut notes = vec![line("total", compared.base.total, self.facts.total)];
        let value = |entry: &Entry, column| match self.list.cell(entry, column) {
            Cell::Value(value) => *value,
            _ => 0,
        };
        for entry in self.list.entries.iter().take(NOTED) {
            if let Cell::Text(function) = self.list.cell(entry, "name") {
                notes.push(line(function, value(entry, "base"), value(entry, "new")));
            }
        }
        self.notes.extend(notes);
    }
}

impl Compared {
    /// `"base": {...}, "new": {...}, "method": {...},`.
    pub(super) fn json(&self, out: &mut String, text: &dyn Fn(&str) -> String) {
        let [base, new] = &self.names;
        let decimal = super::json::decimal;
        // Writing to memory does not fail.
        let _ = writeln!(
            out,
            "\"base\": {{\"name\": {}, \"total\": {}, \"hits\": {}, \"duration_ns\": {}}},\n\
             \"new\": {{\"name\": {}, \"hits\": {}}},\n\
             \"method\": {{\"by\": {}, \"interval\": \"Newcombe 10, 95%\", \"p\": \"two-proportion z (N-1), exact \
             below 5 expected\", \"q\": \"Benjamini-Hochberg\", \"significant\": \"q < {MAX_FALSE_RATE}\", \
             \"not_significant_left_out\": {}}},",
            text(base),
            self.base.total,
            decimal(self.hits[0]),
            self.base.duration_ns,
            text(new),
            decimal(self.hits[1]),
            text(self.by),
            self.hidden,
        );
    }
}

/// Compares `new` with `base`; `names` are their names (base first). `all`: include changes that
/// are not significant. Errors: the profiles have no value in common, or one of them has only
/// zeros.
pub fn diff(
    both: [Columns; 2],
    names: [String; 2],
    settings: &Settings,
    request: ReportRequest,
    all: bool,
    messages: &mut Messages,
) -> Result<ReportOutput, String> {
    diff_runs(both.map(|one| vec![one]), names, settings, request, all, messages)
}

/// As [`diff`]; each side may have several runs, whose differences show how much chance there is.
pub fn diff_runs(
    runs: [Vec<Columns>; 2],
    names: [String; 2],
    settings: &Settings,
    request: ReportRequest,
    all: bool,
    messages: &mut Messages,
) -> Result<ReportOutput, String> {
    let counts = runs.each_ref().map(Vec::len);
    let mut all_runs: Vec<Columns> = runs.into_iter().flatten().collect();
    scale::keep_common_kinds(&mut all_runs)?;
    scale::to_finest_units(&mut all_runs)?;
    let is_several = counts.iter().any(|count| *count > 1);
    let singles = if is_several { all_runs.clone() } else { Vec::new() };
    let news = all_runs.split_off(counts[0]);
    let both = [merge::combine(all_runs)?, merge::combine(news)?];
    let command = Command::find("top").ok_or("the command top is missing")?;
    let mut settings = settings.clone();
    if settings.granularity.is_empty() {
        settings.granularity = "filefunctions".into();
    }
    let mut sides = Vec::new();
    for (columns, name) in both.into_iter().zip(&names) {
        let side = Side::new(columns, command, &settings, messages)?;
        if side.total <= 0.0 {
            return Err(format!(
                "{name} has no values to compare: the sum of its {} is 0",
                side.report.measured
            ));
        }
        sides.push(side);
    }
    let (Some(mut new), Some(base)) = (sides.pop(), sides.pop()) else {
        return Err("exactly two profiles are needed".into());
    };
    let mut changes = changes(&base, &new);
    if is_several {
        let singles: Result<Vec<Side>, String> =
            singles.into_iter().map(|run| Side::new(run, command, &settings, messages)).collect();
        disperse(&mut changes, &singles?, counts[0]);
    }
    judge(&mut changes);
    let before = changes.len();
    if !all {
        changes.retain(|change| change.q < MAX_FALSE_RATE);
    }
    if new.report.settings.unit == "minimum" {
        // Large and small values are mixed: each gets its own unit.
        new.report.format.to = "auto".into();
    }
    let durations = [&base, &new].map(|side| side.report.columns.header.duration_ns);
    let mut list = List::new(&CHANGES, changes.iter().map(|change| change.entry(durations)).collect());
    let hidden = before - list.entries.len();
    list.truncate(request.count.unwrap_or(COUNT));
    let hits = [base.hits, new.hits];
    let by = if settings.sort == "cum" { "cum" } else { "flat" };
    let compared = Compared { base: Facts::new(&base.report), names, hits, by, hidden };
    let facts = Facts::new(&new.report);
    let mut notes = notes(&base, &new);
    if is_several {
        let [old, now] = counts;
        notes.push(format!("{old} and {now} runs: a change counts if it is larger than runs differ"));
    }
    if hidden > 0 {
        let changes = if hidden == 1 { "other change is" } else { "other changes are" };
        notes.push(format!("{hidden} {changes} within noise (show with --all)"));
    }
    Ok(ReportOutput {
        report: "diff",
        facts,
        list,
        notes,
        format: new.report.format,
        names: super::NameStyle::default(),
        compared: Some(compared),
    })
}

fn notes(base: &Side, new: &Side) -> Vec<String> {
    let durations = [base, new].map(|side| side.report.columns.header.duration_ns as f64 / 1e9);
    let mut notes = vec!["percentages are shares of each profile's own total".to_string()];
    if durations.iter().all(|seconds| *seconds > 0.0) {
        let load = |side: &Side, seconds: f64| side.total / seconds;
        let ratio = load(new, durations[1]) / load(base, durations[0]);
        notes.push(format!("per second, the new profile's total is {ratio:.2} times the base's"));
    } else {
        notes.push("values per second are missing: not both profiles have a duration".into());
    }
    for (name, side) in [("base", base), ("new", new)] {
        if let Counting::Rows = side.counting {
            notes.push(format!(
                "the {name} profile has no sample counts: each row counts as one sample, so fewer changes are \
                significant"
            ));
        }
    }
    notes
}

/// How to get the number of samples of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Counting {
    /// It is this value.
    Value(usize),
    /// It is this value divided by the period.
    Period(usize, f64),
    /// In a heap profile, objects and bytes were scaled up from one sample per `rate` bytes; the
    /// scaling is undone.
    Heap { objects: usize, space: usize, rate: f64 },
    /// It is unknown: one sample per row.
    Rows,
}

impl Counting {
    /// How the samples of the value with index `value` are counted.
    fn of(columns: &Columns, value: usize) -> Counting {
        let header = &columns.header;
        let kind = |at: usize| {
            header.kinds.get(at).map_or(("", ""), |kind| (columns.text(kind.name), columns.text(kind.unit)))
        };
        let find = |name: &str| (0..header.kinds.len()).find(|at| kind(*at).0 == name);
        let period_kind = (columns.text(header.period_kind.name), columns.text(header.period_kind.unit));
        let period = header.period as f64;
        if let Some(samples) = find("samples").filter(|at| kind(*at).1 == "count") {
            return Counting::Value(samples);
        }
        let (name, unit) = kind(value);
        if period_kind == ("space", "bytes") && period > 1.0 {
            let stem = name.trim_end_matches("objects").trim_end_matches("space");
            let sides = (find(&format!("{stem}objects")), find(&format!("{stem}space")));
            if let (Some(objects), Some(space)) = sides {
                return Counting::Heap { objects, space, rate: period };
            }
        }
        if period_kind == (name, unit) && period > 0.0 {
            return Counting::Period(value, period);
        }
        let count = (0..header.kinds.len()).find(|at| kind(*at).1 == "count");
        count.map_or(Counting::Rows, Counting::Value)
    }

    fn hits(self, values: &[i64]) -> f64 {
        let value = |at: usize| values.get(at).map_or(0.0, |value| value.unsigned_abs() as f64);
        match self {
            Counting::Value(at) => value(at),
            Counting::Period(at, period) => value(at) / period,
            Counting::Heap { objects, space, rate } => {
                let average = value(space) / value(objects).max(1.0);
                value(objects) * (1.0 - (-average / rate).exp())
            }
            Counting::Rows => 1.0,
        }
    }
}

/// A sum of weights, and the sum of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    sum: i64,
    squares: f64,
}

impl Sum {
    fn add(&mut self, value: i64, hits: f64) {
        self.sum = self.sum.saturating_add(value);
        // The value is spread over `hits` equal samples.
        self.squares += value as f64 * value as f64 / hits.max(f64::MIN_POSITIVE);
    }
}

/// One of the two profiles.
struct Side {
    report: Report,
    rows: Vec<(Named, Sum)>,
    total: f64,
    total_squares: f64,
    hits: f64,
    counting: Counting,
}

impl Side {
    fn new(
        columns: Columns,
        command: &Command,
        settings: &Settings,
        messages: &mut Messages,
    ) -> Result<Side, String> {
        let before = columns.clone();
        let report = prepare(columns, command, None, settings, messages)?;
        let value = report.measure.value;
        let counting = Counting::of(&before, value);
        let mut side = Side { rows: Vec::new(), total: 0.0, total_squares: 0.0, hits: 0.0, counting, report };
        // Shares are of the unfiltered total, unless relative percentages are requested.
        let all = if settings.relative_percentages { side.report.columns.clone() } else { before };
        let mut sum = Sum::default();
        for sample in 0..all.sample_count() {
            let values = all.values(sample);
            let hits = counting.hits(values);
            if values[value] != 0 && hits > 0.0 {
                sum.add(values[value], hits);
                side.hits += hits;
            }
        }
        (side.total, side.total_squares) = (sum.sum as f64, sum.squares);
        side.sum_rows(settings.sort == "cum");
        Ok(side)
    }

    fn sum_rows(&mut self, by_cum: bool) {
        let places = self.report.places();
        let columns = &self.report.columns;
        let mut sums = vec![Sum::default(); places.infos.len()];
        let mut seen = vec![usize::MAX; places.infos.len()];
        for sample in 0..columns.sample_count() {
            let values = columns.values(sample);
            let (value, hits) = (values[self.report.measure.value], self.counting.hits(values));
            if value == 0 || hits <= 0.0 {
                continue;
            }
            let stack = columns.stack(sample);
            let nodes = stack.iter().flat_map(|location| places.of(*location));
            for node in nodes.take(if by_cum { usize::MAX } else { 1 }) {
                let node = *node as usize;
                if seen[node] != sample {
                    seen[node] = sample;
                    sums[node].add(value, hits);
                }
            }
        }
        let rows = places.infos.iter().zip(sums).filter(|(_, sum)| *sum != Sum::default());
        self.rows = rows.map(|(info, sum)| (Named::new(info, columns), sum)).collect();
    }

    fn share(&self, sum: Sum) -> Share {
        Share::weighted(sum.sum as f64, sum.squares, self.total, self.total_squares)
    }
}

/// The change of one function.
struct Change {
    named: Named,
    base: Sum,
    new: Sum,
    base_total: i64,
    new_total: i64,
    base_share: Share,
    new_share: Share,
    p: f64,
    q: f64,
}

impl Change {
    /// The difference of the shares.
    fn change(&self) -> f64 {
        self.new_share.part - self.base_share.part
    }

    fn verdict(&self) -> &'static str {
        match (self.q < MAX_FALSE_RATE, self.base.sum, self.new.sum) {
            (false, ..) => "not significant",
            (_, 0, _) => "appeared",
            (_, _, 0) => "vanished",
            _ if self.change() > 0.0 => "grew",
            _ => "shrank",
        }
    }

    fn entry(&self, [base_ns, new_ns]: [i64; 2]) -> Entry {
        let (low, high) = interval(self.base_share, self.new_share, Z_95);
        let points = |share: f64| Cell::Percent(share * 100.0);
        let per_second = if base_ns > 0 && new_ns > 0 && self.base.sum != 0 {
            let new = self.new.sum as f64 / new_ns as f64;
            Cell::Ratio(new / (self.base.sum as f64 / base_ns as f64))
        } else {
            Cell::Nothing
        };
        let mut cells = self.named.cells().to_vec();
        cells.extend([Cell::Value(self.base.sum), percent(self.base.sum, self.base_total)]);
        cells.extend([Cell::Value(self.new.sum), percent(self.new.sum, self.new_total)]);
        cells.extend([points(self.change()), points(low), points(high)]);
        cells.extend([Cell::Probability(self.p), Cell::Probability(self.q), per_second]);
        cells.push(Cell::Word(self.verdict()));
        Entry { cells, groups: Vec::new() }
    }
}

/// Sets the q-values, and sorts by the size of the change.
fn judge(changes: &mut [Change]) {
    let q: Vec<f64> = q_values(&changes.iter().map(|change| change.p).collect::<Vec<_>>());
    for (change, q) in changes.iter_mut().zip(q) {
        change.q = q;
    }
    changes.sort_by(|a, b| {
        let size = |change: &Change| change.change().abs();
        size(b).total_cmp(&size(a)).then_with(|| a.named.name.cmp(&b.named.name))
    });
}

/// Replaces the probabilities by those that follow from how much runs differ; the first `bases` of
/// `runs` are of the base.
fn disperse(changes: &mut [Change], runs: &[Side], bases: usize) {
    let by_name: Vec<HashMap<Key, Sum>> =
        runs.iter().map(|run| run.rows.iter().map(|(named, sum)| (key(named), *sum)).collect()).collect();
    let shares: Vec<RunShares> = (changes.iter())
        .map(|change| {
            let share = |(run, sums): (&Side, &HashMap<Key, Sum>)| {
                run.share(sums.get(&key(&change.named)).copied().unwrap_or_default())
            };
            let of = |runs: &[Side], sums: &[HashMap<Key, Sum>]| runs.iter().zip(sums).map(share).collect();
            let (base_runs, new_runs) = runs.split_at(bases);
            let (base_sums, new_sums) = by_name.split_at(bases);
            RunShares { sides: [of(base_runs, base_sums), of(new_runs, new_sums)] }
        })
        .collect();
    for (change, dispersion) in changes.iter_mut().zip(dispersions(&shares).unwrap_or_default()) {
        change.base_share = dispersion.of(change.base_share);
        change.new_share = dispersion.of(change.new_share);
        change.p = dispersion.probability(change.base_share, change.new_share);
    }
}

/// Every function of either profile.
fn changes(base: &Side, new: &Side) -> Vec<Change> {
    let change = |named: &Named, old: Sum, now: Sum| {
        let (base_share, new_share) = (base.share(old), new.share(now));
        Change {
            named: named.clone(),
            base: old,
            new: now,
            base_total: base.total as i64,
            new_total: new.total as i64,
            base_share,
            new_share,
            p: probability(base_share, new_share),
            q: 1.0,
        }
    };
    let pairs = pair(&base.rows, &new.rows);
    let mut used = vec![false; base.rows.len()];
    let mut changes = Vec::new();
    for ((named, now), partner) in new.rows.iter().zip(pairs) {
        let old = partner.map_or_else(Sum::default, |at| {
            used[at] = true;
            base.rows[at].1
        });
        changes.push(change(named, old, *now));
    }
    for ((named, old), _) in base.rows.iter().zip(used).filter(|(_, used)| !used) {
        changes.push(change(named, *old, Sum::default()));
    }
    changes
}

type Key<'a> = (&'a str, &'a str, i64, u64);

fn key(named: &Named) -> Key<'_> {
    (&named.name, &named.file, named.line, named.address)
}

/// For each row of `new`, the row of `base` with the same function: the same name and file, or,
/// where a build has moved the file, the same name if it is unique among the remaining rows of both
/// sides.
fn pair(base: &[(Named, Sum)], new: &[(Named, Sum)]) -> Vec<Option<usize>> {
    let known: HashMap<Key, usize> =
        base.iter().enumerate().map(|(at, (named, _))| (key(named), at)).collect();
    let mut pairs: Vec<Option<usize>> =
        new.iter().map(|(named, _)| known.get(&key(named)).copied()).collect();
    let mut alone: BTreeMap<(&str, i64), [Vec<usize>; 2]> = BTreeMap::new();
    let taken: std::collections::HashSet<usize> = pairs.iter().flatten().copied().collect();
    for (at, (named, _)) in base.iter().enumerate().filter(|(at, _)| !taken.contains(at)) {
        alone.entry((&named.name, named.line)).or_default()[0].push(at);
    }
    for (at, (named, _)) in new.iter().enumerate().filter(|(at, _)| pairs[*at].is_none()) {
        alone.entry((&named.name, named.line)).or_default()[1].push(at);
    }
    let found: Vec<(usize, usize)> = alone
        .into_values()
        .filter_map(|[old, now]| match (&old[..], &now[..]) {
            ([old], [now]) => Some((*old, *now)),
            _ => None,
        })
        .collect();
    for (old, now) in found {
        pairs[now] = Some(old);
    }
    pairs
}
