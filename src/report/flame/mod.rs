//! A flame graph as one SVG file: a static picture everywhere, and interactive in a browser (click,
//! zoom, search). It fetches nothing. The root is at the top with its callees below (an icicle), so
//! that the root is visible when the file is opened.
//!
//! [`layout`] sums stacks into a tree and places the nodes, [`color`] chooses colours, `svg` writes
//! the picture, `page` an HTML page around it, `terminal` the picture as text. `flame.js` runs in
//! the browser, `flame.css` is the style.
//!
//! Not here: a time axis. The width is a sum of values; siblings are ordered by width.

pub mod color;
pub mod compare;
pub mod layout;
mod page;
mod svg;
pub mod terminal;

use std::io::{self, Write};

use super::{
    stacks::{Stacks, base_name, printable},
    units::{format_count, format_duration_ns, format_value},
};

/// Options of a flame graph. The defaults fit a browser window.
#[derive(Clone, Debug, PartialEq)]
pub struct FlameOptions {
    /// The heading; `None`: what was measured, and the binary.
    pub title: Option<String>,
    /// Show a row of threads below the root.
    pub by_thread: bool,
    /// Width of the static picture in pixels (a browser uses the window's width).
    pub width_px: f64,
    /// Frames narrower than this, in pixels of `width_px`, are not drawn; their callers include
    /// them.
    pub min_frame_px: f64,
    /// Index of a value to compare with: colours show how each box's share has changed.
    pub compared_with: Option<usize>,
    /// Write an HTML page instead of an SVG file.
    pub is_page: bool,
}

impl Default for FlameOptions {
    fn default() -> Self {
        FlameOptions {
            title: None,
            by_thread: false,
            width_px: 1200.0,
            min_frame_px: 0.1,
            compared_with: None,
            is_page: false,
        }
    }
}

/// Draws the value with index `value_index` of all samples where it is positive. Errors: those of
/// the writer.
pub fn write_flame(
    stacks: &Stacks<'_>,
    value_index: usize,
    options: &FlameOptions,
    writer: impl Write,
) -> io::Result<()> {
    let layout = layout::lay_out(stacks, value_index, options);
    let heading = Heading::new(stacks, value_index, options, &layout);
    let mut writer = io::BufWriter::new(writer);
    if options.is_page {
        return page::write(stacks, &layout, &heading, options.width_px, writer);
    }
    svg::write(stacks, &layout, &heading, options.width_px, svg::Host::File, &mut writer)?;
    writer.flush()
}

/// The text above the picture.
struct Heading {
    title: String,
    subtitle: String,
    /// The profile's comments, which include its quality, and notes on what the picture leaves out.
    notes: Vec<String>,
    unit: String,
}

/// Limit of the lines of notes above the picture.
const MAX_NOTES: usize = 3;

impl Heading {
    fn new(
        stacks: &Stacks<'_>,
        value_index: usize,
        options: &FlameOptions,
        layout: &layout::Layout,
    ) -> Heading {
        let profile = stacks.profile();
        let (kind, unit) = profile
            .sample_type
            .get(value_index)
            .map_or(("", ""), |kind| (profile.string(kind.r#type), profile.string(kind.unit)));
        let binary = profile.mapping.first().map_or("", |m| base_name(profile.string(m.filename)));
        let compared = if layout.base_total > 0 { "differential " } else { "" };
        let what = format!("{} {compared}flame graph", if kind == "cpu" { "CPU" } else { kind });
        let default_title = if binary.is_empty() { what } else { format!("{binary} · {what}") };
        let title = options.title.clone().unwrap_or(default_title);
        let mut facts = vec![format!("{} in total", format_value(layout.total, unit))];
        if let Some(samples) = profile.sample_type_index("samples").filter(|index| *index != value_index) {
            let count = profile.sample.iter().map(|sample| super::stacks::value_of(sample, samples));
            let count = count.fold(0i64, i64::saturating_add);
            facts.push(format!("{} samples", format_count(count)));
        }
        if profile.duration_nanos > 0 {
            facts.push(format!("over {}", format_duration_ns(profile.duration_nanos)));
        }
        facts.push(match layout.stack_count {
            1 => "1 stack".to_string(),
            count => format!("{} distinct stacks", format_count(count as i64)),
        });
        let mut notes: Vec<String> = profile
            .comments()
            .filter(|text| !text.is_empty())
            .take(MAX_NOTES)
            .map(|text| printable(text).into())
            .collect();
        notes.extend(layout.comparison());
        notes.extend(layout.omission());
        Heading {
            title: printable(&title).into(),
            subtitle: facts.join(" · "),
            notes,
            unit: unit.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
