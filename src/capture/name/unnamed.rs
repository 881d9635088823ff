//! The functions without a name that a capture met: where they begin, by the unwinding tables.
//!
//! Not here: their form in the profile (`profile::function_starts`).

use std::{collections::BTreeMap, sync::Arc};

use super::names::Names;
use crate::{
    addr::ElfAddr,
    capture::{
        collector::SourceId,
        watch::{
            images::{Image, ImageKind},
            window::Window,
        },
    },
    profile::function_starts,
    symbolize::hex,
};

/// Offsets in the file and sizes of functions, in bytes.
type Functions = Vec<(u64, u64)>;

/// The comments of a source's profile that list them, one per file.
pub fn comments((window, source): (&Window, SourceId), names: &Names) -> Vec<String> {
    let mut by_image: BTreeMap<u64, (Arc<Image>, Functions)> = BTreeMap::new();
    let all = window.collector.places();
    let used = window.collector.counts(source).used(all.len());
    let places = all.iter().zip(&names.frames).zip(used);
    for ((place, _), _) in places.filter(|((_, frames), is_used)| *is_used && frames.is_empty()) {
        let placement = window.placements.get(place.mapping);
        let image = &placement.image;
        let Some(tables) = image.tables.as_ref().filter(|_| image.kind == ImageKind::File) else { continue };
        let address = ElfAddr(place.address.wrapping_sub(placement.bias));
        let Some((start, size)) = tables.described_function(address) else { continue };
        let in_memory = start.0.wrapping_add(placement.bias);
        let offset = in_memory.wrapping_sub(placement.start.0).wrapping_add(placement.file_offset);
        let (_, functions) =
            by_image.entry(image.uid).or_insert_with(|| (Arc::clone(image), Functions::new()));
        functions.push((offset, size));
    }
    let comment = |(image, functions): (Arc<Image>, Functions)| {
        let build_id = hex(image.elf.as_ref().and_then(|elf| elf.build_id()).unwrap_or_default());
        function_starts::comment(&build_id, &image.path, &functions)
    };
    by_image.into_values().map(comment).collect()
}
