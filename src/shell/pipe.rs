//! Pipes a report to another program (`top | head`), through the user's shell.
//!
//! Not here: parsing the line ([`super::order`]).

use std::{
    io::{self, Write},
    process::{Command as Process, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The effect of Ctrl-C: it ends rprof, unless another program has the terminal.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
    /// Whether Ctrl-C ends rprof. `None`: the signal has its default effect.
    ends: Option<Arc<AtomicBool>>,
}

impl Interrupts {
    /// Installs a handler for SIGINT; if that fails, the signal keeps its default effect.
    pub fn take_over() -> Interrupts {
        let ends = Arc::new(AtomicBool::new(true));
        let taken =
            signal_hook::flag::register_conditional_default(signal_hook::consts::SIGINT, ends.clone());
        Interrupts { ends: taken.is_ok().then_some(ends) }
    }

    fn set(&self, ends_rprof: bool) {
        if let Some(ends) = &self.ends {
            ends.store(ends_rprof, Ordering::Relaxed);
        }
    }
}

/// Writes `bytes` to `program`, a command of the user's shell, and waits for it to end.
///
/// # Errors
/// When no shell can be started.
pub(super) fn pipe(program: &str, bytes: &[u8], interrupts: &Interrupts) -> Result<(), String> {
    let shell = std::env::var("SHELL").ok().filter(|shell| shell.starts_with('/'));
    let failed = |error: io::Error| format!("cannot run {program}: {error}");
    let start = |shell: &str| Process::new(shell).arg("-c").arg(program).stdin(Stdio::piped()).spawn();
    interrupts.set(false);
    let child = match shell {
        Some(shell) => start(&shell).or_else(|_| start("sh")),
        None => start("sh"),
    };
    let ended = child.and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // A program may stop reading early, as head does.
            let _ = stdin.write_all(bytes);
        }
        child.wait()
    });
    interrupts.set(true);
    // The exit status is ignored: the shell has already reported failures.
    ended.map(|_| ()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_stops_reading_early_is_not_an_error() {
        let much = vec![b'x'; 1 << 20];
        assert_eq!(pipe("exec <&-; true", &much, &Interrupts::default()), Ok(()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy");
        let program = format!("cat > '{}'", path.display());
        assert_eq!(pipe(&program, b"a report", &Interrupts::default()), Ok(()));
        assert_eq!(std::fs::read(path).unwrap(), b"a report");
    }
}
