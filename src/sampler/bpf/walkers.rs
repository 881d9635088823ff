//! The walkers of languages: programs that a sample's program hands the sample on to, before it is
//! written (`walker.bpf.h`). A walker is loaded when the first process needs it.
//!
//! Not here: what a walker does, where it finds a language's structures (its settings say so).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya::maps::{HashMap, MapData};
use aya_obj::Object;
use rustc_hash::FxHashMap;

use super::{
    program::{Maps, Room, load_program},
    refusal::{self, broken},
};
use crate::{
    process::{FrameWalker, LanguageId, WalkerProgram},
    sampler::SamplerError,
    sys::bpf::{self, ProgramKind},
};

/// `MOST_WALKERS` of record.bpf.h; the first place is of the program that completes a record.
const MOST_WALKERS: usize = 16;

/// A value of the map `targets`: the process's walker (its place, or 0), and the number of its
/// settings.
pub type Target = [u32; 2];

/// The walkers that are loaded, and which process has which.
pub struct Walkers {
    kind: ProgramKind,
    /// The map of programs, and the others that walkers share with the sampler's programs, by name.
    shared: Vec<(&'static str, OwnedFd)>,
    loaded: Vec<LoadedWalker>,
    /// Those of `loaded`.
    languages: Vec<LanguageId>,
    targets: FxHashMap<u32, Target>,
    next_settings: u32,
}

struct LoadedWalker {
    _program: OwnedFd,
    /// By the number of the settings.
    settings: MapData,
}

impl Walkers {
    /// No walker yet. `kind` is the kind of the sampler's programs, `programs` their map of
    /// programs, `records` their buffers, `thread_states` the states by thread ID.
    pub fn new(kind: ProgramKind, programs: OwnedFd, records: OwnedFd, thread_states: OwnedFd) -> Walkers {
        Walkers {
            kind,
            shared: vec![("walkers", programs), ("records", records), ("thread_states", thread_states)],
            loaded: Vec::new(),
            languages: Vec::new(),
            targets: FxHashMap::default(),
            next_settings: 0,
        }
    }

    /// The languages of the walkers, in the order of their places in the map, which begin with 1.
    pub fn languages(&self) -> &[LanguageId] {
        &self.languages
    }

    /// Runs a walker on the samples of a process, or none. Errors: the kernel refuses the walker or
    /// its settings, or there are too many walkers.
    pub fn set(
        &mut self,
        pid: u32,
        hint: Option<&FrameWalker>,
        targets: &mut HashMap<MapData, u32, Target>,
    ) -> Result<(), SamplerError> {
        let target = match hint {
            Some(hint) => self.prepare(pid, hint)?,
            None => [0; 2],
        };
        // Only targets have a row; a process that has ended has none any more.
        if targets.get(&pid, 0).is_err() {
            self.forget(pid);
            return Ok(());
        }
        targets.insert(pid, target, 0).map_err(|error| refusal::from_map(&error))?;
        match hint {
            Some(_) => drop(self.targets.insert(pid, target)),
            None => self.forget(pid),
        }
        Ok(())
    }

    /// Forgets a process that has ended.
    pub fn forget(&mut self, pid: u32) {
        self.targets.remove(&pid);
    }

    /// The row of a process whose walker is loaded and has its settings.
    fn prepare(&mut self, pid: u32, hint: &FrameWalker) -> Result<Target, SamplerError> {
        let index = match self.languages.iter().position(|language| *language == hint.language) {
            Some(index) => index,
            None => self.load(hint.language, &hint.program)?,
        };
        let place = index as u32 + 1;
        let number = match self.targets.get(&pid) {
            Some([known, number]) if *known == place => *number,
            _ => {
                self.next_settings = self.next_settings.wrapping_add(1);
                self.next_settings
            }
        };
        let settings = self.loaded[index].settings.fd().as_fd();
        bpf::update_element(settings, &number.to_ne_bytes(), &hint.settings)
            .map_err(|source| refusal::failed("setting up a walker", source))?;
        Ok([place, number])
    }

    /// Loads a walker for no process. Errors: the kernel refuses it.
    pub fn check(&mut self, walker: &WalkerProgram) -> Result<(), SamplerError> {
        self.load(LanguageId::default(), walker).map(drop)
    }

    fn load(&mut self, language: LanguageId, walker: &WalkerProgram) -> Result<usize, SamplerError> {
        let place = self.loaded.len() + 1;
        if place >= MOST_WALKERS {
            return Err(SamplerError::Unavailable("too many walkers of languages are loaded".to_owned()));
        }
        let shared: Vec<(&str, BorrowedFd<'_>)> =
            self.shared.iter().map(|(name, fd)| (*name, fd.as_fd())).collect();
        let (program, settings) = load_walker(walker.object, self.kind, &shared)?;
        add_program(self.shared[0].1.as_fd(), place as u32, &program)?;
        self.loaded.push(LoadedWalker { _program: program, settings });
        self.languages.push(language);
        Ok(place - 1)
    }
}

/// Loads the programs of a walker of language frames, which use the `shared` maps. Returns the one
/// of the kind `kind`, and the map of its settings.
fn load_walker(
    object: &'static [u8],
    kind: ProgramKind,
    shared: &[(&str, BorrowedFd<'_>)],
) -> Result<(OwnedFd, MapData), SamplerError> {
    let mut object = Object::parse(object).map_err(broken)?;
    let mut maps = Maps::create_but(&mut object, Room { ring_bytes: 0, buffers: 0 }, shared)?;
    maps.relocate(&mut object)?;
    let name = if kind == ProgramKind::PerfEvent { "walk_event" } else { "walk_raw" };
    Ok((load_program(&object, name, kind)?, maps.take("walker_settings")?))
}

/// Puts a program at a place of the map of programs.
pub fn add_program(programs: BorrowedFd<'_>, place: u32, program: &OwnedFd) -> Result<(), SamplerError> {
    bpf::update_element(programs, &place.to_ne_bytes(), &program.as_raw_fd().to_ne_bytes())
        .map_err(|source| refusal::failed("adding a BPF program to those that continue a sample", source))
}
