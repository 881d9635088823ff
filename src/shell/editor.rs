//! Reads lines from a terminal: editing, completion with the tab key, history.
//!
//! Not here: the completions ([`super::complete`]).

use std::{path::PathBuf, rc::Rc};

use rustyline::{
    CompletionType, Config, Context, Editor, Helper,
    completion::{Completer, FilenameCompleter, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::Validator,
};

use super::{
    complete::{Completion, Vocabulary},
    history,
};

/// The line editor of the prompt.
pub(super) struct Terminal {
    editor: Editor<LineHelper, FileHistory>,
    history: Option<PathBuf>,
    colored: bool,
}

/// The input of a person.
pub(super) enum Input {
    /// A line.
    Line(String),
    /// Ctrl-C: discards the line.
    Interrupted,
    /// Ctrl-D: ends the session.
    End,
}

impl Terminal {
    /// Opens the terminal. If the history cannot be kept, that is reported to `say`.
    ///
    /// # Errors
    /// When the terminal cannot be set up.
    pub fn new(
        vocabulary: Rc<Vocabulary>,
        colored: bool,
        say: &mut dyn FnMut(&str),
    ) -> Result<Terminal, ReadlineError> {
        let config = Config::builder()
            .max_history_size(history::MAX_LINES)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .completion_prompt_limit(200)
            .build();
        let mut editor: Editor<LineHelper, FileHistory> = Editor::with_config(config)?;
        editor.set_helper(Some(LineHelper { vocabulary, files: FilenameCompleter::new() }));
        let path = history::path(|name| std::env::var(name).ok());
        let mut terminal = Terminal { editor, history: None, colored };
        if let Some(path) = path {
            let ready = history::prepare(&path).map_err(ReadlineError::from);
            match ready.and_then(|()| terminal.editor.load_history(&path)) {
                Ok(()) => terminal.history = Some(path),
                Err(error) => say(&format!("cannot keep the history in {}: {error}", path.display())),
            }
        }
        Ok(terminal)
    }

    /// Shows the prompt and reads a line.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub fn read(&mut self, prompt: &str) -> Result<Input, ReadlineError> {
        let styled = match self.colored {
            true => format!("\x1b[36m{prompt}\x1b[0m"),
            false => prompt.to_string(),
        };
        match self.editor.readline(&(prompt, &*styled)) {
            Ok(line) => {
                self.remember(&line);
                Ok(Input::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(error) => Err(error),
        }
    }

    /// Writes each line at once: several prompts may be open, and any of them may be killed.
    fn remember(&mut self, line: &str) {
        let is_new = !line.trim().is_empty() && self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(path) = &self.history
            && is_new
        {
            // A failure here is not worth interrupting the session.
            let _ = self.editor.append_history(path);
        }
    }
}

struct LineHelper {
    vocabulary: Rc<Vocabulary>,
    files: FilenameCompleter,
}

impl Completer for LineHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context) -> rustyline::Result<(usize, Vec<Pair>)> {
        match self.vocabulary.complete(&line[..at]) {
            Completion::File(start) => {
                let (from, files) = self.files.complete_path(&line[start..at], at - start)?;
                Ok((start + from, files))
            }
            Completion::Words(start, words) => {
                let pair = |word: super::complete::Candidate| Pair {
                    display: word.shown,
                    replacement: word.inserted,
                };
                Ok((start, words.into_iter().map(pair).collect()))
            }
        }
    }
}

impl Helper for LineHelper {}
impl Highlighter for LineHelper {}
impl Hinter for LineHelper {
    type Hint = String;
}
impl Validator for LineHelper {}
