//! The stacks of all goroutines of a Go program; of other programs, of all threads.

use std::{borrow::Cow, fmt::Write as _, io};

use super::{
    super::{
        CaptureError, Content, Reading, Request, Response,
        tasks::{self, Tasks},
    },
    Bundle, DumpOf, Form, Kind, KindRow, Make, Maker, NO_WORDS, Reason, Span, TextForm, recorded, threads,
};
use crate::{
    profile::proto::Profile,
    runtime::{TaskForm, TaskRequest, TaskSummary},
    text::{counted, counted_as},
};

/// The row.
pub static ROW: KindRow = KindRow {
    name: "goroutine",
    alias: None,
    served_as: Some("goroutine"),
    what: "The current stacks of all threads (Go programs: of all goroutines)",
    help: "Go: the stack of every goroutine now, equal stacks counted. Other programs: same as threads",
    parameters: "debug=2 prints each stack",
    span: Span::Instant,
    form: Form::Profile,
    sample_types: &[("goroutine", "count")],
    view: "threads",
    texts: &[TextForm::Each, TextForm::Counted, TextForm::Json],
    samplers: None,
    makers: &[
        Maker { offers, make: Make::Once(read), is_substitute: false, needs: recorded::NEEDS },
        Maker { is_substitute: true, ..threads::MAKER },
    ],
    words: NO_WORDS,
    watch: None,
    bundle: Some(Bundle { file: "goroutines", title: "", findings: |_| Vec::new(), has_table: false }),
    dump: Some(DumpOf::Tasks),
};

/// Whether the request is for one process that runs a Go program, and for all of its goroutines.
fn offers(request: &Request) -> Result<(), Reason> {
    let stacks = &request.stacks;
    if request.children || stacks.method.is_some() || stacks.kernel {
        return Err(Reason("have no options on threads".into()));
    }
    if let Some(core) = &request.core {
        return match tasks::are_in_core(core) {
            true => Ok(()),
            false => Err(Reason("need a Go program, and the core is of another one".into())),
        };
    }
    recorded::offers(request)
}

fn read(request: &Request, kind: Kind) -> Result<Response, CaptureError> {
    let wanted = TaskRequest {
        arguments: matches!(request.text, Some(TextForm::Each | TextForm::Grouped)),
        consistent: request.stacks.consistent,
    };
    let budget = &request.symbolize.budget;
    let tasks = match (&request.core, request.pids.first()) {
        (Some(core), _) => tasks::read_core(core, &wanted, budget)?,
        (None, Some(pid)) => tasks::read(*pid, &wanted, budget)?,
        (None, None) => return Err(CaptureError::NoProcess),
    };
    let summary = tasks.dump.summary();
    Ok(Response::Read(Box::new(Reading {
        kind,
        identities: vec![tasks.identity.clone()],
        summary: quality(summary),
        warnings: warnings(summary),
        costs: costs(summary),
        content: Box::new(TaskContent { tasks, kind, system: request.stacks.system }),
    })))
}

/// Tasks that were read.
#[derive(Debug)]
struct TaskContent {
    tasks: Tasks,
    kind: Kind,
    /// With the tasks of the runtime itself.
    system: bool,
}

impl Content for TaskContent {
    fn about(&self) -> &[String] {
        &self.tasks.about
    }

    fn profile(&self) -> Cow<'_, Profile> {
        Cow::Owned(self.tasks.profile(self.kind.sample_types[0], self.system))
    }

    fn write_text(&self, form: TextForm, writer: &mut dyn io::Write) -> Option<io::Result<()>> {
        let form = match form {
            TextForm::Each => TaskForm::Each,
            TextForm::Grouped => TaskForm::Grouped,
            TextForm::Counted => TaskForm::Counted,
            TextForm::Json => TaskForm::Json,
        };
        Some(self.tasks.dump.write(form, self.system, writer))
    }
}

fn quality(summary: &TaskSummary) -> String {
    let mut text = format!(
        "quality: {} of {} ({} more of the runtime), {} read again, {} unstable; ",
        counted(summary.shown, summary.noun),
        summary.version,
        summary.system,
        summary.read_again,
        summary.unstable,
    );
    let _ = match summary.stopped_threads {
        0 => write!(text, "nothing was stopped"),
        count => write!(
            text,
            "{} stopped together for {:.1} ms",
            counted(count, "thread"),
            summary.stopped.as_secs_f64() * 1e3
        ),
    };
    text
}

fn warnings(summary: &TaskSummary) -> Vec<String> {
    let noun = summary.noun;
    let mut warnings = Vec::new();
    if summary.running > summary.running_captured {
        let unseen = counted(summary.running - summary.running_captured, &format!("running {noun}"));
        warnings.push(format!("the stacks of {unseen} could not be read"));
    }
    if summary.unstable > 0 {
        let listed = counted_as(
            summary.unstable,
            &format!("{noun} changed at every read and is"),
            &format!("{noun}s changed at every read and are"),
        );
        warnings.push(format!("{listed} listed without a stack"));
    }
    if let Some(layout) = summary.newer_than {
        warnings.push(format!(
            "{} is newer than all known releases: read with the layout of {layout}, whose checks passed",
            summary.version
        ));
    }
    warnings.extend(summary.warnings.iter().cloned());
    warnings
}

fn costs(summary: &TaskSummary) -> String {
    format!(
        "finding the runtime {:.1} ms, reading {:.1} ms ({:.1} MiB, {})",
        summary.attaching.as_secs_f64() * 1e3,
        summary.reading.as_secs_f64() * 1e3,
        summary.bytes as f64 / f64::from(1 << 20),
        counted(summary.stacks, "different stack")
    )
}
