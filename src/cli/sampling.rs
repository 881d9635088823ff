//! What the options on sampling and on debug files mean.

use anyhow::{Result, bail};

use super::args::{DebugArgs, FramesArg, LabelArg, SamplerArg, SamplingArgs};
use crate::{
    capture::{FrameChoice, LabelKeys, Request, SamplerChoice},
    symbolize::{Debuginfod, SymbolizeOptions},
};

/// The request that the sampling options describe, without targets.
pub fn request(sampling: &SamplingArgs, debug: &DebugArgs) -> Request {
    Request {
        frequency_hz: sampling.frequency,
        sampler: sampler_choice(sampling.sampler),
        kernel: !sampling.no_kernel,
        frames: FrameChoice::from(sampling.frames),
        max_stack_bytes: sampling.max_stack_bytes,
        buffer_bytes: sampling.buffer_bytes,
        labels: LabelKeys {
            pid: sampling.label.contains(&LabelArg::Pid),
            tid: sampling.label.contains(&LabelArg::Tid),
            process: sampling.label.contains(&LabelArg::Process),
        },
        symbolize: symbolize_options(debug),
        ..Request::default()
    }
}

impl From<FramesArg> for FrameChoice {
    fn from(frames: FramesArg) -> FrameChoice {
        match frames {
            FramesArg::Mixed => FrameChoice::Mixed,
            FramesArg::Language => FrameChoice::Language,
            FramesArg::Native => FrameChoice::Native,
        }
    }
}

/// The sampler that the option names.
pub fn sampler_choice(sampler: SamplerArg) -> SamplerChoice {
    match sampler {
        SamplerArg::Auto => SamplerChoice::Auto,
        SamplerArg::Bpf => SamplerChoice::Bpf,
        SamplerArg::PerfCpu => SamplerChoice::PerfCpu,
        SamplerArg::PerfCgroup => SamplerChoice::PerfCgroup,
        SamplerArg::PerfThread => SamplerChoice::PerfThread,
        SamplerArg::Ptrace => SamplerChoice::Ptrace,
    }
}

/// Reports options on debug files that cannot have any effect, before sampling starts.
pub fn check_debug_options(debug: &DebugArgs) -> Result<()> {
    if let Some(missing) = debug.debug_dir.iter().find(|folder| !folder.is_dir()) {
        bail!("--debug-dir {}: there is no such directory", missing.display());
    }
    if debug.debuginfod.as_deref().is_some_and(|urls| debuginfod(urls).is_none()) {
        bail!("--debuginfod names no server, and DEBUGINFOD_URLS is not set: use --debuginfod=URL");
    }
    Ok(())
}

/// The options on debug files.
pub fn symbolize_options(debug: &DebugArgs) -> SymbolizeOptions {
    SymbolizeOptions {
        debug_dirs: debug.debug_dir.clone(),
        debuginfod: debug.debuginfod.as_deref().and_then(debuginfod),
        ..SymbolizeOptions::default()
    }
}

/// The servers that the flag names, or those in DEBUGINFOD_URLS.
fn debuginfod(urls: &str) -> Option<Debuginfod> {
    Debuginfod::from_environment(|name| match name {
        "DEBUGINFOD_URLS" if !urls.is_empty() => Some(urls.to_owned()),
        _ => std::env::var(name).ok(),
    })
}
