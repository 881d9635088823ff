//! The rows of the live view: selection, order and texts. `draw` draws them.

use std::{
    cmp::Reverse,
    hash::{Hash, Hasher},
};

use rustc_hash::FxHasher;

use super::{
    history::{Function, FunctionId, History, Sum, ThreadId},
    key::Key,
    state::{Order, Shown, State},
};
use crate::{
    capture::kinds::Kind,
    report::paths::{self, text},
};

/// The maximum number of rows.
const MOST_ROWS: usize = 10_000;
/// The maximum number of rows of a call tree.
const MOST_TREE_ROWS: usize = 200;
/// The maximum length of the names in a row of a call tree, in characters.
const MOST_NAMES: usize = 300;
/// A share whose 95 % confidence interval is wider than this part of it to each side is rough.
const ROUGH: f64 = 0.5;
/// How many profiles a thread's bars show.
const COURSE: usize = 16;

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it shows.
    pub key: Key,
    /// The share of the function itself: 0 to 1 of the totals shown.
    pub own: f64,
    /// The share with called functions: 0 to 1 of the totals shown.
    pub total: f64,
    /// Whether so few samples have it that its share is rough.
    pub is_rough: bool,
    /// The value per second, with its unit.
    pub rate: String,
    /// The name.
    pub name: String,
    /// The file of a function; the bars and the hottest function of a thread.
    pub more: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The headings of the last two columns.
    pub columns: [&'static str; 2],
    /// The rows, in order.
    pub rows: Vec<Row>,
}

impl Table {
    /// What each row shows.
    pub fn keys(&self) -> Vec<Key> {
        self.rows.iter().map(|row| row.key).collect()
    }
}

/// The table that the state selects.
pub fn table(state: &State, history: &History) -> Table {
    let sum = history.sum(state.span(), state.thread);
    let of_thread = state.thread.map(|id| {
        let thread = history.thread(id);
        format!(" of thread {} ({})", thread.name, thread.tid)
    });
    let mut table = match state.shown {
        Shown::Functions => Table {
            title: match state.only_own {
                true => format!("my code{}, with what it calls", of_thread.unwrap_or_default()),
                false => format!("functions{}", of_thread.unwrap_or_default()),
            },
            columns: ["FUNCTION", "FILE"],
            rows: functions(state, history, sum),
        },
        Shown::Tree => Table {
            title: match state.only_own {
                true => format!("call tree of my code{}", of_thread.unwrap_or_default()),
                false => format!("call tree{}", of_thread.unwrap_or_default()),
            },
            columns: ["CALL PATH", "MODULE"],
            rows: tree(state, history, sum),
        },
        Shown::Threads => Table {
            title: "threads".into(),
            columns: ["THREAD", "HOTTEST FUNCTION"],
            rows: threads(state, history, sum),
        },
        Shown::CallersAndCallees(id) => Table {
            title: format!(
                "callers ▲ and callees ▼ of {}{}",
                history.function(id).name,
                of_thread.unwrap_or_default()
            ),
            columns: ["FUNCTION", "FILE"],
            rows: around(state, history, sum, id),
        },
    };
    let search = state.search.to_lowercase();
    table.rows.retain(|row| search.is_empty() || row.name.to_lowercase().contains(&search));
    table.rows.truncate(MOST_ROWS);
    table
}

fn functions(state: &State, history: &History, sum: Sum) -> Vec<Row> {
    let mut shares = match state.only_own {
        true => history.own_functions(state.span(), state.thread),
        false => history.functions(state.span(), state.thread),
    };
    let name = |id: FunctionId| &history.function(id).name;
    match state.order {
        Order::Own => shares.sort_by_key(|(id, share)| (Reverse((share.own, share.total)), *id)),
        Order::Total => shares.sort_by_key(|(id, share)| (Reverse((share.total, share.own)), *id)),
        Order::Name => shares.sort_by(|a, b| name(a.0).cmp(name(b.0))),
    }
    if state.is_reversed {
        shares.reverse();
    }
    let row = |(id, share): (FunctionId, super::history::Share)| {
        function_row(state, history, sum, Key::Function(id), share.own, share.total)
    };
    shares.into_iter().map(row).collect()
}

fn function_row(state: &State, history: &History, sum: Sum, key: Key, own: i64, total: i64) -> Row {
    let is_total = state.is_rate_of_total();
    let (sign, id) = match key {
        Key::Caller(id) => ("▲ ", id),
        Key::Callee(id) => ("▼ ", id),
        Key::Function(id) | Key::Thread(id) => ("", id),
        Key::Path(_) => return path_row(state, sum, key, &paths::Row::default()),
    };
    let Function { name, place, .. } = history.function(id);
    Row {
        key,
        own: share(own, sum),
        total: share(total, sum),
        is_rough: is_rough(share(if is_total { total } else { own }, sum), sum),
        rate: rate(state.kind, if is_total { total } else { own }, sum),
        name: format!("{sign}{name}"),
        more: place.clone(),
    }
}

/// The heaviest call paths, callers before their callees.
fn tree(state: &State, history: &History, sum: Sum) -> Vec<Row> {
    let rows = history.tree(state.span(), state.thread, state.only_own, MOST_TREE_ROWS);
    // The number of the path to the last row of each level.
    let mut numbers: Vec<u64> = Vec::new();
    let with_key = |row: &paths::Row| {
        numbers.truncate(row.depth);
        let mut hasher = FxHasher::default();
        (numbers.last(), &row.names, row.is_kernel).hash(&mut hasher);
        numbers.push(hasher.finish());
        path_row(state, sum, Key::Path(hasher.finish()), row)
    };
    rows.iter().map(with_key).collect()
}

fn path_row(state: &State, sum: Sum, key: Key, row: &paths::Row) -> Row {
    Row {
        key,
        own: row.own,
        total: row.total,
        is_rough: is_rough(row.total, sum),
        rate: rate(state.kind, (row.total * sum.value as f64) as i64, sum),
        name: format!("{}{}", text::indent(row), text::names(row, MOST_NAMES, false)),
        more: row.module.clone(),
    }
}

/// Whether few samples have this share.
fn is_rough(share: f64, sum: Sum) -> bool {
    let interval = 1.96 * ((1.0 - share) * share / sum.effective.max(1.0)).sqrt();
    interval > share * ROUGH
}

fn threads(state: &State, history: &History, sum: Sum) -> Vec<Row> {
    let mut shares = history.threads(state.span());
    let thread = |id: ThreadId| history.thread(id);
    match state.order {
        Order::Own | Order::Total => shares.sort_by_key(|(id, share)| (Reverse(share.total), *id)),
        Order::Name => shares.sort_by(|a, b| {
            let by = |id: ThreadId| (&thread(id).name, thread(id).tid);
            by(a.0).cmp(&by(b.0))
        }),
    }
    if state.is_reversed {
        shares.reverse();
    }
    let courses = history.courses(COURSE);
    let row = |(id, of): (ThreadId, super::history::ThreadShare)| {
        let known = thread(id);
        let process = if known.process.is_empty() { String::new() } else { format!(" {}", known.process) };
        let hottest = of.hottest.map_or("", |id| &history.function(id).name);
        Row {
            key: Key::Thread(id),
            own: share(of.total, sum),
            total: share(of.total, sum),
            is_rough: is_rough(share(of.total, sum), sum),
            rate: rate(state.kind, of.total, sum),
            name: format!("{:>7} {}{process}", known.tid, known.name),
            more: format!("{} {hottest}", bars(courses.get(&id).map_or(&[0.0; COURSE], |course| course))),
        }
    };
    shares.into_iter().map(row).collect()
}

/// Callers, the hottest last so that it is next to the function; the function; callees.
fn around(state: &State, history: &History, sum: Sum, id: FunctionId) -> Vec<Row> {
    let around = history.around(state.span(), state.thread, id);
    let row = |key, own, total| function_row(state, history, sum, key, own, total);
    let callers = around.callers.iter().rev().map(|(id, value)| row(Key::Caller(*id), 0, *value));
    let itself = std::iter::once(row(Key::Function(id), around.of.own, around.of.total));
    let callees = around.callees.iter().map(|(id, value)| row(Key::Callee(*id), 0, *value));
    callers.chain(itself).chain(callees).collect()
}

fn share(value: i64, sum: Sum) -> f64 {
    if sum.value == 0 { 0.0 } else { value as f64 / sum.value as f64 }
}

/// Per second: milliseconds, or events.
fn rate(kind: Kind, value: i64, sum: Sum) -> String {
    let each_second = value as f64 / sum.seconds.max(0.001);
    match each_second {
        _ if !kind.is_time() => format!("{each_second:.0}"),
        _ if each_second >= 1e10 => format!("{:.1} s", each_second / 1e9),
        _ => format!("{:.0} ms", each_second / 1e6),
    }
}

/// A share (0 to 1) as a bar that is `width` characters long for 1.
pub fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((!eighths.is_multiple_of(8)).then(|| EIGHTHS[eighths % 8]));
    bar
}

/// Values as a row of small bars; the greatest value has a full bar.
pub fn bars(course: &[f64]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = course.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| match value / most {
        part if part > 0.0 => BARS[(part * 8.0).ceil().min(8.0) as usize],
        _ => BARS[0],
    };
    course.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::history::tests::history, *};
    use crate::capture::kinds;

    fn names(state: &State, history: &History) -> Vec<String> {
        table(state, history).rows.into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn functions_are_in_the_selected_order() {
        let history = history(&[("a", &["hot", "main"], 60), ("a", &["cold", "main"], 40)]);
        let mut state = State::new(kinds::DEFAULT);
        assert_eq!(names(&state, &history), ["hot", "cold", "main"]);
        state.order = Order::Total;
        assert_eq!(names(&state, &history), ["main", "hot", "cold"]);
        state.order = Order::Name;
        assert_eq!(names(&state, &history), ["cold", "hot", "main"]);
        state.is_reversed = true;
        assert_eq!(names(&state, &history), ["main", "hot", "cold"]);
        let hot = &table(&state, &history).rows[1];
        assert_eq!((hot.own, hot.total, &*hot.rate, &*hot.more), (0.6, 0.6, "60 ms", "work.c"));
    }

    #[test]
    fn a_search_does_not_change_shares() {
        let history = history(&[("a", &["hot", "main"], 60), ("a", &["Cold", "main"], 40)]);
        let mut state = State::new(kinds::DEFAULT);
        state.search = "cOL".into();
        let found = table(&state, &history);
        assert_eq!((found.rows.len(), found.rows[0].own), (1, 0.4));
        state.search = "(".into();
        assert!(table(&state, &history).rows.is_empty());
    }

    #[test]
    fn the_functions_of_a_thread_have_shares_of_the_thread() {
        let history = history(&[("a", &["hot"], 60), ("b", &["cold"], 40)]);
        let mut state = State::new(kinds::DEFAULT);
        state.shown = Shown::Threads;
        let threads = table(&state, &history);
        assert_eq!(threads.rows[1].name, "      7 b");
        assert!(threads.rows[1].more.ends_with("█ cold"));
        let Key::Thread(b) = threads.rows[1].key else { panic!("no thread") };
        (state.shown, state.thread) = (Shown::Functions, Some(b));
        let functions = table(&state, &history);
        assert_eq!((functions.rows.len(), functions.rows[0].own), (1, 1.0));
        assert_eq!(functions.title, "functions of thread b (7)");
    }

    #[test]
    fn a_function_is_listed_between_its_callers_and_its_callees() {
        let history = history(&[("a", &["leaf", "mid", "one"], 10), ("a", &["mid", "two"], 30)]);
        let mut state = State::new(kinds::DEFAULT);
        let id = (0..).find(|id| history.function(*id).name == "mid").unwrap();
        state.shown = Shown::CallersAndCallees(id);
        assert_eq!(names(&state, &history), ["▲ one", "▲ two", "mid", "▼ leaf"]);
    }

    #[test]
    fn the_call_tree_has_callers_above_their_callees_and_stable_keys() {
        let stacks: &[(&str, &[&str], i64)] =
            &[("a", &["hot", "work", "main"], 60), ("a", &["cold", "work", "main"], 40)];
        let mut state = State::new(kinds::DEFAULT);
        state.shown = Shown::Tree;
        let tree = table(&state, &history(stacks));
        let names: Vec<&str> = tree.rows.iter().map(|row| &*row.name).collect();
        assert_eq!(names, ["main › work", "├ hot", "└ cold"]);
        assert_eq!((tree.rows[1].total, &*tree.rows[1].rate), (0.6, "60 ms"));
        let reversed: Vec<_> = stacks.iter().rev().copied().collect();
        assert_eq!(table(&state, &history(&reversed)).keys(), tree.keys());
    }

    #[test]
    fn a_share_of_few_samples_is_rough() {
        let sum = |effective| Sum { effective, ..Sum::default() };
        assert!(is_rough(0.1, sum(20.0)) && !is_rough(0.1, sum(1000.0)));
        assert!(!is_rough(1.0, sum(1.0)) && !is_rough(0.0, sum(0.0)));
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!([0.0, 0.5, 1.0, 7.0].map(|share| bar(share, 4)), ["", "██", "████", "████"]);
        assert_eq!(bar(0.1, 10), "█");
        assert_eq!(bar(0.02, 10), "▎");
        assert_eq!(bar(f64::NAN, 10), "");
    }

    #[test]
    fn bars_are_relative_to_the_greatest_value() {
        assert_eq!(bars(&[0.0, 1.0, 4.0, 8.0]), " ▁▄█");
        assert_eq!(bars(&[0.0, 0.0]), "  ");
    }
}
