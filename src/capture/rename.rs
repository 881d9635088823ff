//! Names what a finished profile left unnamed, with files that were not at hand when it was made.
//!
//! Not here: naming while capturing (see `finish`).

use std::path::Path;

use crate::{
    issue::{Issue, Issues},
    profile::{
        amend::{Amender, NamedLine},
        proto::{Mapping, Profile},
    },
    symbolize::{StoredMapping, SymbolizeOptions, elf_address, find_stored, symbolize_module},
};

/// How it went.
#[derive(Debug)]
pub struct Renamed {
    pub profile: Profile,
    /// Locations that had no name, and how many of them have one now.
    pub unnamed_before: usize,
    pub named: usize,
    pub issues: Issues,
}

/// Names the unnamed locations of `profile`; those that have names keep them.
pub fn rename(profile: Profile, options: &SymbolizeOptions) -> Renamed {
    let mut issues = Issues::default();
    let unnamed_before = profile.location.iter().filter(|location| location.line.is_empty()).count();
    let mappings = profile.mapping.clone();
    let mut amender = Amender::new(profile);
    let named =
        mappings.iter().map(|mapping| name_mapping(&mut amender, mapping, options, &mut issues)).sum();
    let share = share_unnamed(amender.profile());
    amender.replace_comment("unnamed:", &format!("unnamed: {:.2}% of frames", share * 100.0));
    Renamed { profile: amender.finish(), unnamed_before, named, issues }
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
    let Some(files) = find_stored(&stored, options) else {
        issues.add(Issue::UnnamedFrames { file: path, build_id }, places.len() as u64);
        return 0;
    };
    let (indexes, addresses): (Vec<usize>, Vec<_>) = places
        .into_iter()
        .filter_map(|(index, address)| Some((index, elf_address(&files.file, &stored, address)?)))
        .unzip();
    let answer = symbolize_module(&files, &addresses, options);
    let mut named = 0;
    for (index, symbolized) in indexes.into_iter().zip(&answer.addresses) {
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
    issues.add(Issue::UnnamedFrames { file: path, build_id }, (answer.addresses.len() - named) as u64);
    named
}

/// The share of all frames, weighted by how often they were seen, that have no name.
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

/// The bytes of a build-id; empty if it is not hexadecimal.
fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes();
    // from_str_radix would take a sign.
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
    fn a_build_id_is_read_from_hexadecimal_or_not_at_all() {
        assert_eq!(from_hex("00ff1a"), [0, 0xff, 0x1a]);
        assert!(from_hex("0").is_empty());
        assert!(from_hex("+1").is_empty());
        assert!(from_hex("zz").is_empty());
    }
}
