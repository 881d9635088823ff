//! A timeline of each thread: running, runnable, waiting.

use super::{
    super::{
        CaptureError, Request, Response, SamplerChoice,
        trace::record::{self, MAX_EVENTS, MAX_PROFILE_EVENTS, TraceRequest},
    },
    Check, Form, Kind, KindRow, Make, Maker, NO_WORDS, Need, Span,
    maker::any_process,
};

/// The row.
pub static ROW: KindRow = KindRow {
    name: "trace",
    alias: None,
    served_as: Some("trace"),
    what: "A timeline of each thread: running, runnable, waiting",
    help: "Timeline for ui.perfetto.dev: when each thread ran, was runnable, waited, and what woke it. The file is \
           .pftrace, or a profile (.pb.gz). Needs root, or CAP_BPF and CAP_PERFMON",
    parameters: "for ui.perfetto.dev, or a profile with format=pprof; seconds=N (default 1)",
    span: Span::Lasting(1),
    form: Form::Timeline,
    sample_types: &[("spans", "count"), ("time", "nanoseconds")],
    view: "timeline",
    texts: &[],
    samplers: Some((
        &[SamplerChoice::Bpf],
        "requires --sampler bpf or auto: other samplers do not see when threads wait and wake",
    )),
    makers: &[Maker {
        offers: any_process,
        make: Make::Once(record),
        is_substitute: false,
        needs: &[Need::one("bpf", &[Check::BpfTrace], "")],
    }],
    words: NO_WORDS,
    watch: None,
    bundle: None,
    dump: None,
};

fn record(request: &Request, _: Kind) -> Result<Response, CaptureError> {
    let limits = TraceRequest {
        pids: request.pids.clone(),
        children: request.children,
        duration: request.duration.unwrap_or(std::time::Duration::MAX),
        max_events: if request.as_profile { MAX_PROFILE_EVENTS } else { MAX_EVENTS },
    };
    Ok(Response::Timeline(Box::new(record::run(&limits, &request.stop, &mut |_| {})?)))
}
