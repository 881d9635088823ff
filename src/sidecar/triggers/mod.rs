//! Triggers: conditions on a process or its control group that make the sidecar write an incident.
//!
//! ```text
//! parse ► Trigger        reader ► Reading (what /proc and the control group show)
//!             └──────────► engine ◄────┘ ► Firing
//! ```
//!
//! `engine` is a state machine over readings and a monotonic clock, without any other input. Not
//! here: what an incident contains (`super::incident`).

mod engine;
mod history;
mod parse;
mod reader;

use std::{fmt, time::Duration};

pub use engine::{Engine, Evaluation, Firing};
pub use parse::{TriggerError, parse_bytes};
pub use reader::{Reader, Target};

/// A condition that makes the sidecar write an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// The text of the option, for messages and reports.
    pub text: String,
    /// The condition.
    pub condition: Condition,
}

/// What makes a trigger fire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    /// A measure is greater than a limit.
    Above {
        /// What is compared.
        measure: Measure,
        /// The limit, in the unit of the measure.
        limit: f64,
        /// Shares of time are averaged over this time; other measures must be greater for it.
        over: Duration,
    },
    /// Resident memory has grown within a time.
    Growth {
        /// By how much it must grow.
        by: Growth,
        /// Within which time.
        within: Duration,
    },
    /// The OOM killer has killed a process of the control group.
    OomKill,
    /// The process has ended.
    Exit,
}

/// By how much resident memory must grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// In percent of what it was.
    Percent(f64),
    /// In bytes.
    Bytes(f64),
}

/// What a trigger compares with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// CPU time, in percent of one core.
    Cpu,
    /// Resident memory, in bytes.
    Memory,
    /// The number of threads.
    Threads,
    /// Open files, in percent of the soft limit.
    OpenFiles,
    /// Periods in which the control group was throttled, in percent of its periods.
    Throttled,
    /// Time in which some thread waited for CPU time, in percent (PSI, `some avg10`).
    CpuPressure,
    /// The same for memory.
    MemoryPressure,
    /// The same for I/O.
    IoPressure,
}

impl Measure {
    /// All measures, with their names in expressions.
    pub const ALL: [(&'static str, Measure); 8] = [
        ("cpu", Measure::Cpu),
        ("rss", Measure::Memory),
        ("threads", Measure::Threads),
        ("fd", Measure::OpenFiles),
        ("throttled", Measure::Throttled),
        ("psi.cpu", Measure::CpuPressure),
        ("psi.memory", Measure::MemoryPressure),
        ("psi.io", Measure::IoPressure),
    ];

    /// Whether it is a share of time, which is averaged.
    pub fn is_average(self) -> bool {
        matches!(self, Measure::Cpu | Measure::Throttled)
    }

    /// A value of this measure, for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Measure::Threads => format!("{value:.0}"),
            Measure::Memory => format!("{:.1} MiB", value / f64::from(1 << 20)),
            _ => format!("{value:.1} %"),
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A process at one time, as triggers need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The process.
    pub process: ProcessKey,
    /// Its service, by which incidents are limited.
    pub service: String,
    /// What it uses; `None`: it has ended.
    pub usage: Option<crate::process::gauges::Gauges>,
    /// What its control group uses and suffers.
    pub group: crate::process::group_gauges::GroupGauges,
    /// Equal for the processes of one control group.
    pub group_id: usize,
}

/// A process, distinguished from a later one with the same PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Its PID.
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub start_ticks: u64,
}
