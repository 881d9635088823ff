//! Memory that is not a process's: pieces of bytes at addresses. Tests and the fuzzer walk heaps in
//! it.

use super::{Memory, Present, memory::PAGE};

/// Pieces of memory.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Ordered by address; they do not overlap.
    pieces: Vec<(u64, Vec<u8>)>,
    /// Pages that are not present.
    hidden: Vec<(u64, Present)>,
}

impl Image {
    /// Adds bytes at an address. Pieces must not overlap.
    pub fn add(&mut self, address: u64, bytes: Vec<u8>) {
        let at = self.pieces.partition_point(|(start, _)| *start < address);
        self.pieces.insert(at, (address, bytes));
    }

    /// States that a page is not present.
    pub fn hide(&mut self, page: u64, kind: Present) {
        self.hidden.push((page, kind));
    }

    /// Replaces the word at `address`, which must be in a piece.
    pub fn set(&mut self, address: u64, word: u64) {
        let at = self.pieces.partition_point(|(start, _)| *start <= address).saturating_sub(1);
        if let Some((start, bytes)) = self.pieces.get_mut(at)
            && let Some(place) = bytes.get_mut((address - *start) as usize..)
            && let Some(place) = place.first_chunk_mut::<8>()
        {
            *place = word.to_le_bytes();
        }
    }
}

impl Memory for Image {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let index = self.pieces.partition_point(|(start, _)| *start <= at);
            let Some((start, bytes)) = index.checked_sub(1).map(|index| &self.pieces[index]) else { break };
            let rest = usize::try_from(at - start).ok().and_then(|offset| bytes.get(offset..));
            let rest = rest.unwrap_or_default();
            let count = rest.len().min(buffer.len() - done);
            if count == 0 {
                break;
            }
            buffer[done..done + count].copy_from_slice(&rest[..count]);
            done += count;
        }
        done
    }

    fn pages(&self, address: u64, pages: &mut [Present]) -> bool {
        for (at, page) in pages.iter_mut().enumerate() {
            let own = (address & !(PAGE - 1)) + at as u64 * PAGE;
            let hidden = self.hidden.iter().find(|(hidden, _)| *hidden == own);
            *page = hidden.map_or(Present::Yes, |(_, kind)| *kind);
        }
        true
    }
}
