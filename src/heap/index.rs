//! All chunks in use of a census, by address: 20 bytes for each.

use super::{Chunk, type_name::TypeId};

/// The most chunks that are kept.
const MAX_CHUNKS: usize = 16 << 20;
/// The most ranges of chunks without a gap.
const MAX_RANGES: usize = 1 << 20;

/// The number of a chunk in an [`Index`].
pub type ChunkId = u32;

/// The chunks in use, and the memory that belongs to the allocator.
#[derive(Debug, Default)]
pub struct Index {
    /// What malloc returned, ascending once [`Index::finish`] was called.
    addresses: Vec<u64>,
    /// Bytes that the program may use, in units of 8.
    sizes: Vec<u32>,
    types: Vec<TypeId>,
    /// Ranges of chunks of any state, from header to header.
    ranges: Vec<(u64, u64)>,
    /// Chunks that are missing: there were too many, or the allocator does not list them.
    pub missing: u64,
}

/// Bytes between the header of a chunk and its content, at most.
const HEADER: u64 = 16;

impl Index {
    /// Adds a chunk of any state.
    pub fn add(&mut self, chunk: &Chunk, of_type: TypeId) {
        if chunk.count != 1 || self.addresses.len() >= MAX_CHUNKS {
            self.missing += chunk.count;
            return;
        }
        let start = chunk.address.saturating_sub(HEADER);
        let end = start.saturating_add(chunk.size);
        let has_room = self.ranges.len() < MAX_RANGES;
        match self.ranges.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ if has_room => self.ranges.push((start, end)),
            _ => {}
        }
        if chunk.state.is_in_use() {
            self.addresses.push(chunk.address);
            self.sizes.push(u32::try_from(chunk.usable / 8).unwrap_or(u32::MAX));
            self.types.push(of_type);
        }
    }

    /// Orders the chunks by address.
    pub fn finish(&mut self) {
        self.ranges.sort_unstable();
        if self.addresses.is_sorted() {
            return;
        }
        let mut order: Vec<u32> = (0..self.addresses.len() as u32).collect();
        order.sort_unstable_by_key(|at| self.addresses[*at as usize]);
        self.addresses = order.iter().map(|at| self.addresses[*at as usize]).collect();
        self.sizes = order.iter().map(|at| self.sizes[*at as usize]).collect();
        self.types = order.iter().map(|at| self.types[*at as usize]).collect();
    }

    /// The number of chunks.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there are no chunks.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// The chunk whose content holds this address, at its start or inside.
    pub fn find(&self, address: u64) -> Option<ChunkId> {
        let (first, last) = (*self.addresses.first()?, *self.addresses.last()?);
        if address < first || address > last + (1 << 40) {
            return None;
        }
        let at = self.addresses.partition_point(|start| *start <= address).checked_sub(1)?;
        let (start, size) = self.content(at as ChunkId);
        (address - start < size.max(1)).then_some(at as ChunkId)
    }

    /// The address and the usable bytes of a chunk.
    pub fn content(&self, chunk: ChunkId) -> (u64, u64) {
        (self.addresses[chunk as usize], u64::from(self.sizes[chunk as usize]) * 8)
    }

    /// The type of a chunk.
    pub fn of_type(&self, chunk: ChunkId) -> TypeId {
        self.types[chunk as usize]
    }

    /// What is left of the range from `start` to `end` without the memory of the allocator.
    pub fn outside(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let (mut at, mut left) = (start, Vec::new());
        let first = self.ranges.partition_point(|(_, range_end)| *range_end <= start);
        for (range_start, range_end) in self.ranges[first..].iter().take_while(|(from, _)| *from < end) {
            if at < *range_start {
                left.push((at, *range_start));
            }
            at = at.max(*range_end);
        }
        if at < end {
            left.push((at, end));
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    fn chunk(address: u64, size: u64, state: State) -> Chunk {
        Chunk { address, size, usable: size - 8, state, arena: 0, count: 1 }
    }

    #[test]
    fn interior_pointers_find_their_chunk_and_the_rest_is_outside() {
        let mut index = Index::default();
        index.add(&chunk(0x5010, 0x1000, State::Mapped), 0);
        index.add(&chunk(0x1010, 0x20, State::InUse), 1);
        index.add(&chunk(0x1030, 0x40, State::Free), 0);
        index.add(&chunk(0x1070, 0x20, State::InUse), 2);
        index.finish();
        let found = [0x100f, 0x1010, 0x1027, 0x1028, 0x1030, 0x1078, 0x5fff].map(|at| index.find(at));
        assert_eq!(found, [None, Some(0), Some(0), None, None, Some(1), Some(2)]);
        assert_eq!((index.of_type(1), index.content(0)), (2, (0x1010, 0x18)));
        assert_eq!(index.outside(0, 0x6000), [(0, 0x1000), (0x1080, 0x5000)]);
    }
}
