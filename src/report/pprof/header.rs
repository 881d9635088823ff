//! The header of a report: the profile, the active filters, the shown share.
//!
//! Not here: the report.

use super::{
    Settings,
    commands::ReportKind,
    graph::trim::Trimmed,
    prepare::{Messages, Report, label_units},
};
use crate::{
    profile::{columns::Columns, unit},
    text::{go, path},
};

/// The greeting of the prompt; `None` if the settings do not fit the profile. The second value is
/// whether all selected values are zero.
pub fn greeting(
    columns: Columns,
    settings: &Settings,
    messages: &mut Messages,
) -> Option<(Vec<String>, bool)> {
    let units = label_units(&columns, messages);
    let report = Report::new(columns, ReportKind::Text, settings.clone(), units).ok()?;
    Some((of_profile(&report), report.total == 0 && report.columns.header.kinds.len() > 1))
}

/// The lines on the profile.
pub(in crate::report) fn of_profile(report: &Report) -> Vec<String> {
    let columns = &report.columns;
    let header = &columns.header;
    let mut lines = Vec::new();
    if let Some(main) = columns.mappings.first() {
        if main.file != 0 {
            lines.push(format!("File: {}", path::base_name(columns.text(main.file))));
        }
        if main.build_id != 0 {
            lines.push(format!("Build ID: {}", columns.text(main.build_id)));
        }
    }
    let comments = header.comments.iter().map(|comment| columns.text(*comment));
    lines.extend(comments.filter(|comment| !comment.starts_with('#')).map(String::from));
    if !report.measured.is_empty() {
        lines.push(format!("Type: {}", report.measured));
    }
    if header.doc_url != 0 {
        lines.push(format!("Doc: {}", columns.text(header.doc_url)));
    }
    if header.time_ns != 0 {
        lines.push(format!("Time: {}", go::time(header.time_ns)));
    }
    if header.duration_ns != 0 {
        let duration = unit::label(header.duration_ns, "nanoseconds");
        let (total_ns, total_unit) = unit::scale(report.total, &report.format.from, "nanoseconds");
        let ratio = if total_unit == "ns" && total_ns != 0.0 {
            format!("({})", unit::percentage(go::truncate(total_ns), header.duration_ns))
        } else {
            String::new()
        };
        let total = report.format.value(report.total);
        lines.push(format!("Duration: {duration}, Total samples = {total} {ratio}"));
    }
    lines
}

/// All header lines. `full`: for a drawing, which also counts edges.
pub(super) fn of_report(report: &Report, trimmed: &Trimmed, full: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if full || !report.settings.compact_labels {
        lines = of_profile(report);
    }
    if !report.filters.is_empty() {
        lines.push("Active filters:".into());
        for filter in &report.filters {
            lines.push(match filter.char_indices().find(|(at, _)| *at >= 80) {
                // The reference cuts at bytes; here a character is kept whole.
                Some((end, _)) => format!("   {}…", &filter[..end]),
                None => format!("   {filter}"),
            });
        }
    }
    let shown = trimmed.graph.flat_sum_of_values();
    let (total, format) = (report.total, &report.format);
    let share = unit::percentage(shown, total);
    let (shown, total_text) = (format.value(shown), format.value(total));
    lines.push(format!("Showing nodes accounting for {shown}, {} of {total_text} total", share.trim()));
    if total != 0 {
        let cutoff = |fraction: f64| format.value(go::truncate(total as f64 * fraction).wrapping_abs());
        let dropped = |count: usize, what: &str, by: &str, cutoff: String| {
            let plural = if count > 1 { "s" } else { "" };
            format!("Dropped {count} {what}{plural} ({by} <= {cutoff})")
        };
        if trimmed.dropped_nodes > 0 {
            let cutoff = cutoff(report.settings.nodefraction);
            lines.push(dropped(trimmed.dropped_nodes, "node", "cum", cutoff));
        }
        if full && trimmed.dropped_edges > 0 {
            let cutoff = cutoff(report.settings.edgefraction);
            lines.push(dropped(trimmed.dropped_edges, "edge", "freq", cutoff));
        }
        let count = trimmed.graph.shown.len();
        if count > 0 && count < trimmed.full_count {
            lines.push(format!("Showing top {count} nodes out of {}", trimmed.full_count));
        }
    }
    if full {
        lines.push("\nSee https://git.io/JfYMW for how to read the graph".into());
    }
    lines
}
