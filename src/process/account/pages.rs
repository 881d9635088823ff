//! Which pages of a range are resident: /proc/PID/pagemap (kernel document admin-guide/mm/pagemap).
//!
//! Not here: which page frames they are, which needs more rights.

use std::{fs::File, ops::Range, os::unix::fs::FileExt};

const PAGE: u64 = 4096;
/// Bits of an entry.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;
/// The most pages that are read for one process: 32 GiB.
const MAX_PAGES: u64 = 8 << 20;

/// The pages of a process.
#[derive(Debug)]
pub struct Pages {
    file: Option<File>,
    left: u64,
}

impl Pages {
    /// The pages of the process `pid`.
    pub fn of(pid: u32) -> Pages {
        Pages { file: File::open(format!("/proc/{pid}/pagemap")).ok(), left: MAX_PAGES }
    }

    /// The resident and the swapped bytes of a range; `None`: they cannot be read, or too much has
    /// been read already.
    pub fn count(&mut self, range: &Range<u64>) -> Option<(u64, u64)> {
        let file = self.file.as_ref()?;
        let (mut page, end) = (range.start / PAGE, range.end.div_ceil(PAGE));
        self.left = self.left.checked_sub(end - page)?;
        let (mut present, mut swapped, mut buffer) = (0, 0, vec![0; CHUNK]);
        while page < end {
            let length = CHUNK.min(usize::try_from((end - page) * 8).ok()?);
            let count = file.read_at(&mut buffer[..length], page * 8).ok().filter(|count| *count >= 8)?;
            for entry in buffer[..count].as_chunks::<8>().0 {
                let entry = u64::from_le_bytes(*entry);
                present += u64::from(entry & PRESENT != 0);
                swapped += u64::from(entry & SWAPPED != 0);
            }
            page += count as u64 / 8;
        }
        Some((present * PAGE, swapped * PAGE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_were_written_are_resident() {
        let block = vec![7u8; 1 << 20];
        let start = (block.as_ptr() as u64).next_multiple_of(PAGE);
        let mut pages = Pages::of(std::process::id());
        assert_eq!(pages.count(&(start..start + (512 << 10))), Some((512 << 10, 0)));
        assert_eq!(pages.count(&(0..1 << 46)), None);
        assert_eq!(block[9], 7);
    }
}
