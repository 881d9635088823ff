//! A terminal in which a test runs rprof and reads the screen: tmux with its own server.

use std::process::Command;

use super::wait_until;

/// How long a test waits for the screen to change, in seconds.
const PATIENCE: u64 = 20;

/// A terminal of 110 columns and 30 lines. It ends with the test.
pub struct Terminal {
    /// The name of the tmux server.
    name: String,
}

impl Terminal {
    /// Runs rprof with these arguments. When it has ended, the screen shows `ended with` and its
    /// status, and `as it was` if the terminal mode is restored.
    pub fn start(name: &str, arguments: &[&str]) -> Terminal {
        let terminal = Terminal { name: format!("rprof-it-{}-{name}", std::process::id()) };
        let command = format!(
            "'{}' {}; echo \"ended with $?\"; stty -a | grep -q -- ' icanon' && echo 'as it was'; exec sleep 60",
            env!("CARGO_BIN_EXE_rprof"),
            arguments.join(" "),
        );
        // Otherwise tmux would start the user's own shell with its startup files.
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "110",
            "-y",
            "30",
            "sh",
            "-c",
            &command,
        ]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        // Removes the influence of an outer tmux and of the user's locale.
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8").args(["-u", "-L", &self.name]).args(arguments);
        let output = command.output().expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, named as in tmux.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"][..], keys].concat());
    }

    pub fn resize(&self, columns: u32, lines: u32) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]);
    }

    /// The text on the screen.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen satisfies the condition, and returns it.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let found = wait_until(PATIENCE, || {
            screen = self.screen();
            wanted(&screen)
        });
        assert!(found, "never on the screen: {what}\n{screen}");
        screen
    }

    /// Waits until the screen shows a text.
    #[track_caller]
    pub fn shows(&self, text: &str) -> String {
        self.wait_for(text, |screen| screen.contains(text))
    }

    /// Waits until rprof has ended with this status and has restored the terminal.
    #[track_caller]
    pub fn assert_ended(&self, status: i32) {
        let screen = self.shows("ended with");
        assert!(screen.contains(&format!("ended with {status}\n")), "{screen}");
        self.shows("as it was");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
