//! `rprof info`: facts about a process, and about its language runtimes.

use std::{fmt::Write as _, io::Write as _};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{args::InfoArgs, memory::Memory};
use crate::{
    process::{Identity, identify, identity, select, threads},
    runtime::{self, Attached, Info, Language},
};

/// Runs the verb.
pub fn run(arguments: &InfoArgs) -> Result<()> {
    let selectors = &arguments.processes.selectors;
    let pids = arguments.processes.choose(true)?;
    let mut all = pids.iter().map(|pid| facts(*pid, arguments.memory)).collect::<Result<Vec<_>>>()?;
    if selectors.children {
        let mut children: Vec<u32> = pids.iter().flat_map(|pid| select::descendants(*pid)).collect();
        children.sort_unstable();
        children.dedup();
        children.retain(|pid| !pids.contains(pid));
        // A child may end meanwhile: that is not an error.
        all.extend(children.into_iter().filter_map(|pid| facts(pid, arguments.memory).ok()));
    }
    let is_array = selectors.children || !selectors.filter().is_empty() || all.len() > 1;
    let text = match (&all[..], arguments.json) {
        (all, false) => all.iter().map(|facts| facts.text(arguments.memory)).collect::<Vec<_>>().join("\n"),
        ([only], true) if !is_array => format!("{:#}\n", only.json()),
        (all, true) => format!("{:#}\n", Value::from_iter(all.iter().map(Facts::json))),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

fn facts(pid: u32, with_memory_table: bool) -> Result<Facts> {
    let identity = identify(pid)?;
    let attached = runtime::attach(pid)?;
    // The process may end meanwhile: what is known of it is shown.
    let memory = Memory::read(pid, &attached.instances).ok();
    let memory =
        if with_memory_table { memory.map(|memory| memory.with_heaps(&attached.instances)) } else { memory };
    Ok(Facts { identity, command_line: identity::command_line(pid), memory, runtimes: runtimes(attached) })
}

/// A runtime's facts, or why it cannot be read.
type RuntimeFacts = (&'static dyn Language, Result<Info, String>);

/// The facts of the runtimes of a process.
fn runtimes(attached: Attached) -> Vec<RuntimeFacts> {
    let refused = attached.refused.into_iter().map(|(language, error)| (language, Err(error.to_string())));
    let mut found: Vec<RuntimeFacts> = (attached.instances.iter())
        .map(|instance| (instance.language(), instance.info().map_err(|error| error.to_string())))
        .collect();
    found.extend(refused);
    found
}

struct Facts {
    identity: Identity,
    command_line: Vec<String>,
    memory: Option<Memory>,
    runtimes: Vec<RuntimeFacts>,
}

impl Facts {
    fn text(&self, with_memory_table: bool) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let shown: String = value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            let _ = writeln!(text, "{name:<14}{shown}");
        };
        let identity = &self.identity;
        line("process", &format!("{} (pid {})", identity.display_name(), identity.pid));
        if let Some(path) = &identity.executable {
            line("program", &path.display().to_string());
        }
        line("command line", &self.command_line.join(" "));
        line("threads", &threads::list(identity.pid).len().to_string());
        let memory = self.memory.as_ref().filter(|_| !with_memory_table);
        memory.iter().flat_map(|memory| memory.short_lines()).for_each(|(name, value)| line(name, &value));
        for (language, facts) in &self.runtimes {
            match facts {
                Ok(info) => {
                    line("runtime", &info.runtime);
                    info.lines.iter().for_each(|(name, value)| line(name, value));
                }
                Err(why) => line("runtime", &format!("{}, but it cannot be read: {why}", language.name())),
            }
        }
        if self.runtimes.is_empty() {
            let known: Vec<_> = runtime::ALL.iter().map(|language| language.name()).collect();
            line("runtime", &format!("none that rprof reads (it reads {})", known.join(", ")));
        }
        if let Some(memory) = self.memory.as_ref().filter(|_| with_memory_table) {
            text.push_str(&memory.text());
        }
        text
    }

    fn json(&self) -> Value {
        let mut all = json!({
            "pid": self.identity.pid,
            "name": self.identity.display_name(),
            "executable": self.identity.executable.as_deref().map(|path| path.to_string_lossy()),
            "command_line": self.command_line,
            "threads": threads::list(self.identity.pid).len(),
            "memory": self.memory.as_ref().map(Memory::json),
        });
        // Each language has its keys in every process.
        for language in runtime::ALL {
            let facts = self.runtimes.iter().find(|(found, _)| found.id() == language.id());
            let key = language.name().to_lowercase();
            all[format!("{key}_error")] = json!(facts.and_then(|(_, facts)| facts.as_ref().err()));
            all[key] =
                facts.and_then(|(_, facts)| Some(facts.as_ref().ok()?.json.clone())).unwrap_or_default();
        }
        all
    }
}
