//! A trace as a profile: one sample per span, with its end time and duration. The Timeline of
//! `rprof pprof -http` shows it, and all reports can sum it.
//!
//! The label with the end time is Datadog's `end_timestamp_ns`, in nanoseconds since 1970. Not
//! here: what a span is.

use super::{Span, ThreadActivity, Trace};
use crate::{
    capture::name::locations::{clamp, epoch_ns},
    profile::{
        builder::{Builder, LabelValue, LineSpec, LocationId},
        proto::Profile,
    },
};

/// The values of the label `state`.
const RUNS: &str = "runs";
const READY: &str = "ready";
const WAITS: &str = "waits";

/// The frames of activities that are not system calls.
const ON_CPU: &str = "[runs]";
const FOR_A_CPU: &str = "[waits for a CPU]";
const IN_NO_CALL: &str = "[waits]";

pub(super) fn profile(trace: &Trace) -> Profile {
    let mut builder = Builder::new(&[("spans", "count"), ("time", "nanoseconds")]);
    let began_ns = epoch_ns(trace.started_at);
    let several = trace.identities.len() > 1;
    for span in trace.spans() {
        let took = clamp(span.until_ns.saturating_sub(span.from_ns));
        let until = began_ns.saturating_add(clamp(span.until_ns.saturating_sub(trace.from_ns)));
        let by = woken_by(trace, &span);
        let mut labels = vec![
            ("thread", LabelValue::Text(trace.name(span.tid))),
            ("tid", LabelValue::Number(i64::from(span.tid), "")),
            ("state", LabelValue::Text(state(span.doing))),
            ("end_timestamp_ns", LabelValue::Number(until, "nanoseconds")),
        ];
        labels.extend(several.then_some(("process", LabelValue::Text(trace.name(span.pid)))));
        labels.extend(by.as_deref().map(|by| ("woken by", LabelValue::Text(by))));
        let frame = frame(span.doing, &mut builder);
        builder.sample(&[frame], &[1, took], &labels);
    }
    builder.set_period("time", "nanoseconds", 1);
    builder.set_default_sample_type("time");
    builder.set_time(began_ns, clamp(trace.until_ns.saturating_sub(trace.from_ns)));
    for identity in &trace.identities {
        builder.comment(&format!("target: {} (pid {})", identity.display_name(), identity.pid));
    }
    builder.comment(&format!("trace: {} events, {} lost", trace.len(), trace.lost));
    if trace.is_full {
        builder.comment("trace: full, it ends early");
    }
    builder.finish()
}

fn state(doing: ThreadActivity) -> &'static str {
    match doing {
        ThreadActivity::Runs { .. } => RUNS,
        ThreadActivity::Ready { .. } => READY,
        ThreadActivity::Waits { .. } => WAITS,
    }
}

/// The thread that ended the wait, such as `worker (4712)`.
fn woken_by(trace: &Trace, span: &Span) -> Option<String> {
    match span.doing {
        ThreadActivity::Ready { by_tid: Some(0) } => Some("an interrupt".into()),
        ThreadActivity::Ready { by_tid: Some(tid) } => Some(format!("{} ({tid})", trace.name(tid))),
        _ => None,
    }
}

/// The activity as the only frame of the stack.
fn frame(doing: ThreadActivity, builder: &mut Builder) -> LocationId {
    let name = match doing {
        ThreadActivity::Runs { .. } => ON_CPU,
        ThreadActivity::Ready { .. } => FOR_A_CPU,
        ThreadActivity::Waits { system_call, .. } => system_call.unwrap_or(IN_NO_CALL),
    };
    let function = builder.function(name, name, "", 0);
    builder.location(None, 0, &[LineSpec { function, line: 0, column: 0 }])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rustc_hash::FxHashMap;

    use super::*;
    use crate::{
        capture::Ended,
        profile::check,
        sampler::bpf::trace::{ThreadEvent, ThreadEventKind},
    };

    #[test]
    fn each_span_is_a_sample_with_its_time_and_state() {
        let event = |time_ns, what| ThreadEvent { time_ns, pid: 1, tid: 7, cpu: 0, what, comm: [0; 16] };
        let waits = ThreadEventKind::Waits { system_call: Some("futex"), uninterruptible: false };
        let trace = Trace {
            identities: Vec::new(),
            events: vec![
                event(110, waits),
                event(130, ThreadEventKind::Woken { by_tid: 8 }),
                event(135, ThreadEventKind::Runs),
            ],
            names: FxHashMap::from_iter([(7, "seven".into()), (8, "eight".into())]),
            started_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(1000),
            from_ns: 100,
            until_ns: 150,
            lost: 0,
            is_full: false,
            ended: Ended::Duration,
        };
        let profile = profile(&trace);
        check(&profile).expect("valid");
        let text = |index| profile.string(index).to_owned();
        let found: Vec<(String, i64, i64)> = profile
            .sample
            .iter()
            .map(|sample| {
                let label =
                    |key: &str| sample.label.iter().find(|label| text(label.key) == key).expect("a label");
                (text(label("state").str), label("end_timestamp_ns").num, sample.value[1])
            })
            .collect();
        let row = |state: &str, end, took| (state.to_owned(), end, took);
        assert_eq!(
            found,
            [row("runs", 1010, 10), row("waits", 1030, 20), row("ready", 1035, 5), row("runs", 1050, 15)]
        );
        assert!(profile.string_table.iter().any(|text| text == "eight (8)"));
        assert!(profile.function.iter().any(|function| text(function.name) == "futex"));
    }
}
