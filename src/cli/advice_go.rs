//! What to try where a Go program cannot be read, or does not collect what was asked for.
//!
//! Not here: all other errors (`advice`).

use crate::runtime::go::{BucketError, GoError, NotCollected};

/// What failed, why, and what to try; `None` for an error that is no Go program's.
pub fn explain(error: &anyhow::Error) -> Option<(String, Option<String>, Option<&'static str>)> {
    if let Some(BucketError::NotCollected(why)) = error.downcast_ref() {
        let what = "there is no such profile of this process".to_owned();
        return Some((what, Some(why.to_string()), Some(instead(*why))));
    }
    let go = match error.downcast_ref::<BucketError>() {
        Some(BucketError::Go(error)) => error,
        _ => error.downcast_ref::<GoError>()?,
    };
    Some((go.to_string(), None, advice(go)))
}

/// The next best thing.
fn instead(why: NotCollected) -> &'static str {
    match why {
        NotCollected::HeapNotLinked => {
            "build it with a use of runtime.MemProfile (`import _ \"net/http/pprof\"` has one); until then `rprof attach --kind faults` shows what makes it grow, `rprof info` the size of its heap, and `rprof attach --kind cpu` who allocates (runtime.mallocgc)"
        }
        NotCollected::HeapRateZero => {
            "set runtime.MemProfileRate in the program; until then `rprof attach --kind faults` shows what makes it grow, and `rprof attach --kind cpu` who allocates (runtime.mallocgc)"
        }
        NotCollected::BlockRateZero => {
            "call runtime.SetBlockProfileRate in the program; until then `rprof dump` shows what each goroutine waits for and how long, `rprof attach --kind offcpu` where threads wait"
        }
        NotCollected::MutexFractionZero => {
            "call runtime.SetMutexProfileFraction in the program; until then `rprof dump` shows which goroutines wait for a lock, `rprof attach --kind offcpu` where threads wait"
        }
    }
}

fn advice(error: &GoError) -> Option<&'static str> {
    Some(match error {
        GoError::NotGo(_) => "this kind is kept by Go's runtime only; `rprof info` tells what a process is",
        GoError::Memory(_) => "the same user, root, or CAP_SYS_PTRACE: `rprof doctor --pid PID` tells which",
        GoError::Variable { .. } => "once more; if it stays so, please report it with `rprof info`",
        GoError::Release(_) | GoError::Tables(_) => "`rprof dump --threads` shows its threads",
        GoError::Process(_) => return None,
    })
}
