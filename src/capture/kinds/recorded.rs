//! What a language runtime counts itself: memory in use, memory allocated; and what other kinds
//! share that a runtime may count.
//!
//! Each is read once; nothing is sampled. Not here: how the records are read (`accounts`).

use super::{
    super::{CaptureError, Reading, Request, Response, TextResponse, accounts, heap},
    Bundle, Check, Form, Kind, KindRow, Make, Maker, NO_WORDS, Need, Reason, Span, TextForm,
};
use crate::text::counted;

/// Memory in use.
pub static HEAP: KindRow = KindRow {
    name: "heap",
    served_as: Some("heap"),
    what: "Memory in use: Go programs by allocation site, others by arena, size and type",
    help: "Memory in use on the heap. Go: by allocating code, from the runtime's own records. Other programs with \
           glibc's malloc: by arena, size class and type, read from the allocator's own structures",
    sample_types: ALLOCATIONS,
    makers: &[
        Maker { offers: offers_own, make: Make::Once(read), is_substitute: false, needs: NEEDS },
        Maker { offers: offers_native, make: Make::Once(heap::read), is_substitute: false, needs: NEEDS },
    ],
    bundle: bundle("heap"),
    ..RECORDS
};

/// All memory ever allocated.
pub static ALLOCS: KindRow = KindRow {
    name: "allocs",
    served_as: Some("allocs"),
    what: "All memory allocated since the program started, by allocation site (Go programs)",
    help: "Go: all memory ever allocated, by allocating code",
    sample_types: ALLOCATIONS,
    makers: &[maker(read)],
    bundle: bundle("allocs"),
    ..RECORDS
};

const ALLOCATIONS: &[(&str, &str)] = &[
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

/// What the rows have in common.
const RECORDS: KindRow = KindRow {
    name: "",
    alias: None,
    served_as: None,
    what: "",
    help: "",
    parameters: "",
    span: Span::Instant,
    form: Form::Profile,
    sample_types: &[],
    view: "flamegraph",
    texts: &[TextForm::Counted],
    samplers: None,
    makers: &[],
    words: NO_WORDS,
    watch: None,
    bundle: None,
    dump: None,
};

/// The memory of the process.
pub(super) const NEEDS: &[Need] = &[Need::one("memory", &[Check::ProcMem], "")];

const fn maker(make: fn(&Request, Kind) -> Result<Response, CaptureError>) -> Maker {
    Maker { offers, make: Make::Once(make), is_substitute: false, needs: NEEDS }
}

const fn bundle(file: &'static str) -> Option<Bundle> {
    Some(Bundle { file, title: "", findings: |_| Vec::new(), has_table: false })
}

/// Whether the request is for one process that seems to have a runtime with records.
pub(super) fn offers(request: &Request) -> Result<(), Reason> {
    match request.pids[..] {
        [pid] if accounts::are_kept(pid) => Ok(()),
        [pid] => {
            let languages: Vec<_> = accounts::keepers().iter().map(|language| language.name()).collect();
            Err(Reason(format!(
                "need a {} program, and process {pid} is not one: its runtime does not record them",
                languages.join(" or ")
            )))
        }
        _ => Err(Reason("take one process".into())),
    }
}

/// As [`offers`], unless the heaps of native allocators are requested.
fn offers_own(request: &Request) -> Result<(), Reason> {
    match request.heap.native {
        true => Err(Reason("of the runtime were not requested".into())),
        false => offers(request),
    }
}

/// Whether the request is for one process with an allocator that rprof reads.
fn offers_native(request: &Request) -> Result<(), Reason> {
    match request.pids[..] {
        [pid] => heap::is_readable(pid, request).map_err(Reason),
        _ => Err(Reason("take one process".into())),
    }
}

/// Reads a profile that the runtime records, or its text where one is requested and exists.
pub(super) fn read(request: &Request, kind: Kind) -> Result<Response, CaptureError> {
    let pid = request.pids.first().copied().ok_or(CaptureError::NoProcess)?;
    let budget = &request.symbolize.budget;
    if request.text.is_some()
        && let Some(text) = accounts::text(pid, kind.name, budget)?
    {
        return Ok(Response::Text(TextResponse { kind, text }));
    }
    let read = accounts::read(pid, kind.name, budget)?;
    Ok(Response::Read(Box::new(Reading {
        kind,
        summary: format!(
            "{}: {} of {}, read once; nothing was stopped, nothing was sampled",
            kind.name,
            counted(read.records, "record"),
            read.version
        ),
        identities: vec![read.identity],
        warnings: read.warnings,
        costs: String::new(),
        content: Box::new(read.profile),
    })))
}
