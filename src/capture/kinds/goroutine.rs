//! The stacks of all goroutines of a Go program; of other programs, of all threads.

use std::{borrow::Cow, fmt::Write as _, io};

use super::{
    super::{
        CaptureError, Content, Reading, Request, Response,
        goroutines::{self, GoDump, GoDumpRequest},
    },
    Bundle, DumpOf, Form, Kind, KindRow, Make, Maker, NO_WORDS, Reason, Span, TextForm, recorded, threads,
};
use crate::{
    profile::proto::Profile,
    runtime::go::BucketError,
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
    recorded::offers(request)
}

fn read(request: &Request, kind: Kind) -> Result<Response, CaptureError> {
    let pid = request.pids.first().copied().ok_or(CaptureError::NoProcess)?;
    let dump = goroutines::dump(&GoDumpRequest {
        pid,
        arguments: request.text == Some(TextForm::Each),
        consistent: request.stacks.consistent,
    });
    let dump = dump.map_err(BucketError::from)?;
    Ok(Response::Read(Box::new(Reading {
        kind,
        identities: vec![dump.identity.clone()],
        summary: summary(&dump),
        warnings: warnings(&dump),
        costs: costs(&dump),
        content: Box::new(Goroutines { dump, system: request.stacks.system }),
    })))
}

/// Goroutines that were read.
#[derive(Debug)]
struct Goroutines {
    dump: GoDump,
    /// With the goroutines of the runtime itself.
    system: bool,
}

impl Content for Goroutines {
    fn profile(&self) -> Cow<'_, Profile> {
        Cow::Owned(self.dump.profile(self.system))
    }

    fn write_text(&self, form: TextForm, writer: &mut dyn io::Write) -> Option<io::Result<()>> {
        let mut text = self.dump.text(self.system);
        Some(match form {
            TextForm::Each => text.write_each(writer),
            TextForm::Counted => text.write_counted(writer),
            TextForm::Json => text.write_json(writer),
        })
    }
}

fn summary(dump: &GoDump) -> String {
    let (numbers, goroutines) = (&dump.stats, &dump.goroutines);
    let mut text = format!(
        "quality: {} of {} ({} more of the runtime), {} read again, {} unstable; ",
        counted(numbers.shown, "goroutine"),
        dump.process.version_text,
        numbers.system,
        goroutines.read_again,
        goroutines.unstable,
    );
    let _ = match numbers.stopped_threads {
        0 => write!(text, "nothing was stopped"),
        count => write!(
            text,
            "{} stopped together for {:.1} ms",
            counted(count, "thread"),
            numbers.stopped.as_secs_f64() * 1e3
        ),
    };
    text
}

fn warnings(dump: &GoDump) -> Vec<String> {
    let (numbers, goroutines) = (&dump.stats, &dump.goroutines);
    let mut warnings = Vec::new();
    if numbers.running > numbers.running_captured {
        let unseen = counted(numbers.running - numbers.running_captured, "running goroutine");
        warnings.push(format!("the stacks of {unseen} could not be read"));
    }
    if goroutines.unstable > 0 {
        let listed = counted_as(
            goroutines.unstable,
            "goroutine changed at every read and is",
            "goroutines changed at every read and are",
        );
        warnings.push(format!("{listed} listed without a stack"));
    }
    if !dump.process.is_known_release {
        warnings.push(format!(
            "{} is newer than all known releases: read with the layout of {}, whose checks passed",
            dump.process.version_text, dump.process.layout.source
        ));
    }
    warnings
}

fn costs(dump: &GoDump) -> String {
    let (numbers, goroutines) = (&dump.stats, &dump.goroutines);
    format!(
        "finding the runtime {:.1} ms, reading {:.1} ms ({:.1} MiB, {})",
        numbers.attaching.as_secs_f64() * 1e3,
        numbers.reading.as_secs_f64() * 1e3,
        goroutines.bytes as f64 / f64::from(1 << 20),
        counted(goroutines.stacks.len(), "different stack")
    )
}
