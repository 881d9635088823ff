//! Thread creation: which code created the threads.

use super::{
    super::{Capture, CaptureError, Request, Response, SamplerChoice, threadcreate::keep_created_during},
    Bundle, Check, Form, Kind, KindRow, Live, Make, Maker, Need, Reason, Source, Span, TextForm, Words,
    maker::any_process,
    recorded,
    sources::{BPF, PERF},
};
use crate::{
    sampler::{Trigger, idle},
    text::counted,
};

/// The row.
pub static ROW: KindRow = KindRow {
    name: "threadcreate",
    alias: None,
    served_as: Some("threadcreate"),
    what: "Which code created the threads",
    help: "Which code creates threads: the stacks that create threads during the profile, and the start functions \
           of threads that existed before. Go: the runtime's own records, unless --sampler bpf is given",
    parameters: "seconds=N: threads created during N seconds",
    span: Span::Instant,
    form: Form::Profile,
    sample_types: &[("threadcreate", "count")],
    view: "flamegraph",
    texts: &[TextForm::Each, TextForm::Counted],
    samplers: Some((
        &[SamplerChoice::Bpf],
        "requires --sampler bpf or auto: other samplers do not see thread creation",
    )),
    makers: &[
        Maker {
            offers: offers_records,
            make: Make::Once(read_records),
            is_substitute: false,
            needs: &[Need::one("/proc", &[], "")],
        },
        Maker {
            offers: any_process,
            make: Make::Live(&LIVE),
            is_substitute: false,
            needs: &[Need::one("bpf", &[Check::BpfThreadCreate], ""), Need::one("/proc", &[], "")],
        },
    ],
    words: Words { measured, without_samples: |_| None },
    watch: None,
    bundle: Some(Bundle { file: "threadcreate", title: "Thread creation", findings, has_table: false }),
    dump: None,
};

static LIVE: Live = Live {
    trigger: Trigger::ThreadCreated,
    sources: &[
        BPF,
        PERF,
        Source {
            name: idle::NAME,
            choice: None,
            is_automatic: true,
            open: |_| {
                Ok(Box::new(idle::Idle::new(
                    "threads are listed before and after the profile: new threads are shown with their start \
                     functions, not with the stacks that created them, and threads that started and ended in \
                     between are missing",
                )))
            },
        },
    ],
    is_periodic: false,
    sees_waiting: false,
    reads_threads: true,
    default_seconds: None,
    waits: None,
    keep_changes: Some(keep_created_during),
    comments: |_, _| Vec::new(),
};

/// A runtime's records have no time: they are what it has counted until now.
fn offers_records(request: &Request) -> Result<(), Reason> {
    if request.sampler != SamplerChoice::Auto || request.children || !request.is_now() {
        return Err(Reason("are not recorded by the runtime for this request".into()));
    }
    recorded::offers(request)
}

fn read_records(request: &Request, kind: Kind) -> Result<Response, CaptureError> {
    recorded::read(request, kind)
}

fn measured(capture: &Capture) -> String {
    let (created, before) = capture.created_threads();
    format!("{} created ({before} existed before)", counted(created, "thread"))
}

fn findings(response: &Response) -> Vec<String> {
    let Response::Sampled(capture) = response else { return Vec::new() };
    let (created, before) = capture.created_threads();
    let (created, seconds) = (counted(created, "thread"), capture.seconds());
    vec![format!("{created} created in {seconds:.1} s; {before} existed before.")]
}
