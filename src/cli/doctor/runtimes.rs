//! Whether the frames of languages can be read: the BPF programs that read them, and the runtimes
//! of a process.

use super::{Line, fix};
use crate::{
    process::host::{Host, Rights},
    runtime::{self, FramesWithoutWalker, Instance, Language, RuntimeError},
    sampler::checks::{self, Check},
};

/// The check of each language's walker.
pub struct Walkers(Vec<(&'static dyn Language, Check)>);

impl Walkers {
    /// Loads the walker of each language that has one.
    pub fn check() -> Walkers {
        let check = |language: &&'static dyn Language| Some((*language, checks::walker(&language.walker()?)));
        Walkers(runtime::ALL.iter().filter_map(check).collect())
    }

    /// One line for each walker.
    pub fn lines(&self, host: &Host, rights: Option<&Rights>) -> Vec<Line> {
        let line = |(language, check): &(&'static dyn Language, Check)| Line {
            what: format!("BPF: frames of {}", language.name()),
            fixes: if check.result.is_ok() { Vec::new() } else { fix::fixes(check, &[], host, rights) },
            result: check.result.clone(),
            log: check.log.clone(),
        };
        self.0.iter().map(line).collect()
    }

    fn works(&self, language: &dyn Language) -> bool {
        self.0.iter().any(|(of, check)| of.id() == language.id() && check.result.is_ok())
    }
}

/// One line for each runtime of a process.
pub fn lines(pid: u32, walkers: &Walkers) -> Vec<Line> {
    let Ok(attached) = runtime::attach(pid) else { return Vec::new() };
    let found = attached.instances.iter().map(|instance| of_instance(&**instance, walkers));
    let refused = attached.refused.iter().map(|(language, error)| of_refusal(*language, error));
    found.chain(refused).collect()
}

fn of_instance(instance: &dyn Instance, walkers: &Walkers) -> Line {
    let (result, fixes) = if instance.hints().walker.is_none() {
        (Ok("its functions are named in stacks".to_owned()), Vec::new())
    } else if walkers.works(instance.language()) {
        (Ok("its frames are read at the sample, by BPF".to_owned()), Vec::new())
    } else {
        let fixes = vec![
            "what `BPF: frames of …` above needs".to_owned(),
            "--sampler ptrace   (stops each sampled thread for some 50 us)".to_owned(),
        ];
        let result = match instance.frames_without_walker() {
            FramesWithoutWalker::Late => {
                Ok("its frames are read late, without native functions, and marked unsynchronised".to_owned())
            }
            FramesWithoutWalker::AtRest => {
                Err("without BPF, frames of running threads are read by ptrace only".to_owned())
            }
        };
        (result, fixes)
    };
    Line { what: instance.version(), result, fixes, log: None }
}

fn of_refusal(language: &dyn Language, error: &RuntimeError) -> Line {
    Line { what: language.name().to_owned(), result: Err(error.to_string()), fixes: Vec::new(), log: None }
}
