//! How the first look at a profile is printed: options of the verbs that print one.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};

use crate::report::paths::{fold::Expand, text::TextOptions};

/// Options of the first look at a profile.
#[derive(Clone, Debug, Default, Args)]
pub struct ViewArgs {
    /// Print the hottest functions as a table instead of the heaviest call paths.
    #[arg(long)]
    pub flat: bool,
    /// Show all frames of the kernel, or of libraries and runtimes, in the call paths.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub expand: Vec<ExpandArg>,
    /// Print function names in full: with template arguments, and not cut to the width of the
    /// terminal.
    #[arg(long)]
    pub full_names: bool,
}

/// `--expand`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExpandArg {
    /// The kernel.
    Kernel,
    /// Libraries, runtimes and interpreters.
    Runtime,
    /// Both.
    All,
}

impl ViewArgs {
    /// What is not folded.
    pub fn expand(&self) -> Expand {
        let has = |what| self.expand.iter().any(|given| *given == what || *given == ExpandArg::All);
        Expand { kernel: has(ExpandArg::Kernel), runtime: has(ExpandArg::Runtime) }
    }

    /// How call paths are written on a stream.
    pub fn text(&self, is_terminal: bool) -> TextOptions {
        TextOptions { width: width(is_terminal).unwrap_or(DEFAULT_WIDTH), full_names: self.full_names }
    }
}

/// The width of a line where there is no terminal.
const DEFAULT_WIDTH: usize = 80;
/// Wider lines are hard to read.
const MAX_WIDTH: usize = 160;

/// The width of the terminal in characters; `None` without one.
pub fn width(is_terminal: bool) -> Option<usize> {
    let size = is_terminal.then(ratatui::crossterm::terminal::size)?.ok()?;
    Some(usize::from(size.0)).filter(|width| *width > 0).map(|width| width.clamp(40, MAX_WIDTH))
}

/// The width and height of standard output in characters, if it is a terminal.
pub fn stdout_size() -> Option<(usize, usize)> {
    let size = std::io::stdout().is_terminal().then(ratatui::crossterm::terminal::size)?.ok()?;
    Some((size.0.into(), size.1.into())).filter(|(width, height)| *width > 0 && *height > 0)
}

/// The width of standard output, if it is a terminal.
pub fn stdout_width() -> Option<usize> {
    width(std::io::stdout().is_terminal())
}
