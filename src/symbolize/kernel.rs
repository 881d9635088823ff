//! Names of kernel addresses, from `/proc/kallsyms` (kallsyms is described in the kernel's
//! `kernel/kallsyms.c`: one line a symbol, `address type name`, for modules a tab and `[module]`).
//!
//! The file has some 200,000 lines and a profile some hundred kernel addresses, so it is streamed
//! through once and only the best symbol of each address is kept.
//!
//! Not here: user-space symbols; whether kernel stacks were sampled at all.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::addr::RuntimeAddr;

/// A kernel function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelName {
    pub function: String,
    /// `[kernel.kallsyms]` for the kernel itself, else `[module]`.
    pub module: String,
}

/// Why kernel addresses stay unnamed.
#[derive(Debug, thiserror::Error)]
pub enum KernelSymbolsError {
    #[error("cannot read /proc/kallsyms: {0}")]
    Io(#[from] io::Error),
    /// All addresses read as zero.
    #[error("the kernel hides its addresses (kernel.kptr_restrict, or CAP_SYSLOG is missing)")]
    Hidden,
}

/// The kernel's symbol list; nothing is read before [`KernelSymbols::names`].
#[derive(Debug)]
pub struct KernelSymbols<'a> {
    path: &'a Path,
}

/// Module name of the kernel image itself, as perf writes it.
const KERNEL: &str = "[kernel.kallsyms]";
/// Kernel symbol names are at most 512 bytes (`KSYM_NAME_LEN`); longer lines are not kallsyms.
const MAX_LINE: usize = 4096;
const CHUNK_BYTES: usize = 64 << 10;

impl Default for KernelSymbols<'_> {
    fn default() -> Self {
        KernelSymbols { path: Path::new("/proc/kallsyms") }
    }
}

#[derive(Clone, Default)]
struct Best {
    start: u64,
    /// Global text symbols (`T`) win over local ones (`t`) and weak ones (`w`).
    rank: u8,
    name: Vec<u8>,
    module: Option<Vec<u8>>,
}

impl<'a> KernelSymbols<'a> {
    /// Another file of the same form, e.g. one copied from another machine.
    pub fn from_file(path: &'a Path) -> KernelSymbols<'a> {
        KernelSymbols { path }
    }

    /// The name of each address, in the order asked; `None` where no text symbol precedes it.
    ///
    /// Errors: the list cannot be read, or shows no addresses to us.
    pub fn names(&self, addresses: &[RuntimeAddr]) -> Result<Vec<Option<KernelName>>, KernelSymbolsError> {
        let mut sorted: Vec<u64> = addresses.iter().map(|address| address.0).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut search = Search { best: vec![Best::default(); sorted.len()], sorted, any_address: false };
        search.read(File::open(self.path)?)?;
        if !search.any_address {
            return Err(KernelSymbolsError::Hidden);
        }
        let found = search.finish();
        Ok(addresses.iter().map(|address| found.name(address.0)).collect())
    }
}

struct Search {
    sorted: Vec<u64>,
    /// For each address the nearest symbol above the address before it.
    best: Vec<Best>,
    any_address: bool,
}

impl Search {
    fn read(&mut self, mut file: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES + MAX_LINE];
        let mut kept = 0;
        loop {
            let read = match file.read(&mut buffer[kept..]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let filled = kept + read;
            let whole = buffer[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            buffer[..whole].split(|byte| *byte == b'\n').for_each(|line| self.line(line));
            // A line longer than the buffer is no line of kallsyms: dropped.
            kept = if filled - whole > MAX_LINE { 0 } else { filled - whole };
            buffer.copy_within(filled - kept..filled, 0);
        }
        let last = buffer[..kept].to_vec();
        self.line(&last);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) {
        let Some((address, rest)) = hex(line) else { return };
        let [b' ', kind, b' ', name @ ..] = rest else { return };
        self.any_address |= address != 0;
        let rank = match kind {
            b'T' => 3,
            b't' => 2,
            b'W' | b'w' => 1,
            _ => return,
        };
        // The nearest address at or above: for it, this symbol is a candidate.
        let at = self.sorted.partition_point(|wanted| *wanted < address);
        let Some(best) = self.best.get_mut(at) else { return };
        if best.rank == 0 || (address, rank) > (best.start, best.rank) {
            let mut words = name.splitn(2, |byte| *byte == b'\t');
            best.start = address;
            best.rank = rank;
            best.name = words.next().unwrap_or_default().to_vec();
            best.module = words.next().map(<[u8]>::to_vec);
        }
    }

    /// Hands a symbol on to the addresses above it that have none nearer.
    fn finish(mut self) -> Found {
        for i in 1..self.best.len() {
            if self.best[i].rank == 0 {
                self.best[i] = self.best[i - 1].clone();
            }
        }
        Found { sorted: self.sorted, best: self.best }
    }
}

struct Found {
    sorted: Vec<u64>,
    best: Vec<Best>,
}

impl Found {
    fn name(&self, address: u64) -> Option<KernelName> {
        let best = self.best.get(self.sorted.binary_search(&address).ok()?)?;
        if best.rank == 0 {
            return None;
        }
        let module = match &best.module {
            Some(module) => String::from_utf8_lossy(module).into_owned(),
            None => KERNEL.to_owned(),
        };
        Some(KernelName { function: String::from_utf8_lossy(&best.name).into_owned(), module })
    }
}

/// The hexadecimal number a line begins with, and what follows.
fn hex(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in line.iter().enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return (at > 0).then(|| (value, &line[at..])),
        };
        value = value.checked_mul(16)? | u64::from(digit);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIST: &str = "ffffffff81000000 T _stext\nffffffff81000000 t local_alias\n\
        ffffffff81001000 t helper\nffffffff81001800 D data_between\nffffffff81002000 T _etext\n\
        ffffffffc0000000 t in_module\t[ext4]\n";

    fn names(list: &str, addresses: &[u64]) -> Result<Vec<Option<KernelName>>, KernelSymbolsError> {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(list.as_bytes()).expect("write");
        let addresses: Vec<RuntimeAddr> = addresses.iter().map(|a| RuntimeAddr(*a)).collect();
        KernelSymbols::from_file(file.path()).names(&addresses)
    }

    fn name(function: &str, module: &str) -> Option<KernelName> {
        Some(KernelName { function: function.into(), module: module.into() })
    }

    #[test]
    fn the_nearest_text_symbol_names_an_address_whatever_the_order_asked() {
        let asked = [
            0xffff_ffff_c000_0010,
            0xffff_ffff_8100_1900,
            0xffff_ffff_8100_0000,
            0xffff_ffff_8100_0040,
            0x10,
        ];
        let found = names(LIST, &asked).expect("a readable list");
        assert_eq!(found[0], name("in_module", "[ext4]"));
        assert_eq!(found[1], name("helper", KERNEL));
        assert_eq!(found[2], name("_stext", KERNEL));
        assert_eq!(found[3], name("_stext", KERNEL));
        assert_eq!(found[4], None);
    }

    #[test]
    fn an_address_that_many_others_separate_from_its_symbol_is_still_named() {
        let asked: Vec<u64> = (0..100).map(|i| 0xffff_ffff_8100_1000 + i).collect();
        let found = names(LIST, &asked).expect("a readable list");
        assert!(found.iter().all(|found| *found == name("helper", KERNEL)));
    }

    #[test]
    fn hidden_addresses_are_an_error_that_says_so() {
        let hidden = "0000000000000000 T _stext\n0000000000000000 t helper\n";
        assert!(matches!(names(hidden, &[1]), Err(KernelSymbolsError::Hidden)));
    }

    #[test]
    fn lines_that_are_not_of_the_form_are_ignored() {
        let noise = format!("{}\n\nzz\nffff\nffffffffffffffffff T over\n{LIST}", "a".repeat(1 << 20));
        let found = names(&noise, &[0xffff_ffff_8100_1000]).expect("a readable list");
        assert_eq!(found[0], name("helper", KERNEL));
    }

    #[test]
    fn this_kernel_s_own_list_is_read_or_refused_with_a_reason() {
        match KernelSymbols::default().names(&[RuntimeAddr(u64::MAX >> 1)]) {
            Ok(names) => assert_eq!(names, [None]),
            Err(KernelSymbolsError::Hidden | KernelSymbolsError::Io(_)) => {}
        }
    }
}
