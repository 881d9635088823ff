//! Brings a report to another program (`top | head`), through the user's shell.
//!
//! Not here: what the line asked for ([`super::order`]).

use std::{
    io::{self, Write},
    process::{Command as Process, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What Ctrl-C does: it ends rprof, unless another program has the terminal.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
    /// Whether Ctrl-C ends rprof. `None`: it always does, as nobody asked for anything else.
    ends: Option<Arc<AtomicBool>>,
}

impl Interrupts {
    /// Takes the signal over; what could not be taken over stays as it is.
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

/// Gives `bytes` to `program`, a command of the user's shell, and waits for its end.
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
            // A program that has seen enough stops reading.
            let _ = stdin.write_all(bytes);
        }
        child.wait()
    });
    interrupts.set(true);
    // How it ended is its own affair, and its shell has said what there is to say.
    ended.map(|_| ()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_stops_reading_is_no_error() {
        let much = vec![b'x'; 1 << 20];
        assert_eq!(pipe("exec <&-; true", &much, &Interrupts::default()), Ok(()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy");
        let program = format!("cat > '{}'", path.display());
        assert_eq!(pipe(&program, b"a report", &Interrupts::default()), Ok(()));
        assert_eq!(std::fs::read(path).unwrap(), b"a report");
    }
}
