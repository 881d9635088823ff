//! Shows a finished report with a desktop program, usually a browser.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command as Process, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::numbered_file;

/// The files shown. A browser may read its file late, so files are removed when rprof ends.
static SHOWN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// Whether the prompt continues while a viewer runs.
static AT_PROMPT: AtomicBool = AtomicBool::new(false);

/// From now on viewers run beside the prompt.
pub(super) fn stay_at_prompt() {
    AT_PROMPT.store(true, Ordering::Relaxed);
}

/// Shows a file with the first of the programs that starts; browsers, if none is named.
pub(super) fn show(bytes: &[u8], suffix: &str, programs: &[&str]) -> Result<(), String> {
    let (path, mut file) = numbered_file(&std::env::temp_dir(), "pprof", suffix)?;
    SHOWN.lock().map_err(|error| error.to_string())?.push(path.clone().into());
    file.write_all(bytes).map_err(|error| error.to_string())?;
    drop(file);
    let mut result = Ok(());
    for program in programs_or_browsers(programs) {
        let mut words = program.split(' ');
        let Some(name) = words.next() else { continue };
        // The viewer's output is not part of the report.
        let mut viewer = Process::new(name);
        viewer.args(words).arg(&path).stdin(Stdio::null()).stdout(Stdio::null());
        match viewer.spawn() {
            Ok(mut viewer) => {
                let ended = if AT_PROMPT.load(Ordering::Relaxed) { None } else { viewer.wait().ok() };
                // The program may only forward the file to a running browser, which then reads it.
                std::thread::sleep(Duration::from_secs(1));
                return match ended.and_then(|status| status.code()) {
                    None | Some(0) => Ok(()),
                    Some(code) => Err(format!("exit status {code}")),
                };
            }
            Err(_) => result = Err(format!("exec: \"{name}\": executable file not found in $PATH")),
        }
    }
    result
}

fn programs_or_browsers(programs: &[&str]) -> Vec<String> {
    if !programs.is_empty() {
        return programs.iter().map(|program| (*program).to_string()).collect();
    }
    browsers()
}

/// Browsers to try, `$BROWSER` first.
pub(super) fn browsers() -> Vec<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let known = ["chrome", "google-chrome", "chromium", "firefox", "sensible-browser"];
    let desktop = variable("DISPLAY").map(|_| "xdg-open".to_string());
    variable("BROWSER").into_iter().chain(known.map(String::from)).chain(desktop).collect()
}

/// Removes the files shown.
pub(super) fn remove_shown() {
    let Ok(mut shown) = SHOWN.lock() else { return };
    for path in shown.drain(..) {
        // A file that cannot be removed stays in the directory for temporary files.
        let _ = fs::remove_file(path);
    }
}
