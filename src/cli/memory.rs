//! Whose memory a process's resident memory is, as text and as JSON, for several verbs.
//!
//! Not here: reading it (`process::account`, `process::cgroup_memory`).

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    process::{
        account::{Account, Part},
        cgroup_memory::{self, CgroupMemory},
    },
    runtime::{Instance, MemoryFigure},
};

/// The parts that the short form names.
const SHORT_PARTS: usize = 5;

/// The memory of a process and the limit of its control group.
#[derive(Debug)]
pub struct Memory {
    account: Account,
    figures: Vec<MemoryFigure>,
    group: Option<CgroupMemory>,
}

impl Memory {
    /// Reads the memory of a process with these runtimes. Errors: the process is gone.
    pub fn read(pid: u32, instances: &[Box<dyn Instance>]) -> Result<Memory> {
        let runtimes: Vec<_> = instances.iter().map(|instance| instance.memory()).collect();
        let owned: Vec<_> = runtimes.iter().flat_map(|memory| memory.ranges.clone()).collect();
        let rest = runtimes.iter().find_map(|memory| memory.rest);
        let account = Account::read(pid, &owned, rest)?;
        let figures = runtimes.into_iter().flat_map(|memory| memory.figures).collect();
        Ok(Memory { account, figures, group: cgroup_memory::read(pid) })
    }

    /// One line for the resident memory, and one for the limit if there is one.
    pub fn short_lines(&self) -> Vec<(&'static str, String)> {
        let mut parts: Vec<String> = self.account.parts.iter().take(SHORT_PARTS).map(short).collect();
        let more = self.account.parts.len().saturating_sub(SHORT_PARTS);
        if more > 0 {
            parts.push(format!("{more} more"));
        }
        let mut lines = vec![("memory", format!("{}: {}", self.total(), parts.join(", ")))];
        lines.extend(
            self.group
                .as_ref()
                .filter(|group| group.limit.is_some())
                .map(|group| ("memory limit", limit(group))),
        );
        lines
    }

    fn total(&self) -> String {
        let total = &self.account.total;
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
        let account = &self.account;
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
        for figure in &self.figures {
            let _ = writeln!(text, "  {}: {}", figure.name, mib(figure.bytes));
        }
        if let Some(group) = &self.group {
            let _ = writeln!(text, "{:<14}{}", "memory limit", limit(group));
        }
        text
    }

    /// All of it, in bytes.
    pub fn json(&self) -> Value {
        let account = &self.account;
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
        let figures: serde_json::Map<String, Value> =
            self.figures.iter().map(|figure| (figure.name.replace(' ', "_"), figure.bytes.into())).collect();
        json!({
            "rss": account.total.rss,
            "pss": account.total.pss,
            "swap": account.total.swap,
            "page_tables": account.page_tables,
            "parts": account.parts.iter().map(part).collect::<Vec<_>>(),
            "not_divided": account.limit,
            "runtimes": figures,
            "cgroup": self.group.as_ref().map(|group| json!({
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
