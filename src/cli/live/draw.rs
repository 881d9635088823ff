//! Draws the live view. `table` makes its rows, `state` handles its keys.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Cell, Clear, Paragraph, Row as TableRow, Table as TableWidget, TableState, Wrap},
};

use super::{
    history::Sum,
    state::{Order, Shown, State},
    table::{Row, Table, bar, bars},
};
use crate::{
    capture::kinds::{Kind, KindRow},
    text::counted,
};

/// Everything that a frame shows.
pub struct Picture<'a> {
    /// What is shown.
    pub state: &'a State,
    /// The value per second of each of the last [`COURSE`] profiles, of what is shown.
    pub course: Vec<f64>,
    /// The totals of the time shown.
    pub sum: Sum,
    /// The rows.
    pub table: &'a Table,
    /// The index of the selected row.
    pub at: usize,
    /// The watched processes.
    pub who: String,
    /// The sampler and its rate: `bpf 99 Hz`.
    pub how: String,
    /// The number of threads; `None`: all processes have ended.
    pub threads: Option<usize>,
    /// A message for the user; empty: none.
    pub message: &'a str,
    /// Whether to use colors.
    pub in_color: bool,
}

/// How many profiles the bars above the table show at most.
pub const COURSE: usize = 300;
/// The maximum height of a message, in lines.
const MOST_MESSAGE_LINES: u16 = 6;

const HELP: &str = " Tab          functions / threads
 c            call tree / functions
 m            my code only: no libraries, no kernel
 i            hide idle waits (for requests, timers, tasks)
 s  t  n      sort by self, total, name     r  reverse
 ↑ ↓ PgUp PgDn Home End (j k g G)           move
 Enter →      a thread's functions; a function's callers and callees
 Esc ←        back
 /            search in names; Esc clears the search
 o            off-CPU time (waiting) / CPU time (running)
 w            time shown: 10 s, 1 min, 5 min, 2 s
 p Space      pause: samples taken meanwhile are dropped
 S            save the time shown as a pprof file
 q Ctrl-C     quit            Ctrl-Z  suspend

 SELF   the function itself      TOTAL  with called functions
 Both are shares of all samples in the time shown.
 ±      few samples: the share may be half as large or twice";

/// The width of the number columns, with the spaces between.
const NUMBERS: u16 = 9 + 9 + 10;
/// The width of the bars of shares.
const BAR: u16 = 10;
/// The least width of a terminal with bars.
const WIDTH_WITH_BARS: u16 = 80;

/// Draws a frame.
pub fn draw(frame: &mut Frame<'_>, picture: &Picture<'_>) {
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(1),
    ];
    let [head, course, body, chosen, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(heading(picture), head);
    frame.render_widget(course_line(picture, course.width), course);
    draw_table(frame, picture, body);
    frame.render_widget(chosen_line(picture), chosen);
    frame.render_widget(footing(picture), foot);
    if !picture.message.is_empty() && !picture.state.is_searching {
        draw_message(frame, picture);
    }
    if picture.state.is_helping {
        draw_help(frame);
    }
}

/// Draws the message over the last lines.
fn draw_message(frame: &mut Frame<'_>, picture: &Picture<'_>) {
    let area = frame.area();
    let lines = picture.message.lines().map(|line| 1 + line.chars().count() as u16 / area.width.max(1));
    let height = lines.sum::<u16>().clamp(2, MOST_MESSAGE_LINES).min(area.height);
    let place = Rect { y: area.height - height, height, ..area };
    frame.render_widget(Clear, place);
    let message = Paragraph::new(picture.message).wrap(Wrap { trim: true });
    frame.render_widget(message.style(style(picture, Color::Yellow)), place);
}

/// How many rows a page has on a terminal of this height.
pub fn page(height: u16) -> usize {
    usize::from(height.saturating_sub(5)).max(1)
}

fn style(picture: &Picture<'_>, color: Color) -> Style {
    if picture.in_color { Style::new().fg(color) } else { Style::new() }
}

fn heading<'a>(picture: &Picture<'a>) -> Line<'a> {
    let sum = picture.sum;
    let mut parts = vec![
        Span::styled(format!(" {}", picture.who), Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(format!("  {}", amount(picture.state.kind, sum)), style(picture, Color::Green)),
        idle_part(picture.state, sum).into(),
    ];
    let threads = match picture.threads {
        Some(1) => "1 thread".into(),
        Some(count) => format!("{count} threads"),
        None => "ended".into(),
    };
    let whole = if sum.samples == 0 { 100.0 } else { 100.0 * sum.whole as f64 / sum.samples as f64 };
    parts.push(format!("  {threads}  {}  {whole:.1}% whole stacks", picture.how).into());
    if sum.lost > 0 {
        parts.push(Span::styled(format!("  {} lost", sum.lost), style(picture, Color::Red)));
    }
    if picture.state.is_paused {
        parts.push("  ".into());
        parts.push(Span::styled(" PAUSED ", Style::new().add_modifier(Modifier::REVERSED)));
    }
    parts.into()
}

/// The value per second.
fn amount(kind: Kind, sum: Sum) -> String {
    amount_per_second(kind, sum.value as f64 / sum.seconds.max(0.001))
}

fn amount_per_second(kind: Kind, per_second: f64) -> String {
    kind.watch.map_or_else(String::new, |watch| (watch.amount)(per_second))
}

/// How much of the waiting is idle; empty if nothing is.
fn idle_part(state: &State, sum: Sum) -> String {
    if sum.idle == 0 {
        return String::new();
    }
    let all = if state.hides_idle { sum.value.saturating_add(sum.idle) } else { sum.value };
    let share = 100.0 * sum.idle as f64 / all.max(1) as f64;
    if state.hides_idle { format!(" ({share:.0}% idle: hidden)") } else { format!(" ({share:.0}% idle)") }
}

/// The values of the last profiles as bars; the scale is the greatest of them.
fn course_line(picture: &Picture<'_>, width: u16) -> Line<'static> {
    let width = usize::from(width.saturating_sub(2));
    let peak = |course: &[f64]| {
        let most = course.iter().copied().fold(0.0, f64::max);
        format!("peak {} ", amount_per_second(picture.state.kind, most))
    };
    // The label of all profiles is as long as that of those that fit beside it, or longer.
    let shown = width.saturating_sub(peak(&picture.course).chars().count()).min(picture.course.len());
    let course = &picture.course[picture.course.len() - shown..];
    Line::from(vec![
        Span::styled(format!(" {}", peak(course)), style(picture, Color::DarkGray)),
        Span::styled(bars(course), style(picture, Color::Cyan)),
    ])
}

fn draw_table(frame: &mut Frame<'_>, picture: &Picture<'_>, area: Rect) {
    let (state, table) = (picture.state, picture.table);
    let of_threads = state.shown == Shown::Threads;
    let bar = if area.width < WIDTH_WITH_BARS { 0 } else { BAR };
    let rest = area.width.saturating_sub(NUMBERS + 1 + if bar > 0 { bar + 1 } else { 0 });
    let more = (if of_threads { rest / 2 } else { rest / 4 }).min(if of_threads { 60 } else { 28 });
    let name = rest.saturating_sub(more);
    let widths = [8, 8, 9].into_iter().chain((bar > 0).then_some(bar)).chain([name, more]);
    let widths: Vec<Constraint> = widths.map(Constraint::Length).collect();
    let [title, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    frame.render_widget(title_line(picture), title);
    // Only visible rows are made. The selected row is always visible, at the lower edge if necessary.
    let height = usize::from(body.height.saturating_sub(1)).max(1);
    let first = (picture.at + 1).saturating_sub(height);
    let rows = table.rows.iter().skip(first).take(height);
    let by_total = state.is_rate_of_total();
    let rows = rows.map(|row| table_row(row, of_threads, by_total, [bar, name, more].map(usize::from)));
    let widget = TableWidget::new(rows, widths)
        .header(header(picture, bar > 0))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let marked = (!table.rows.is_empty()).then_some(picture.at - first);
    let mut shown = TableState::default().with_selected(marked);
    frame.render_stateful_widget(widget, body, &mut shown);
}

fn title_line<'a>(picture: &Picture<'a>) -> Line<'a> {
    let mut parts = vec![
        Span::styled(format!(" {}", picture.table.title), Style::new().add_modifier(Modifier::BOLD)),
        format!("  last {}", time_shown(picture)).into(),
        precision(picture.sum).into(),
    ];
    if !picture.state.search.is_empty() {
        let found = format!("  {} with \"{}\" in the name", picture.table.rows.len(), picture.state.search);
        parts.push(Span::styled(found, style(picture, Color::Yellow)));
    }
    parts.into()
}

/// How precise shares are: the 95 % confidence interval of a share of one half, in percentage
/// points.
fn precision(sum: Sum) -> String {
    if sum.samples == 0 || sum.value == 0 {
        return String::new();
    }
    let points = (98.0 / sum.effective.max(1.0).sqrt()).min(50.0);
    format!("  {}: ±{points:.0} %", counted(sum.samples as usize, "sample"))
}

/// The time that the table covers, which is shorter than requested at first.
fn time_shown(picture: &Picture<'_>) -> String {
    humantime::format_duration(Duration::from_secs(picture.sum.seconds.round() as u64)).to_string()
}

fn header(picture: &Picture<'_>, has_bars: bool) -> TableRow<'static> {
    let state = picture.state;
    let mark = |order: Order, name: &str| {
        let arrow = if state.is_reversed { "▲" } else { "▼" };
        let is_sorted = !matches!(state.shown, Shown::CallersAndCallees(_) | Shown::Tree);
        if is_sorted && state.order == order { format!("{name}{arrow}") } else { name.to_owned() }
    };
    let of_threads = state.shown == Shown::Threads;
    let [name, more] = picture.table.columns;
    let per_second = match (of_threads, state.is_rate_of_total()) {
        (true, _) => "PER SEC",
        (false, true) => "TOTAL/s",
        (false, false) => "SELF/s",
    };
    let numbers = if of_threads {
        // Self and total of a thread are equal.
        let share = if state.order == Order::Name { "SHARE".into() } else { mark(state.order, "SHARE") };
        [share, String::new(), per_second.into()]
    } else {
        [mark(Order::Own, "SELF"), mark(Order::Total, "TOTAL"), per_second.into()]
    };
    let cells = numbers.into_iter().map(|text| Cell::from(Line::from(text).alignment(Alignment::Right)));
    let scale = has_bars.then(|| Cell::from("0%    100%"));
    let names = [mark(Order::Name, name), more.to_owned()].into_iter().map(Cell::from);
    TableRow::new(cells.chain(scale).chain(names))
        .style(style(picture, Color::Cyan).add_modifier(Modifier::BOLD))
}

fn table_row(
    row: &Row,
    of_threads: bool,
    by_total: bool,
    [bar_width, name, more]: [usize; 3],
) -> TableRow<'static> {
    // The sign is at the share that the row is sorted by.
    let percent = |share: f64, is_main: bool| {
        format!("{:.1}%{}", share * 100.0, if row.is_rough && is_main { '±' } else { ' ' })
    };
    let total = if of_threads { String::new() } else { percent(row.total, by_total) };
    let cells = [percent(row.own, !by_total || of_threads), total, row.rate.clone()]
        .map(|text| Cell::from(Line::from(text).alignment(Alignment::Right)));
    let share = if by_total { row.total } else { row.own };
    let bar = (bar_width > 0).then(|| Cell::from(bar(share, bar_width)));
    let texts = [fit(&row.name, name), fit(&row.more, more)].map(Cell::from);
    TableRow::new(cells.into_iter().chain(bar).chain(texts))
}

/// The text, shortened in the middle if it is too long.
fn fit(text: &str, width: usize) -> String {
    let count = text.chars().count();
    // The last cell is the space to the next column.
    let width = width.saturating_sub(1);
    if count <= width {
        return text.to_owned();
    }
    let end = width / 3;
    let start = width.saturating_sub(end + 1);
    let tail: String = text.chars().skip(count - end).collect();
    format!("{}…{tail}", text.chars().take(start).collect::<String>())
}

/// The selected row's names in full.
fn chosen_line(picture: &Picture<'_>) -> Line<'static> {
    let text = match picture.table.rows.get(picture.at) {
        Some(row) if picture.state.shown != Shown::Threads => format!(" {}  {}", row.name, row.more),
        Some(row) => format!(" {}", row.name.trim_start()),
        None if !picture.state.search.is_empty() => " no name matches".into(),
        None => nothing(picture.state),
    };
    Line::styled(text, style(picture, Color::DarkGray))
}

/// What the key `o` changes to.
fn other(kind: Kind) -> &'static str {
    let other = kind.watch.and_then(|watch| KindRow::named(watch.other)?.watch);
    other.map_or("", |watch| watch.short)
}

/// Why the table is empty.
fn nothing(state: &State) -> String {
    let span = humantime::format_duration(state.span());
    if state.hides_idle {
        return format!(" nothing but idle waits in the last {span}: i shows them");
    }
    let nothing = state.kind.watch.map_or("no samples", |watch| watch.nothing);
    format!(" {nothing} in the last {span}: o shows {} time", other(state.kind))
}

fn footing<'a>(picture: &Picture<'a>) -> Line<'a> {
    let state = picture.state;
    if state.is_searching {
        return Line::from(format!(" /{}▏", state.search));
    }
    let other = other(state.kind);
    let keys = format!(
        " ? help  q quit  Tab threads  c call tree  m my code  / search  s t n sort  o {other}  p pause  w time  S save"
    );
    Line::styled(keys, style(picture, Color::DarkGray))
}

fn draw_help(frame: &mut Frame<'_>) {
    let lines = HELP.lines().count() as u16;
    let width = HELP.lines().map(|line| line.chars().count()).max().unwrap_or_default() as u16;
    let area = frame.area();
    let (width, height) = ((width + 4).min(area.width), (lines + 2).min(area.height));
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    frame
        .render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys (any key closes) ")), place);
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{
        super::{
            history::{History, tests::history},
            table::table,
        },
        *,
    };
    use crate::capture::kinds;

    fn picture<'a>(state: &'a State, history: &'a History, table: &'a Table) -> Picture<'a> {
        let (who, how) = ("redis-server (4711)".into(), "bpf 99 Hz".into());
        Picture {
            state,
            course: history.course(COURSE, None),
            sum: history.sum(state.span(), None),
            table,
            at: state.at(&table.keys()),
            who,
            how,
            threads: Some(5),
            message: "",
            in_color: false,
        }
    }

    fn drawn(state: &State, history: &History, width: u16, height: u16) -> String {
        let table = table(state, history);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &picture(state, history, &table))).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_the_process_the_total_and_the_hottest_functions() {
        let history = history(&[("a", &["hot", "main"], 600), ("b", &["cold", "main"], 150)]);
        let screen = drawn(&State::new(kinds::DEFAULT), &history, 100, 12);
        let lines: Vec<&str> = screen.lines().collect();
        assert!(
            lines[0].contains("redis-server (4711)  CPU 75% of one  5 threads  bpf 99 Hz  100.0% whole"),
            "{screen}"
        );
        assert!(lines[1].contains("peak CPU 75% of one "), "{screen}");
        assert!(lines[2].contains("functions  last 1s  2 samples: ±50 %"), "{screen}");
        assert!(lines[3].contains("SELF▼") && lines[3].contains("TOTAL"), "{screen}");
        let words: Vec<&str> = lines[4].trim_matches('"').split_whitespace().collect();
        assert_eq!(words, ["80.0%±", "80.0%", "600", "ms", "████████", "hot", "work.c"], "{screen}");
        assert!(lines[6].contains("0.0%") && lines[6].contains("100.0%"), "{screen}");
    }

    #[test]
    fn the_call_tree_is_drawn_with_bars_of_totals() {
        let history = history(&[("a", &["hot", "main"], 600), ("b", &["cold", "main"], 150)]);
        let mut state = State::new(kinds::DEFAULT);
        state.shown = Shown::Tree;
        let screen = drawn(&state, &history, 100, 12);
        let lines: Vec<&str> = screen.lines().collect();
        assert!(lines[2].contains("call tree  last 1s") && lines[3].contains("CALL PATH"), "{screen}");
        assert!(lines[4].contains("██████████ main"), "{screen}");
        assert!(lines[5].contains("████████   ├ hot"), "{screen}");
        assert!(!drawn(&state, &history, 79, 12).contains("██ "), "bars on a narrow terminal");
    }

    #[test]
    fn the_idle_part_of_waits_is_shown() {
        let mut state = State::new(kinds::DEFAULT);
        let sum = Sum { value: 1000, idle: 900, ..Sum::default() };
        assert_eq!(idle_part(&state, sum), " (90% idle)");
        state.hides_idle = true;
        assert_eq!(idle_part(&state, Sum { value: 100, ..sum }), " (90% idle: hidden)");
        assert_eq!(idle_part(&state, Sum { idle: 0, ..sum }), "");
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        let history = history(&[("a", &["hot", "main"], 600)]);
        let mut state = State::new(kinds::DEFAULT);
        for (width, height) in [(1, 1), (10, 3), (30, 6), (300, 100)] {
            for is_helping in [false, true] {
                state.is_helping = is_helping;
                drawn(&state, &history, width, height);
            }
        }
    }

    #[test]
    fn a_long_name_keeps_its_start_and_its_end() {
        assert_eq!(fit("std::vector<int>::push_back", 14), "std::vec…back");
        assert_eq!(fit("short", 14), "short");
        assert_eq!(fit("long name", 1), "…");
    }

    #[test]
    fn a_long_message_takes_two_lines() {
        let (state, history) = (State::new(kinds::DEFAULT), History::default());
        let table = table(&state, &history);
        let mut terminal = Terminal::new(TestBackend::new(60, 10)).unwrap();
        let message = "BPF is not permitted: no CAP_BPF and no CAP_PERFMON here; root has both of these";
        let picture = Picture { message, ..picture(&state, &history, &table) };
        terminal.draw(|frame| draw(frame, &picture)).unwrap();
        let screen = terminal.backend().to_string();
        assert!(screen.contains("has both of these") && !screen.contains("q quit"), "{screen}");
    }

    #[test]
    fn an_empty_table_gives_the_reason() {
        let screen = drawn(&State::new(kinds::DEFAULT), &History::default(), 90, 10);
        assert!(screen.contains("no CPU time in the last 10s: o shows off-CPU time"), "{screen}");
    }
}
