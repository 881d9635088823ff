//! What a capture returns.

use std::{
    borrow::Cow,
    fmt, io,
    time::{Duration, SystemTime},
};

use super::{
    WaitGraph,
    ended::Ended,
    heap::HeapReport,
    kinds::{Kind, TextForm},
    tally::Tally,
    trace::Trace,
};
use crate::{
    issue::Issues,
    process::{Hindrance, Identity, Throttled},
    profile::proto::Profile,
    sampler::Description,
};

/// What a capture of one kind returns.
#[derive(Debug)]
pub enum Response {
    /// A profile of samples.
    Sampled(Box<Capture>),
    /// A profile that was read at one instant.
    Read(Box<Reading>),
    /// A timeline.
    Timeline(Box<Trace>),
    /// A text that is not made from a profile.
    Text(TextResponse),
}

impl Response {
    /// The profile; that of a timeline has its spans as samples. `None`: it is a text.
    pub fn profile(&self) -> Option<Cow<'_, Profile>> {
        match self {
            Response::Sampled(capture) => Some(Cow::Borrowed(&capture.profile)),
            Response::Read(reading) => Some(reading.content.profile()),
            Response::Timeline(trace) => Some(Cow::Owned(trace.profile())),
            Response::Text(_) => None,
        }
    }
}

/// A text of a language runtime.
#[derive(Debug)]
pub struct TextResponse {
    /// What it shows.
    pub kind: Kind,
    /// The text.
    pub text: Vec<u8>,
}

/// A profile that was read at one instant, and its quality.
#[derive(Debug)]
pub struct Reading {
    /// What was read.
    pub kind: Kind,
    /// The processes.
    pub identities: Vec<Identity>,
    /// How it was read and how complete it is, in one line.
    pub summary: String,
    /// What is missing or uncertain, the most important first.
    pub warnings: Vec<String>,
    /// What reading cost; may be empty.
    pub costs: String,
    /// What was read, which can be written in several forms.
    pub content: Box<dyn Content>,
}

/// What was read, in the forms in which it can be written.
pub trait Content: fmt::Debug + Send {
    /// The profile.
    fn profile(&self) -> Cow<'_, Profile>;

    /// Writes the text of the language runtime itself. `None`: the text is made from the profile.
    fn write_text(&self, _form: TextForm, _writer: &mut dyn io::Write) -> Option<io::Result<()>> {
        None
    }

    /// What JSON that is made from the profile also has: the tasks that the threads run, an object
    /// for each runtime.
    fn tasks(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }

    /// What threads wait for and who holds it, where that was read.
    fn waits(&self) -> Option<&WaitGraph> {
        None
    }

    /// What is known of a process that has ended, one line each: the signal.
    fn about(&self) -> &[String] {
        &[]
    }

    /// The census, where heaps were read.
    fn heap(&self) -> Option<&HeapReport> {
        None
    }

    /// Writes what follows the text that is made from the profile: tasks that the threads run.
    /// Errors: those of the writer.
    fn write_more(&self, _form: TextForm, _writer: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }
}

impl Content for Profile {
    fn profile(&self) -> Cow<'_, Profile> {
        Cow::Borrowed(self)
    }
}

/// A profile of samples and its quality.
#[derive(Debug)]
pub struct Capture {
    /// The profile.
    pub profile: Profile,
    /// What is missing or uncertain.
    pub issues: Issues,
    /// Counts of samples and frames.
    pub tally: Tally,
    /// The sampler that was used.
    pub sampler: Description,
    /// What was measured.
    pub kind: Kind,
    /// The profiled processes; the program is the current one if a process has called exec.
    pub identities: Vec<Identity>,
    /// Why sampling ended.
    pub ended: Ended,
    /// The share of frames without a name, weighted by samples: 0 to 1.
    pub unnamed_share: f64,
    /// When sampling began.
    pub started_at: SystemTime,
    /// How long sampling lasted.
    pub elapsed: Duration,
    /// CPU time in nanoseconds that the kernel accounted to the processes during sampling; `None`
    /// where it is unknown (a process has ended, or children are profiled too).
    pub kernel_cpu_ns: Option<u64>,
    /// What kept the processes from running, where there are no samples.
    pub hindrance: Option<Hindrance>,
    /// For how much of the time a CPU quota kept the processes from running.
    pub throttled: Option<Throttled>,
    /// Where existing threads are read too: how many there were when sampling began.
    pub threads_before: Option<u64>,
    /// How long attaching took.
    pub attach_took: Duration,
    /// The time from the end of sampling to the finished profile.
    pub finish_took: Duration,
}

impl Capture {
    /// Where existing threads are read too: how many threads were created during the profile, and
    /// how many existed before.
    pub fn created_threads(&self) -> (i64, u64) {
        let all: i64 = self.profile.sample.iter().flat_map(|sample| sample.value.first()).sum();
        let before = self.threads_before.unwrap_or_default();
        (all.saturating_sub_unsigned(before), before)
    }

    /// How long sampling lasted, in seconds, more than 0.
    pub fn seconds(&self) -> f64 {
        self.elapsed.as_secs_f64().max(0.001)
    }

    /// `it used 0.42 s of CPU time`
    pub fn cpu_time_used(&self) -> String {
        match self.kernel_cpu_ns {
            Some(ns) => format!("it used {:.2} s of CPU time", ns as f64 / 1e9),
            None => "the CPU time it used is not known".into(),
        }
    }
}
