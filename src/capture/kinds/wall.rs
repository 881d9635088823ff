//! Wall-clock time: samples of all threads, running or not.

use super::{
    super::{Capture, Request, Response, SamplerChoice},
    Bundle, Check, Form, KindRow, Live, Make, Maker, Need, Span, Watch, Words,
    cpu::rate,
    maker::any_process,
    sources::{BPF_WALL, PTRACE_WALL},
};
use crate::sampler::Trigger;

/// The row.
pub static ROW: KindRow = KindRow {
    name: "wall",
    alias: None,
    served_as: Some("wall"),
    what: "Wall-clock time of all threads, including sleeping ones",
    help: "All time of all threads, running or not. Without BPF, running threads are stopped for microseconds \
           (--sampler ptrace)",
    parameters: "seconds=N (default 30)",
    span: Span::Lasting(30),
    form: Form::Profile,
    sample_types: &[("samples", "count"), ("wall", "nanoseconds")],
    view: "flamegraph",
    texts: &[],
    samplers: Some((
        &[SamplerChoice::Bpf, SamplerChoice::Ptrace],
        "requires --sampler bpf, ptrace or auto: perf samplers see running threads only",
    )),
    makers: &[Maker {
        offers: any_process,
        make: Make::Live(&LIVE),
        is_substitute: false,
        needs: &[Need::one("bpf", &[Check::BpfWaits], ""), Need::one("ptrace", &[Check::Ptrace], "")],
    }],
    words: Words { measured, without_samples },
    watch: Some(Watch {
        short: "wall-clock",
        amount: |per_second| format!("{:.2} s/s", per_second / 1e9),
        nothing: "no samples",
        other: "offcpu",
        has_waits: true,
    }),
    bundle: Some(Bundle { file: "wall", title: "Wall-clock time", findings, has_table: true }),
    dump: None,
};

static LIVE: Live = Live {
    trigger: Trigger::Time,
    sources: &[BPF_WALL, PTRACE_WALL],
    is_periodic: true,
    sees_waiting: true,
    reads_threads: false,
    default_seconds: None,
    waits: None,
    keep_changes: None,
    comments,
};

fn measured(capture: &Capture) -> String {
    format!("{:.2} s of thread time", capture.tally.amount as f64 / 1e9)
}

fn without_samples(capture: &Capture) -> Option<(String, &'static str)> {
    let why = format!("no thread could be read ({})", capture.cpu_time_used());
    Some((why, "`rprof doctor --pid PID` shows why"))
}

fn comments(request: &Request, capture: &Capture) -> Vec<String> {
    let sampled = capture.tally.amount as f64 / 1e9;
    vec![rate(request, capture), format!("wall: sampled {sampled:.2} s, summed over all threads")]
}

fn findings(response: &Response) -> Vec<String> {
    let Response::Sampled(capture) = response else { return Vec::new() };
    let (seconds, sampled) = (capture.seconds(), capture.tally.amount as f64 / 1e9);
    vec![format!("The time of all threads, {sampled:.1} s in {seconds:.1} s:")]
}
