//! The prompt on a terminal, driven through tmux: completion, history, pipes, colours, messages.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::fixture;

/// The longest time until the screen shows a response.
const TIMEOUT: Duration = Duration::from_secs(20);

/// rprof in a terminal of its own, which is closed when this is dropped.
struct Terminal {
    socket: PathBuf,
    folder: tempfile::TempDir,
}

impl Terminal {
    /// `None`, with a message, if tmux is not installed.
    fn open() -> Option<Terminal> {
        if Command::new("tmux").arg("-V").output().is_err() {
            let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
            eprintln!("SKIPPED: tmux is not installed: the prompt is not tested on a terminal");
            assert!(!in_ci, "scripts/test installs tmux");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket = std::env::temp_dir().join(format!("rprof-tmux-{}-{number}", std::process::id()));
        Some(Terminal { socket, folder })
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Starts the prompt with a profile and additional environment variables.
    fn start(&self, profile: &Path, environment: &str) {
        let line = format!(
            "cd '{}'; exec env XDG_STATE_HOME='{}' SHELL=/bin/sh {environment} '{}' pprof -symbolize=none '{}'",
            self.folder.path().display(),
            self.state().display(),
            env!("CARGO_BIN_EXE_rprof"),
            profile.display()
        );
        let size = ["-x", "120", "-y", "50"];
        self.tmux(&[&["-f", "/dev/null", "new-session", "-d", "-s", "t"][..], &size, &[&line]].concat());
        self.wait("(pprof)");
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "-t", "t"][..], keys].concat());
    }

    fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-t", "t", "-l", text]);
        self.keys(&["Enter"]);
    }

    /// The screen without trailing blanks; with escape sequences if `escapes` is set.
    fn screen(&self, escapes: bool) -> String {
        let more: &[&str] = if escapes { &["-e"] } else { &[] };
        self.tmux(&[&["capture-pane", "-p", "-t", "t"][..], more].concat())
    }

    #[track_caller]
    fn wait(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen(false);
            if screen.contains(text) {
                return screen;
            }
            assert!(began.elapsed() < TIMEOUT, "{text:?} does not appear on:\n{screen}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Presses Ctrl-C and waits for the empty prompt: input typed before that is discarded.
    #[track_caller]
    fn interrupt(&self) {
        self.keys(&["C-c"]);
        let began = Instant::now();
        loop {
            let screen = self.screen(false);
            if screen.trim_end().lines().last().is_some_and(|line| line.trim_end() == "(pprof)") {
                return;
            }
            assert!(began.elapsed() < TIMEOUT, "no new prompt on:\n{screen}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    #[track_caller]
    fn wait_for_the_end(&self) {
        let began = Instant::now();
        while Command::new("tmux").arg("-S").arg(&self.socket).arg("ls").output().unwrap().status.success() {
            assert!(began.elapsed() < TIMEOUT, "it still runs:\n{}", self.screen(false));
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // This test owns the server of this socket. It may have ended with its only program.
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn heap() -> PathBuf {
    fixture("heap.pb.gz").into()
}

#[test]
fn the_tab_key_completes_commands_options_functions_and_labels() {
    let Some(terminal) = Terminal::open() else { return };
    terminal.start(Path::new(&fixture("labels.pb.gz")), "");
    terminal.keys(&["gran", "Tab"]);
    terminal.wait("(pprof) granularity=");
    terminal.keys(&["li", "Tab", "Enter"]);
    terminal.line("o");
    terminal.wait("granularity               = lines");
    terminal.keys(&["tagfocus=thr", "Tab"]);
    terminal.wait("(pprof) tagfocus=thread=");
    terminal.interrupt();
    terminal.keys(&["pee", "Tab", "ns::", "Tab"]);
    terminal.wait("(pprof) peek ns::Klass::f");
    terminal.interrupt();
    terminal.line("q");
    terminal.wait_for_the_end();
}

#[test]
fn the_history_persists_and_only_its_owner_can_read_it() {
    let Some(terminal) = Terminal::open() else { return };
    terminal.start(&heap(), "");
    terminal.line("top3");
    terminal.wait("flat%");
    terminal.line(" top4");
    terminal.line("quit");
    terminal.wait_for_the_end();
    let file = terminal.state().join("rprof/history");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.lines().any(|line| line == "top3"), "{kept}");
    // A line that begins with a blank is not kept, as in shells.
    assert!(!kept.contains("top4"), "{kept}");
    terminal.start(&heap(), "");
    terminal.keys(&["Up", "Up", "Enter"]);
    terminal.wait("(pprof) top3");
    terminal.wait("flat%");
    terminal.keys(&["C-d"]);
    terminal.wait_for_the_end();
}

#[test]
fn a_piped_program_may_end_early_and_receives_ctrl_c() {
    let Some(terminal) = Terminal::open() else { return };
    terminal.start(&heap(), "");
    terminal.line("raw | head -2");
    terminal.wait("PeriodType");
    // Prints the report, then waits for the terminal. (Some shells swallow a Ctrl-C between two commands.)
    terminal.line("top | cat - /dev/tty");
    terminal.wait("flat%");
    terminal.interrupt();
    terminal.line("top2");
    terminal.wait("Showing top 2 nodes");
    terminal.line("quit");
    terminal.wait_for_the_end();
}

#[test]
fn colours_depend_on_the_terminal_and_no_color() {
    for (environment, colored) in [("TERM=xterm-256color", true), ("TERM=xterm NO_COLOR=1", false)] {
        let Some(terminal) = Terminal::open() else { return };
        terminal.start(&heap(), environment);
        terminal.line("top3");
        terminal.wait("flat%");
        terminal.line("top | cat -v >out; grep -c '\\^\\[' out; echo counted");
        terminal.wait("\ncounted");
        let screen = terminal.screen(true);
        assert_eq!(screen.contains("\u{1b}[31m") || screen.contains("\u{1b}[1m"), colored, "{screen:?}");
        // A pipe gets no colours.
        assert!(screen.contains("\n0"), "{screen}");
        terminal.line("quit");
        terminal.wait_for_the_end();
    }
}

#[test]
fn errors_are_explained_in_plain_words() {
    let Some(terminal) = Terminal::open() else { return };
    terminal.start(&heap(), "");
    terminal.line("tpo");
    terminal.wait("there is no command `tpo`; did you mean `top`?");
    terminal.line("sort=cun");
    terminal.wait("did you mean `cum`?");
    terminal.line("nodecount=x");
    terminal.wait("nodecount must be an integer, not `x`");
    terminal.line("peek no_such_thing");
    terminal.wait("no function matches `no_such_thing`");
    terminal.line("q");
    terminal.wait_for_the_end();
}
