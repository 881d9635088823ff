//! An invented kind, in tests only: it proves that one file and one row reach every verb.
//!
//! Its state now is read; over a time it is sampled, each poll giving one sample.

use std::{thread::sleep, time::Duration};

use super::{
    super::{CaptureError, Reading, Request, Response},
    Bundle, DumpOf, Form, Kind, KindRow, Live, Make, Maker, Need, Reason, Source, Span, Watch, Words,
    maker::any_process,
};
use crate::{
    process::{identify, identity},
    profile::builder::{Builder, LineSpec},
    sampler::{Description, Event, RawSample, Sampler, SamplerError, SamplerOptions, Trigger},
};

/// The row.
pub static ROW: KindRow = KindRow {
    name: "invented",
    alias: None,
    served_as: Some("invention"),
    what: "What a test has invented",
    help: "What a test has invented",
    parameters: "",
    span: Span::Instant,
    form: Form::Profile,
    sample_types: &[("inventions", "count"), ("ideas", "count")],
    view: "flamegraph",
    texts: &[],
    samplers: None,
    makers: &[
        Maker {
            offers: |request| match request.is_now() {
                true => Ok(()),
                false => Err(Reason("are read at one instant".to_owned())),
            },
            make: Make::Once(read),
            is_substitute: false,
            needs: &[Need::one("imagination", &[], "")],
        },
        Maker { offers: any_process, make: Make::Live(&LIVE), is_substitute: false, needs: &[] },
    ],
    words: Words { measured: |_| "inventions".to_owned(), without_samples: |_| None },
    watch: Some(Watch {
        short: "invented",
        amount: |per_second| format!("{per_second:.0} inventions/s"),
        nothing: "no inventions",
        other: "cpu",
        has_waits: false,
    }),
    bundle: Some(Bundle {
        file: "invented",
        title: "Inventions",
        findings: |_| vec!["Something was invented.".to_owned()],
        has_table: false,
    }),
    dump: Some(DumpOf::Tasks),
};

static LIVE: Live = Live {
    trigger: Trigger::Time,
    sources: &[Source {
        name: "inventor",
        choice: None,
        is_automatic: true,
        open: |options| Ok(Box::new(Inventor::new(options))),
    }],
    is_periodic: false,
    sees_waiting: false,
    reads_threads: false,
    default_seconds: None,
    waits: None,
    keep_changes: None,
    comments: |_, capture| vec![format!("inventions: {}", capture.tally.samples)],
};

fn read(request: &Request, kind: Kind) -> Result<Response, CaptureError> {
    let mut builder = Builder::new(kind.sample_types);
    let function = builder.function("inventor", "inventor", "", 0);
    let location = builder.location(None, 0, &[LineSpec { function, line: 0, column: 0 }]);
    builder.sample(&[location], &[1, 1], &[]);
    let identities = request.pids.iter().map(|pid| identify(*pid)).collect::<Result<_, _>>()?;
    Ok(Response::Read(Box::new(Reading {
        kind,
        identities,
        summary: "invented: one".to_owned(),
        warnings: Vec::new(),
        costs: String::new(),
        content: Box::new(builder.finish()),
    })))
}

/// A sampler whose samples have no stack.
struct Inventor {
    description: Description,
    pid: u32,
}

impl Inventor {
    fn new(options: &SamplerOptions) -> Inventor {
        let description = Description {
            name: "inventor",
            event: "ideas",
            summary: "samples are invented".to_owned(),
            kernel: false,
            buffer_bytes: 0,
            event_count: 0,
        };
        Inventor { description, pid: options.pids.first().copied().unwrap_or_default() }
    }
}

impl Sampler for Inventor {
    fn description(&self) -> &Description {
        &self.description
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError> {
        sleep(timeout);
        sink(Event::Sample(RawSample::without_stack(identity::monotonic_ns(), self.pid)));
        Ok(())
    }

    fn stop(&mut self) -> Result<(), SamplerError> {
        Ok(())
    }
}
