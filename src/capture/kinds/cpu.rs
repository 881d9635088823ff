//! CPU time: samples of running threads.

use super::{
    super::{Capture, Request, Response},
    Bundle, Check, Form, KindRow, Live, Make, Maker, Need, Span, Watch, Words,
    maker::any_process,
    sources::{BPF, PERF, PERF_CGROUP, PERF_CPU, PERF_THREAD, PTRACE},
};
use crate::sampler::Trigger;

/// The row.
pub static ROW: KindRow = KindRow {
    name: "cpu",
    alias: None,
    served_as: Some("profile"),
    what: "CPU time: which code runs",
    help: "CPU time",
    parameters: "seconds=N (default 30)",
    span: Span::Lasting(30),
    form: Form::Profile,
    sample_types: &[("samples", "count"), ("cpu", "nanoseconds")],
    view: "flamegraph",
    texts: &[],
    samplers: None,
    makers: &[Maker {
        offers: any_process,
        make: Make::Live(&LIVE),
        is_substitute: false,
        needs: &[
            Need::one("bpf", &[Check::BpfCpu], "whole stacks, no overhead per context switch"),
            Need::one("perf-cpu or perf-cgroup", &[Check::PerfCpu], ""),
            Need::one("perf-thread", &[Check::PerfThread], ""),
            Need::one(
                "ptrace",
                &[Check::Ptrace],
                "threads are stopped for microseconds, at most 1 % of the time",
            ),
        ],
    }],
    words: Words { measured, without_samples },
    watch: Some(Watch {
        short: "CPU",
        amount: |per_second| format!("CPU {:.0}% of one", per_second / 1e7),
        nothing: "no CPU time",
        other: "offcpu",
        has_waits: false,
    }),
    bundle: Some(Bundle { file: "cpu", title: "CPU", findings, has_table: true }),
    dump: None,
};

static LIVE: Live = Live {
    trigger: Trigger::Time,
    sources: &[BPF, PERF, PERF_CPU, PERF_CGROUP, PERF_THREAD, PTRACE],
    is_periodic: true,
    sees_waiting: false,
    reads_threads: false,
    default_seconds: None,
    waits: None,
    keep_changes: None,
    comments,
};

/// CPU time in nanoseconds from which a profile without samples is not explained by sleep.
const BUSY_NS: u64 = 100_000_000;

fn measured(capture: &Capture) -> String {
    format!("{:.2} s of CPU time", capture.tally.amount as f64 / 1e9)
}

fn without_samples(capture: &Capture) -> Option<(String, &'static str)> {
    let used = capture.cpu_time_used();
    Some(match capture.kernel_cpu_ns {
        Some(ns) if ns >= BUSY_NS => (
            format!("no sample hit the process, although {used}: its threads may be very short-lived"),
            "use a higher -F, or `--sampler bpf`",
        ),
        _ => (
            format!("a CPU profile shows running code, and the process slept ({used})"),
            "sample for longer, or while the process works",
        ),
    })
}

fn comments(request: &Request, capture: &Capture) -> Vec<String> {
    let sampled = capture.tally.amount as f64 / 1e9;
    let rate = rate(request, capture);
    match capture.kernel_cpu_ns {
        None => vec![rate, format!("cpu: sampled {sampled:.2} s")],
        Some(ns) => {
            let accounted = ns as f64 / 1e9;
            vec![rate, format!("cpu: sampled {sampled:.2} s, the kernel accounts {accounted:.2} s")]
        }
    }
}

/// The comment on the sampling rate: the requested one, and samples per second of CPU time that the
/// kernel accounts, unless the time is too short for the kernel's clock (10 ms).
pub(super) fn rate(request: &Request, capture: &Capture) -> String {
    let achieved = match capture.kernel_cpu_ns {
        Some(kernel_ns) if kernel_ns >= 500_000_000 => {
            let rate = (capture.tally.samples + capture.tally.lost) as f64 / (kernel_ns as f64 / 1e9);
            format!(", achieved {rate:.1} Hz of CPU time")
        }
        _ => String::new(),
    };
    format!("rate: asked {} Hz{achieved}", request.frequency_hz)
}

fn findings(response: &Response) -> Vec<String> {
    let Response::Sampled(capture) = response else { return Vec::new() };
    let (seconds, sampled) = (capture.seconds(), capture.tally.amount as f64 / 1e9);
    let used = sampled / seconds;
    vec![format!("{used:.2} CPUs used for {seconds:.1} s ({sampled:.2} s of CPU time).")]
}
