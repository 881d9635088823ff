//! A flame graph as text for a terminal: the root at the top, its callees below.
//!
//! ```text
//! redis-server · CPU flame graph: 640ms in total · 63 samples
//! │all › main › aeMain 100%
//! │beforeSleep 63.5%                             │readQueryFromClient 27.0%  │
//! │writeToClient 61.9%                           │processInputBuffer│
//! ```
//!
//! Rows that one box fills are joined, because the first frames of all stacks are often the same.

use std::io::{self, Write};

use super::{
    FlameOptions, Heading,
    color::{self, Color},
    layout::{self, Label, Layout, Placed},
};
use crate::{
    report::{
        names::{fit, short},
        stacks::Stacks,
    },
    text::counted_as,
};

/// The narrowest box with a text, in columns: its edge and some letters.
const MIN_TEXT: usize = 4;
/// How many modules the legend names.
const LEGEND: usize = 6;
/// The edge of a box.
const EDGE: char = '│';

/// The colours that a terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colors {
    /// None: text alone.
    None,
    /// 256 colours.
    Palette,
    /// All colours (`COLORTERM=truecolor`).
    True,
}

/// How a flame graph is written as text.
#[derive(Clone, Copy, Debug)]
pub struct TextFlame {
    /// The width of a line, in columns.
    pub width: usize,
    /// The most rows of boxes; 0: all.
    pub rows: usize,
    /// The colours.
    pub colors: Colors,
    /// Print names as they are in the profile.
    pub full_names: bool,
}

/// Writes the value with index `value_index` of all samples where it is positive. Errors: those of
/// the writer.
pub fn write_text(
    stacks: &Stacks<'_>,
    value_index: usize,
    options: &FlameOptions,
    text: &TextFlame,
    mut writer: impl Write,
) -> io::Result<()> {
    let width = text.width.max(20);
    let options = FlameOptions { width_px: width as f64, min_frame_px: 0.5, ..options.clone() };
    let layout = layout::lay_out(stacks, value_index, &options);
    let heading = Heading::new(stacks, value_index, &options, &layout);
    writeln!(writer, "{}: {}", heading.title, heading.subtitle)?;
    if layout.total == 0 {
        return writeln!(writer, "no samples: the profile is empty, or a filter removed all of them");
    }
    let picture = Picture { stacks, layout: &layout, width, text };
    let rows = joined(picture.rows());
    let shown = if text.rows == 0 { rows.len() } else { text.rows.min(rows.len()) };
    for row in &rows[..shown] {
        picture.write_row(row, &mut writer)?;
    }
    picture.write_notes(rows.len() - shown, &mut writer)
}

/// A box in columns.
#[derive(Clone, Copy, Debug)]
struct Cell<'l> {
    placed: &'l Placed,
    start: usize,
    end: usize,
}

/// A row of boxes; the boxes of the rows above that were joined with it, each of which fills its
/// row.
#[derive(Debug, Default)]
struct Row<'l> {
    above: Vec<&'l Placed>,
    cells: Vec<Cell<'l>>,
}

/// Joins rows that the same single box fills.
fn joined(rows: Vec<Vec<Cell<'_>>>) -> Vec<Row<'_>> {
    let mut joined: Vec<Row<'_>> = Vec::new();
    for cells in rows {
        let single = |cells: &[Cell<'_>]| match cells {
            [only] if !matches!(only.placed.label, Label::Rest(_)) => Some((only.start, only.end)),
            _ => None,
        };
        match joined.last_mut() {
            Some(last) if single(&last.cells).is_some() && single(&last.cells) == single(&cells) => {
                last.above.extend(last.cells.iter().map(|cell| cell.placed));
                last.cells = cells;
            }
            _ => joined.push(Row { above: Vec::new(), cells }),
        }
    }
    joined
}

struct Picture<'a, 'p> {
    stacks: &'a Stacks<'p>,
    layout: &'a Layout,
    width: usize,
    text: &'a TextFlame,
}

impl<'a> Picture<'a, '_> {
    /// The boxes of each row that are at least a column wide.
    fn rows(&self) -> Vec<Vec<Cell<'a>>> {
        let mut rows: Vec<Vec<Cell<'a>>> = Vec::new();
        for placed in &self.layout.boxes {
            let column =
                |value: i64| (value as f64 / self.layout.total as f64 * self.width as f64).round() as usize;
            let end = column(placed.start.saturating_add(placed.value)).min(self.width);
            let cell = Cell { placed, start: column(placed.start), end };
            rows.resize_with(rows.len().max(placed.depth + 1), Vec::new);
            if cell.start < cell.end {
                rows[placed.depth].push(cell);
            }
        }
        rows.retain(|row| !row.is_empty());
        rows
    }

    fn write_row(&self, row: &Row<'_>, writer: &mut impl Write) -> io::Result<()> {
        let mut line = String::new();
        let mut at = 0;
        for cell in &row.cells {
            // A box begins where the previous one ends, or later.
            line.extend(std::iter::repeat_n(' ', cell.start.saturating_sub(at)));
            line += &self.painted(cell.placed, &self.boxed(row, cell));
            at = cell.end;
        }
        writeln!(writer, "{}", if self.text.colors == Colors::None { line.trim_end() } else { &line })
    }

    /// The text of a box, as wide as the box.
    fn boxed(&self, row: &Row<'_>, cell: &Cell<'_>) -> String {
        let width = cell.end - cell.start;
        let room = width - 1;
        let label = if width < MIN_TEXT { String::new() } else { self.label(&row.above, cell.placed, room) };
        format!("{EDGE}{label:<room$}")
    }

    /// The names and the share, in at most `room` columns.
    fn label(&self, above: &[&Placed], placed: &Placed, room: usize) -> String {
        let share = percent(placed.value as f64 / self.layout.total.max(1) as f64);
        let change = match self.layout.base_total {
            0 => String::new(),
            _ => format!(" ({:+.1})", self.layout.growth(placed) * 100.0),
        };
        let numbers = format!(" {share}{change}");
        let name = self.name(placed);
        // A whole name says more than a share, which the width of the box shows too.
        match room.checked_sub(numbers.len()).filter(|rest| name.chars().count() <= *rest) {
            Some(rest) => self.names(above, &name, rest) + &numbers,
            None => fit(&name, room).into_owned(),
        }
    }

    /// The names of the joined rows, the middle ones dropped if there is no room.
    fn names(&self, above: &[&Placed], name: &str, room: usize) -> String {
        let mut names: Vec<String> = above.iter().map(|placed| self.name(placed)).collect();
        names.push(name.to_owned());
        let all = names.join(" › ");
        if all.chars().count() <= room {
            return all;
        }
        for kept in (1..names.len()).rev() {
            let text = format!("… › {}", names[names.len() - kept..].join(" › "));
            if text.chars().count() <= room {
                return text;
            }
        }
        fit(name, room).into_owned()
    }

    fn name(&self, placed: &Placed) -> String {
        match placed.label {
            Label::Root => "all".to_owned(),
            Label::Thread(number) => self.layout.threads[number as usize].clone(),
            Label::Rest(count) => format!("+{count}"),
            Label::Frame(id) if self.text.full_names => self.stacks.frame(id).name.clone().into_owned(),
            Label::Frame(id) => short(&self.stacks.frame(id).name).into_owned(),
        }
    }

    fn painted(&self, placed: &Placed, text: &str) -> String {
        background(&self.color(placed), self.text.colors)
            .map_or_else(|| text.to_owned(), |background| format!("\x1b[30;{background}m{text}\x1b[0m"))
    }

    fn color(&self, placed: &Placed) -> Color {
        if self.layout.base_total > 0 {
            return color::change_color(self.layout.growth(placed) / self.layout.largest_growth().max(1e-9));
        }
        match placed.label {
            Label::Root => color::ROOT.to_owned(),
            Label::Thread(_) => color::THREAD.to_owned(),
            Label::Rest(_) => color::REST.to_owned(),
            Label::Frame(id) => color::frame_color(self.stacks.frame(id), self.main_module()),
        }
    }

    fn main_module(&self) -> &str {
        let profile = self.stacks.profile();
        profile.mapping.first().map_or("", |mapping| profile.string(mapping.filename))
    }

    /// The legend, and what is not shown.
    fn write_notes(&self, hidden: usize, writer: &mut impl Write) -> io::Result<()> {
        if self.text.colors != Colors::None && self.layout.base_total == 0 {
            writeln!(writer, "{}", self.legend())?;
        }
        if hidden > 0 {
            let rows = counted_as(hidden, "deeper row is", "deeper rows are");
            writeln!(writer, "{rows} not shown: --depth 0 shows all; --focus REGEX shows a part")?;
        }
        let notes = self.layout.comparison().into_iter().chain(self.layout.omission());
        notes.into_iter().try_for_each(|note| writeln!(writer, "{note}"))
    }

    /// The modules with the largest own values, each in its colour.
    fn legend(&self) -> String {
        let mut own: Vec<(&str, i64)> = Vec::new();
        for placed in &self.layout.boxes {
            let Label::Frame(id) = placed.label else { continue };
            let module = &*self.stacks.frame(id).module;
            match own.iter_mut().find(|(known, _)| *known == module) {
                Some((_, value)) => *value = value.saturating_add(placed.own),
                None => own.push((module, placed.own)),
            }
        }
        own.sort_by_key(|(_, value)| std::cmp::Reverse(*value));
        let shown = own.iter().filter(|(module, _)| !module.is_empty()).take(LEGEND);
        let modules = shown.map(|(module, _)| {
            let name = module.rsplit('/').next().unwrap_or(module);
            let color = color::module_color(module, self.main_module());
            let background = background(&color, self.text.colors).unwrap_or_default();
            format!("\x1b[{background}m  \x1b[0m {name}")
        });
        modules.collect::<Vec<_>>().join("  ")
    }
}

/// A share as `98.4%`; never `100%` unless it is all.
fn percent(share: f64) -> String {
    if share >= 1.0 { "100%".into() } else { format!("{:.1}%", (share * 1000.0).round().min(999.0) / 10.0) }
}

/// The parameters of SGR that select a background: a colour `#rrggbb` of a terminal with these
/// colours. `None`: it has none.
fn background(color: &str, colors: Colors) -> Option<String> {
    let channel = |at: usize| u8::from_str_radix(color.get(at..at + 2)?, 16).ok();
    let (red, green, blue) = (channel(1)?, channel(3)?, channel(5)?);
    match colors {
        Colors::None => None,
        Colors::True => Some(format!("48;2;{red};{green};{blue}")),
        Colors::Palette => {
            // The cube of 6 × 6 × 6 colours has the levels 0, 95, 135 … 255.
            let level = |value: u8| u32::from(value.saturating_sub(35) / 40);
            Some(format!("48;5;{}", 16 + 36 * level(red) + 6 * level(green) + level(blue)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{MS, profile},
        *,
    };

    fn text(stacks: &[(&str, i64)], text: TextFlame) -> Vec<String> {
        let profile = profile(stacks);
        let mut bytes = Vec::new();
        write_text(&Stacks::new(&profile), 1, &FlameOptions::default(), &text, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    const PLAIN: TextFlame = TextFlame { width: 40, rows: 0, colors: Colors::None, full_names: false };

    #[test]
    fn boxes_are_as_wide_as_their_shares_and_lie_below_their_callers() {
        let lines = text(&[("main;sixty", 60), ("main;thirty;deep", 30), ("main;ten", 10)], PLAIN);
        assert!(lines[0].starts_with("app · CPU flame graph: 100ms in total"), "{lines:?}");
        assert_eq!(
            lines[1..],
            [
                "│all › main 100%",
                "│sixty 60.0%            │thirty     │ten",
                "                        │deep 30.0%",
            ]
        );
    }

    #[test]
    fn rows_that_one_box_fills_are_joined_and_cut_to_the_width() {
        let lines = text(&[("alpha;beta;gamma;delta;epsilon;zeta", 7)], TextFlame { width: 30, ..PLAIN });
        assert_eq!(lines[1..], ["│… › epsilon › zeta 100%"]);
    }

    #[test]
    fn rows_beyond_the_limit_are_counted() {
        let stacks = [("a;b;c;d", 50), ("a;b;c", 30), ("a;b", 20)];
        let lines = text(&stacks, TextFlame { rows: 2, ..PLAIN });
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[3].starts_with("1 deeper row is not shown: --depth 0"), "{lines:?}");
    }

    #[test]
    fn boxes_narrower_than_half_a_column_are_left_out() {
        let lines = text(&[("main;large", 1000), ("main;small", 5)], PLAIN);
        assert!(!lines.iter().any(|line| line.contains("small")), "{lines:?}");
    }

    #[test]
    fn every_line_fits_into_the_terminal() {
        for width in [20, 33, 80, 200] {
            let stacks: Vec<(String, i64)> =
                (0..40).map(|n| (format!("main;function_{};leaf_{n}", n % 7), 1 + n * n)).collect();
            let stacks: Vec<(&str, i64)> = stacks.iter().map(|(stack, value)| (&**stack, *value)).collect();
            for line in &text(&stacks, TextFlame { width, ..PLAIN })[1..] {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn colors_surround_boxes_only_if_the_terminal_has_them() {
        let plain = text(&[("main;a", 6 * MS)], PLAIN).join("\n");
        let colored = text(&[("main;a", 6 * MS)], TextFlame { colors: Colors::Palette, ..PLAIN }).join("\n");
        assert!(!plain.contains('\x1b') && colored.contains("\x1b[30;48;5;"), "{colored}");
        assert!(colored.contains("\x1b[0m app"), "{colored}");
        assert_eq!(background("#ff0000", Colors::Palette).as_deref(), Some("48;5;196"));
        assert_eq!(background("#ffffff", Colors::Palette).as_deref(), Some("48;5;231"));
        assert_eq!(background("#102030", Colors::True).as_deref(), Some("48;2;16;32;48"));
    }

    #[test]
    fn an_empty_profile_is_reported() {
        let lines = text(&[], PLAIN);
        assert!(lines[1].starts_with("no samples"), "{lines:?}");
    }
}
