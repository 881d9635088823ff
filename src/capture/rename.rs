//! Adds missing names to a finished profile, from files that were not available during the capture.
//!
//! Not here: symbolizing while capturing (see `name`).

use std::path::Path;

use crate::{
    budget::Resource,
    issue::{Issue, Issues},
    profile::{
        amend::{Amender, NamedLine},
        proto::{Mapping, Profile},
    },
    symbolize::{StoredMapping, SymbolIssue, SymbolizeOptions, elf_address, find_stored, symbolize_module},
};

/// The profile with added names.
#[derive(Debug)]
pub struct RenameOutput {
    /// The profile.
    pub profile: Profile,
    /// How many locations had no name.
    pub unnamed_before: usize,
    /// How many of them have a name now.
    pub named: usize,
    /// Files whose functions still have no names.
    pub issues: Issues,
}

/// Symbolizes the unnamed locations of `profile`; names that exist are kept.
pub fn rename(profile: Profile, options: &SymbolizeOptions) -> RenameOutput {
    let mut issues = Issues::default();
    let unnamed_before = profile.location.iter().filter(|location| location.line.is_empty()).count();
    let mappings = profile.mapping.clone();
    let mut amender = Amender::new(profile);
    let named =
        mappings.iter().map(|mapping| name_mapping(&mut amender, mapping, options, &mut issues)).sum();
    let share = share_unnamed(amender.profile());
    amender.replace_comment("unnamed:", &format!("unnamed: {:.2}% of frames", share * 100.0));
    RenameOutput { profile: amender.finish(), unnamed_before, named, issues }
}

fn name_mapping(
    amender: &mut Amender,
    mapping: &Mapping,
    options: &SymbolizeOptions,
    issues: &mut Issues,
) -> usize {
    let profile = amender.profile();
    let places: Vec<(usize, u64)> = (profile.location.iter().enumerate())
        .filter(|(_, location)| location.mapping_id == mapping.id && location.line.is_empty())
        .map(|(index, location)| (index, location.address))
        .collect();
    if places.is_empty() {
        return 0;
    }
    let text = |index: i64| {
        let text = usize::try_from(index).ok().and_then(|index| profile.string_table.get(index));
        text.cloned().unwrap_or_default()
    };
    let (path, build_id) = (text(mapping.filename), text(mapping.build_id));
    let id_bytes = from_hex(&build_id);
    let stored = StoredMapping {
        path: Path::new(&path),
        build_id: &id_bytes,
        start: mapping.memory_start,
        limit: mapping.memory_limit,
        file_offset: mapping.file_offset,
    };
    if let Err(why) = options.budget.take(Resource::Work, 0) {
        issues.add(Issue::LimitReached { what: path, why: why.to_string() }, places.len() as u64);
        return 0;
    }
    let found = find_stored(&stored, options).unwrap_or_else(|why| {
        issues.add(Issue::DebugInfo { file: path.clone(), why: why.to_string() }, places.len() as u64);
        None
    });
    let Some(files) = found else {
        issues.add(Issue::UnnamedFrames { file: path, build_id }, places.len() as u64);
        return 0;
    };
    let (indexes, addresses): (Vec<usize>, Vec<_>) = places
        .into_iter()
        .filter_map(|(index, address)| Some((index, elf_address(&files.file, &stored, address)?)))
        .unzip();
    let output = symbolize_module(&files, &addresses, options);
    let mut named = 0;
    for (index, symbolized) in indexes.into_iter().zip(&output.addresses) {
        let lines: Vec<NamedLine<'_>> = symbolized
            .frames
            .iter()
            .map(|frame| NamedLine {
                function: &frame.function,
                system_name: &frame.system_name,
                filename: frame.file.as_deref().unwrap_or_default(),
                line: frame.line,
                column: frame.column,
                start_line: frame.start_line,
            })
            .collect();
        if !lines.is_empty() {
            amender.name(index, &lines);
            named += 1;
        }
    }
    let failed = output
        .issues
        .iter()
        .filter(|issue| !matches!(issue, SymbolIssue::Unnamed(_) | SymbolIssue::DebugFileMissing(_)));
    for issue in failed {
        issues.add(Issue::DebugInfo { file: path.clone(), why: issue.to_string() }, addresses.len() as u64);
    }
    issues.add(Issue::UnnamedFrames { file: path, build_id }, (output.addresses.len() - named) as u64);
    named
}

/// The share of frames without a name, weighted by samples: 0 to 1.
fn share_unnamed(profile: &Profile) -> f64 {
    let unnamed: std::collections::HashSet<u64> = (profile.location.iter())
        .filter(|location| location.line.is_empty())
        .map(|location| location.id)
        .collect();
    let (mut all, mut without) = (0f64, 0f64);
    for sample in &profile.sample {
        let weight = sample.value.first().copied().unwrap_or(0) as f64;
        all += weight * sample.location_id.len() as f64;
        without += weight * sample.location_id.iter().filter(|id| unnamed.contains(id)).count() as f64;
    }
    if all > 0.0 { without / all } else { 0.0 }
}

/// The bytes of a build ID; empty if it is not hexadecimal.
fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes();
    // from_str_radix would accept a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Vec::new();
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect();
    bytes.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_that_is_not_hexadecimal_is_ignored() {
        assert_eq!(from_hex("00ff1a"), [0, 0xff, 0x1a]);
        assert!(from_hex("0").is_empty());
        assert!(from_hex("+1").is_empty());
        assert!(from_hex("zz").is_empty());
    }
}
