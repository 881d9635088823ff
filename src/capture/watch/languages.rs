//! The language runtimes of one process: attaches to them as their files are mapped, and passes
//! them what they own.
//!
//! A runtime may not be initialized when its file is mapped; it is tried again with growing pauses.
//! A child of a fork has the runtimes of its parent and attaches to them itself; a new program has
//! none. Not here: which languages there are (`runtime`).

use std::{ops::Range, sync::Arc};

use crate::{
    addr::RuntimeAddr,
    process::{Hints, OwnedSection, Section, SectionOrigin},
    runtime::{
        Attach, CategoryRule, CodeRegion, Instance, InstanceId, Labels, LanguageFrame, LoadedRuntime,
        MixedFrame, MixedStack, ProcessView, Refusal, SampleView, Splice, Variable,
    },
    sampler::RawSample,
    unwind::{Code, Frame, FrameKey},
};

/// The first pause before a runtime is tried again, and the longest, in nanoseconds.
const FIRST_PAUSE_NS: u64 = 10_000_000;
const LONGEST_PAUSE_NS: u64 = 5_000_000_000;
/// The most runtimes of one process. Real ones have one or two; plugins count too.
const MAX_RUNTIMES: usize = 256;
/// The most mappings that runtimes own: they are searched one by one.
const MAX_OWNED: usize = 1024;

/// The runtimes of a process.
#[derive(Debug, Default)]
pub struct Languages {
    found: Vec<Found>,
    attached: Vec<Attached>,
    refused: Vec<String>,
    /// The mappings that instances own.
    owned: Vec<(Range<RuntimeAddr>, InstanceId)>,
}

/// A runtime that was attached to.
#[derive(Debug)]
struct Attached {
    instance: Box<dyn Instance>,
    /// Its hints, asked for once: each time they are built anew, and samples need them.
    hints: Hints,
}

/// A file with a runtime that the process has mapped.
#[derive(Clone, Debug)]
struct Found {
    runtime: Arc<dyn LoadedRuntime>,
    bias: u64,
    /// When it is tried (again); `None`: it need not be.
    due_ns: Option<u64>,
    pause_ns: u64,
}

impl Languages {
    /// Notes a file with a runtime; [`Languages::attach_due`] then tries it.
    pub fn add(&mut self, runtime: &Arc<dyn LoadedRuntime>, bias: u64) {
        let is_known =
            self.found.iter().any(|found| Arc::ptr_eq(&found.runtime, runtime) && found.bias == bias);
        if !is_known && self.found.len() < MAX_RUNTIMES {
            let runtime = Arc::clone(runtime);
            self.found.push(Found { runtime, bias, due_ns: Some(0), pause_ns: FIRST_PAUSE_NS });
        }
    }

    /// The runtimes for the child of a fork: the same files, attached to anew.
    pub fn forked(&self) -> Languages {
        let found = self.found.iter().map(|found| Found {
            due_ns: Some(0),
            pause_ns: FIRST_PAUSE_NS,
            ..found.clone()
        });
        Languages { found: found.collect(), ..Languages::default() }
    }

    /// Whether a runtime should be tried now.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.found.iter().any(|found| found.due_ns.is_some_and(|due_ns| due_ns <= now_ns))
    }

    /// Tries the runtimes that are due. Returns how many were attached to.
    pub fn attach_due(&mut self, process: &ProcessView, now_ns: u64) -> usize {
        let before = self.attached.len();
        for found in &mut self.found {
            if found.due_ns.is_none_or(|due_ns| due_ns > now_ns) {
                continue;
            }
            match Arc::clone(&found.runtime).attach(process, found.bias) {
                Attach::Ready(instance) => {
                    let hints = instance.hints();
                    self.attached.push(Attached { instance, hints });
                    found.due_ns = None;
                }
                Attach::NotYet => {
                    found.due_ns = Some(now_ns.saturating_add(found.pause_ns));
                    found.pause_ns = (found.pause_ns * 2).min(LONGEST_PAUSE_NS);
                }
                Attach::No(why) => {
                    found.due_ns = None;
                    if let Refusal::Error(error) = why {
                        self.refused.push(error.to_string());
                    }
                }
            }
        }
        self.attached.len() - before
    }

    /// The code of the first instance, from number `first` on, that owns a mapping.
    pub fn claim(&mut self, first: usize, region: &CodeRegion<'_>) -> Option<Arc<dyn Code>> {
        let range = region.start..region.end;
        self.owned.retain(|(owned, _)| owned.end <= range.start || range.end <= owned.start);
        let some = self.attached.iter_mut().zip(0..).skip(first);
        let (code, id) = some.filter_map(|(one, id)| Some((one.instance.claim(region)?, id))).next()?;
        if self.owned.len() < MAX_OWNED {
            self.owned.push((range, InstanceId(id)));
        }
        Some(code)
    }

    /// Why runtimes cannot be read, since the last call.
    pub fn take_refusals(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused)
    }

    /// The number of instances.
    pub fn count(&self) -> usize {
        self.attached.len()
    }

    fn instances(&self) -> impl Iterator<Item = &dyn Instance> {
        self.attached.iter().map(|one| &*one.instance)
    }

    /// An instance by its number.
    pub fn instance(&self, id: InstanceId) -> Option<&dyn Instance> {
        self.attached.get(usize::from(id.0)).map(|one| &*one.instance)
    }

    /// What samplers should read, of all instances: one of each kind.
    pub fn hints(&self) -> Hints {
        let mut all = Hints::default();
        for hints in self.attached.iter().map(|one| one.hints.clone()) {
            all.tasks = all.tasks.or(hints.tasks);
            all.walker = all.walker.or(hints.walker);
            all.reader = all.reader.or(hints.reader);
        }
        all
    }

    /// The labels that the program has set on what the sampled thread ran, in all its languages.
    pub fn labels(&self, sample: &RawSample<'_>) -> Option<Labels> {
        let mut all = self.instances().filter_map(|instance| {
            let section = sample.sections.of(instance.language().id());
            instance.labels(&view(sample, section))
        });
        let first = all.next()?;
        let Some(second) = all.next() else { return Some(first) };
        let mut labels: Vec<_> =
            [first, second].into_iter().chain(all).flat_map(|one| one.to_vec()).collect();
        labels.sort();
        labels.dedup_by(|(a, _), (b, _)| a == b);
        Some(Arc::new(labels))
    }

    /// The local variables of the frames of `mixed` that are a language's, by their index.
    pub fn variables(&self, sample: &RawSample<'_>, mixed: &[MixedFrame]) -> Vec<(usize, Vec<Variable>)> {
        let mut found = Vec::new();
        for (one, id) in self.attached.iter().zip(0..) {
            let Some(section) = sample.sections.of(one.instance.language().id()) else { continue };
            let mut left = one.instance.variables(&section);
            for (index, frame) in mixed.iter().enumerate() {
                let MixedFrame::Language(frame) = frame else { continue };
                let is_it = |(key, _): &(FrameKey, _)| *key == frame.key;
                if frame.instance == InstanceId(id)
                    && let Some(at) = left.iter().position(is_it)
                {
                    found.push((index, left.remove(at).1));
                }
            }
        }
        found
    }

    /// What a runtime did on the sampled thread.
    pub fn thread_state(&self, sample: &RawSample<'_>) -> Option<&'static str> {
        self.instances().find_map(|instance| {
            let section = sample.sections.of(instance.language().id());
            instance.thread_state(&view(sample, section))
        })
    }

    /// Whether an instance may have frames that are not on the native stack.
    pub fn have_sections(&self) -> bool {
        self.attached.iter().any(|one| one.hints.walker.is_some() || one.hints.reader.is_some())
    }

    /// Combines the frames of a walk with those of the sample's sections into `mixed`. `walk`: the
    /// native frames, which of them are a language's, and whether they reach the root. Returns why
    /// a part of the languages' frames has no certain place.
    pub fn mix(
        &self,
        sample: &RawSample<'_>,
        (frames, keys, is_whole): (&[Frame], &[(u32, FrameKey)], bool),
        mixed: &mut Vec<MixedFrame>,
    ) -> Option<&'static str> {
        mixed.clear();
        mixed.extend(frames.iter().copied().map(MixedFrame::Native));
        for (index, key) in keys {
            if let Some(frame) = mixed.get_mut(*index as usize)
                && let MixedFrame::Native(native) = frame
                && let Some(instance) = self.owner_of(native)
            {
                *frame = MixedFrame::Language(LanguageFrame { instance, key: *key });
            }
        }
        let mut partial = None;
        for (one, id) in self.attached.iter().zip(0..) {
            let Attached { instance, hints } = one;
            let section = sample.sections.of(instance.language().id());
            let late = if section.is_none() { late_section(hints, sample) } else { None };
            let Some(section) = section.or(late.as_ref().map(OwnedSection::as_section)) else { continue };
            let mut stack = MixedStack::new(mixed, is_whole, InstanceId(id));
            if let Splice::Partial(why) = instance.splice(&section, &mut stack) {
                partial = Some(why);
            }
        }
        partial
    }

    /// The instance whose code a frame is in.
    fn owner_of(&self, frame: &Frame) -> Option<InstanceId> {
        let owner = self.owned.iter().find(|(range, _)| range.contains(&frame.addr.lookup()));
        owner.map(|(_, id)| *id)
    }

    /// How well the runtimes could be read, `key: value`.
    pub fn quality(&self) -> Vec<String> {
        self.instances().filter_map(|instance| instance.quality()).collect()
    }

    /// Which frames are of which category.
    pub fn categories(&self) -> impl Iterator<Item = CategoryRule> + '_ {
        self.instances().flat_map(|instance| instance.categories())
    }
}

/// The section of a sample that has none, because its sampler cannot read it: read now, while the
/// thread may run.
fn late_section(hints: &Hints, sample: &RawSample<'_>) -> Option<OwnedSection> {
    let (reader, registers) = (hints.reader.as_ref()?, sample.registers.as_ref()?);
    OwnedSection::read(&**reader, sample.tid, registers, SectionOrigin::Unsynchronised)
}

fn view<'s>(sample: &'s RawSample<'_>, section: Option<Section<'s>>) -> SampleView<'s> {
    SampleView {
        tid: sample.tid,
        registers: sample.registers.as_ref(),
        task_labels: sample.task.map(|task| task.labels),
        section,
    }
}
