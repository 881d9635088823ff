//! The command line: what a person types, what a person reads, and the exit code.
//!
//! `args` declares, one module a verb interprets, `advice` turns errors into what, why and what to do.
//! Not here: anything that could be of use without a terminal.

mod advice;
mod args;
mod attach;
mod output;
mod progress;
mod record;
mod summary;
mod symbolize;
mod top;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use args::{Cli, Verb};

/// The answer was given or the profile written.
const SUCCESS: u8 = 0;
/// It could not be: the reason is on standard error.
const FAILURE: u8 = 1;
/// The command line was wrong.
const USAGE: u8 = 2;

/// Runs a command line (the program's name first) and says how it went.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(message) => {
            // A closed pipe behind `--help` is not worth an error of its own.
            let _ = message.print();
            return ExitCode::from(if message.use_stderr() { USAGE } else { SUCCESS });
        }
    };
    let done = match cli.verb {
        Verb::Attach(arguments) => attach::run(arguments),
        Verb::Record(arguments) => record::run(arguments),
        Verb::Symbolize(arguments) => symbolize::run(&arguments),
        Verb::Top(arguments) => top::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::from(SUCCESS),
        Err(error) => {
            eprintln!("{}", advice::explain(&error));
            ExitCode::from(FAILURE)
        }
    }
}
