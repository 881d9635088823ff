//! The pages of V8's heaps: aligned to 256 KiB, each begins with a header that states its size, its
//! area for objects, how much of that is allocated, and the heap and space that own it
//! (`MemoryChunk`, from V8 13 on `MutablePageMetadata` in memory of its own).
//!
//! A page counts only if its header agrees with itself and its space refers back to the same heap.
//! Not here: objects.

use std::collections::BTreeSet;

use crate::{
    addr::RuntimeAddr,
    process::{Mapping, ProcessMemory},
    runtime::{MemoryFigure, RuntimeMemory},
};

/// The part's name.
const PART: &str = "V8 heap";
/// Pages begin at multiples of this.
const ALIGNMENT: u64 = 256 << 10;
/// The most places that are looked at: 64 GiB of mappings.
const MAX_PLACES: u64 = 1 << 18;
/// The largest page, of one large object.
const MAX_PAGE: u64 = 1 << 36;
/// Words of a header that are read.
const WORDS: usize = 14;

/// Where a header has what, in words.
struct Form {
    /// The header's own address, where it states that.
    own: Option<usize>,
    size: usize,
    heap: usize,
    area: (usize, usize),
    allocated: usize,
    owner: usize,
}

/// The headers of V8 10 to 11.x, 12 to 12.x, and from 13 on (sizes of `tools` of Node.js 20 to 26).
const FORMS: [Form; 3] = [
    Form { own: None, size: 0, heap: 2, area: (3, 4), allocated: 5, owner: 8 },
    Form { own: Some(1), size: 2, heap: 3, area: (4, 5), allocated: 6, owner: 9 },
    Form { own: Some(1), size: 2, heap: 8, area: (9, 7), allocated: 3, owner: 10 },
];

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its address.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of objects, dead ones included.
    pub allocated: u64,
    /// The heap: each isolate has one.
    pub heap: u64,
}

/// The memory of all heaps in a process.
pub fn memory(memory: &ProcessMemory, mappings: &[Mapping]) -> RuntimeMemory {
    let pages = find(memory, mappings);
    let mut found = RuntimeMemory::default();
    pages.iter().for_each(|page| found.add(PART, page.start..page.start + page.size));
    if !pages.is_empty() {
        let sum = |bytes: fn(&Page) -> u64| pages.iter().map(bytes).sum();
        found.figures = vec![
            MemoryFigure { name: "V8 heap committed", bytes: sum(|page| page.size) },
            MemoryFigure { name: "V8 heap allocated", bytes: sum(|page| page.allocated) },
        ];
    }
    found
}

/// The pages in anonymous mappings.
pub fn find(memory: &ProcessMemory, mappings: &[Mapping]) -> Vec<Page> {
    let (mut pages, mut left, mut owners) = (Vec::new(), MAX_PLACES, BTreeSet::new());
    for mapping in mappings.iter().filter(|mapping| mapping.readable && mapping.inode == 0) {
        let mut at = mapping.start.0.next_multiple_of(ALIGNMENT);
        while at < mapping.end.0 && left > 0 {
            left -= 1;
            let page = page_at(memory, at, &mut owners);
            pages.extend(page);
            at += page.map_or(ALIGNMENT, |page| page.size.next_multiple_of(ALIGNMENT));
        }
    }
    pages
}

/// The page at a multiple of [`ALIGNMENT`]. `owners`: spaces that refer to their heap.
fn page_at(memory: &ProcessMemory, at: u64, owners: &mut BTreeSet<(u64, u64)>) -> Option<Page> {
    let header = words(memory, at)?;
    let [old, middle, new] = &FORMS;
    let apart = header[1] != at && header[1] > 0x1000 && header[1].is_multiple_of(8);
    let found = match apart.then(|| words(memory, header[1])).flatten() {
        Some(metadata) => new.page(at, &metadata).or_else(|| old.page(at, &header)),
        None => middle.page(at, &header).or_else(|| old.page(at, &header)),
    };
    let (page, owner) = found?;
    // `BaseSpace` has its heap after its table of functions.
    let is_known = owners.contains(&(owner, page.heap))
        || memory.read_word(RuntimeAddr(owner.checked_add(8)?)) == Some(page.heap);
    if is_known {
        owners.insert((owner, page.heap));
    }
    is_known.then_some(page)
}

fn words(memory: &ProcessMemory, at: u64) -> Option<[u64; WORDS]> {
    let mut bytes = [0; WORDS * 8];
    let words = memory.read_exact(RuntimeAddr(at), &mut bytes).then_some(bytes.as_chunks::<8>().0)?;
    Some(std::array::from_fn(|index| u64::from_le_bytes(words[index])))
}

impl Form {
    /// The page that a header describes, and the space that owns it.
    fn page(&self, at: u64, header: &[u64; WORDS]) -> Option<(Page, u64)> {
        let (size, heap, owner) = (header[self.size], header[self.heap], header[self.owner]);
        let (area, end) = (header[self.area.0], header[self.area.1]);
        let is_pointer = |word: u64| word > 0x1000 && word < 1 << 47 && word.is_multiple_of(8);
        let is_page = self.own.is_none_or(|own| header[own] == at)
            && size.is_multiple_of(4096)
            && (4096..MAX_PAGE).contains(&size)
            && at < area
            && area < end
            && end <= at + size
            && header[self.allocated] <= size
            && is_pointer(heap)
            && is_pointer(owner);
        is_page.then_some((Page { start: at, size, allocated: header[self.allocated], heap }, owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 256 << 20;
    const HEAP: u64 = AT + 0x800;
    const OWNER: u64 = AT + 0x400;

    /// A page at `AT`, with a space in it that refers to a heap.
    fn image(words: &[(u64, u64)]) -> ProcessMemory {
        let mut bytes = vec![0; 4096];
        for (at, word) in words.iter().chain(&[(OWNER + 8, HEAP)]) {
            let at = (at - AT) as usize;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        ProcessMemory::of_image(RuntimeAddr(AT), bytes)
    }

    fn found(words: &[(u64, u64)]) -> Option<u64> {
        page_at(&image(words), AT, &mut BTreeSet::new()).map(|page| page.allocated)
    }

    #[test]
    fn the_headers_of_all_releases_are_read() {
        let size = 256 << 10;
        let words = |base: u64, form: &Form| {
            let word = |index: usize, value: u64| (base + index as u64 * 8, value);
            vec![
                word(form.size, size),
                word(form.heap, HEAP),
                word(form.area.0, AT + 0x110),
                word(form.area.1, AT + size),
                word(form.allocated, 1234),
                word(form.owner, OWNER),
            ]
        };
        let [old, middle, new] = &FORMS;
        let own = |base: u64| [(base + 8, AT)];
        assert_eq!(found(&words(AT, old)), Some(1234));
        assert_eq!(found(&[&own(AT)[..], &words(AT, middle)].concat()), Some(1234));
        let metadata = AT + 0x200;
        let apart = [&[(AT + 8, metadata)][..], &own(metadata), &words(metadata, new)].concat();
        assert_eq!(found(&apart), Some(1234));
    }

    #[test]
    fn a_page_with_a_wrong_owner_does_not_make_the_next_one_right() {
        let size = 256 << 10;
        let bad =
            [(AT, size), (AT + 16, HEAP + 8), (AT + 24, AT + 0x110), (AT + 32, AT + size), (AT + 64, OWNER)];
        let (memory, mut owners) = (image(&bad), BTreeSet::new());
        assert!(page_at(&memory, AT, &mut owners).is_none());
        assert!(page_at(&memory, AT, &mut owners).is_none());
        assert!(owners.is_empty());
    }

    #[test]
    fn a_header_that_contradicts_itself_is_no_page() {
        let size = 256 << 10;
        let good =
            [(AT, size), (AT + 16, HEAP), (AT + 24, AT + 0x110), (AT + 32, AT + size), (AT + 64, OWNER)];
        assert_eq!(found(&good), Some(0));
        for bad in
            [(AT, size + 1), (AT + 16, HEAP + 8), (AT + 24, AT - 8), (AT + 32, AT + size + 8), (AT + 64, 7)]
        {
            let words: Vec<_> = good.iter().copied().chain([bad]).collect();
            assert_eq!(found(&words), None, "{bad:x?}");
        }
    }
}
