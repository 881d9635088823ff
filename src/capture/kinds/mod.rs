//! The kinds of profiles: one table, one row and one file each.
//!
//! Every verb reads [`ALL`]: `attach`, `dump`, `serve`, `snapshot`, `top --pid`, `doctor`, the
//! capture page and `--help`. A row says what a kind is called, what it shows and who can make it;
//! its [`Maker`]s say for which processes. A kind is added with one file and one row
//! (`docs/ADDING-A-KIND.md`).
//!
//! Not here: running a capture (`super::open`), how samples are taken (`crate::sampler`).

mod contention;
mod cpu;
mod difference;
mod faults;
#[cfg(test)]
pub(crate) mod invented;
mod maker;
mod off_cpu;
mod recorded;
mod sources;
mod tasks;
mod thread_create;
mod threads;
mod trace;
mod wall;

use std::fmt;

pub use difference::difference as changes;
pub use maker::{Check, Live, Make, Maker, Need, Reason, Source, WaitFilter};

use super::{Capture, CaptureError, Request, Response, SamplerChoice};

/// A row of the table. Two are equal if their names are.
pub type Kind = &'static KindRow;

/// All kinds, in the order in which they are listed.
pub static ALL: &[Kind] = &[
    &cpu::ROW,
    &wall::ROW,
    &off_cpu::ROW,
    &tasks::ROW,
    &threads::ROW,
    &thread_create::ROW,
    &faults::ROW,
    &recorded::HEAP,
    &recorded::ALLOCS,
    &contention::MUTEX,
    &contention::BLOCK,
    &trace::ROW,
    #[cfg(test)]
    &invented::ROW,
];

/// The kind that is captured where none is named.
pub static DEFAULT: Kind = &cpu::ROW;

/// Everything that rprof knows about a kind.
pub struct KindRow {
    /// The value of `--kind`.
    pub name: &'static str,
    /// Another spelling of the name.
    pub alias: Option<&'static str>,
    /// The last part of its path below `/debug/pprof/`; `None`: not served.
    pub served_as: Option<&'static str>,
    /// What it shows, in one line.
    pub what: &'static str,
    /// What it shows and needs, for `--help`.
    pub help: &'static str,
    /// Which parameters it takes when it is served; may be empty.
    pub parameters: &'static str,
    /// Whether it lasts.
    pub span: Span,
    /// What it is.
    pub form: Form,
    /// The types of the values and their units, in order.
    pub sample_types: &'static [(&'static str, &'static str)],
    /// The web page that shows it first.
    pub view: &'static str,
    /// The text forms that exist (`report::threads`, or a runtime's own).
    pub texts: &'static [TextForm],
    /// The samplers that `--sampler` may name, and why the others cannot make it; `None`: any.
    pub samplers: Option<(&'static [SamplerChoice], &'static str)>,
    /// Who can make it; the first that offers it does.
    pub makers: &'static [Maker],
    /// How a capture of it is described.
    pub words: Words,
    /// How `top --pid` shows it; `None`: it does not.
    pub watch: Option<Watch>,
    /// What `snapshot` makes of it; `None`: it is not in the archive.
    pub bundle: Option<Bundle>,
    /// Whether `dump` shows it; `None`: it does not.
    pub dump: Option<DumpOf>,
}

/// Whether a kind lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// It covers a time, of this many seconds by default.
    Lasting(u64),
    /// It shows the state of one instant, or the change over a time where that is requested.
    Instant,
}

/// What a kind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A profile: values of stacks.
    Profile,
    /// Spans on a time axis, for ui.perfetto.dev, or as a profile.
    Timeline,
}

/// A text form of a profile of stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// Each stack (`debug=2`).
    Each,
    /// Equal stacks together, for readers.
    Grouped,
    /// Equal stacks counted (`debug=1`).
    Counted,
    /// JSON.
    Json,
}

/// What `dump` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpOf {
    /// The tasks of a language runtime.
    Tasks,
    /// The threads.
    Threads,
}

/// How a sampled capture is described.
#[derive(Clone, Copy)]
pub struct Words {
    /// How much was sampled: `30.00 s of CPU time`.
    pub measured: fn(&Capture) -> String,
    /// Why it has no samples, and what to do; `None`: it may have none.
    pub without_samples: fn(&Capture) -> Option<(String, &'static str)>,
}

/// For kinds that are not sampled.
pub(super) const NO_WORDS: Words = Words { measured: |_| String::new(), without_samples: |_| None };

/// How `top --pid` shows a kind.
#[derive(Clone, Copy)]
pub struct Watch {
    /// What is measured, as a word on the screen: `CPU`.
    pub short: &'static str,
    /// The value per second.
    pub amount: fn(f64) -> String,
    /// The line that is shown without samples, before the time: ` no samples`.
    pub nothing: &'static str,
    /// The name of the kind that the key `o` changes to.
    pub other: &'static str,
    /// Whether it has samples of threads that wait.
    pub has_waits: bool,
}

/// What `snapshot` makes of a kind.
#[derive(Clone, Copy)]
pub struct Bundle {
    /// The file's name without its extension.
    pub file: &'static str,
    /// The heading of its findings.
    pub title: &'static str,
    /// The findings; none where only the file is of interest.
    pub findings: fn(&Response) -> Vec<String>,
    /// Whether the hottest functions follow the findings.
    pub has_table: bool,
}

impl KindRow {
    /// The row of this name.
    pub fn named(name: &str) -> Option<Kind> {
        ALL.iter().copied().find(|kind| kind.name == name || kind.alias == Some(name))
    }

    /// The row that is served below this path.
    pub fn served(path: &str) -> Option<Kind> {
        ALL.iter().copied().find(|kind| kind.served_as == Some(path))
    }

    /// The last part of its path, where it is served.
    pub fn path(&self) -> &'static str {
        self.served_as.unwrap_or(self.name)
    }

    /// What it shows and which parameters it takes when it is served.
    pub fn in_full(&self) -> String {
        match self.parameters {
            "" => self.what.to_owned(),
            parameters => format!("{}; {parameters}", self.what),
        }
    }

    /// Whether its main value is a time.
    pub fn is_time(&self) -> bool {
        self.sample_types.last().is_some_and(|(_, unit)| *unit == "nanoseconds")
    }

    /// Whether its samples are taken at a rate.
    pub fn is_periodic(&self) -> bool {
        self.makers.iter().any(|maker| matches!(maker.make, Make::Live(live) if live.is_periodic))
    }

    /// How many seconds it lasts where no time is requested, if it is sampled for these processes
    /// and has no state to read. For most kinds no program is read.
    pub fn default_seconds(&'static self, request: &Request) -> Option<u64> {
        let of = |maker: &Maker| match maker.make {
            Make::Live(live) => live.default_seconds,
            Make::Once(_) => None,
        };
        self.makers.iter().find_map(of)?;
        self.maker(request).ok().and_then(of)
    }

    /// Who makes it for these processes.
    ///
    /// # Errors
    /// [`CaptureError::NotOffered`] with the reason and the kinds that are available instead.
    pub fn maker(&'static self, request: &Request) -> Result<&'static Maker, CaptureError> {
        let mut reasons = Vec::new();
        for maker in self.makers {
            match (maker.offers)(request) {
                Ok(()) => return Ok(maker),
                Err(Reason(why)) => reasons.push(why),
            }
        }
        Err(CaptureError::NotOffered { kind: self, why: reasons.join("; "), available: available(request) })
    }

    /// Why this sampler cannot make it.
    ///
    /// # Errors
    /// [`CaptureError::WrongSampler`].
    pub fn check_sampler(&'static self, choice: SamplerChoice) -> Result<(), CaptureError> {
        match self.samplers {
            Some((accepted, why)) if choice != SamplerChoice::Auto && !accepted.contains(&choice) => {
                Err(CaptureError::WrongSampler { kind: self, why })
            }
            _ => Ok(()),
        }
    }
}

/// The kinds that are available for the processes of a request. This reads their programs.
pub fn available(request: &Request) -> Vec<Kind> {
    let is_offered = |kind: &Kind| kind.makers.iter().any(|maker| (maker.offers)(request).is_ok());
    ALL.iter().copied().filter(is_offered).collect()
}

/// The names of kinds, as in a sentence.
pub fn list(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

impl PartialEq for KindRow {
    fn eq(&self, other: &KindRow) -> bool {
        self.name == other.name
    }
}

impl Eq for KindRow {}

impl fmt::Debug for KindRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_unique() {
        for (at, kind) in ALL.iter().enumerate() {
            assert_eq!(KindRow::named(kind.name), Some(*kind));
            let mut later = ALL[at + 1..].iter();
            assert!(later.all(|other| {
                other.name != kind.name && (kind.served_as.is_none() || other.served_as != kind.served_as)
            }));
        }
        assert!(KindRow::served("heap").is_some() && KindRow::served("").is_none());
        assert!(KindRow::served("Heap").is_none() && KindRow::named("off-cpu").is_some());
    }

    #[test]
    fn each_kind_can_be_made_and_the_other_kind_of_a_watched_one_is_watched() {
        for kind in ALL {
            assert!(!kind.makers.is_empty() && !kind.sample_types.is_empty(), "{}", kind.name);
            if let Some(watch) = kind.watch {
                let other = KindRow::named(watch.other).expect("a kind");
                assert!(other.watch.is_some(), "{}", kind.name);
            }
        }
    }

    /// The row of each kind in `docs/COMPATIBILITY.md`, which promises the types of its values.
    #[test]
    fn the_types_of_values_are_those_of_the_documents() {
        let text = include_str!(concat!("../../../docs/", "COMPATIBILITY.md"));
        let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        let mut checked = 0;
        for (names, types) in rows.filter_map(|row| row.split_once(" | ")) {
            for kind in names.split(", ").filter_map(KindRow::named) {
                if types.contains('/') {
                    let own: Vec<String> =
                        kind.sample_types.iter().map(|(name, unit)| format!("`{name}/{unit}`")).collect();
                    assert_eq!(own.join(", "), types, "{}", kind.name);
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 9);
    }
}
