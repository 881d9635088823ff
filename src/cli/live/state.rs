//! The state of the live view, and how keys change it.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    history::{FunctionId, ThreadId},
    key::Key,
};
use crate::capture::kinds::{Kind, KindRow};

/// The times that can be shown; the first is the default.
const SPANS: [Duration; 4] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(2)];
/// The maximum length of a search text, in characters.
const MOST_SEARCHED: usize = 200;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Functions, of all threads or one.
    Functions,
    /// The heaviest call paths, of all threads or one.
    Tree,
    /// Threads.
    Threads,
    /// The callers and callees of a function.
    CallersAndCallees(FunctionId),
}

/// An order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The greatest value of its own first.
    Own,
    /// The greatest value with called functions first.
    Total,
    /// By name.
    Name,
}

/// A view to return to: what was shown, and which row was selected.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    shown: Shown,
    thread: Option<ThreadId>,
    chosen: Option<Key>,
    search: String,
}

/// The state of the live view.
#[derive(Debug)]
pub struct State {
    /// What is profiled.
    pub kind: Kind,
    /// The table.
    pub shown: Shown,
    /// The thread that the table is restricted to.
    pub thread: Option<ThreadId>,
    /// The order of rows.
    pub order: Order,
    /// Smallest value first, or names from Z to A.
    pub is_reversed: bool,
    /// Only rows with this text in their names are shown, in upper or lower case.
    pub search: String,
    /// Keys edit the search text.
    pub is_searching: bool,
    /// Only the program's own functions are shown.
    pub only_own: bool,
    /// Idle waits are hidden.
    pub hides_idle: bool,
    /// New profiles are dropped.
    pub is_paused: bool,
    /// The list of keys is shown.
    pub is_helping: bool,
    /// The selected row; `None`: always the first.
    pub chosen: Option<Key>,
    span: usize,
    before: Vec<Place>,
}

/// What a key requests outside the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// End the view.
    Quit,
    /// Give the terminal back to the shell until rprof is continued.
    Suspend,
    /// Profile another kind of the processes.
    Watch(Kind),
    /// Write the time shown to a file.
    Save,
    /// Redraw the whole screen.
    Redraw,
}

impl State {
    /// The state at the start.
    pub fn new(kind: Kind) -> State {
        State {
            kind,
            shown: Shown::Functions,
            thread: None,
            order: Order::Own,
            is_reversed: false,
            search: String::new(),
            is_searching: false,
            only_own: false,
            hides_idle: false,
            is_paused: false,
            is_helping: false,
            chosen: None,
            span: 0,
            before: Vec::new(),
        }
    }

    /// The time shown.
    pub fn span(&self) -> Duration {
        SPANS[self.span]
    }

    /// Whether the rate in a row includes called functions.
    pub fn is_rate_of_total(&self) -> bool {
        self.order == Order::Total || self.shown != Shown::Functions
    }

    /// Drops all numbers of functions and threads, because the history they refer to is gone.
    pub fn forget_ids(&mut self) {
        if let Shown::CallersAndCallees(_) = self.shown {
            self.shown = Shown::Functions;
        }
        (self.thread, self.chosen) = (None, None);
        self.before.clear();
    }

    /// Handles a key; `rows` are shown now, `page` is the number of rows of a page.
    pub fn press(&mut self, key: KeyEvent, rows: &[Key], page: usize) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Action::Quit),
                KeyCode::Char('z') => Some(Action::Suspend),
                KeyCode::Char('l') => Some(Action::Redraw),
                KeyCode::Char('u') if self.is_searching => {
                    self.search.clear();
                    None
                }
                _ => None,
            };
        }
        if self.is_helping {
            self.is_helping = false;
            return None;
        }
        if self.is_searching {
            self.type_search(key.code, rows, page)
        } else {
            self.command(key.code, rows, page)
        }
    }

    fn type_search(&mut self, key: KeyCode, rows: &[Key], page: usize) -> Option<Action> {
        match key {
            KeyCode::Enter => self.is_searching = false,
            KeyCode::Esc => {
                self.is_searching = false;
                self.search.clear();
            }
            KeyCode::Backspace => drop(self.search.pop()),
            KeyCode::Char(typed) if self.search.chars().count() < MOST_SEARCHED => self.search.push(typed),
            _ => self.walk(key, rows, page),
        }
        None
    }

    fn command(&mut self, key: KeyCode, rows: &[Key], page: usize) -> Option<Action> {
        match key {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Char('S') => return Some(Action::Save),
            KeyCode::Char('o') => {
                return self.kind.watch.and_then(|watch| KindRow::named(watch.other)).map(Action::Watch);
            }
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.is_helping = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => self.is_searching = true,
            KeyCode::Char('c') => self.show_tree(),
            KeyCode::Char('m') => self.only_own = !self.only_own,
            KeyCode::Char('i') => self.hides_idle = !self.hides_idle,
            KeyCode::Char('w') => self.span = (self.span + 1) % SPANS.len(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('s') => self.sort(Order::Own),
            KeyCode::Char('t') => self.sort(Order::Total),
            KeyCode::Char('n') => self.sort(Order::Name),
            KeyCode::Tab | KeyCode::BackTab => self.show_other(),
            KeyCode::Enter | KeyCode::Right => self.open(rows),
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => self.back(),
            _ => self.walk(key, rows, page),
        }
        None
    }

    fn sort(&mut self, order: Order) {
        (self.order, self.is_reversed) = (order, false);
    }

    /// Switches between all functions and all threads.
    fn show_other(&mut self) {
        self.shown = if self.shown == Shown::Threads { Shown::Functions } else { Shown::Threads };
        (self.thread, self.chosen) = (None, None);
        self.before.clear();
    }

    /// Switches between functions and the call tree, of the same thread.
    fn show_tree(&mut self) {
        self.shown = if self.shown == Shown::Tree { Shown::Functions } else { Shown::Tree };
        self.chosen = None;
    }

    /// Opens the selected row: a thread's functions, or a function's callers and callees.
    fn open(&mut self, rows: &[Key]) {
        let Some(key) = rows.get(self.at(rows)).copied() else { return };
        if let Key::Path(_) = key {
            return;
        }
        let search = std::mem::take(&mut self.search);
        self.before.push(Place { shown: self.shown, thread: self.thread, chosen: Some(key), search });
        match key {
            Key::Thread(thread) => (self.shown, self.thread) = (Shown::Functions, Some(thread)),
            Key::Function(function) | Key::Caller(function) | Key::Callee(function) => {
                self.shown = Shown::CallersAndCallees(function);
            }
            Key::Path(_) => {}
        }
        self.chosen = None;
    }

    /// Clears the search, or returns to the previous view.
    fn back(&mut self) {
        if !self.search.is_empty() {
            self.search.clear();
        } else if let Some(place) = self.before.pop() {
            (self.shown, self.thread) = (place.shown, place.thread);
            (self.chosen, self.search) = (place.chosen, place.search);
        }
    }

    fn walk(&mut self, key: KeyCode, rows: &[Key], page: usize) {
        let at = self.at(rows);
        let last = rows.len().saturating_sub(1);
        let to = match key {
            KeyCode::Down | KeyCode::Char('j') => at + 1,
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::PageDown => at + page,
            KeyCode::PageUp => at.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => return,
        };
        // Selecting the first row means the hottest function at any time, not this function.
        self.chosen = if to == 0 { None } else { rows.get(to.min(last)).copied() };
    }

    /// The index of the selected row.
    pub fn at(&self, rows: &[Key]) -> usize {
        self.chosen.and_then(|key| rows.iter().position(|row| *row == key)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::kinds;

    const ROWS: [Key; 3] = [Key::Function(5), Key::Function(6), Key::Function(7)];

    fn press(state: &mut State, keys: &[KeyCode]) -> Option<Action> {
        keys.iter().map(|key| state.press(KeyEvent::from(*key), &ROWS, 10)).last().flatten()
    }

    fn typed(state: &mut State, text: &str) {
        let keys: Vec<KeyCode> = text.chars().map(KeyCode::Char).collect();
        press(state, &keys);
    }

    #[test]
    fn letters_are_commands_except_while_searching() {
        let mut state = State::new(kinds::DEFAULT);
        typed(&mut state, "/quit");
        assert_eq!((&*state.search, state.is_searching), ("quit", true));
        press(&mut state, &[KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!((&*state.search, state.is_searching), ("qui", false));
        assert_eq!(press(&mut state, &[KeyCode::Char('q')]), Some(Action::Quit));
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!(state.search, "");
    }

    #[test]
    fn control_c_quits_in_every_mode() {
        let mut state = State::new(kinds::DEFAULT);
        typed(&mut state, "/a");
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.press(key, &ROWS, 10), Some(Action::Quit));
        state.is_helping = true;
        assert_eq!(state.press(key, &ROWS, 10), Some(Action::Quit));
    }

    #[test]
    fn the_selection_follows_the_function_when_rows_move() {
        let mut state = State::new(kinds::DEFAULT);
        press(&mut state, &[KeyCode::Down]);
        assert_eq!(state.chosen, Some(Key::Function(6)));
        assert_eq!(state.at(&[Key::Function(7), Key::Function(5), Key::Function(6)]), 2);
        assert_eq!(state.at(&[Key::Function(7)]), 0);
        press(&mut state, &[KeyCode::End, KeyCode::Down]);
        assert_eq!(state.chosen, Some(Key::Function(7)));
        press(&mut state, &[KeyCode::Home]);
        assert_eq!(state.chosen, None);
    }

    #[test]
    fn escape_returns_to_the_previous_view() {
        let mut state = State::new(kinds::DEFAULT);
        typed(&mut state, "/six");
        press(&mut state, &[KeyCode::Enter, KeyCode::Down, KeyCode::Enter]);
        assert_eq!((state.shown, &*state.search), (Shown::CallersAndCallees(6), ""));
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!((state.shown, state.chosen), (Shown::Functions, Some(Key::Function(6))));
        assert_eq!(state.search, "six");
        press(&mut state, &[KeyCode::Esc, KeyCode::Esc, KeyCode::Esc]);
        assert_eq!(state.shown, Shown::Functions);
    }

    #[test]
    fn enter_opens_the_highlighted_row() {
        let mut state = State::new(kinds::DEFAULT);
        press(&mut state, &[KeyCode::Down]);
        // The selected function is not shown any more, so the first row is highlighted.
        state.press(KeyEvent::from(KeyCode::Enter), &[Key::Function(7)], 10);
        assert_eq!(state.shown, Shown::CallersAndCallees(7));
    }

    #[test]
    fn the_off_cpu_key_switches_there_and_back() {
        let waits = KindRow::named("offcpu").expect("a kind");
        let mut state = State::new(kinds::DEFAULT);
        assert_eq!(press(&mut state, &[KeyCode::Char('o')]), Some(Action::Watch(waits)));
        state.kind = waits;
        assert_eq!(press(&mut state, &[KeyCode::Char('o')]), Some(Action::Watch(kinds::DEFAULT)));
    }

    #[test]
    fn the_call_tree_is_switched_on_and_off_for_the_same_thread() {
        let mut state = State::new(kinds::DEFAULT);
        state.thread = Some(3);
        typed(&mut state, "c");
        assert_eq!((state.shown, state.thread), (Shown::Tree, Some(3)));
        let path = [Key::Path(9)];
        state.press(KeyEvent::from(KeyCode::Enter), &path, 10);
        assert_eq!(state.shown, Shown::Tree);
        typed(&mut state, "cmi");
        assert_eq!((state.shown, state.only_own, state.hides_idle), (Shown::Functions, true, true));
        typed(&mut state, "mi");
        assert!(!state.only_own && !state.hides_idle);
    }

    #[test]
    fn views_of_an_old_history_cannot_be_returned_to() {
        let mut state = State::new(kinds::DEFAULT);
        press(&mut state, &[KeyCode::Enter]);
        state.forget_ids();
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!((state.shown, state.thread, state.chosen), (Shown::Functions, None, None));
    }
}
