//! Which profile a report is of, and how much there is in it.
//!
//! Not here: the report.

use super::super::pprof::{header, prepare::Report};
use crate::{profile::columns::Columns, text::path};

/// What is said once of a profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Name of the main binary; empty: not known.
    pub file: String,
    pub build_id: String,
    /// What is measured, and in what: `cpu`, `nanoseconds`.
    pub measured: String,
    pub unit: String,
    /// Sum over all samples, before filters (or of what they leave, with relative percentages).
    pub total: i64,
    /// Rows of the profile.
    pub samples: usize,
    /// When it began, in nanoseconds since 1970; 0: not known.
    pub time_ns: i64,
    /// How long it took; 0: not known.
    pub duration_ns: i64,
    pub comments: Vec<String>,
    pub filters: Vec<String>,
    /// The same for people.
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
            samples: columns.sample_count(),
            time_ns: columns.header.time_ns,
            duration_ns: columns.header.duration_ns,
            comments: comments(columns),
            filters: report.filters.clone(),
            lines: lines(report),
        }
    }
}

fn comments(columns: &Columns) -> Vec<String> {
    columns.header.comments.iter().map(|comment| columns.text(*comment).to_string()).collect()
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = if report.settings.compact_labels { Vec::new() } else { header::of_profile(report) };
    if !report.filters.is_empty() {
        lines.push("Active filters:".into());
        lines.extend(report.filters.iter().map(|filter| format!("   {filter}")));
    }
    lines
}
