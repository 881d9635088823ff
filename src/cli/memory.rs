//! Whose memory a process's resident memory is, as text and as JSON, for several verbs.
//!
//! Not here: reading it (`process::account`, `process::cgroup_memory`).

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    capture::memory::MemoryReading,
    process::{account::Part, cgroup_memory::CgroupMemory},
    runtime::{Instance, RuntimeObjects},
};

/// The parts that the short form names.
const SHORT_PARTS: usize = 5;

/// The types and sizes of a runtime's heap that the text names.
const SHOWN_ROWS: usize = 12;

/// The memory of a process.
#[derive(Debug)]
pub struct Memory(MemoryReading);

impl Memory {
    /// Reads the memory of a process with these runtimes. Errors: the process is gone.
    pub fn read(pid: u32, instances: &[Box<dyn Instance>]) -> Result<Memory> {
        Ok(Memory(MemoryReading::read(pid, instances)?))
    }

    /// Adds the objects of the runtimes and the pools of the program, which takes longer.
    pub fn with_heaps(self, instances: &[Box<dyn Instance>]) -> Memory {
        Memory(self.0.with_heaps(instances))
    }

    /// One line for the resident memory, and one for the limit if there is one.
    pub fn short_lines(&self) -> Vec<(&'static str, String)> {
        let mut parts: Vec<String> = self.0.account.parts.iter().take(SHORT_PARTS).map(short).collect();
        let more = self.0.account.parts.len().saturating_sub(SHORT_PARTS);
        if more > 0 {
            parts.push(format!("{more} more"));
        }
        let mut lines = vec![("memory", format!("{}: {}", self.total(), parts.join(", ")))];
        lines.extend(
            self.0
                .group
                .as_ref()
                .filter(|group| group.limit.is_some())
                .map(|group| ("memory limit", limit(group))),
        );
        lines
    }

    fn total(&self) -> String {
        let total = &self.0.account.total;
        let mut text = format!("RSS {}", mib(total.rss));
        if total.pss > 0 {
            let _ = write!(text, ", PSS {}", mib(total.pss));
        }
        if total.swap > 0 {
            let _ = write!(text, ", swap {}", mib(total.swap));
        }
        text
    }

    /// A table of all parts, and the limit.
    pub fn text(&self) -> String {
        let account = &self.0.account;
        let mut text = format!("memory        {}", self.total());
        if let Some(bytes) = account.page_tables {
            let _ = write!(text, ", and page tables {}", mib(bytes));
        }
        text.push('\n');
        let _ = writeln!(text, "  {:>12} {:>12} {:>12} {:>12}  part", "RSS", "PSS", "swap", "size");
        for part in &account.parts {
            let used = &part.used;
            let columns =
                [used.rss, used.pss, used.swap, used.size].map(|bytes| format!("{:>12}", mib(bytes)));
            let _ = writeln!(text, "  {}  {}", columns.join(" "), shown(part));
        }
        if let Some(why) = &account.limit {
            let _ = writeln!(text, "  not divided further: {why}; run rprof as root or as the same user");
        }
        for figure in &self.0.figures {
            let _ = writeln!(text, "  {}: {}", figure.name, mib(figure.bytes));
        }
        if let Some(group) = &self.0.group {
            let _ = writeln!(text, "{:<14}{}", "memory limit", limit(group));
        }
        self.0.objects.iter().for_each(|objects| objects_text(objects, &mut text));
        self.pools_text(&mut text);
        text
    }

    fn pools_text(&self, text: &mut String) {
        let Some(pools) = &self.0.pools else { return };
        let _ = writeln!(text, "{}: {}, {} bytes", pools.what, pools.count(), pools.bytes());
        if pools.broken > 0 {
            let _ = writeln!(text, "  {} changed while they were read", pools.broken);
        }
        let _ = writeln!(text, "  {:>12} {:>12}  name", "contexts", "bytes");
        for pool in pools.pools.iter().take(SHOWN_ROWS) {
            let _ = writeln!(text, "  {:>12} {:>12}  {}", pool.count, pool.bytes, pool.name);
        }
        let more = pools.pools.len().saturating_sub(SHOWN_ROWS);
        if more > 0 {
            let _ = writeln!(text, "  … {more} more names");
        }
    }

    /// All of it, in bytes.
    pub fn json(&self) -> Value {
        let account = &self.0.account;
        let part = |part: &Part| {
            json!({
                "part": part.name,
                "assumed": part.is_assumed,
                "mappings": part.mappings,
                "rss": part.used.rss,
                "pss": part.used.pss,
                "swap": part.used.swap,
                "size": part.used.size,
            })
        };
        let figures: serde_json::Map<String, Value> = self
            .0
            .figures
            .iter()
            .map(|figure| (figure.name.replace(' ', "_"), figure.bytes.into()))
            .collect();
        json!({
            "rss": account.total.rss,
            "pss": account.total.pss,
            "swap": account.total.swap,
            "page_tables": account.page_tables,
            "parts": account.parts.iter().map(part).collect::<Vec<_>>(),
            "not_divided": account.limit,
            "runtimes": figures,
            "pools": self.0.pools.as_ref().map(|pools| json!({
                "what": pools.what,
                "count": pools.count(),
                "bytes": pools.bytes(),
                "changed_while_read": pools.broken,
                "by_name": pools.pools.iter()
                    .map(|pool| json!({"name": pool.name, "count": pool.count, "bytes": pool.bytes}))
                    .collect::<Vec<_>>(),
            })),
            "heaps": self.0.objects.iter().map(objects_json).collect::<Vec<_>>(),
            "cgroup": self.0.group.as_ref().map(|group| json!({
                "path": group.path.to_string_lossy(),
                "version": group.version,
                "limit": group.limit,
                "used": group.used,
                "inactive_file": group.inactive_file,
                "left": group.left(),
                "oom_kills": group.oom_kills,
                "swap_limit": group.swap_limit,
                "swap_used": group.swap_used,
            })),
        })
    }
}

/// The objects of a runtime's heap: the types that take most, and the sizes with most free blocks.
fn objects_text(objects: &RuntimeObjects, text: &mut String) {
    let typed: u64 = objects.types.iter().map(|row| row.bytes).sum();
    let free: u64 = objects.sizes.iter().map(|row| row.size * row.free).sum();
    let percent = typed as f64 * 100.0 / objects.bytes.max(1) as f64;
    let _ = writeln!(
        text,
        "{}: {} blocks, {} in {} arenas, {} free in pools in use; {percent:.1} % of the bytes have a type",
        objects.heap,
        objects.count,
        mib(objects.bytes),
        objects.arenas,
        mib(free),
    );
    if objects.broken > 0 {
        let _ = writeln!(text, "  {} pools changed while they were read", objects.broken);
    }
    let _ = writeln!(text, "  {:>12} {:>12}  type", "objects", "bytes");
    for row in objects.types.iter().take(SHOWN_ROWS) {
        let name: String = row.name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = writeln!(text, "  {:>12} {:>12}  {name}", row.count, row.bytes);
    }
    let more = objects.types.len().saturating_sub(SHOWN_ROWS);
    if more > 0 {
        let _ = writeln!(text, "  … {more} more types");
    }
}

fn objects_json(objects: &RuntimeObjects) -> Value {
    let types =
        objects.types.iter().map(|row| json!({"type": row.name, "count": row.count, "bytes": row.bytes}));
    let sizes = objects.sizes.iter().map(|row| json!({"size": row.size, "used": row.used, "free": row.free}));
    json!({
        "heap": objects.heap,
        "arenas": objects.arenas,
        "count": objects.count,
        "bytes": objects.bytes,
        "changed_while_read": objects.broken,
        "types": types.collect::<Vec<_>>(),
        "sizes": sizes.collect::<Vec<_>>(),
    })
}

fn short(part: &Part) -> String {
    format!("{} {}", shown(part), mib(part.used.rss))
}

/// The name of a part, without control characters; `~`: the owner is assumed.
fn shown(part: &Part) -> String {
    let mark = if part.is_assumed { "~" } else { "" };
    let name: String = part.name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("{mark}{name}")
}

fn limit(group: &CgroupMemory) -> String {
    let kills = group.oom_kills.map_or_else(|| "not known".to_owned(), |kills| kills.to_string());
    let path = group.path.display();
    let Some((limit, left)) = group.limit.zip(group.left()) else {
        return format!("none (control group {path}, {} used), OOM kills {kills}", mib(group.used));
    };
    let used = group.used.saturating_sub(group.inactive_file);
    format!(
        "{} (control group {path}): {} used, {} left, OOM kills {kills}",
        mib(limit),
        mib(used),
        mib(left)
    )
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(limit: Option<u64>) -> CgroupMemory {
        CgroupMemory {
            path: "/web".into(),
            version: 2,
            limit,
            used: 80 << 20,
            inactive_file: 20 << 20,
            oom_kills: Some(2),
            ..CgroupMemory::default()
        }
    }

    #[test]
    fn the_distance_to_the_limit_does_not_count_idle_page_cache() {
        let expected = "100.0 MiB (control group /web): 60.0 MiB used, 40.0 MiB left, OOM kills 2";
        assert_eq!(limit(&group(Some(100 << 20))), expected);
        assert_eq!(limit(&group(None)), "none (control group /web, 80.0 MiB used), OOM kills 2");
    }

    #[test]
    fn all_forms_name_the_parts_of_this_process() {
        let memory = Memory::read(std::process::id(), &[]).expect("own");
        let lines = memory.short_lines();
        assert!(lines[0].1.starts_with("RSS ") && lines[0].1.contains("code of programs"), "{lines:?}");
        assert!(memory.text().contains("thread stacks"), "{}", memory.text());
        let json = memory.json();
        let parts = json["parts"].as_array().expect("parts");
        let sum: u64 = parts.iter().filter_map(|part| part["rss"].as_u64()).sum();
        assert_eq!(Some(sum), json["rss"].as_u64());
    }
}
