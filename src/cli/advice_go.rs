//! What to do when a Go program cannot be read, or does not collect the requested profile.
//!
//! All other errors are in `advice`.

use crate::runtime::go::{BucketError, GoError, NotCollected};

/// What failed, why, and what to do.
pub fn explain(error: &BucketError) -> (String, Option<String>, Option<&'static str>) {
    match error {
        BucketError::NotCollected(why) => {
            let what = "this process does not collect the requested profile".to_owned();
            (what, Some(why.to_string()), Some(instead(*why)))
        }
        BucketError::Go(error) => (error.to_string(), None, advice(error)),
    }
}

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

fn advice(error: &GoError) -> Option<&'static str> {
    Some(match error {
        GoError::NotGo(_) => "only Go programs have this profile; `rprof info` shows what a process is",
        GoError::Memory(_) => {
            "run rprof as the process's user, as root, or with CAP_SYS_PTRACE: `rprof doctor --pid PID` shows what is missing"
        }
        GoError::Variable { .. } => "run it again; if it fails again, please report it with `rprof info`",
        GoError::Release(_) | GoError::Tables(_) => "`rprof dump --threads` shows its threads",
        GoError::Process(_) => return None,
    })
}
