//! Copies of the pages of a process's memory that were read last.
//!
//! For reading very many small objects that lie side by side, such as the tasks of an event loop: a
//! system call a page is ten times cheaper than one a word.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Bytes of a copied page.
const PAGE: usize = 4096;
/// Places for copies; a page has one place that it may take.
const PLACES: usize = 1 << 10;
/// How old a copy may be. What refers to each other is read within this time, as without copies.
const MAX_AGE: Duration = Duration::from_millis(10);

/// Copies of pages, at most 4 MiB.
#[derive(Debug)]
pub struct RecentPages(Mutex<Vec<Option<Page>>>);

#[derive(Debug)]
struct Page {
    start: u64,
    read_at: Instant,
    bytes: Box<[u8; PAGE]>,
}

impl RecentPages {
    /// No copies.
    pub fn new() -> RecentPages {
        RecentPages(Mutex::new((0..PLACES).map(|_| None).collect()))
    }

    /// Copies memory from `address` on into `buffer`; `false`: not all of it is in pages that
    /// `read` can read completely. `read` gets the start of a page.
    pub fn read(
        &self,
        address: u64,
        buffer: &mut [u8],
        mut read: impl FnMut(u64, &mut [u8]) -> bool,
    ) -> bool {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut rest) = (address, buffer);
        while !rest.is_empty() {
            let offset = (at % PAGE as u64) as usize;
            let count = rest.len().min(PAGE - offset);
            let (now, later) = rest.split_at_mut(count);
            let Some(page) = page(&mut places, at - offset as u64, &mut read) else { return false };
            now.copy_from_slice(&page.bytes[offset..offset + count]);
            let Some(next) = at.checked_add(count as u64) else { return later.is_empty() };
            (at, rest) = (next, later);
        }
        true
    }
}

fn page<'a>(
    places: &'a mut [Option<Page>],
    start: u64,
    read: &mut impl FnMut(u64, &mut [u8]) -> bool,
) -> Option<&'a Page> {
    let place = &mut places[(start / PAGE as u64) as usize % PLACES];
    let is_fresh = place.as_ref().is_some_and(|page| page.start == start && page.read_at.elapsed() < MAX_AGE);
    if !is_fresh {
        let mut page = place.take().unwrap_or_else(|| Page {
            start,
            read_at: Instant::now(),
            bytes: Box::new([0; PAGE]),
        });
        (page.start, page.read_at) = (start, Instant::now());
        *place = read(start, &mut page.bytes[..]).then_some(page);
    }
    place.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_once_for_many_words_and_again_when_its_copy_is_old() {
        let pages = RecentPages::new();
        let mut reads = Vec::new();
        let mut word = |address: u64| {
            let mut bytes = [0; 8];
            let whole = pages.read(address, &mut bytes, |start, page| {
                reads.push(start);
                page.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
                start < 0x9000
            });
            whole.then_some(bytes)
        };
        assert_eq!(word(0x1010), Some([16, 17, 18, 19, 20, 21, 22, 23]));
        assert_eq!(word(0x1ffc), Some([252, 253, 254, 255, 0, 1, 2, 3]), "over the end of a page");
        assert_eq!(word(0x8ffc), None, "the second page cannot be read");
        std::thread::sleep(MAX_AGE);
        assert!(word(0x1010).is_some());
        assert_eq!(reads, [0x1000, 0x2000, 0x8000, 0x9000, 0x1000]);
    }
}
