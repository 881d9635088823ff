//! Feeds the inputs in `fuzz/corpora` to the functions that are fuzzed: inputs that once reached
//! new code, and those that once were a fault.
//!
//! Not here: finding new inputs (`scripts/fuzz`).

#[path = "../fuzz/entries/mod.rs"]
mod entries;

use std::{fs, path::Path};

/// Inputs of one entry, by name.
fn inputs(entry: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpora").join(entry);
    let mut inputs: Vec<(String, Vec<u8>)> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| {
            let path = file.expect("a directory entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("readable"))
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn every_entry_accepts_its_corpus_and_damaged_forms_of_it() {
    for (entry, run) in entries::ALL {
        let inputs = inputs(entry);
        assert!(!inputs.is_empty(), "fuzz/corpora/{entry} has no inputs");
        for (name, bytes) in inputs {
            println!("{entry}/{name}");
            run(&bytes);
            run(&bytes[..bytes.len() / 2]);
            let mut damaged = bytes;
            let middle = damaged.len() / 3;
            damaged.iter_mut().skip(middle).step_by(97).for_each(|byte| *byte ^= 0x55);
            run(&damaged);
        }
    }
}
