//! The functions without a name that a capture met: where they begin, by the unwinding tables.
//!
//! Not here: their form in the profile (`profile::function_starts`).

use std::collections::BTreeMap;

use super::{
    super::watch::{images::ImageKind, world::World},
    names::Names,
};
use crate::{addr::ElfAddr, profile::function_starts, symbolize::hex};

/// The comments of the profile that list them, one per file.
pub fn comments(world: &World, names: &Names) -> Vec<String> {
    let mut by_image: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    let places = world.collector.places().iter().zip(&names.frames);
    for (place, _) in places.filter(|(_, frames)| frames.is_empty()) {
        let placement = world.images.placement(place.mapping);
        let image = world.images.image(placement.image);
        let Some(tables) = image.tables.as_ref().filter(|_| image.kind == ImageKind::File) else { continue };
        let address = ElfAddr(place.address.wrapping_sub(placement.bias));
        let Some((start, size)) = tables.described_function(address) else { continue };
        let in_memory = start.0.wrapping_add(placement.bias);
        let offset = in_memory.wrapping_sub(placement.start.0).wrapping_add(placement.file_offset);
        by_image.entry(placement.image).or_default().push((offset, size));
    }
    let comment = |(image, functions): (u32, Vec<(u64, u64)>)| {
        let image = world.images.image(image);
        let build_id = hex(image.elf.as_ref().and_then(|elf| elf.build_id()).unwrap_or_default());
        function_starts::comment(&build_id, &image.path, &functions)
    };
    by_image.into_iter().map(comment).collect()
}
