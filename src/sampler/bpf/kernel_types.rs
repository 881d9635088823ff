//! The types of the running kernel that a program uses, extracted from the kernel's type
//! information (BTF, kernel document bpf/btf).
//!
//! The kernel describes some 130,000 types in 5 MiB; a program uses a handful of members of a
//! handful of structures. To parse all of it takes longer than a short profile, so the types that
//! the program names are looked up in one pass and written as a small BTF, against which the
//! program is then relocated. Not here: relocation.

use std::collections::{BTreeMap, BTreeSet};

use super::record::u32_at;

/// Magic number of little-endian BTF, read as such.
const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
/// `struct btf_type`: name, info, size or type.
const TYPE_BYTES: usize = 12;
/// `struct btf_member`: name, type, offset.
const MEMBER_BYTES: usize = 12;
/// How deep unnamed structures, modifiers and arrays may nest: far more than any compiler emits.
const MAX_DEPTH: usize = 32;

/// `BTF_KIND_*`.
mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
    pub const LAST: u32 = 19;
}

/// Names of structures, each with names of members.
pub type MemberNames = BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>;

/// An indexed BTF blob.
pub struct Types<'a> {
    /// From the first type on.
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset in `types` of each type but the first, which is void; ids begin with 1.
    offsets: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Type<'a> {
    name_offset: u32,
    kind: u32,
    /// The kind's flag: in a structure, that members are bit fields.
    flag: bool,
    size_or_type: u32,
    /// What follows the type: members, array data.
    rest: &'a [u8],
}

struct Member {
    name_offset: u32,
    type_id: u32,
    bit_offset: u32,
}

impl<'a> Types<'a> {
    /// Indexes a BTF blob; `None` if it is not one, is cut short, or has a kind not known here.
    pub fn parse(bytes: &'a [u8]) -> Option<Types<'a>> {
        let magic = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        let header_bytes = u32_at(bytes, 4)? as usize;
        if magic != MAGIC || header_bytes < HEADER_BYTES {
            return None;
        }
        let body = bytes.get(header_bytes..)?;
        let part = |at: usize| {
            let start = u32_at(bytes, at)? as usize;
            body.get(start..start.checked_add(u32_at(bytes, at + 4)? as usize)?)
        };
        let (types, strings) = (part(8)?, part(16)?);
        let mut offsets = Vec::with_capacity(types.len() / 32);
        let mut at = 0;
        while at < types.len() {
            offsets.push(u32::try_from(at).ok()?);
            at += TYPE_BYTES + trailing_bytes(u32_at(types, at + 4)?)?;
        }
        Some(Types { types, strings, offsets })
    }

    fn by_id(&self, id: u32) -> Option<Type<'a>> {
        let at = *self.offsets.get((id as usize).checked_sub(1)?)? as usize;
        let info = u32_at(self.types, at + 4)?;
        let rest = self.types.get(at + TYPE_BYTES..)?;
        Some(Type {
            name_offset: u32_at(self.types, at)?,
            kind: info >> 24 & 0x1f,
            flag: info >> 31 == 1,
            size_or_type: u32_at(self.types, at + 8)?,
            rest: rest.get(..trailing_bytes(info)?)?,
        })
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
        rest.get(..end).unwrap_or_default()
    }

    /// All structures and the names of their members; those of unnamed structures under an empty
    /// name. Flavors of a structure (`task_struct___before_5_14`) count as the structure.
    pub fn structures(&self) -> MemberNames {
        let mut wanted = MemberNames::new();
        for id in 1..=self.offsets.len() as u32 {
            let Some(found) = self.by_id(id).filter(|found| found.kind == kind::STRUCT) else { continue };
            let name = without_flavor(self.name(found.name_offset));
            let members = found.members().map(|member| self.name(member.name_offset).to_vec());
            wanted.entry(name.to_vec()).or_default().extend(members);
        }
        wanted
    }

    /// The id of a function.
    pub fn function(&self, name: &[u8]) -> Option<u32> {
        self.named(kind::FUNC, name)
    }

    /// The id of a typedef.
    pub fn typedef(&self, name: &[u8]) -> Option<u32> {
        self.named(kind::TYPEDEF, name)
    }

    /// The offset of a member of a structure, in bytes from the structure's start.
    #[cfg(test)]
    pub fn member_offset(&self, structure: &[u8], member: &[u8]) -> Option<usize> {
        let mut members = Vec::new();
        self.flatten(self.named(kind::STRUCT, structure)?, 0, 0, &mut members);
        let found = members.iter().find(|found| self.name(found.name_offset) == member)?;
        Some(found.bit_offset as usize / 8)
    }

    /// The size of a structure.
    #[cfg(test)]
    pub fn structure_bytes(&self, name: &[u8]) -> Option<usize> {
        Some(self.by_id(self.named(kind::STRUCT, name)?)?.size_or_type as usize)
    }

    /// The value of an enumerator of any enumeration.
    #[cfg(test)]
    pub fn enumerator(&self, name: &[u8]) -> Option<u32> {
        let enumerations = (1..=self.offsets.len() as u32).filter_map(|id| self.by_id(id));
        let mut enumerators = enumerations
            .filter(|found| found.kind == kind::ENUM)
            .flat_map(|found| found.rest.chunks_exact(8));
        let found = enumerators
            .find(|bytes| u32_at(bytes, 0).is_some_and(|name_offset| self.name(name_offset) == name))?;
        u32_at(found, 4)
    }

    fn named(&self, kind: u32, name: &[u8]) -> Option<u32> {
        let found = self.offsets.iter().position(|at| {
            let at = *at as usize;
            u32_at(self.types, at + 4).is_some_and(|info| info >> 24 & 0x1f == kind)
                && u32_at(self.types, at).is_some_and(|offset| self.name(offset) == name)
        });
        found.and_then(|index| u32::try_from(index + 1).ok())
    }

    /// The ids of the structures that are wanted.
    fn find(&self, wanted: &MemberNames) -> Vec<u32> {
        let longest = wanted.keys().map(Vec::len).max().unwrap_or(0);
        let firsts: BTreeSet<u8> = wanted.keys().filter_map(|name| name.first().copied()).collect();
        let mut found = Vec::new();
        for (index, at) in self.offsets.iter().enumerate() {
            let at = *at as usize;
            let is_structure =
                u32_at(self.types, at + 4).is_some_and(|info| info >> 24 & 0x1f == kind::STRUCT);
            if !is_structure {
                continue;
            }
            let Some(name_offset) = u32_at(self.types, at) else { continue };
            let Some(window) = self.strings.get(name_offset as usize..) else { continue };
            let window = &window[..window.len().min(longest + 1)];
            if window.first().is_some_and(|first| firsts.contains(first)) {
                let end = window.iter().position(|byte| *byte == 0);
                if end.is_some_and(|end| wanted.contains_key(&window[..end])) {
                    found.push(index as u32 + 1);
                }
            }
        }
        found
    }

    /// Members of a structure, including those of its unnamed members, with offsets from its start.
    fn flatten(&self, id: u32, base_bits: u32, depth: usize, into: &mut Vec<Member>) {
        let Some(found) = self.by_id(id).filter(Type::has_members) else { return };
        for member in found.members() {
            let bit_offset = base_bits.saturating_add(member.bit_offset);
            if self.name(member.name_offset).is_empty() {
                if depth < MAX_DEPTH {
                    self.flatten(self.strip(member.type_id), bit_offset, depth + 1, into);
                }
            } else {
                into.push(Member { bit_offset, ..member });
            }
        }
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> u32 {
        for _ in 0..MAX_DEPTH {
            match self.by_id(id) {
                Some(Type { kind, size_or_type, .. }) if is_modifier(kind) => id = size_or_type,
                _ => break,
            }
        }
        id
    }

    /// A BTF blob that holds the wanted members of these types and nothing else.
    pub fn excerpt(&self, wanted: &MemberNames) -> Vec<u8> {
        let roots = self.find(wanted);
        let mut writer = Writer::new(self, wanted, &roots);
        for id in roots {
            writer.write_structure(id);
        }
        writer.finish()
    }
}

impl Type<'_> {
    fn has_members(&self) -> bool {
        matches!(self.kind, kind::STRUCT | kind::UNION)
    }

    fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.rest.chunks_exact(MEMBER_BYTES).filter_map(|bytes| {
            let offset = u32_at(bytes, 8)?;
            // With the flag the upper byte is the width of a bit field.
            let bit_offset = if self.flag { offset & 0x00ff_ffff } else { offset };
            Some(Member { name_offset: u32_at(bytes, 0)?, type_id: u32_at(bytes, 4)?, bit_offset })
        })
    }
}

/// A name without what follows three underscores: libbpf's convention for another kernel's version
/// of a structure.
fn without_flavor(name: &[u8]) -> &[u8] {
    let at = name.windows(3).position(|window| window == b"___").filter(|at| *at > 0);
    &name[..at.unwrap_or(name.len())]
}

fn is_modifier(kind: u32) -> bool {
    matches!(kind, kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG)
}

/// How many bytes follow a type of this `info` word.
fn trailing_bytes(info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    match info >> 24 & 0x1f {
        kind::INT | kind::VAR | kind::DECL_TAG => Some(4),
        kind::ARRAY => Some(12),
        kind::STRUCT | kind::UNION => Some(MEMBER_BYTES * count),
        kind::DATASEC | kind::ENUM64 => Some(12 * count),
        kind::ENUM | kind::FUNC_PROTO => Some(8 * count),
        0 => None,
        other if other > kind::LAST => None,
        _ => Some(0),
    }
}

/// Writes an excerpt. The wanted structures come first, so that their ids are known beforehand; the
/// types of their members follow.
struct Writer<'a, 'b> {
    from: &'b Types<'a>,
    wanted: &'b MemberNames,
    /// New ids of the wanted structures, by old id.
    roots: BTreeMap<u32, u32>,
    structures: Vec<u8>,
    others: Vec<u8>,
    next_id: u32,
    strings: Vec<u8>,
}

impl<'a, 'b> Writer<'a, 'b> {
    fn new(from: &'b Types<'a>, wanted: &'b MemberNames, roots: &[u32]) -> Writer<'a, 'b> {
        let roots: BTreeMap<u32, u32> = roots.iter().copied().zip(1..).collect();
        let next_id = roots.len() as u32 + 1;
        let (structures, others) = (Vec::new(), Vec::new());
        Writer { from, wanted, roots, structures, others, next_id, strings: vec![0] }
    }

    fn write_structure(&mut self, id: u32) {
        let Some(found) = self.from.by_id(id) else { return };
        let name = self.from.name(found.name_offset);
        let mut members = Vec::new();
        self.from.flatten(id, 0, 0, &mut members);
        if let Some(names) = self.wanted.get(name) {
            members.retain(|member| names.contains(self.from.name(member.name_offset)));
        }
        let mut written = Vec::new();
        for member in &members {
            let name_offset = self.string(self.from.name(member.name_offset));
            let type_id = self.write_type(member.type_id, 0);
            write_words(&mut written, &[name_offset, type_id, member.bit_offset]);
        }
        let name_offset = self.string(name);
        let info = kind::STRUCT << 24 | members.len() as u32;
        write_words(&mut self.structures, &[name_offset, info, found.size_or_type]);
        self.structures.extend(written);
    }

    /// Writes the type of a member, as far as relocation compares it, and returns its new id:
    /// numbers, pointers (to void), arrays, structures; 0 (void) for anything else.
    fn write_type(&mut self, id: u32, depth: usize) -> u32 {
        let id = self.from.strip(id);
        if let Some(root) = self.roots.get(&id) {
            return *root;
        }
        let Some(found) = self.from.by_id(id).filter(|_| depth < MAX_DEPTH) else { return 0 };
        let name_offset = self.string(self.from.name(found.name_offset));
        match found.kind {
            kind::INT => {
                let encoding = u32_at(found.rest, 0).unwrap_or(0);
                self.add(&[name_offset, kind::INT << 24, found.size_or_type, encoding])
            }
            kind::PTR => self.add(&[0, kind::PTR << 24, 0]),
            kind::ENUM => self.add(&[name_offset, kind::ENUM << 24, found.size_or_type]),
            kind::STRUCT | kind::UNION => self.write_inner(&found, name_offset, depth),
            kind::ARRAY => {
                let word = |at| u32_at(found.rest, at).unwrap_or(0);
                let element = self.write_type(word(0), depth + 1);
                let index = self.write_type(word(4), depth + 1);
                self.add(&[0, kind::ARRAY << 24, 0, element, index, word(8)])
            }
            _ => 0,
        }
    }

    /// A structure that is not wanted by name, but through which a member may be reached: an
    /// unnamed one is written with the members that some wanted structure names, any other without
    /// members.
    fn write_inner(&mut self, found: &Type<'a>, name_offset: u32, depth: usize) -> u32 {
        let mut written = Vec::new();
        if self.from.name(found.name_offset).is_empty() {
            for member in found.members() {
                let name = self.from.name(member.name_offset);
                if self.wanted.values().any(|names| names.contains(name)) {
                    let type_id = self.write_type(member.type_id, depth + 1);
                    write_words(&mut written, &[self.string(name), type_id, member.bit_offset]);
                }
            }
        }
        let count = (written.len() / MEMBER_BYTES) as u32;
        let id = self.add(&[name_offset, found.kind << 24 | count, found.size_or_type]);
        self.others.extend(written);
        id
    }

    fn add(&mut self, words: &[u32]) -> u32 {
        write_words(&mut self.others, words);
        self.next_id += 1;
        self.next_id - 1
    }

    fn string(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(text);
        self.strings.push(0);
        offset
    }

    fn finish(self) -> Vec<u8> {
        let type_bytes = (self.structures.len() + self.others.len()) as u32;
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]);
        let string_bytes = self.strings.len() as u32;
        write_words(&mut bytes, &[HEADER_BYTES as u32, 0, type_bytes, type_bytes, string_bytes]);
        bytes.extend(self.structures);
        bytes.extend(self.others);
        bytes.extend(self.strings);
        bytes
    }
}

fn write_words(into: &mut Vec<u8>, words: &[u32]) {
    into.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `int`, a pointer, an unnamed structure with a member `b`, and `struct outer { void *a;
    /// struct { int b; }; int c; }`.
    fn blob() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0c\0int\0";
        let types: &[u32] = &[
            13,
            kind::INT << 24,
            4,
            32, // 1
            0,
            kind::PTR << 24,
            0, // 2
            0,
            kind::STRUCT << 24 | 1,
            8,
            9,
            1,
            32, // 3
            1,
            kind::STRUCT << 24 | 3,
            24,
            7,
            2,
            0,
            0,
            3,
            64,
            11,
            1,
            128, // 4
        ];
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]);
        let type_bytes = types.len() as u32 * 4;
        write_words(&mut bytes, &[24, 0, type_bytes, type_bytes, strings.len() as u32]);
        write_words(&mut bytes, types);
        bytes.extend_from_slice(strings);
        bytes
    }

    fn wanted(members: &[&str]) -> MemberNames {
        let members = members.iter().map(|name| name.as_bytes().to_vec()).collect();
        MemberNames::from([(b"outer".to_vec(), members)])
    }

    #[test]
    fn members_of_unnamed_structures_are_found_at_their_offset_from_the_outer_start() {
        let blob = blob();
        let excerpt = Types::parse(&blob).expect("parses").excerpt(&wanted(&["b", "missing"]));
        let types = Types::parse(&excerpt).expect("the excerpt parses");
        let outer = types.by_id(1).expect("type");
        assert_eq!((types.name(outer.name_offset), outer.size_or_type), (&b"outer"[..], 24));
        let members: Vec<Member> = outer.members().collect();
        assert_eq!(members.len(), 1);
        assert_eq!((types.name(members[0].name_offset), members[0].bit_offset), (&b"b"[..], 96));
        assert_eq!(types.by_id(members[0].type_id).map(|found| found.kind), Some(kind::INT));
    }

    #[test]
    fn another_version_of_a_structure_has_the_structures_name() {
        assert_eq!(without_flavor(b"task_struct___before_5_14"), b"task_struct");
        assert_eq!(without_flavor(b"task_struct"), b"task_struct");
        assert_eq!(without_flavor(b"___x"), b"___x");
    }

    #[test]
    fn the_running_kernel_describes_its_tasks() {
        let btf = crate::sys::bpf::KernelBtf::open().expect("kernel BTF");
        let types = Types::parse(btf.bytes()).expect("parses");
        let names =
            MemberNames::from([(b"task_struct".to_vec(), BTreeSet::from([b"group_leader".to_vec()]))]);
        let excerpt = types.excerpt(&names);
        assert!(excerpt.len() < 200, "{}", excerpt.len());
        assert_eq!(Types::parse(&excerpt).expect("parses").structures(), names);
    }

    proptest! {
        #[test]
        fn crafted_type_information_never_panics(
            changes in proptest::collection::vec((0usize..200, any::<u8>()), 0..8),
            length in 0usize..200,
        ) {
            let mut bytes = blob();
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(length);
            if let Some(types) = Types::parse(&bytes) {
                let wanted = types.structures();
                let _ = types.excerpt(&wanted);
            }
        }
    }
}
