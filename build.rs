//! Tells `rprof --version` what is built: the commit and its date, as scripts/package gives them by
//! RPROF_COMMIT and RPROF_DATE or as they are in a published crate, and the target.
//!
//! A plain build in a clone records no commit: each new commit would compile everything again.

use std::{env, fs};

fn main() {
    for name in ["RPROF_COMMIT", "RPROF_DATE"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    let commit = env::var("RPROF_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(published_commit)
        .unwrap_or_default();
    println!("cargo::rustc-env=RPROF_BUILD_COMMIT={commit}");
    println!("cargo::rustc-env=RPROF_BUILD_DATE={}", env::var("RPROF_DATE").unwrap_or_default());
    println!("cargo::rustc-env=RPROF_BUILD_TARGET={}", env::var("TARGET").unwrap_or_default());
}

/// The commit that `cargo package` has noted beside the sources.
fn published_commit() -> Option<String> {
    let text = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    let hash = rest.split('"').nth(1)?;
    Some(hash.chars().take(12).collect())
}
