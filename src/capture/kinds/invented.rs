//! An invented kind, in tests only: it proves that one file and one row reach every verb.

use super::{
    super::{CaptureError, Reading, Request, Response},
    Bundle, DumpOf, Form, Kind, KindRow, Make, Maker, NO_WORDS, Need, Span, TextForm, Watch,
    maker::any_process,
};
use crate::{
    process::identify,
    profile::builder::{Builder, LineSpec},
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
    sample_types: &[("inventions", "count")],
    view: "flamegraph",
    texts: &[TextForm::Each],
    samplers: None,
    makers: &[Maker {
        offers: any_process,
        make: Make::Once(make),
        is_substitute: false,
        needs: &[Need::one("imagination", &[])],
    }],
    words: NO_WORDS,
    watch: Some(Watch {
        short: "invented",
        amount: |per_second| format!("{per_second:.0} inventions/s"),
        nothing: "no inventions",
        other: "cpu",
    }),
    bundle: Some(Bundle {
        file: "invented",
        title: "Inventions",
        findings: |_| vec!["One was invented.".to_owned()],
        has_table: false,
    }),
    dump: Some(DumpOf::Tasks),
};

fn make(request: &Request, kind: Kind) -> Result<Response, CaptureError> {
    let mut builder = Builder::new(kind.sample_types);
    let function = builder.function("inventor", "inventor", "", 0);
    let location = builder.location(None, 0, &[LineSpec { function, line: 0, column: 0 }]);
    builder.sample(&[location], &[1], &[]);
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
