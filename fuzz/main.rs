//! Runs one of the entries of `fuzz/entries`, named by the variable RPROF_FUZZ, with the inputs of
//! libFuzzer. One program for all: it is built once.
#![no_main]

mod entries;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static ENTRY: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("RPROF_FUZZ").expect("RPROF_FUZZ names an entry of fuzz/entries");
    entries::ALL.iter().find(|(name, _)| *name == wanted).expect("a known entry").1
});

fuzz_target!(|bytes: &[u8]| ENTRY(bytes));
