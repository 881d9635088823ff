//! `rprof info`: facts about a process, and about a Go program's runtime.

use std::{
    fmt::Write as _,
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::args::InfoArgs;
use crate::{
    process::{Identity, identify, identity, threads},
    runtime::go::{GoError, GoInfo, GoProcess},
};

/// Runs the verb.
pub fn run(arguments: &InfoArgs) -> Result<()> {
    let pid = arguments.pid.or(arguments.target).context("no process is given")?;
    let identity = identify(pid)?;
    let (go, why_not) = match GoProcess::attach(pid) {
        Ok(process) => (Some(process.info()), None),
        Err(GoError::NotGo(_)) => (None, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let info = Info { identity, command_line: identity::command_line(pid), go, why_not };
    let text = if arguments.json { format!("{:#}\n", info.json()) } else { info.text() };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

struct Info {
    identity: Identity,
    command_line: Vec<String>,
    go: Option<GoInfo>,
    /// Why a Go program could not be read.
    why_not: Option<String>,
}

impl Info {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let shown: String = value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            let _ = writeln!(text, "{name:<14}{shown}");
        };
        let identity = &self.identity;
        line("process", format!("{} (pid {})", identity.display_name(), identity.pid));
        if let Some(path) = &identity.executable {
            line("program", path.display().to_string());
        }
        line("command line", self.command_line.join(" "));
        line("threads", threads::list(identity.pid).len().to_string());
        match (&self.go, &self.why_not) {
            (Some(go), _) => go_lines(go, &mut line),
            (None, Some(why)) => line("runtime", format!("Go, but it cannot be read: {why}")),
            (None, None) => line("runtime", "none that rprof reads (it reads Go)".to_owned()),
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "pid": self.identity.pid,
            "name": self.identity.display_name(),
            "executable": self.identity.executable.as_deref().map(|path| path.to_string_lossy()),
            "command_line": self.command_line,
            "threads": threads::list(self.identity.pid).len(),
            "go": self.go.as_ref().map(go_json),
            "go_error": self.why_not,
        })
    }
}

fn go_lines(go: &GoInfo, line: &mut impl FnMut(&str, String)) {
    let known = if go.is_known_release { "" } else { " (newer than all known releases)" };
    line("runtime", format!("{}, read with the layout of {}{known}", go.version, go.layout));
    let shown = |value: Option<String>| value.unwrap_or_else(|| "not found".to_owned());
    let number = |value: Option<u64>| shown(value.map(|value| value.to_string()));
    line("GOMAXPROCS", number(go.gomaxprocs.map(u64::from)));
    line(
        "scheduler",
        format!(
            "runtime threads: {}, idle {}, spinning {}; idle processors: {}; goroutine slots: {}",
            number(go.threads.map(|count| count as u64)),
            number(go.idle_threads.map(u64::from)),
            number(go.spinning_threads.map(u64::from)),
            number(go.idle_processors.map(u64::from)),
            number(go.goroutine_slots)
        ),
    );
    line("collections", collections(go));
    line(
        "heap",
        format!(
            "{} live, {} after the last collection",
            bytes(go.heap_live_bytes),
            bytes(go.heap_marked_bytes)
        ),
    );
    let percent =
        go.gc_percent.map(|percent| if percent < 0 { "off".to_owned() } else { percent.to_string() });
    let limit = go.memory_limit.map(|limit| match limit {
        i64::MAX => "none".to_owned(),
        limit => bytes(u64::try_from(limit).ok()),
    });
    line("GOGC", format!("{}, GOMEMLIMIT {}", shown(percent), shown(limit)));
    line("profiling", profiling(go));
    let Some(build) = &go.build else {
        return line("build", "the program has no build information".to_owned());
    };
    line("package", build.path.clone());
    if let Some((path, version)) = &build.main_module {
        line("module", format!("{path} {version}"));
    }
    let settings: Vec<String> = build.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    line("build", settings.join(" "));
    for (path, version) in &build.dependencies {
        line("uses", format!("{path} {version}"));
    }
}

fn collections(go: &GoInfo) -> String {
    let Some(count) = go.collections else { return "not found".to_owned() };
    let forced = go.forced_collections.unwrap_or(0);
    let pause = go.pause_total_ns.map_or_else(|| "?".to_owned(), |ns| format!("{:.3} ms", ns as f64 / 1e6));
    let ago = go.last_collection_unix_ns.filter(|ns| *ns > 0).map(|ns| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!(", the last {:.1} s ago", now.saturating_sub(Duration::from_nanos(ns)).as_secs_f64())
    });
    format!("{count} ({forced} forced by the program), total pause {pause}{}", ago.unwrap_or_default())
}

fn profiling(go: &GoInfo) -> String {
    let rate = |value: Option<u64>, on: &dyn Fn(u64) -> String| match value {
        None => "not found".to_owned(),
        Some(0) => "off".to_owned(),
        Some(rate) => on(rate),
    };
    format!(
        "heap {}, block {}, mutex {}",
        rate(go.mem_profile_rate, &|rate| format!("one in {rate} bytes")),
        rate(go.block_profile_rate, &|rate| format!("one in {rate} ticks")),
        rate(go.mutex_profile_fraction, &|rate| format!("one in {rate} events"))
    )
}

fn bytes(value: Option<u64>) -> String {
    value.map_or_else(
        || "not found".to_owned(),
        |value| format!("{:.1} MiB", value as f64 / f64::from(1 << 20)),
    )
}

fn go_json(go: &GoInfo) -> Value {
    let pairs = |pairs: &[(String, String)]| -> Value {
        pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    };
    json!({
        "version": go.version,
        "layout": go.layout,
        "known_release": go.is_known_release,
        "gomaxprocs": go.gomaxprocs,
        "goroutine_slots": go.goroutine_slots,
        "threads": go.threads,
        "idle_threads": go.idle_threads,
        "spinning_threads": go.spinning_threads,
        "idle_processors": go.idle_processors,
        "collections": go.collections,
        "forced_collections": go.forced_collections,
        "pause_total_ns": go.pause_total_ns,
        "last_collection_unix_ns": go.last_collection_unix_ns,
        "gogc": go.gc_percent,
        "memory_limit_bytes": go.memory_limit,
        "heap_live_bytes": go.heap_live_bytes,
        "heap_marked_bytes": go.heap_marked_bytes,
        "mem_profile_rate": go.mem_profile_rate,
        "block_profile_rate": go.block_profile_rate,
        "mutex_profile_fraction": go.mutex_profile_fraction,
        "path": go.build.as_ref().map(|build| &build.path),
        "module": go.build.as_ref().and_then(|build| build.main_module.as_ref()),
        "dependencies": go.build.as_ref().map(|build| pairs(&build.dependencies)),
        "settings": go.build.as_ref().map(|build| pairs(&build.settings)),
    })
}
