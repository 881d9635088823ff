//! Facts about the profile that a report is of.
//!
//! Not here: the report.

use super::super::pprof::{header, prepare::Report};
use crate::{
    profile::{columns::Columns, function_starts},
    report::paths::sample_count,
    text::path,
};

/// Facts about a profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The name of the main binary; empty: unknown.
    pub file: String,
    /// The build ID of the main binary; empty: unknown.
    pub build_id: String,
    /// What is measured, such as `cpu`.
    pub measured: String,
    /// The unit of values, such as `nanoseconds`.
    pub unit: String,
    /// The sum over all samples before filters (after them with relative percentages).
    pub total: i64,
    /// The number of samples after filters; in profiles that do not count samples, of stacks.
    pub samples: i64,
    /// When the profile began, in nanoseconds since 1970; 0: unknown.
    pub time_ns: i64,
    /// How long the profile lasted, in nanoseconds; 0: unknown.
    pub duration_ns: i64,
    /// The comments of the profile.
    pub comments: Vec<String>,
    /// The active filters.
    pub filters: Vec<String>,
    /// The same facts as lines of text.
    pub lines: Vec<String>,
}

impl Facts {
    pub(super) fn new(report: &Report) -> Facts {
        let columns = &report.columns;
        let main = columns.mappings.first().copied().unwrap_or_default();
        let file = columns.text(main.file);
        Facts {
            file: if file.is_empty() { String::new() } else { path::base_name(file).into() },
            build_id: columns.text(main.build_id).into(),
            measured: report.measured.clone(),
            unit: report.format.from.clone(),
            total: report.total,
            samples: sample_count(columns),
            time_ns: columns.header.time_ns,
            duration_ns: columns.header.duration_ns,
            comments: comments(columns),
            filters: report.filters.clone(),
            lines: lines(report),
        }
    }
}

fn comments(columns: &Columns) -> Vec<String> {
    let comments = columns.header.comments.iter().map(|comment| columns.text(*comment));
    comments.filter(|comment| !function_starts::is_comment(comment)).map(str::to_owned).collect()
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = if report.settings.compact_labels { Vec::new() } else { header::of_profile(report) };
    if !report.filters.is_empty() {
        lines.push("Active filters:".into());
        lines.extend(report.filters.iter().map(|filter| format!("   {filter}")));
    }
    lines
}
