//! The memory of a Java virtual machine: its heap, the code cache, and the metadata of classes.
//!
//! HotSpot states where the heap and the code cache are. Where metadata is, follows from the
//! classes: each is in the class space or an archive, and its constants are in the other metaspace.
//! Both consist of chunks of 4 MiB since Java 16 (JEP 387), before of larger mappings. Not here:
//! what is resident.

use std::{collections::BTreeSet, ops::Range};

use super::{memory::Memory, process::Jvm};
use crate::{process::Mapping, runtime::RuntimeMemory};

/// The most class loaders, and classes of all of them, that are read.
const MAX_LOADERS: usize = 1 << 16;
const MAX_CLASSES: usize = 1 << 18;
/// The size of a root chunk of metadata, and its alignment.
const ROOT_CHUNK: u64 = 4 << 20;
/// The first release with such chunks.
const WITH_ROOT_CHUNKS: u32 = 16;
/// The largest heap.
const MAX_HEAP: u64 = 1 << 46;

/// Reads the memory of a virtual machine with these mappings.
pub fn read(jvm: &Jvm, mappings: &[Mapping]) -> RuntimeMemory {
    let mut memory = RuntimeMemory::default();
    if let Some(range) = heap(jvm) {
        memory.add("Java heap", range);
    }
    for heap in &jvm.heaps {
        memory.add("Java code cache", heap.range.clone());
    }
    for range in segment_maps(jvm).unwrap_or_default() {
        memory.add("Java code cache", range);
    }
    if let Some(range) = archive(jvm) {
        memory.add("Java class archive", range);
    }
    for range in metaspace(jvm, mappings) {
        memory.add("Java metaspace", range);
    }
    memory
}

/// The memory that is reserved for objects (`CollectedHeap::_reserved`); `None`: not stated, as by
/// the Z collector.
fn heap(jvm: &Jvm) -> Option<Range<u64>> {
    let (structs, memory) = (&jvm.structs, &jvm.memory);
    let heap = memory.pointer(structs.address(&["Universe._collectedHeap"])?)?;
    let region = heap.checked_add(structs.offset(&["CollectedHeap._reserved"])?)?;
    let start = memory.pointer(region.checked_add(structs.offset(&["MemRegion._start"])?)?)?;
    let words = memory.u64(region.checked_add(structs.offset(&["MemRegion._word_size"])?)?)?;
    let bytes = words.checked_mul(8).filter(|bytes| (1..MAX_HEAP).contains(bytes))?;
    Some(start..start.checked_add(bytes)?)
}

/// The tables of the code heaps.
fn segment_maps(jvm: &Jvm) -> Option<Vec<Range<u64>>> {
    let (structs, memory, layout) = (&jvm.structs, &jvm.memory, &jvm.layout.heap);
    let array = memory.pointer(structs.address(&["CodeCache._heaps"])?)?;
    let data = memory.pointer(array + structs.offset(&["GrowableArray<int>._data"])?)?;
    let map = |index: u64| {
        let map = memory.pointer(data + index * 8)?.checked_add(layout.segment_map)?;
        let (low, high) = (memory.pointer(map + layout.low)?, memory.pointer(map + layout.high)?);
        (low < high && high - low <= 1 << 30).then_some(low..high)
    };
    Some((0..jvm.heaps.len() as u64).filter_map(map).collect())
}

/// The archive of classes that the virtual machine maps at its start.
fn archive(jvm: &Jvm) -> Option<Range<u64>> {
    let word = |name: &str| jvm.memory.pointer(jvm.structs.address(&[name])?);
    let (base, top) =
        (word("MetaspaceObj._shared_metaspace_base")?, word("MetaspaceObj._shared_metaspace_top")?);
    (base < top && top - base <= 1 << 32).then_some(base..top)
}

/// The memory for the metadata of classes.
fn metaspace(jvm: &Jvm, mappings: &[Mapping]) -> Vec<Range<u64>> {
    let has_chunks = major(&jvm.release).is_some_and(|major| major >= WITH_ROOT_CHUNKS);
    let mut found = BTreeSet::new();
    for address in metadata(jvm) {
        if has_chunks {
            found.insert((address & !(ROOT_CHUNK - 1), (address & !(ROOT_CHUNK - 1)) + ROOT_CHUNK));
            continue;
        }
        let index = mappings.partition_point(|mapping| mapping.end.0 <= address);
        let mapping = mappings.get(index).filter(|mapping| mapping.start.0 <= address && mapping.inode == 0);
        found.extend(mapping.map(|mapping| (mapping.start.0, mapping.end.0)));
    }
    found.into_iter().map(|(start, end)| start..end).collect()
}

/// The 17 of `17.0.15+6-Debian`.
fn major(release: &str) -> Option<u32> {
    release.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Addresses of classes and of their constants, one in each page at most.
fn metadata(jvm: &Jvm) -> Vec<u64> {
    let (mut found, mut left) = (BTreeSet::new(), MAX_CLASSES);
    let Some(fields) = Fields::of(jvm) else { return Vec::new() };
    let mut loader = jvm.memory.pointer(fields.first);
    for _ in 0..MAX_LOADERS {
        let Some(at) = loader else { break };
        let mut class = at.checked_add(fields.classes).and_then(|at| jvm.memory.pointer(at));
        while let Some(at) = class.filter(|_| left > 0) {
            left -= 1;
            found.insert(at >> 12);
            found.extend(fields.constants_of(&jvm.memory, at).map(|constants| constants >> 12));
            class = at.checked_add(fields.next_class).and_then(|at| jvm.memory.pointer(at));
        }
        loader = at.checked_add(fields.next_loader).and_then(|at| jvm.memory.pointer(at));
    }
    found.into_iter().map(|page| page << 12).collect()
}

/// Where classes are listed.
struct Fields {
    first: u64,
    next_loader: u64,
    classes: u64,
    next_class: u64,
    constants: u64,
    holder: u64,
}

impl Fields {
    fn of(jvm: &Jvm) -> Option<Fields> {
        let structs = &jvm.structs;
        Some(Fields {
            first: structs.address(&["ClassLoaderDataGraph._head"])?,
            next_loader: structs.offset(&["ClassLoaderData._next"])?,
            classes: structs.offset(&["ClassLoaderData._klasses"])?,
            next_class: structs.offset(&["Klass._next_link"])?,
            constants: structs.offset(&["InstanceKlass._constants"])?,
            holder: structs.offset(&["ConstantPool._pool_holder"])?,
        })
    }

    /// The constants of a class, which refer back to it; `None`: it is the class of an array.
    fn constants_of(&self, memory: &Memory, class: u64) -> Option<u64> {
        let constants = memory.pointer(class.checked_add(self.constants)?)?;
        (memory.pointer(constants.checked_add(self.holder)?)? == class).then_some(constants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_a_number() {
        assert_eq!(
            (major("17.0.15+6-Debian-1deb12u1"), major("25+36"), major("x")),
            (Some(17), Some(25), None)
        );
    }
}
