//! `rprof symbolize FILE`: adds missing names to a profile.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    args::SymbolizeArgs,
    missing_symbols,
    output::file_options,
    sampling::{check_debug_options, symbolize_options},
    say,
    signals::interruptible,
};
use crate::{
    capture::rename,
    issue::Issue,
    process::files::read_input,
    profile::{decode, file, write_gzip},
    text::counted_as,
};

/// Larger files are not read as a profile.
pub(super) const MAX_PROFILE_BYTES: u64 = 4 << 30;

/// Runs the verb.
pub fn run(arguments: &SymbolizeArgs) -> Result<()> {
    let path = &arguments.input;
    let target = arguments.output.as_deref().unwrap_or(path);
    check_debug_options(&arguments.debug)?;
    file::check_writable(target)?;
    let bytes =
        read_input(path, MAX_PROFILE_BYTES).with_context(|| format!("cannot read {}", path.display()))?;
    let profile = decode(&bytes).with_context(|| format!("{} is not a usable profile", path.display()))?;
    let renamed = rename::rename(profile, &interruptible(symbolize_options(&arguments.debug))?);
    let options = file_options(arguments.file_mode);
    file::write_file(target, &options, |writer| write_gzip(&renamed.profile, writer))?;
    let unnamed = counted_as(renamed.unnamed_before, "unnamed address", "unnamed addresses");
    say(&format!("named {} of {unnamed}", renamed.named));
    for (issue, count) in renamed.issues.iter() {
        say(&format!("warning: {issue} ({})", counted_as(count, "address", "addresses")));
    }
    if !renamed.issues.is_empty() {
        let files = "--debug-dir DIR (a directory with the programs or their debug files)";
        let unnamed = renamed.issues.iter().filter_map(|(issue, count)| match issue {
            Issue::UnnamedFrames { file, .. } => Some((count, file)),
            _ => None,
        });
        let most = unnamed.max_by_key(|(count, _)| *count);
        let exact = most.and_then(|(_, file)| missing_symbols::advice(Path::new(file), None));
        say(&format!("  try      {files}, or {}", exact.unwrap_or_else(|| "--debuginfod".into())));
    }
    say(&format!("wrote {}", target.display()));
    Ok(())
}
