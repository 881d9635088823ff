//! Waits of threads for each other: `block` charges them to the code that waits, `mutex` to the
//! code that released the lock. Go programs count both themselves, for goroutines.
//!
//! Not here: what a stack waits for (`crate::capture::waits::by_name`), how waits are timed
//! (`crate::sampler`).

use super::{
    super::{
        Capture, CaptureError, Request, Response, SamplerChoice,
        collector::Lock,
        waits::by_name::{self, Act},
    },
    Bundle, Check, Form, Kind, KindRow, Live, Make, Maker, Need, Reason, Span, TextForm, Watch, Words,
    maker::any_process,
    recorded,
    sources::ONLY_BPF,
};
use crate::{sampler::Trigger, text::counted};

/// How long native programs are sampled where no time is requested.
const SECONDS: u64 = 10;

/// Contended locks, by the code that released them.
pub static MUTEX: KindRow = KindRow {
    name: "mutex",
    served_as: Some("mutex"),
    what: "Which code releases locks that other threads waited for, and how long they waited",
    help: "How long threads waited for locks (mutexes, read-write locks), charged to the code that released them. Go: \
           the runtime's own records, if the program records that, unless --sampler bpf is given. Other programs: \
           needs root, or CAP_BPF and CAP_PERFMON",
    makers: &[RECORDED, Maker { make: Make::Live(&RELEASED), is_substitute: false, ..SAMPLED }],
    words: Words { measured, without_samples: |_| Some(("no lock was contended".to_owned(), OTHERS)) },
    watch: Some(Watch { short: "lock delay", ..WATCH }),
    bundle: bundle("mutex", "Lock contention, by the code that released the lock"),
    ..ROW
};

/// Waits for other threads, by the code that waits.
pub static BLOCK: KindRow = KindRow {
    name: "block",
    served_as: Some("block"),
    what: "Where threads wait for each other (locks, conditions, joins), and how long",
    help: "Where threads wait for each other, and how long: locks, conditions, semaphores, joins; not for input, \
           timers or work of a pool. Go: the runtime's own records, if the program records that, unless --sampler bpf \
           is given. Other programs: needs root, or CAP_BPF and CAP_PERFMON",
    makers: &[RECORDED, SAMPLED],
    words: Words {
        measured,
        without_samples: |_| Some(("no thread waited for another one".to_owned(), OTHERS)),
    },
    watch: Some(Watch { short: "blocked", ..WATCH }),
    bundle: bundle("block", "Waits of threads for each other"),
    ..ROW
};

const OTHERS: &str = "`--kind offcpu` shows all waits, `--kind cpu` running code";

/// What the rows have in common.
const ROW: KindRow = KindRow {
    name: "",
    alias: None,
    served_as: None,
    what: "",
    help: "",
    parameters: "seconds=N (default 10; Go: the state now), of=native",
    span: Span::Instant,
    form: Form::Profile,
    sample_types: &[("contentions", "count"), ("delay", "nanoseconds")],
    view: "flamegraph",
    texts: &[TextForm::Counted],
    samplers: Some((
        &[SamplerChoice::Bpf],
        "requires --sampler bpf or auto: other samplers cannot measure how long a thread waits",
    )),
    makers: &[],
    words: super::NO_WORDS,
    watch: None,
    bundle: None,
    dump: None,
};

const WATCH: Watch = Watch {
    short: "",
    amount: |per_second| format!("waiting {:.2} s/s", per_second / 1e9),
    nothing: "no samples",
    other: "cpu",
    has_waits: false,
};

/// A runtime's own records.
const RECORDED: Maker =
    Maker { offers: offers_records, make: Make::Once(read), is_substitute: false, needs: recorded::NEEDS };

const SAMPLED: Maker = Maker {
    offers: any_process,
    make: Make::Live(&BLOCKED),
    // What `offcpu` has too.
    is_substitute: true,
    needs: &[Need::one("bpf", &[Check::BpfWaits], "")],
};

static BLOCKED: Live = Live {
    trigger: Trigger::Blocked,
    sources: &[ONLY_BPF],
    is_periodic: false,
    sees_waiting: true,
    reads_threads: false,
    default_seconds: Some(SECONDS),
    waits: Some(waits),
    keep_changes: None,
    comments,
};

static RELEASED: Live =
    Live { trigger: Trigger::Released, sees_waiting: false, waits: Some(releases), ..BLOCKED };

/// A runtime's records, unless threads are to be sampled.
fn offers_records(request: &Request) -> Result<(), Reason> {
    if request.sampler != SamplerChoice::Auto || request.children {
        return Err(Reason("are not recorded by the runtime for this request".into()));
    }
    recorded::offers(request)
}

/// Reads the runtime's records, and names the alternative.
fn read(request: &Request, kind: Kind) -> Result<Response, CaptureError> {
    let mut response = recorded::read(request, kind)?;
    if let Response::Read(reading) = &mut response {
        reading
            .summary
            .push_str("; threads instead of goroutines: --sampler bpf, or of=native where it is served");
    }
    Ok(response)
}

fn waits(names: &[&str], lock: Option<Lock>) -> Option<&'static str> {
    let object = by_name::object(names, lock.is_some_and(|lock| lock.as_mutex), Act::Wait);
    (!by_name::is_idle(names, object)).then_some(object.name())
}

fn releases(names: &[&str], _: Option<Lock>) -> Option<&'static str> {
    let object = by_name::object(names, false, Act::Release);
    object.is_lock().then_some(object.name())
}

const fn bundle(file: &'static str, title: &'static str) -> Option<Bundle> {
    Some(Bundle { file, title, findings, has_table: false })
}

/// The number and the sum of waits are in the profile: some samples do not belong into it.
fn sums(capture: &Capture) -> (i64, f64) {
    let sum =
        |at: usize| capture.profile.sample.iter().filter_map(|sample| sample.value.get(at)).sum::<i64>();
    (sum(0), sum(1) as f64 / 1e9)
}

fn measured(capture: &Capture) -> String {
    let (waits, seconds) = sums(capture);
    format!("{seconds:.2} s of delay ({})", counted(waits, "contention"))
}

fn comments(request: &Request, capture: &Capture) -> Vec<String> {
    let microseconds = 1_000_000 / request.frequency_hz.max(1);
    let mut comments = vec![
        format!("delta: the delay of {:.2} s, not since the program started", capture.elapsed.as_secs_f64()),
        format!("rate: all delays of {microseconds} us or longer are recorded, shorter ones are sampled"),
    ];
    if recorded::offers(&Request { sampler: SamplerChoice::Auto, ..request.clone() }).is_ok() {
        comments.push(
            "other: the runtime's own records, of goroutines: without --sampler bpf or of=native".into(),
        );
    }
    comments
}

fn findings(response: &Response) -> Vec<String> {
    let Response::Sampled(capture) = response else { return Vec::new() };
    let (waits, seconds) = sums(capture);
    let (waits, over) = (counted(waits, "time"), capture.seconds());
    vec![format!("Threads waited for others {waits}, {seconds:.2} s in all, in {over:.1} s.")]
}
