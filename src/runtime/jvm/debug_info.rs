//! The debug information of compiled code: for each safepoint and call, which methods are inlined
//! there and which bytecode of each runs (`PcDesc`, `ScopeDesc`).
//!
//! Not here: names of methods.

use super::{
    code_cache::Blob,
    compressed::Numbers,
    layout::{InfoLayout, Layout, MetadataStart, ScopesStart},
    memory::{Memory, u16_at, u32_at, u64_at},
};

/// The most bytes of each part.
const MAX_PART: u64 = 8 << 20;
/// The size of a `PcDesc`: offset of the pc, of the scope, of objects, flags.
const PC_DESC_BYTES: usize = 16;
/// The most methods that are inlined into each other in one place.
const MAX_INLINED: usize = 128;

/// The debug information of a compiled method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugInfo {
    /// Offset of the pc in the code, and of the scope in `scopes`.
    pcs: Vec<(i32, i32)>,
    scopes: Vec<u8>,
    metadata: Vec<u64>,
}

/// A method in a scope, and the index of its bytecode; -1: not known.
pub type Scope = (u64, i32);

impl DebugInfo {
    /// Reads the debug information of compiled code. `None`: it is damaged or was freed.
    pub fn read(memory: &Memory, layout: &Layout, blob: &Blob) -> Option<DebugInfo> {
        let header = memory.bytes(blob.address, layout.blob.header_bytes)?;
        let number = |field| u32_at(&header, field).map(u64::from);
        match layout.compiled.info {
            InfoLayout::Inline { metadata, scopes, pcs, end } => {
                let (metadata, pcs, end) = (number(metadata)?, number(pcs)?, number(end)?);
                let scopes = match scopes {
                    ScopesStart::Offset(field) => number(field)?,
                    ScopesStart::Pointer(field) => u64_at(&header, field)?.checked_sub(blob.address)?,
                };
                let all = Part { memory, start: blob.address };
                let metadata = words(&all.between(metadata, scopes)?);
                let (scopes, pcs) = (all.between(scopes, pcs)?, all.between(pcs, end)?);
                Some(DebugInfo { pcs: pc_descs(&pcs), scopes, metadata })
            }
            InfoLayout::Immutable { data, size, pcs, scopes, metadata } => {
                let part = Part { memory, start: u64_at(&header, data)? };
                let (pcs, scopes, size) = (number(pcs)?, number(scopes)?, number(size)?);
                let (pcs, scopes) = (part.between(pcs, scopes)?, part.between(scopes, size)?);
                let metadata = match metadata {
                    MetadataStart::Mutable(data, size, relocations) => {
                        let part = Part { memory, start: u64_at(&header, data)? };
                        part.between(number(relocations)?, number(size)?)?
                    }
                    MetadataStart::Inline(data, offset) => {
                        let start = number(data)? + u64::from(u16_at(&header, offset)?);
                        let part = Part { memory, start: blob.address };
                        part.between(start, number(layout.blob.size)?)?
                    }
                };
                Some(DebugInfo { pcs: pc_descs(&pcs), scopes, metadata: words(&metadata) })
            }
        }
    }

    /// The size in memory in bytes, about.
    pub fn size(&self) -> usize {
        self.pcs.len() * 8 + self.scopes.len() + self.metadata.len() * 8
    }

    /// The methods at an offset in the code, the innermost inlined one first; empty: only the
    /// compiled method itself is known. The description at or after the offset holds, as for
    /// HotSpot itself.
    pub fn scopes_at(&self, offset: u64, excluded: u8) -> Vec<Scope> {
        let offset = i32::try_from(offset).unwrap_or(i32::MAX);
        let first = self.pcs.partition_point(|(at, _)| *at < offset);
        let Some((_, start)) = self.pcs.get(first) else { return Vec::new() };
        let (mut scopes, mut at) = (Vec::new(), *start);
        while at > 0 && scopes.len() < MAX_INLINED {
            let Some((scope, caller)) = self.scope(at, excluded) else { break };
            scopes.push(scope);
            // A caller's scope is described before those of what is inlined into it.
            if caller >= at {
                break;
            }
            at = caller;
        }
        scopes
    }

    /// The scope at an offset in `scopes`, and the offset of its caller's; 0: none.
    fn scope(&self, at: i32, excluded: u8) -> Option<(Scope, i32)> {
        let mut numbers = Numbers::new(self.scopes.get(usize::try_from(at).ok()?..)?, excluded);
        let caller = numbers.unsigned()? as i32;
        let method = numbers.unsigned()?.checked_sub(1)?;
        let index = (numbers.unsigned()? as i32).wrapping_sub(1);
        let method = *self.metadata.get(method as usize)?;
        Some(((method, index), caller))
    }
}

/// Memory with parts at offsets.
struct Part<'m> {
    memory: &'m Memory,
    start: u64,
}

impl Part<'_> {
    fn between(&self, start: u64, end: u64) -> Option<Vec<u8>> {
        let length = end.checked_sub(start).filter(|length| *length <= MAX_PART)?;
        self.memory.bytes(self.start.checked_add(start)?, length as usize)
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

/// The descriptions without the sentinel at the beginning.
fn pc_descs(bytes: &[u8]) -> Vec<(i32, i32)> {
    let number = |entry: &[u8], at| u32_at(entry, at).unwrap_or(0) as i32;
    let pairs = bytes.chunks_exact(PC_DESC_BYTES).map(|entry| (number(entry, 0), number(entry, 4)));
    let mut pairs: Vec<(i32, i32)> = pairs.filter(|(pc, _)| *pc >= 0).collect();
    pairs.sort_by_key(|(pc, _)| *pc);
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> DebugInfo {
        // At 1: method 1 at bytecode 4, called by nothing. At 4: method 2 at 9, inlined there.
        let scopes = vec![0, 0, 1, 5, 1, 2, 10, 4, 1, 1];
        DebugInfo { pcs: vec![(8, 1), (20, 4), (30, 0), (40, 7)], scopes, metadata: vec![0x100, 0x200] }
    }

    #[test]
    fn the_description_at_or_after_the_offset_holds() {
        let at = |offset| info().scopes_at(offset, 0);
        assert_eq!(at(0), [(0x100, 4)]);
        assert_eq!(at(8), [(0x100, 4)]);
        assert_eq!(at(9), [(0x200, 9), (0x100, 4)]);
        assert_eq!(at(21), []);
        assert_eq!(at(41), []);
    }

    #[test]
    fn damaged_scopes_end() {
        let mut info = info();
        // A scope whose caller is itself, and one after it.
        info.scopes = vec![0, 0, 1, 5, 4, 1, 1, 7, 2, 1];
        assert_eq!(info.scopes_at(20, 0), [(0x100, 0)]);
        info.scopes = vec![0, 0, 9, 5];
        assert_eq!(info.scopes_at(8, 0), []);
        info.scopes.clear();
        assert_eq!(info.scopes_at(8, 0), []);
        assert_eq!(info.scopes_at(u64::MAX, 0), []);
    }
}
