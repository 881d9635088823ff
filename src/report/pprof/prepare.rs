//! Prepares a report from a profile and settings: filters, totals, granularity, in the order of the
//! reference.
//!
//! Not here: the reports themselves.

use super::{
    Command, Settings,
    commands::ReportKind,
    format::Format,
    graph::{
        Info, Measure, Weights,
        nodes::{Naming, Places},
        order::NodeOrder,
        trim::{Edges, Labelling, Limits, Trimmed, trimmed, trimmed_tree},
        weigh::weigh,
    },
    source_path,
    tag_filter::TagFilter,
    tag_frames,
};
use crate::profile::{
    columns::{
        Columns,
        aggregate::Detail,
        filter::ByName,
        labels::{BASE_KEY, Units},
    },
    go_regexp::GoRegexp,
};
use crate::text::path::base_name;

/// Messages for the user besides the report.
pub type Messages = Vec<String>;

/// The data of a report.
pub(in crate::report) struct Report {
    /// The filtered and aggregated profile.
    pub columns: Columns,
    /// The kind of report.
    pub kind: ReportKind,
    /// The settings, adjusted to the command.
    pub settings: Settings,
    /// How samples are weighed.
    pub measure: Measure,
    /// How values are written.
    pub format: Format,
    /// The name of the measured value.
    pub measured: String,
    /// The total that percentages refer to.
    pub total: i64,
    /// The units of numeric labels.
    pub units: Units,
    /// The argument, for commands that have one.
    pub argument: Option<GoRegexp>,
    /// The active filters.
    pub filters: Vec<String>,
    /// The name of the main binary.
    pub title: String,
}

/// The profile after filters and aggregation, and the index of the measured value. Errors: the
/// texts of the reference.
pub fn filtered(
    columns: Columns,
    settings: &Settings,
    messages: &mut Messages,
) -> Result<(Columns, usize), String> {
    // Without a granularity nothing is aggregated.
    let name = if settings.granularity.is_empty() { "proto" } else { "traces" };
    let command = Command::find(name).ok_or("the command is missing")?;
    let report = prepare(columns, command, None, settings, messages)?;
    Ok((report.columns, report.measure.value))
}

/// All steps before printing: filters and aggregation.
pub(in crate::report) fn prepare(
    mut columns: Columns,
    command: &Command,
    argument: Option<&str>,
    settings: &Settings,
    messages: &mut Messages,
) -> Result<Report, String> {
    let units = label_units(&columns, messages);
    let settings = for_command(command, settings);
    add_tag_frames(&mut columns, &settings, messages);
    if settings.relative_percentages {
        filter(&mut columns, &settings, &units, messages)?;
    }
    let mut report = Report::new(columns, command.kind, settings, units)?;
    if let Some(argument) = argument {
        let compiled = GoRegexp::new(argument);
        let failed = |error| format!("parsing argument regexp {argument}: {error}");
        report.argument = Some(compiled.map_err(failed)?);
    }
    if !report.settings.relative_percentages {
        filter(&mut report.columns, &report.settings, &report.units, messages)?;
    }
    aggregate(&mut report.columns, &report.settings)?;
    Ok(report)
}

pub(in crate::report) fn label_units(columns: &Columns, messages: &mut Messages) -> Units {
    let units = columns.label_units();
    for (key, ignored) in &units.ignored {
        let (name, used, ignored) = (columns.text(*key), units.of(*key), ignored.join(", "));
        messages.push(format!("For tag {name} used unit {used}, also encountered unit(s) {ignored}"));
    }
    units
}

/// The settings that a command overrides.
fn for_command(command: &Command, settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    let mut trim = settings.trim;
    let default_count = |count: &mut i64, default: i64| {
        if *count == -1 {
            *count = default;
        }
    };
    match command.name {
        "disasm" => {
            (trim, settings.noinlines) = (false, true);
            settings.granularity = "addresses".into();
        }
        "weblist" => {
            (trim, settings.noinlines) = (false, false);
            settings.granularity = "addresses".into();
        }
        "peek" => trim = false,
        "list" => {
            trim = false;
            settings.granularity = "lines".into();
        }
        "text" | "top" | "topproto" => default_count(&mut settings.nodecount, 0),
        _ => default_count(&mut settings.nodecount, 80),
    }
    if let ReportKind::Proto | ReportKind::Raw | ReportKind::Callgrind = command.kind {
        trim = false;
        settings.granularity = "addresses".into();
    }
    if !trim {
        (settings.nodecount, settings.nodefraction, settings.edgefraction) = (0, 0.0, 0.0);
    }
    settings
}

fn warn(matched: bool, what: &str, messages: &mut Messages) {
    if !matched {
        messages.push(format!("{what} expression matched no samples"));
    }
}

fn add_tag_frames(columns: &mut Columns, settings: &Settings, messages: &mut Messages) {
    let (roots, leaves) = tag_frames::add(columns, &settings.tagroot, &settings.tagleaf, &settings.unit);
    warn(settings.tagroot.is_empty() || roots, "TagRoot", messages);
    warn(settings.tagleaf.is_empty() || leaves, "TagLeaf", messages);
}

fn compile(name: &str, value: &str) -> Result<Option<GoRegexp>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    GoRegexp::new(value).map(Some).map_err(|error| format!("parsing {name} regexp: {error}"))
}

fn filter(
    columns: &mut Columns,
    settings: &Settings,
    units: &Units,
    messages: &mut Messages,
) -> Result<(), String> {
    let focus = compile("focus", &settings.focus)?;
    let ignore = compile("ignore", &settings.ignore)?;
    let hide = compile("hide", &settings.hide)?;
    let show = compile("show", &settings.show)?;
    let show_from = compile("show_from", &settings.show_from)?;
    let mut tag_filter = |name: &str, value: &str| {
        (!value.is_empty()).then(|| TagFilter::new(name, value, messages)).transpose()
    };
    let tagfocus = tag_filter("tagfocus", &settings.tagfocus)?;
    let tagignore = tag_filter("tagignore", &settings.tagignore)?;
    let prune_from = compile("prune_from", &settings.prune_from)?;

    let by =
        ByName { focus: focus.as_ref(), ignore: ignore.as_ref(), hide: hide.as_ref(), show: show.as_ref() };
    let matched = columns.filter_by_name(by);
    warn(focus.is_none() || matched.focus, "Focus", messages);
    warn(ignore.is_none() || matched.ignore, "Ignore", messages);
    warn(hide.is_none() || matched.hide, "Hide", messages);
    warn(show.is_none() || matched.show, "Show", messages);
    if let Some(show_from) = &show_from {
        warn(columns.show_from(show_from), "ShowFrom", messages);
    }
    let focus_check = |columns: &Columns, sample: usize| {
        tagfocus.as_ref().is_some_and(|filter| filter.matches(columns, sample, units))
    };
    let ignore_check = |columns: &Columns, sample: usize| {
        tagignore.as_ref().is_some_and(|filter| filter.matches(columns, sample, units))
    };
    let (focused, ignored) = columns.filter_by_label(
        tagfocus.is_some().then_some(&focus_check),
        tagignore.is_some().then_some(&ignore_check),
    );
    warn(tagfocus.is_none() || focused, "TagFocus", messages);
    warn(tagignore.is_none() || ignored, "TagIgnore", messages);
    filter_labels(columns, settings, messages, prune_from.as_ref())
}

/// The last filters. The error for an invalid expression comes after all others have been applied.
fn filter_labels(
    columns: &mut Columns,
    settings: &Settings,
    messages: &mut Messages,
    prune_from: Option<&GoRegexp>,
) -> Result<(), String> {
    let tagshow = compile("tagshow", &settings.tagshow);
    let taghide = if tagshow.is_ok() { compile("taghide", &settings.taghide) } else { Ok(None) };
    let show = tagshow.as_ref().ok().and_then(Option::as_ref);
    let hide = taghide.as_ref().ok().and_then(Option::as_ref);
    let (shown, hidden) = columns.filter_labels(show, hide);
    warn(show.is_none() || shown, "TagShow", messages);
    warn(hide.is_none() || hidden, "TagHide", messages);
    if let Some(prune_from) = prune_from {
        columns.prune_from(prune_from);
    }
    tagshow?;
    taghide?;
    Ok(())
}

fn aggregate(columns: &mut Columns, settings: &Settings) -> Result<(), String> {
    let inlines = !settings.noinlines;
    let (functions, files, lines, addresses) = match settings.granularity.as_str() {
        "" | "functions" => (true, false, false, false),
        "addresses" if inlines => return Ok(()),
        "addresses" => (true, true, true, true),
        "lines" => (true, true, true, false),
        "files" => (false, true, false, false),
        "filefunctions" => (true, true, false, false),
        _ => return Err("unexpected granularity".into()),
    };
    columns.aggregate(Detail { inlines, functions, files, lines, columns: settings.showcolumns, addresses });
    Ok(())
}

impl Report {
    /// Computes the total and the format of a report. Errors: the texts of the reference.
    pub fn new(
        columns: Columns,
        kind: ReportKind,
        settings: Settings,
        units: Units,
    ) -> Result<Report, String> {
        if columns.header.kinds.is_empty() {
            return Err("profile has no samples".into());
        }
        let value = columns.value_index(&settings.sample_index)?;
        let measured = columns.header.kinds[value];
        let name = columns.text(measured.name);
        let name = if settings.mean { format!("mean_{name}") } else { name.to_string() };
        if settings.divide_by == 0.0 {
            return Err("zero divisor specified".into());
        }
        let filters = [
            ("focus", &settings.focus),
            ("ignore", &settings.ignore),
            ("hide", &settings.hide),
            ("show", &settings.show),
            ("show_from", &settings.show_from),
            ("tagfocus", &settings.tagfocus),
            ("tagignore", &settings.tagignore),
            ("tagshow", &settings.tagshow),
            ("taghide", &settings.taghide),
        ];
        let filters = filters.iter().filter(|(_, value)| !value.is_empty());
        let filters = filters.map(|(name, value)| format!("{name}={value}")).collect();
        let measure = Measure { value, mean: settings.mean };
        let format = Format {
            ratio: 1.0 / settings.divide_by,
            from: columns.text(measured.unit).into(),
            to: settings.unit.clone(),
        };
        let main = columns.mappings.first().map_or("", |mapping| columns.text(mapping.file));
        let title = if main.is_empty() { String::new() } else { base_name(main).to_string() };
        let total = total(&columns, measure);
        let argument = None;
        Ok(Report {
            columns,
            kind,
            settings,
            measure,
            format,
            measured: name,
            total,
            units,
            argument,
            filters,
            title,
        })
    }

    /// The nodes of the profile, with source paths trimmed by the settings.
    pub fn places(&mut self) -> Places {
        let objects = matches!(
            self.kind,
            ReportKind::Raw
                | ReportKind::List
                | ReportKind::WebList
                | ReportKind::Disassembly
                | ReportKind::Callgrind
        );
        let (trim_path, search_path) = (&self.settings.trim_path, &self.settings.source_path);
        let shorten = |file: &str| source_path::trim(file, trim_path, search_path).to_string();
        let naming = Naming::new(&mut self.columns, objects, shorten);
        Places::new(&self.columns, &naming)
    }

    /// All nodes with a value, with their weights.
    pub fn nodes(&mut self) -> Vec<(Info, Weights)> {
        let places = self.places();
        let weights = weigh(&self.columns, &places, self.measure);
        let drop_negative = self.settings.drop_negative;
        let is_kept = |weights: &Weights| {
            let (flat, cum) = (weights.flat.sum, weights.cum.sum);
            let is_negative = flat < 0 || (flat == 0 && cum < 0);
            (flat, cum) != (0, 0) && !(drop_negative && is_negative)
        };
        places.infos.iter().copied().zip(weights).filter(|(_, weights)| is_kept(weights)).collect()
    }

    /// The graph that the report shows; also chooses the unit of values.
    pub fn graph(&mut self) -> Trimmed {
        let places = self.places();
        let visual = self.kind == ReportKind::Dot;
        let limits = Limits {
            node_fraction: self.settings.nodefraction,
            edge_fraction: self.settings.edgefraction,
            node_count: self.settings.nodecount,
            drop_negative: self.settings.drop_negative,
            by: match (visual, self.settings.sort.as_str()) {
                (true, _) => NodeOrder::Interest,
                (false, "cum") => NodeOrder::Cum,
                (false, _) => NodeOrder::Flat,
            },
        };
        let unit = self.format.to.clone();
        let labelling = visual.then_some(Labelling { units: &self.units, output_unit: &unit });
        let as_tree = self.settings.call_tree && (visual || self.kind == ReportKind::Callgrind);
        let trimmed = if as_tree {
            trimmed_tree(&self.columns, &places, self.measure, limits, labelling)
        } else {
            let edges = match (self.kind, &self.argument) {
                (ReportKind::Text | ReportKind::TopProto, _) => Edges::ForInlining,
                (ReportKind::Tree, Some(argument)) => Edges::Around(argument),
                _ => Edges::All,
            };
            trimmed(&self.columns, &places, self.measure, limits, edges, labelling)
        };
        self.choose_unit(&trimmed);
        trimmed
    }

    fn choose_unit(&mut self, trimmed: &Trimmed) {
        if self.settings.unit != "minimum" || trimmed.graph.shown.is_empty() {
            return;
        }
        let values = trimmed.graph.shown().map(|(_, node)| {
            let flat = node.weights.flat.value().wrapping_abs();
            if flat == 0 { node.weights.cum.value().wrapping_abs() } else { flat }
        });
        let smallest = values.filter(|value| *value > 0).min().unwrap_or(0);
        self.format.choose_unit(smallest, self.total, self.kind == ReportKind::Callgrind);
    }
}

/// The sum of all absolute values; in a comparison, that of the base.
fn total(columns: &Columns, measure: Measure) -> i64 {
    let base = columns.texts.find(BASE_KEY).zip(columns.texts.find("true"));
    let (mut divisor, mut total, mut base_divisor, mut base_total) = (0i64, 0i64, 0i64, 0i64);
    for sample in 0..columns.sample_count() {
        let values = columns.values(sample);
        let value = values[measure.value].wrapping_abs();
        let count = if measure.mean { values[0] } else { 0 };
        total = total.wrapping_add(value);
        divisor = divisor.wrapping_add(count);
        if base.is_some_and(|(key, text)| columns.is_base(sample, key, text)) {
            base_total = base_total.wrapping_add(value);
            base_divisor = base_divisor.wrapping_add(count);
        }
    }
    if base_total > 0 {
        (total, divisor) = (base_total, base_divisor);
    }
    if divisor == 0 { total } else { total.wrapping_div(divisor) }
}
