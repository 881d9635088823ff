//! Facts about a Go process as lines of text and as JSON.
//!
//! Not here: reading them (`info`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::info::GoInfo;
use crate::runtime::Info;

/// The facts as `rprof info` shows them.
pub fn facts(go: &GoInfo) -> Info {
    let known = if go.is_known_release { "" } else { " (newer than all known releases)" };
    Info {
        runtime: format!("{}, read with the layout of {}{known}", go.version, go.layout),
        lines: lines(go),
        json: json(go),
    }
}

fn lines(go: &GoInfo) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut line = |name: &'static str, text: String| lines.push((name, text));
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
        line("build", "the program has no build information".to_owned());
        return lines;
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
    lines
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

fn json(go: &GoInfo) -> Value {
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
