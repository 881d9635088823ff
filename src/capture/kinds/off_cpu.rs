//! Off-CPU time: where threads wait, and for how long.

use super::{
    super::{Capture, Request, Response, SamplerChoice},
    Bundle, Check, Form, KindRow, Live, Make, Maker, Need, Span, Watch, Words,
    maker::any_process,
    sources::ONLY_BPF,
};
use crate::{sampler::Trigger, text::counted};

/// The row.
pub static ROW: KindRow = KindRow {
    name: "offcpu",
    alias: Some("off-cpu"),
    served_as: Some("offcpu"),
    what: "Off-CPU time: where threads wait, and how long",
    help: "Off-CPU time: where threads wait and for how long. Waits longer than 1/F second (-F) are all recorded, \
           shorter ones are sampled. Needs root, or CAP_BPF and CAP_PERFMON",
    parameters: "seconds=N (default 30)",
    span: Span::Lasting(30),
    form: Form::Profile,
    sample_types: &[("waits", "count"), ("offcpu", "nanoseconds")],
    view: "flamegraph",
    texts: &[],
    samplers: Some((
        &[SamplerChoice::Bpf],
        "requires --sampler bpf or auto: other samplers cannot measure how long a thread waits (--kind wall \
         samples all threads, asleep or not)",
    )),
    makers: &[Maker {
        offers: any_process,
        make: Make::Live(&LIVE),
        is_substitute: false,
        needs: &[Need::one("bpf", &[Check::BpfWaits], "")],
    }],
    words: Words { measured, without_samples },
    watch: Some(Watch {
        short: "off-CPU",
        amount: |per_second| format!("waiting {:.2} s/s", per_second / 1e9),
        nothing: "no samples",
        other: "cpu",
        has_waits: true,
    }),
    bundle: Some(Bundle { file: "offcpu", title: "Off-CPU time", findings, has_table: true }),
    dump: None,
};

static LIVE: Live = Live {
    trigger: Trigger::Waited,
    sources: &[ONLY_BPF],
    is_periodic: false,
    sees_waiting: true,
    reads_threads: false,
    default_seconds: None,
    waits: None,
    keep_changes: None,
    comments,
};

/// The number of waits is in the profile: a sample may stand for several.
fn measured(capture: &Capture) -> String {
    let waits: i64 = capture.profile.sample.iter().flat_map(|sample| sample.value.first()).sum();
    format!("{:.2} s of waiting ({})", capture.tally.amount as f64 / 1e9, counted(waits, "wait"))
}

fn without_samples(_: &Capture) -> Option<(String, &'static str)> {
    Some(("no thread waited".to_owned(), "`--kind cpu` shows running code"))
}

fn comments(request: &Request, capture: &Capture) -> Vec<String> {
    let microseconds = 1_000_000 / request.frequency_hz.max(1);
    vec![
        format!(
            "offcpu: {:.2} s of waiting, summed over all threads; waits for a free CPU are not counted",
            capture.tally.amount as f64 / 1e9
        ),
        format!("rate: all waits of {microseconds} us or longer are recorded, shorter ones are sampled"),
    ]
}

fn findings(response: &Response) -> Vec<String> {
    let Response::Sampled(capture) = response else { return Vec::new() };
    let (seconds, sampled) = (capture.seconds(), capture.tally.amount as f64 / 1e9);
    vec![format!("Threads waited {sampled:.1} s in all in {seconds:.1} s:")]
}
