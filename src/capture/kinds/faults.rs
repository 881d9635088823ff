//! Page faults: which code touches new memory.

use super::{
    super::{Capture, Response, SamplerChoice},
    Bundle, Check, Form, KindRow, Live, Make, Maker, Need, Span, Watch, Words,
    maker::any_process,
    sources::{BPF, PERF, PERF_CGROUP, PERF_CPU, PERF_THREAD},
};
use crate::{sampler::Trigger, text::counted};

/// The row.
pub static ROW: KindRow = KindRow {
    name: "faults",
    alias: None,
    served_as: Some("faults"),
    what: "Page faults: which code touches new memory",
    help: "Memory growth: which code touches new memory (page faults)",
    parameters: "seconds=N (default 30)",
    span: Span::Lasting(30),
    form: Form::Profile,
    sample_types: &[("samples", "count"), ("faults", "count")],
    view: "flamegraph",
    texts: &[],
    samplers: Some((
        &[SamplerChoice::Bpf, SamplerChoice::PerfCpu, SamplerChoice::PerfCgroup, SamplerChoice::PerfThread],
        "requires the samplers bpf or perf: ptrace does not see page faults",
    )),
    makers: &[Maker {
        offers: any_process,
        make: Make::Live(&LIVE),
        is_substitute: false,
        needs: &[
            Need::one("bpf", &[Check::BpfCpu], ""),
            Need::one("perf-cpu or perf-cgroup", &[Check::PerfCpu], ""),
            Need::one("perf-thread", &[Check::PerfThread], ""),
        ],
    }],
    words: Words { measured, without_samples },
    watch: Some(Watch {
        short: "page faults",
        amount: |per_second| format!("{per_second:.0} page faults/s"),
        nothing: "no samples",
        other: "offcpu",
        has_waits: false,
    }),
    bundle: Some(Bundle { file: "faults", title: "Memory growth", findings, has_table: true }),
    dump: None,
};

static LIVE: Live = Live {
    trigger: Trigger::PageFault,
    sources: &[BPF, PERF, PERF_CPU, PERF_CGROUP, PERF_THREAD],
    is_periodic: false,
    sees_waiting: false,
    reads_threads: false,
    default_seconds: None,
    waits: None,
    keep_changes: None,
    comments: |_, capture| vec![format!("faults: about {} page faults", capture.tally.amount)],
};

fn measured(capture: &Capture) -> String {
    format!("about {}", counted(capture.tally.amount, "page fault"))
}

fn without_samples(capture: &Capture) -> Option<(String, &'static str)> {
    let why = format!("the process touched no new memory ({})", capture.cpu_time_used());
    Some((why, "`--kind cpu` shows running code"))
}

fn findings(response: &Response) -> Vec<String> {
    let Response::Sampled(capture) = response else { return Vec::new() };
    let faults = counted(capture.tally.amount, "page fault");
    let seconds = capture.seconds();
    vec![format!("About {faults} in {seconds:.1} s, by the code that touched new memory:")]
}
