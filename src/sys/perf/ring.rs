//! The ring that the kernel writes records into, read in place.
//!
//! A ring is a control page and a power of two of data bytes. The kernel advances `data_head` after
//! writing, the reader advances `data_tail` after reading. The kernel never overwrites the bytes
//! between the two; it drops records instead. Not here: the content of records.

use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use perf_event_open_sys::bindings::perf_event_mmap_page;

use super::{
    error::PerfError,
    event::Event,
    record::{HEADER_BYTES, RawRecord},
};

/// A mapped ring.
#[derive(Debug)]
pub struct Ring {
    map: MmapRaw,
    /// Offset of the data in the map, and their length (a power of two).
    data_offset: usize,
    data_bytes: usize,
    /// The readable bytes, as running counts: `tail..head`.
    tail: u64,
    head: u64,
    /// A record that wraps around the end, joined, and the `tail` of its position.
    wrapped: Vec<u8>,
    wrapped_at: Option<u64>,
    corrupt: bool,
}

/// The position of the oldest record.
struct Extent {
    start: usize,
    length: usize,
}

impl Ring {
    /// Maps a ring for an event; `data_bytes` is rounded up to a power of two of pages. Errors:
    /// [`PerfError::LockedMemory`] when this user may not lock so much.
    pub fn map(event: &Event, data_bytes: usize) -> Result<Ring, PerfError> {
        let page_bytes = page_bytes();
        let data_bytes = data_bytes.max(page_bytes).next_power_of_two();
        let map = MmapOptions::new()
            .len(page_bytes + data_bytes)
            .map_raw(std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(event)))
            .map_err(|source| PerfError::from_map(source, data_bytes))?;
        Ok(Ring::over(map, page_bytes, data_bytes))
    }

    fn over(map: MmapRaw, data_offset: usize, data_bytes: usize) -> Ring {
        assert!(data_bytes.is_power_of_two() && map.len() >= data_offset + data_bytes);
        assert!(data_offset >= size_of::<perf_event_mmap_page>());
        let (wrapped, wrapped_at) = (Vec::new(), None);
        Ring { map, data_offset, data_bytes, tail: 0, head: 0, wrapped, wrapped_at, corrupt: false }
    }

    /// How many bytes of records fit.
    pub fn capacity_bytes(&self) -> usize {
        self.data_bytes
    }

    /// How many bytes of unread records are known.
    pub fn waiting_bytes(&self) -> usize {
        self.head.wrapping_sub(self.tail) as usize
    }

    /// Checks for new records and returns how many bytes are unread now.
    pub fn refresh(&mut self) -> usize {
        // What the kernel wrote before it moved the head is visible after this.
        self.head = self.data_head().load(Ordering::Acquire);
        if self.head.wrapping_sub(self.tail) > self.data_bytes as u64 {
            self.discard();
        }
        self.waiting_bytes()
    }

    /// The oldest unread record, if one is known (see [`Ring::refresh`]): in place, or joined if it
    /// wraps around the end.
    pub fn peek(&mut self) -> Option<RawRecord<'_>> {
        let extent = self.extent()?;
        if extent.start + extent.length <= self.data_bytes {
            return RawRecord::new(self.readable(extent.start, extent.length));
        }
        if self.wrapped_at != Some(self.tail) {
            let mut wrapped = std::mem::take(&mut self.wrapped);
            let until_end = self.data_bytes - extent.start;
            wrapped.clear();
            wrapped.extend_from_slice(self.readable(extent.start, until_end));
            wrapped.extend_from_slice(self.readable(0, extent.length - until_end));
            self.wrapped = wrapped;
            self.wrapped_at = Some(self.tail);
        }
        RawRecord::new(&self.wrapped)
    }

    /// When the oldest unread record was written (CLOCK_MONOTONIC, nanoseconds); 0 for a record
    /// without a time, so that it is read first.
    pub fn oldest_time_ns(&mut self) -> Option<u64> {
        Some(self.peek()?.id().map_or(0, |id| id.time_ns))
    }

    /// Releases the space of the oldest record to the kernel.
    pub fn consume(&mut self) {
        if let Some(extent) = self.extent() {
            self.tail = self.tail.wrapping_add(extent.length as u64);
            self.publish_tail();
        }
    }

    /// Whether the ring was found inconsistent since the last call; its unread records were dropped
    /// then.
    pub fn take_corrupt(&mut self) -> bool {
        std::mem::take(&mut self.corrupt)
    }

    /// The extent of the oldest record, if its header makes sense.
    fn extent(&mut self) -> Option<Extent> {
        let waiting = self.waiting_bytes();
        if waiting == 0 {
            return None;
        }
        let start = (self.tail & (self.data_bytes as u64 - 1)) as usize;
        // Records are multiples of 8 bytes, so that a header never wraps.
        let header =
            (waiting >= HEADER_BYTES && start.is_multiple_of(8)).then(|| self.readable(start, HEADER_BYTES));
        let length = header.map_or(0, |header| usize::from(u16::from_ne_bytes([header[6], header[7]])));
        if length < HEADER_BYTES || !length.is_multiple_of(8) || length > waiting {
            self.discard();
            return None;
        }
        Some(Extent { start, length })
    }

    fn discard(&mut self) {
        self.corrupt = true;
        self.tail = self.head;
        self.publish_tail();
    }

    /// Bytes of the data, which must be among those that wait.
    fn readable(&self, start: usize, length: usize) -> &[u8] {
        assert!(start <= self.data_bytes && length <= self.data_bytes - start);
        // SAFETY: within the map, by the assertion above and the one in `over`. The kernel does not
        // write between tail and head, and callers ask only for bytes there; the tail moves only
        // through `&mut self`, when no such slice is borrowed.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.data_offset + start), length) }
    }

    fn publish_tail(&self) {
        // Our reads are done before the kernel sees the room as free.
        self.data_tail().store(self.tail, Ordering::Release);
    }

    fn data_head(&self) -> &AtomicU64 {
        self.counter(std::mem::offset_of!(perf_event_mmap_page, data_head))
    }

    fn data_tail(&self) -> &AtomicU64 {
        self.counter(std::mem::offset_of!(perf_event_mmap_page, data_tail))
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: a u64 of the bookkeeping page, which is mapped read-write as long as `self` lives
        // and is aligned to 8; the kernel, too, accesses it as one word.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }
}

/// The size of a page of memory.
fn page_bytes() -> usize {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA_BYTES: usize = 4096;

    fn ring() -> Ring {
        let map = MmapOptions::new().len(4096 + DATA_BYTES).map_anon().expect("memory");
        Ring::over(MmapRaw::from(map), 4096, DATA_BYTES)
    }

    /// Writes as the kernel does.
    fn write(ring: &Ring, bytes: &[u8]) {
        let head = ring.data_head().load(Ordering::Relaxed);
        for (index, byte) in bytes.iter().enumerate() {
            let at = (head as usize + index) % DATA_BYTES;
            // SAFETY: inside the map, in the part that no slice is borrowed from.
            unsafe { ring.map.as_mut_ptr().add(ring.data_offset + at).write(*byte) };
        }
        ring.data_head().store(head + bytes.len() as u64, Ordering::Release);
    }

    fn record(length: u16, fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; usize::from(length)];
        bytes[..4].copy_from_slice(&9u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&0u16.to_ne_bytes());
        bytes[6..8].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn records_come_out_whole_in_order_also_around_the_end() {
        let mut ring = ring();
        for round in 0..100u8 {
            write(&ring, &record(1000, round));
            write(&ring, &record(48, round));
            assert_eq!(ring.refresh(), 1048);
            for length in [1000, 48] {
                let raw = ring.peek().expect("record");
                assert_eq!(raw.body().len(), length - HEADER_BYTES);
                assert!(raw.body().iter().all(|byte| *byte == round));
                ring.consume();
            }
            assert!(ring.peek().is_none());
        }
        assert_eq!(ring.data_tail().load(Ordering::Relaxed), 100 * 1048);
        assert!(!ring.take_corrupt());
    }

    #[test]
    fn an_unread_record_is_the_same_at_each_peek() {
        let mut ring = ring();
        write(&ring, &record(4000, 1));
        ring.refresh();
        ring.consume();
        write(&ring, &record(800, 2));
        ring.refresh();
        for _ in 0..3 {
            assert!(ring.peek().expect("record").body().iter().all(|byte| *byte == 2));
        }
    }

    #[test]
    fn impossible_lengths_are_dropped_and_reported() {
        for length in [0u16, 4, 7, 12, 4000] {
            let mut ring = ring();
            let mut bytes = record(64, 0);
            bytes[6..8].copy_from_slice(&length.to_ne_bytes());
            write(&ring, &bytes);
            ring.refresh();
            assert!(ring.peek().is_none(), "{length}");
            assert!(ring.take_corrupt());
            write(&ring, &record(64, 3));
            ring.refresh();
            assert!(ring.peek().is_some());
        }
    }

    #[test]
    fn a_head_beyond_the_capacity_is_dropped() {
        let mut ring = ring();
        ring.data_head().store(1 << 40, Ordering::Release);
        assert_eq!(ring.refresh(), 0);
        assert!(ring.take_corrupt());
    }
}
