//! What to do when a Go program cannot be read, or does not collect the requested profile.
//!
//! Not here: the errors themselves (`process`, `buckets`).

use super::{
    GoError,
    buckets::{BucketError, NotCollected},
};
use crate::runtime::RuntimeError;

/// How to enable the profile, and the next best one.
fn instead(why: NotCollected) -> &'static str {
    match why {
        NotCollected::HeapNotLinked => {
            "build it with a use of runtime.MemProfile (`import _ \"net/http/pprof\"` has one); until then `rprof attach --kind faults` shows which code makes it grow, `rprof info` the size of its heap, and `rprof attach --kind cpu` which code allocates (runtime.mallocgc)"
        }
        NotCollected::HeapRateZero => {
            "set runtime.MemProfileRate in the program; until then `rprof attach --kind faults` shows which code makes it grow, and `rprof attach --kind cpu` which code allocates (runtime.mallocgc)"
        }
        NotCollected::BlockRateZero => {
            "call runtime.SetBlockProfileRate in the program; until then `rprof dump` shows what each goroutine waits for and for how long, `rprof attach --kind offcpu` where threads wait"
        }
        NotCollected::MutexFractionZero => {
            "call runtime.SetMutexProfileFraction in the program; until then `rprof dump` shows which goroutines wait for a lock, `rprof attach --kind offcpu` where threads wait"
        }
    }
}

impl From<GoError> for RuntimeError {
    fn from(error: GoError) -> RuntimeError {
        let what = error.to_string();
        match error {
            GoError::Process(error) => RuntimeError::Process(error),
            GoError::NotGo(pid) => RuntimeError::Absent { pid, language: "Go" },
            GoError::Memory(_) => RuntimeError::NotPermitted { what },
            GoError::Variable { .. } => RuntimeError::Unreadable {
                what,
                advice: Some("run it again; if it fails again, please report it with `rprof info`"),
            },
            GoError::Release(_) | GoError::Tables(_) => {
                RuntimeError::Unreadable { what, advice: Some("`rprof dump --threads` shows its threads") }
            }
        }
    }
}

impl From<BucketError> for RuntimeError {
    fn from(error: BucketError) -> RuntimeError {
        match error {
            BucketError::Go(error) => error.into(),
            BucketError::NotCollected(why) => {
                RuntimeError::NotCollected { why: why.to_string(), advice: instead(why) }
            }
        }
    }
}
