//! The options of the virtual machine (`-XX:` flags) with their values (`JVMFlag`, in Java 8
//! `Flag`).
//!
//! Not here: what they mean.

use std::collections::HashMap;

use super::{
    memory::{Memory, u32_at, u64_at},
    structs::{Names, VmStructs},
};

/// The most flags; releases have 600 to 1,600.
const MAX_FLAGS: u64 = 8192;
/// The bits of a flag's word that tell where its value comes from, and the default's value.
const ORIGIN: u32 = 15;
const ORIGIN_DEFAULT: u32 = 0;
const ORIGIN_ERGONOMIC: u32 = 5;

/// The flags of a process.
#[derive(Debug, Default)]
pub struct Flags {
    places: HashMap<String, Flag>,
}

#[derive(Clone, Copy, Debug)]
struct Flag {
    address: u64,
    origin: u32,
    kind: Option<u32>,
}

/// Types of flags, by number (`JVMFlag::TYPE_…` from Java 17 on).
const BOOL: u32 = 0;
const DOUBLE: u32 = 7;
const TEXT: u32 = 8;
const TEXT_LIST: u32 = 9;

impl Flags {
    /// Reads where the flags are; none: they cannot be read.
    pub fn read(memory: &Memory, structs: &VmStructs) -> Flags {
        Flags { places: places(memory, structs).unwrap_or_default() }
    }

    /// The value of a flag that is on or off; `None`: this release does not have it.
    pub fn is_on(&self, memory: &Memory, name: &str) -> Option<bool> {
        memory.u8(self.places.get(name)?.address).map(|byte| byte != 0)
    }

    /// The value of a flag that is a 64-bit number.
    pub fn number(&self, memory: &Memory, name: &str) -> Option<u64> {
        memory.u64(self.places.get(name)?.address)
    }

    /// The flags that the user has set, sorted, as on a command line.
    pub fn set_by_user(&self, memory: &Memory) -> Vec<String> {
        let is_set = |flag: &Flag| !matches!(flag.origin, ORIGIN_DEFAULT | ORIGIN_ERGONOMIC);
        let set = self.places.iter().filter(|(_, flag)| is_set(flag));
        let mut all: Vec<String> = set.filter_map(|(name, flag)| text(memory, name, *flag)).collect();
        all.sort();
        all
    }
}

fn text(memory: &Memory, name: &str, flag: Flag) -> Option<String> {
    Some(match flag.kind? {
        BOOL => format!("-XX:{}{name}", if memory.u8(flag.address)? != 0 { '+' } else { '-' }),
        1 | 2 => format!("-XX:{name}={}", memory.u32(flag.address)? as i32),
        3..DOUBLE => format!("-XX:{name}={}", memory.u64(flag.address)?),
        DOUBLE => format!("-XX:{name}={}", f64::from_bits(memory.u64(flag.address)?)),
        TEXT | TEXT_LIST => format!("-XX:{name}={}", memory.text(memory.pointer(flag.address)?)?),
        _ => return None,
    })
}

fn places(memory: &Memory, structs: &VmStructs) -> Option<HashMap<String, Flag>> {
    let class = if structs.address(&["JVMFlag.flags"]).is_some() { "JVMFlag" } else { "Flag" };
    let field = |name: &str| format!("{class}.{name}");
    let start = memory.pointer(structs.address(&[&field("flags")])?)?;
    let count = memory.u64(structs.address(&[&field("numFlags")])?)?.min(MAX_FLAGS);
    let size = structs.size(class).filter(|size| (16..=256).contains(size))?;
    let (name, address) = (structs.offset(&[&field("_name")])?, structs.offset(&[&field("_addr")])?);
    let (word, kind) = (structs.offset(&[&field("_flags")])?, structs.offset(&[&field("_type")]));
    let bytes = memory.some_bytes(start, (count * size) as usize);
    let entries = bytes.chunks_exact(size as usize);
    let names = Names::read(memory, entries.clone().filter_map(|entry| u64_at(entry, name)))?;
    let read = |entry: &[u8]| {
        let flag = Flag {
            address: u64_at(entry, address).filter(|address| *address != 0)?,
            origin: u32_at(entry, word)? & ORIGIN,
            kind: kind.and_then(|kind| u32_at(entry, kind)),
        };
        Some((names.at(u64_at(entry, name)?)?.to_owned(), flag))
    };
    Some(entries.filter_map(read).collect())
}
