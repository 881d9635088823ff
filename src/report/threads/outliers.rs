//! Which of several processes of the same program is different: eight workers wait in the same
//! function, the ninth does not.
//!
//! A process is described by its stacks: of each thread the names of its functions. Stacks that
//! most processes have are common; a process that lacks a common stack differs. Not here: the
//! stacks themselves ([`super`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use super::{Thread, Threads};

/// Fewer processes have no majority.
const MIN_PROCESSES: usize = 3;
/// A stack is common if at least this share of the processes has it.
const COMMON: f64 = 0.6;
/// Outliers are a minority: at most this share of the processes.
const MINORITY: f64 = 0.34;
/// Frames of a stack that are named.
const FRAMES: usize = 4;
/// Outliers that are described; the others are counted.
const SHOWN: usize = 8;

/// The function names of a stack, leaf first.
type Names = Vec<String>;

/// A process that differs from the others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outlier {
    /// Process ID and name.
    pid: i64,
    process: String,
    /// Thread ID, what the thread waits for, and its stack; of the threads with an uncommon stack.
    threads: Vec<(i64, String, Names)>,
    /// The common stacks that it lacks, with the number of processes that have them.
    lacks: Vec<(Names, usize)>,
}

impl Threads<'_> {
    /// Writes which processes differ from the others, if most are alike. Errors: those of the
    /// writer.
    pub(super) fn write_outliers(&self, writer: &mut dyn Write) -> io::Result<()> {
        let (count, outliers) = self.outliers();
        if outliers.is_empty() {
            return Ok(());
        }
        let differ = if outliers.len() == 1 { "differs" } else { "differ" };
        writeln!(writer, "{} of {count} processes {differ} from the others:", outliers.len())?;
        for outlier in outliers.iter().take(SHOWN) {
            writeln!(writer, "  {} {}", outlier.pid, outlier.process)?;
            for (tid, what, names) in &outlier.threads {
                writeln!(writer, "    thread {tid} [{what}]: {}", path(names))?;
            }
            for (names, others) in &outlier.lacks {
                writeln!(writer, "    has no thread in: {}  ({others} of {count} have)", path(names))?;
            }
        }
        if outliers.len() > SHOWN {
            writeln!(writer, "  … {} more", outliers.len() - SHOWN)?;
        }
        writeln!(writer)
    }

    /// The number of processes, and those that differ from most others.
    fn outliers(&self) -> (usize, Vec<Outlier>) {
        let mut by_process: BTreeMap<i64, Vec<(&Thread<'_>, Names)>> = BTreeMap::new();
        for thread in &self.threads {
            let frames = self.frames(thread.locations);
            let names = frames.iter().map(|frame| frame.function.to_string()).collect();
            by_process.entry(thread.pid).or_default().push((thread, names));
        }
        let count = by_process.len();
        if count < MIN_PROCESSES {
            return (count, Vec::new());
        }
        let mut having: BTreeMap<&Names, BTreeSet<i64>> = BTreeMap::new();
        for (pid, threads) in &by_process {
            threads.iter().for_each(|(_, names)| {
                having.entry(names).or_default().insert(*pid);
            });
        }
        let is_common = |pids: &BTreeSet<i64>| pids.len() as f64 >= count as f64 * COMMON;
        let common: Vec<_> = having.iter().filter(|(_, pids)| is_common(pids)).collect();
        let outlier = |(pid, threads): (&i64, &Vec<(&Thread<'_>, Names)>)| {
            let lacks: Vec<(Names, usize)> = (common.iter())
                .filter(|(_, pids)| !pids.contains(pid))
                .map(|(names, pids)| ((**names).clone(), pids.len()))
                .collect();
            let uncommon =
                threads.iter().filter(|(_, names)| !common.iter().any(|(known, _)| ***known == *names));
            let first = threads.first().and_then(|(thread, _)| thread.process.as_deref());
            (!lacks.is_empty()).then(|| Outlier {
                pid: *pid,
                process: first.unwrap_or_default().to_owned(),
                threads: uncommon.map(|(thread, names)| (thread.tid, thread.what(), names.clone())).collect(),
                lacks,
            })
        };
        let outliers: Vec<Outlier> = by_process.iter().filter_map(outlier).collect();
        let is_minority = outliers.len() as f64 <= count as f64 * MINORITY;
        (count, if is_minority { outliers } else { Vec::new() })
    }
}

/// `wait < barrier < step < main`: the innermost functions.
fn path(names: &[String]) -> String {
    let shown = names.iter().take(FRAMES).map(String::as_str).collect::<Vec<_>>().join(" < ");
    if names.len() > FRAMES { format!("{shown} < …") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, LabelValue, LineSpec};

    /// Writes the outliers of processes, each given by the stacks (leaf first) of its threads.
    fn outliers(processes: &[&[&str]]) -> String {
        let mut builder = Builder::new(&[("threads", "count")]);
        let mut address = 0x1000;
        for (pid, stacks) in (100..).step_by(100).zip(processes) {
            for (number, stack) in (0..).zip(*stacks) {
                let locations: Vec<_> = stack
                    .split_whitespace()
                    .map(|name| {
                        // Equal functions at different addresses are equal.
                        address += 16;
                        let function = builder.function(name, name, "", 0);
                        builder.location(None, address, &[LineSpec { function, line: 0, column: 0 }])
                    })
                    .collect();
                let labels = [
                    ("tid", LabelValue::Number(pid + number, "")),
                    ("pid", LabelValue::Number(pid, "")),
                    ("process", LabelValue::Text("rank")),
                    ("state", LabelValue::Text("running")),
                ];
                builder.sample(&locations, &[1], &labels);
            }
        }
        let profile = builder.finish();
        let mut out = Vec::new();
        Threads::new(&profile).write_outliers(&mut out).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_one_process_that_is_elsewhere_is_named_with_where_it_is() {
        let waits: &[&str] = &["poll barrier step main", "sleep helper"];
        let stuck: &[&str] = &["divide solve step main", "sleep helper"];
        let expected = "\
1 of 8 processes differs from the others:
  300 rank
    thread 300 [running]: divide < solve < step < main
    has no thread in: poll < barrier < step < main  (7 of 8 have)

";
        assert_eq!(outliers(&[waits, waits, stuck, waits, waits, waits, waits, waits]), expected);
    }

    #[test]
    fn alike_processes_few_processes_and_mixtures_have_no_outliers() {
        let (one, other, third): (&[&str], &[&str], &[&str]) = (&["a main"], &["b main"], &["c main"]);
        assert_eq!(outliers(&[one, one, one]), "");
        assert_eq!(outliers(&[one, other]), "");
        assert_eq!(outliers(&[one, other, third, one, other, third]), "");
        assert_eq!(outliers(&[]), "");
    }
}
