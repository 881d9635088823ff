//! The command line: arguments, messages and exit codes.
//!
//! `args` declares the arguments, one module per verb interprets them, and `advice` explains
//! errors: what happened, why, and what to do. Everything that is useful without a terminal is in
//! other modules.

mod advice;
mod args;
mod attach;
mod compare;
mod doctor;
mod dump;
mod flame;
mod generate;
mod heap;
mod help;
mod info;
#[cfg(test)]
mod kinds_test;
mod language_hint;
mod live;
mod mcp;
mod memory;
mod missing_symbols;
mod output;
mod perf_stacks;
mod picker;
pub mod pprof;
mod progress;
mod record;
mod redact;
mod report;
mod sampling;
mod serve;
mod sidecar;
mod sidecar_care;
mod signals;
mod snapshot;
mod spool;
mod summary;
mod symbolize;
mod target;
mod timeline;
mod usage;
mod version;

use std::{ffi::OsString, io::Write, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;

use crate::sampler::look::hold;
use args::{Cli, Verb};

/// The result was printed or written.
const SUCCESS: u8 = 0;
/// There is no result: the reason is on standard error.
const FAILURE: u8 = 1;
/// The command line was wrong.
const USAGE: u8 = 2;

/// Runs a command line (the program's name first) and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let code = run_verb(arguments.into_iter().collect());
    wait_for_stopped_threads();
    code
}

/// Waits until every thread whose stop rprof requested has been released, and names those that it
/// waits for (see [`hold::wait_for_release`]).
fn wait_for_stopped_threads() {
    const SOON: Duration = Duration::from_millis(300);
    let mut named = Vec::new();
    loop {
        let left = hold::wait_for_release(SOON);
        if left.is_empty() {
            return;
        }
        if left != named {
            let list: Vec<String> = left.iter().map(u32::to_string).collect();
            say(&format!(
                "waiting for thread {} to stop: rprof requested a stop, and a system call of the thread \
                 may fail if rprof ends before it is released (the output is complete)",
                list.join(", ")
            ));
            named = left;
        }
    }
}

fn run_verb(arguments: Vec<OsString>) -> ExitCode {
    if let [_, verb, rest @ ..] = &arguments[..]
        && verb == "pprof"
    {
        // clap would interpret some of its flags itself.
        return run_pprof(rest);
    }
    report_file_size_limit();
    let arguments = usage::with_verb(arguments);
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(message) => {
            // A closed pipe (`--help | head`) is not an error.
            let _ = message.print();
            if let Some(hint) = usage::hint(&message, &arguments) {
                say(&hint);
            }
            return ExitCode::from(if message.use_stderr() { USAGE } else { SUCCESS });
        }
    };
    let done = match cli.verb {
        Verb::Attach(arguments) => attach::run(arguments),
        Verb::Compare(arguments) => return exit_code(compare::run(&arguments)),
        Verb::Diff(arguments) => return exit_code(report::compare(&arguments)),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Dump(arguments) => return exit_code(dump::run(&arguments)),
        Verb::Flame(arguments) => flame::run(&arguments),
        Verb::Generate(arguments) => generate::run(&arguments),
        Verb::Heap(arguments) => heap::run(&arguments),
        Verb::Help(arguments) => return help_exit(&arguments),
        Verb::Info(arguments) => info::run(&arguments),
        Verb::List(arguments) => report::of_matches("list", &arguments),
        Verb::Mcp(arguments) => mcp::run(arguments),
        Verb::Peek(arguments) => report::of_matches("peek", &arguments),
        Verb::Pprof(arguments) => return run_pprof(&arguments.arguments),
        Verb::Record(arguments) => return exit_code(record::run(arguments)),
        Verb::Redact(arguments) => redact::run(&arguments),
        Verb::Serve(arguments) => serve::run(*arguments),
        Verb::Sidecar(arguments) => sidecar::run(*arguments),
        Verb::Snapshot(arguments) => snapshot::run(&arguments),
        Verb::Symbolize(arguments) => symbolize::run(&arguments),
        Verb::Tags(arguments) => report::of_files("tags", &arguments),
        Verb::Top(arguments) => report::top(&arguments),
        Verb::Traces(arguments) => report::of_files("traces", &arguments),
        Verb::Tree(arguments) => report::of_files("tree", &arguments),
    };
    exit_code(done.map(|()| SUCCESS))
}

/// Makes a file that is larger than `ulimit -f` permits an error of write(2) instead of the end of
/// rprof. A handler, unlike an ignored signal, is not inherited by the command of `rprof record`.
fn report_file_size_limit() {
    let _ = signal_hook::flag::register(libc::SIGXFSZ, std::sync::Arc::default());
}

/// The exit code of a verb, whose error is printed.
fn exit_code(result: Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&advice::explain(&error));
            ExitCode::from(FAILURE)
        }
    }
}

/// `rprof help`; an unknown name is a usage error.
fn help_exit(arguments: &args::HelpArgs) -> ExitCode {
    match help::run(arguments, &mut std::io::stdout()) {
        Ok(()) => ExitCode::from(SUCCESS),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(USAGE)
        }
    }
}

/// `rprof pprof`, whose flags follow Go's spelling.
fn run_pprof(arguments: &[OsString]) -> ExitCode {
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout());
    let status = pprof::run(&arguments, &mut out, &mut std::io::stderr());
    // The reader may have closed the pipe (`| head`), which is not an error.
    let _ = out.flush();
    ExitCode::from(status)
}

/// Writes lines to standard error, which may be closed (`2>&1 | head`). Paths and names come from
/// the target, so control characters are replaced.
fn say(text: &str) {
    let shown: String = text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect();
    let _ = writeln!(std::io::stderr(), "{shown}");
}
