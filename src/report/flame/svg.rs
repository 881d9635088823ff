//! Writes the picture as SVG. The target chooses the names, so they are only written into text
//! nodes, escaped, and the script reads them as text.
//!
//! Not here: the positions of boxes.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Write},
};

use super::{
    Heading, color,
    layout::{Label, Layout, Placed},
};
use crate::report::{
    names,
    stacks::{Frame, Stacks, base_name},
    units::{format_percent, format_value},
};

pub(super) const STYLE: &str = include_str!("flame.css");
pub(super) const SCRIPT: &str = include_str!("flame.js");

/// Height of a row, in pixels.
const ROW_PX: usize = 18;
/// Height of a box in a row, in pixels.
const BOX_PX: usize = 17;
/// Width of a character in the boxes' monospaced font, in pixels.
const CHAR_PX: f64 = 6.65;
/// Space around the text in a box, in pixels.
const PADDING_PX: f64 = 6.0;
/// A name with fewer visible characters than this is not shortened in the middle.
const MIN_MIDDLE_CHARS: usize = 10;
const LINE_PX: usize = 17;
/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 400;
const MAX_LEGEND: usize = 6;

/// Where the picture is embedded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    /// In an SVG file, with style and script.
    File,
    /// In an HTML page, which has style and script.
    Page,
}

pub(super) fn write(
    stacks: &Stacks<'_>,
    layout: &Layout,
    heading: &Heading,
    width_px: f64,
    host: Host,
    mut out: impl Write,
) -> io::Result<()> {
    let rows = layout.boxes.last().map_or(1, |last| last.depth + 1);
    let growth = layout.largest_growth().max(f64::MIN_POSITIVE);
    let picture = Picture { stacks, layout, unit: &heading.unit, width_px, growth };
    let head_px = 64 + LINE_PX * (heading.notes.len() + 1);
    let height = head_px + rows * ROW_PX + 16;
    if host == Host::File {
        writeln!(out, r#"<?xml version="1.0" encoding="UTF-8" standalone="no"?>"#)?;
    }
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" version="1.1" width="{width_px}" height="{height}" viewBox="0 0 {width_px} {height}">"#
    )?;
    if host == Host::File {
        writeln!(out, "<title>{}</title>", Xml(&heading.title))?;
        writeln!(out, "<style><![CDATA[\n{STYLE}]]></style>")?;
    }
    writeln!(out, r##"<rect id="page" width="100%" height="100%" fill="#ffffff"/>"##)?;
    writeln!(out, r#"<g id="frames" transform="translate(0,{head_px})">"#)?;
    picture.rows(&mut out)?;
    writeln!(out, "</g>")?;
    // Written after the boxes, so that it stays in front of them while scrolling.
    picture.head(&mut out, heading, head_px)?;
    if host == Host::File {
        writeln!(out, "<script><![CDATA[\n{SCRIPT}]]></script>")?;
    }
    writeln!(out, "</svg>")
}

/// The data needed to write a box.
struct Picture<'a> {
    stacks: &'a Stacks<'a>,
    layout: &'a Layout,
    unit: &'a str,
    width_px: f64,
    /// The largest change of a box: it has the strongest colour.
    growth: f64,
}

impl Picture<'_> {
    fn head(&self, out: &mut impl Write, heading: &Heading, head_px: usize) -> io::Result<()> {
        let lines = heading.notes.len();
        writeln!(
            out,
            r##"<g id="head"><rect id="bar" width="100%" height="{}" fill="#ffffff"/>"##,
            head_px - 3
        )?;
        writeln!(out, r#"<text class="title" x="10" y="28">{}</text>"#, Xml(&heading.title))?;
        writeln!(out, r#"<text class="sub" x="10" y="48">{}</text>"#, Xml(&heading.subtitle))?;
        for (at, note) in heading.notes.iter().enumerate() {
            let note = shorten(note, (self.width_px / 6.6) as usize);
            writeln!(
                out,
                r#"<text class="sub note" x="10" y="{}">{}</text>"#,
                48 + LINE_PX * (at + 1),
                Xml(&note)
            )?;
        }
        let y = 50 + LINE_PX * (lines + 1);
        write!(out, r#"<text id="info" class="sub" x="10" y="{y}">"#)?;
        let legend = if self.layout.base_total > 0 { Vec::new() } else { self.legend() };
        for (module, color) in legend {
            write!(out, r#"<tspan fill="{color}">■</tspan> {}   "#, Xml(&module))?;
        }
        writeln!(out, "</text></g>")
    }

    /// The modules with the largest values, and their colours.
    fn legend(&self) -> Vec<(String, color::Color)> {
        let main = self.main_module();
        let mut sums: HashMap<&str, i64> = HashMap::new();
        for placed in &self.layout.boxes {
            if let Label::Frame(frame) = placed.label {
                let module = self.stacks.frame(frame).module.as_ref();
                let sum = sums.entry(module).or_default();
                *sum = sum.saturating_add(placed.own);
            }
        }
        let mut sums: Vec<_> = sums.into_iter().filter(|(module, _)| !module.is_empty()).collect();
        sums.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        sums.truncate(MAX_LEGEND);
        let entry = |(module, _)| (shorten(base_name(module), 24), color::module_color(module, main));
        sums.into_iter().map(entry).collect()
    }

    fn main_module(&self) -> &str {
        let profile = self.stacks.profile();
        profile.mapping.first().map_or("", |mapping| profile.string(mapping.filename))
    }

    fn rows(&self, out: &mut impl Write) -> io::Result<()> {
        for row in self.layout.boxes.chunk_by(|a, b| a.depth == b.depth) {
            let depth = row.first().map_or(0, |first| first.depth);
            writeln!(out, r#"<g transform="translate(0,{})">"#, depth * ROW_PX)?;
            for placed in row {
                self.placed(out, placed)?;
            }
            writeln!(out, "</g>")?;
        }
        Ok(())
    }

    fn placed(&self, out: &mut impl Write, placed: &Placed) -> io::Result<()> {
        let total = self.layout.total.max(1) as f64;
        let (x, width) = match placed.label {
            Label::Root => (0.0, 100.0),
            _ => (placed.start as f64 / total * 100.0, placed.value as f64 / total * 100.0),
        };
        let (name, mut fill) = self.name_and_fill(placed.label);
        if self.layout.base_total > 0 && matches!(placed.label, Label::Frame(_) | Label::Thread(_)) {
            fill = color::change_color(self.layout.growth(placed) / self.growth);
        }
        let class = if matches!(placed.label, Label::Rest(_)) { r#" class="rest""# } else { "" };
        write!(out, "<g{class}")?;
        let label = names::short(&name);
        if label != name {
            write!(out, r#" data-label="{}""#, Xml(&label))?;
        }
        write!(out, "><title>")?;
        self.title(out, placed, &name)?;
        write!(out, r#"</title><rect x="{x:.4}%" width="{width:.4}%" height="{BOX_PX}" fill="{fill}"/>"#)?;
        let room = (width / 100.0 * self.width_px - PADDING_PX) / CHAR_PX;
        if room >= 2.0 {
            write!(
                out,
                r#"<text x="{x:.4}%" dx="3" y="12.5">{}</text>"#,
                Xml(&shorten_middle(&label, room as usize))
            )?;
        }
        writeln!(out, "</g>")
    }

    /// The tooltip: the first line is the name, the second the values.
    fn title(&self, out: &mut impl Write, placed: &Placed, name: &str) -> io::Result<()> {
        let value = format_value(placed.value, self.unit);
        let percent = format_percent(placed.value, self.layout.total);
        write!(out, "{}\n{value} · {percent}", Xml(name))?;
        if placed.own > 0 && placed.label != Label::Root {
            write!(out, " · itself {}", format_value(placed.own, self.unit))?;
        }
        if self.layout.base_total > 0 && !matches!(placed.label, Label::Rest(_)) {
            let before = format_percent(placed.base, self.layout.base_total);
            write!(out, " · was {before} ({:+.2} points)", self.layout.growth(placed) * 100.0)?;
        }
        let Label::Frame(frame) = placed.label else { return Ok(()) };
        if placed.inlined {
            write!(out, " · inlined")?;
        }
        let frame = self.stacks.frame(frame);
        if !frame.module.is_empty() {
            write!(out, "\n{}", Xml(&shorten(frame.module_name(), 80)))?;
        }
        self.source(out, frame)
    }

    fn source(&self, out: &mut impl Write, frame: &Frame<'_>) -> io::Result<()> {
        if frame.file.is_empty() {
            return Ok(());
        }
        write!(out, " · {}", Xml(&shorten_start(&frame.file, 80)))?;
        if frame.start_line > 0 {
            write!(out, ":{}", frame.start_line)?;
        }
        Ok(())
    }

    fn name_and_fill(&self, label: Label) -> (String, String) {
        match label {
            Label::Root => ("all".to_string(), color::ROOT.to_string()),
            Label::Thread(number) => {
                (self.layout.threads[number as usize].clone(), color::THREAD.to_string())
            }
            Label::Rest(count) => (format!("({count} smaller)"), color::REST.to_string()),
            Label::Frame(frame) => {
                let frame = self.stacks.frame(frame);
                (shorten(&frame.name, MAX_NAME_CHARS), color::frame_color(frame, self.main_module()))
            }
        }
    }
}

/// The first characters of `text`, with an ellipsis where some are missing.
fn shorten(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_string(),
        Some(_) => text.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The first and last characters of `text`; if only a few fit, the first ones. (As in `flame.js`.)
fn shorten_middle(text: &str, chars: usize) -> String {
    let count = text.chars().count();
    if count <= chars || chars < MIN_MIDDLE_CHARS {
        return shorten(text, chars);
    }
    let tail = (chars - 1) / 2;
    let head = text.chars().take(chars - 1 - tail);
    head.chain(['…']).chain(text.chars().skip(count - tail)).collect()
}

/// The last characters of `text`, with an ellipsis where some are missing.
fn shorten_start(text: &str, chars: usize) -> String {
    let count = text.chars().count();
    if count <= chars {
        return text.to_string();
    }
    ['…'].into_iter().chain(text.chars().skip(count - chars + 1)).collect()
}

/// Text escaped for XML. (`printable` has removed characters that XML does not allow.)
pub(super) struct Xml<'a>(pub &'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['<', '>', '&', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'&' => "&amp;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_shortened_at_characters() {
        assert_eq!(Xml("a<b>&\"'").to_string(), "a&lt;b&gt;&amp;&quot;&#39;");
        assert_eq!([shorten("äöü", 3), shorten("äöüß", 3), shorten("", 0)], ["äöü", "äö…", ""]);
        let name = "<a::B as c::D>::run";
        assert_eq!([19, 12, 9].map(|room| shorten_middle(name, room)), [name, "<a::B …::run", "<a::B as…"]);
        assert_eq!([shorten_start("a/b/c", 5), shorten_start("aa/b/c", 4)], ["a/b/c", "…b/c"]);
    }
}
