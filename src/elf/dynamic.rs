//! The dynamic symbols of a file without section headers, found as the dynamic linker finds them:
//! through `PT_DYNAMIC` (System V ABI, chapter 5, "Dynamic Section"; its hash tables give the
//! number of symbols).
//!
//! Not here: what a symbol is.

use goblin::elf::dynamic as dt;

use super::{ElfFile, FileOffset};
use crate::addr::ElfAddr;

/// `sizeof(Elf64_Sym)`.
pub(super) const ENTRY_BYTES: usize = 24;

/// Most buckets of a hash table that are read; each is four bytes.
const MAX_BUCKETS: usize = 1 << 22;

/// The bytes of the dynamic symbol table, and those of its names.
pub(super) fn symbols(elf: &ElfFile) -> Option<(&[u8], &[u8])> {
    let dynamic = elf.dynamic?;
    let entries = elf.range(FileOffset(dynamic.file_offset.0), dynamic.file_size)?.as_chunks::<16>().0;
    let value = |tag: u64| {
        let found = entries.iter().map(words).take_while(|(tag, _)| *tag != dt::DT_NULL);
        found.into_iter().find(|(found, _)| *found == tag).map(|(_, value)| value)
    };
    let table = elf.bytes_from(ElfAddr(value(dt::DT_SYMTAB)?))?;
    let names = elf.bytes_from(ElfAddr(value(dt::DT_STRTAB)?))?;
    let names = names.get(..usize::try_from(value(dt::DT_STRSZ)?).ok()?)?;
    let count = match (value(dt::DT_GNU_HASH), value(dt::DT_HASH)) {
        (Some(hash), _) => count_by_gnu_hash(elf.bytes_from(ElfAddr(hash))?)?,
        (None, Some(hash)) => word(elf.bytes_from(ElfAddr(hash))?, 1)? as usize,
        (None, None) => return None,
    };
    Some((table.get(..count.checked_mul(ENTRY_BYTES)?)?, names))
}

fn words(entry: &[u8; 16]) -> (u64, u64) {
    let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| entry[at + byte]));
    (half(0), half(8))
}

/// The 32-bit word with this index.
fn word(bytes: &[u8], index: usize) -> Option<u32> {
    bytes.get(index.checked_mul(4)?..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

/// One more than the highest index in the chains of `DT_GNU_HASH`: a header of four words (buckets,
/// first symbol, size of the Bloom filter in 64-bit words, shift), the filter, the buckets, and a
/// word for each symbol from the first on, whose lowest bit marks the end of a chain.
fn count_by_gnu_hash(table: &[u8]) -> Option<usize> {
    let [buckets, first, filter] = [0, 1, 2].map(|index| word(table, index).map(|word| word as usize));
    let (buckets, first, filter) = (buckets?, first?, filter?);
    if buckets > MAX_BUCKETS {
        return None;
    }
    let bucket_at = filter.checked_mul(2)?.checked_add(4)?;
    let highest = (0..buckets).filter_map(|bucket| word(table, bucket_at + bucket)).max()? as usize;
    if highest < first {
        return Some(first);
    }
    let chains = bucket_at + buckets;
    let mut index = highest;
    while word(table, chains.checked_add(index - first)?)? & 1 == 0 {
        index += 1;
    }
    Some(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_table_gives_the_number_of_symbols() {
        // 2 buckets, first symbol 3, a filter of 1 word; buckets 3 and 5; chains of 2 and 3 symbols.
        let words = [2u32, 3, 1, 6, 0, 0, 3, 5, 10, 11, 12, 14, 15];
        let table: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(count_by_gnu_hash(&table), Some(8));
        assert_eq!(count_by_gnu_hash(&table[..table.len() - 1]), None, "the last chain has no end");
        let none = [1u32, 4, 1, 6, 0, 0, 0].map(u32::to_le_bytes).concat();
        assert_eq!(count_by_gnu_hash(&none), Some(4));
        assert_eq!(count_by_gnu_hash(&[0xff; 16]), None);
    }
}
