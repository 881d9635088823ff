//! Names of kernel addresses, from `/proc/kallsyms` (kernel source `kernel/kallsyms.c`: one symbol
//! a line, `address type name`; symbols of modules are followed by a tab and `[module]`).
//!
//! The file has about 200,000 lines and a profile some hundred kernel addresses. It is therefore
//! read once as a stream, keeping only the best symbol of each address.
//!
//! Not here: user-space symbols; whether kernel stacks were sampled.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::addr::RuntimeAddr;

/// A kernel function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelName {
    /// The symbol's name.
    pub function: String,
    /// `[kernel.kallsyms]` for the kernel itself, else `[module]`.
    pub module: String,
}

/// Why kernel addresses stay unnamed.
#[derive(Debug, thiserror::Error)]
pub enum KernelSymbolsError {
    /// The file could not be read.
    #[error("cannot read /proc/kallsyms: {0}")]
    Io(#[from] io::Error),
    /// All addresses are shown as zero.
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
/// Kernel symbol names are at most 512 bytes (`KSYM_NAME_LEN`); longer lines are not valid.
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
    /// Global text symbols (`T`) are preferred to local (`t`) and weak ones (`w`).
    rank: u8,
    name: Vec<u8>,
    module: Option<Vec<u8>>,
}

impl<'a> KernelSymbols<'a> {
    /// Reads another file of the same format, e.g. one copied from another machine.
    pub fn from_file(path: &'a Path) -> KernelSymbols<'a> {
        KernelSymbols { path }
    }

    /// The name of each address, in the order requested; `None` where no text symbol precedes it.
    ///
    /// Errors: the list cannot be read, or its addresses are hidden from this user.
    pub fn names(&self, addresses: &[RuntimeAddr]) -> Result<Vec<Option<KernelName>>, KernelSymbolsError> {
        Self::names_in(File::open(self.path)?, addresses)
    }

    /// As [`KernelSymbols::names`], from a list in `input`.
    pub fn names_in(
        input: impl Read,
        addresses: &[RuntimeAddr],
    ) -> Result<Vec<Option<KernelName>>, KernelSymbolsError> {
        let mut sorted: Vec<u64> = addresses.iter().map(|address| address.0).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut search = Search { best: vec![Best::default(); sorted.len()], sorted, any_address: false };
        search.read(input)?;
        if !search.any_address {
            return Err(KernelSymbolsError::Hidden);
        }
        let found = search.finish();
        Ok(addresses.iter().map(|address| found.name(address.0)).collect())
    }
}

struct Search {
    sorted: Vec<u64>,
    /// For each address, the nearest symbol above the previous address.
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
            // A line longer than the buffer is not valid and is dropped.
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
        // The symbol is a candidate for the nearest address at or above it.
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

    /// Passes each symbol on to the following addresses that have no nearer one.
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

/// Parses the hexadecimal number at the start of a line; returns it and the rest.
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
    fn the_nearest_text_symbol_names_an_address_in_any_request_order() {
        let requested = [
            0xffff_ffff_c000_0010,
            0xffff_ffff_8100_1900,
            0xffff_ffff_8100_0000,
            0xffff_ffff_8100_0040,
            0x10,
        ];
        let found = names(LIST, &requested).expect("a readable list");
        assert_eq!(found[0], name("in_module", "[ext4]"));
        assert_eq!(found[1], name("helper", KERNEL));
        assert_eq!(found[2], name("_stext", KERNEL));
        assert_eq!(found[3], name("_stext", KERNEL));
        assert_eq!(found[4], None);
    }

    #[test]
    fn an_address_with_many_others_between_it_and_its_symbol_is_named() {
        let requested: Vec<u64> = (0..100).map(|i| 0xffff_ffff_8100_1000 + i).collect();
        let found = names(LIST, &requested).expect("a readable list");
        assert!(found.iter().all(|found| *found == name("helper", KERNEL)));
    }

    #[test]
    fn hidden_addresses_are_reported_as_an_error() {
        let hidden = "0000000000000000 T _stext\n0000000000000000 t helper\n";
        assert!(matches!(names(hidden, &[1]), Err(KernelSymbolsError::Hidden)));
    }

    #[test]
    fn malformed_lines_are_ignored() {
        let noise = format!("{}\n\nzz\nffff\nffffffffffffffffff T over\n{LIST}", "a".repeat(1 << 20));
        let found = names(&noise, &[0xffff_ffff_8100_1000]).expect("a readable list");
        assert_eq!(found[0], name("helper", KERNEL));
    }

    #[test]
    fn the_running_kernels_list_is_read_or_refused_with_a_reason() {
        match KernelSymbols::default().names(&[RuntimeAddr(u64::MAX >> 1)]) {
            Ok(names) => assert_eq!(names, [None]),
            Err(KernelSymbolsError::Hidden | KernelSymbolsError::Io(_)) => {}
        }
    }
}
