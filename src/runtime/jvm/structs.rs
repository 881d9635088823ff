//! The tables in which HotSpot states its own layout, for its serviceability agent: fields of
//! structures with their offsets, static fields with their addresses, sizes of types and constants
//! (`gHotSpotVMStructs` and others in src/hotspot/share/runtime/vmStructs.hpp).
//!
//! They are exported by libjvm.so of every release, stripped or not. Not here: which fields are
//! used (`layout`).

use std::{collections::HashMap, ops::Range};

use super::memory::{Memory, u32_at, u64_at};

/// The most entries of one table; releases have 600 to 850.
const MAX_ENTRIES: usize = 8192;
/// The most bytes between the first and the last name: they are all constants of libjvm.so.
const MAX_NAMES: u64 = 32 << 20;
/// The longest name.
const MAX_NAME: usize = 256;

/// Addresses of the exported variables that describe the tables, by name.
pub type Exports = HashMap<&'static str, u64>;

/// The exported variables that are used.
pub const EXPORTS: [&str; 20] = [
    "gHotSpotVMStructs",
    "gHotSpotVMStructEntryTypeNameOffset",
    "gHotSpotVMStructEntryFieldNameOffset",
    "gHotSpotVMStructEntryTypeStringOffset",
    "gHotSpotVMStructEntryIsStaticOffset",
    "gHotSpotVMStructEntryOffsetOffset",
    "gHotSpotVMStructEntryAddressOffset",
    "gHotSpotVMStructEntryArrayStride",
    "gHotSpotVMTypes",
    "gHotSpotVMTypeEntryTypeNameOffset",
    "gHotSpotVMTypeEntrySizeOffset",
    "gHotSpotVMTypeEntryArrayStride",
    "gHotSpotVMIntConstants",
    "gHotSpotVMIntConstantEntryNameOffset",
    "gHotSpotVMIntConstantEntryValueOffset",
    "gHotSpotVMIntConstantEntryArrayStride",
    "gHotSpotVMLongConstants",
    "gHotSpotVMLongConstantEntryNameOffset",
    "gHotSpotVMLongConstantEntryValueOffset",
    "gHotSpotVMLongConstantEntryArrayStride",
];

/// A field of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    is_static: bool,
    /// The offset in the structure, or the address of a static field.
    place: u64,
    /// The C++ type.
    kind: String,
}

/// What HotSpot states about itself.
#[derive(Debug, Default)]
pub struct VmStructs {
    fields: HashMap<String, Field>,
    sizes: HashMap<String, u64>,
    constants: HashMap<String, i64>,
}

impl VmStructs {
    /// Reads the tables. `None`: they are not complete, or damaged.
    pub fn read(memory: &Memory, exports: &Exports) -> Option<VmStructs> {
        let fields = read_fields(memory, exports)?;
        let sizes = read_sizes(memory, exports)?;
        let mut constants = read_constants(memory, exports, "Int").unwrap_or_default();
        constants.extend(read_constants(memory, exports, "Long").unwrap_or_default());
        Some(VmStructs { fields, sizes, constants })
    }

    /// The offset of the first of several fields that exists, each as `Type._field`: names differ
    /// between releases.
    pub fn offset(&self, names: &[&str]) -> Option<u64> {
        self.first(names, false).map(|field| field.place)
    }

    /// The address of the first of several static fields that exists.
    pub fn address(&self, names: &[&str]) -> Option<u64> {
        self.first(names, true).map(|field| field.place)
    }

    fn first(&self, names: &[&str], is_static: bool) -> Option<&Field> {
        let fields = names.iter().filter_map(|name| self.fields.get(*name));
        fields.into_iter().find(|field| field.is_static == is_static)
    }

    /// The C++ type of a field.
    pub fn kind(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|field| field.kind.as_str())
    }

    /// The size of a type in bytes.
    pub fn size(&self, kind: &str) -> Option<u64> {
        self.sizes.get(kind).copied()
    }

    /// The value of the first of several constants that exists.
    pub fn constant(&self, names: &[&str]) -> Option<i64> {
        names.iter().find_map(|name| self.constants.get(*name)).copied()
    }

    /// The static fields whose name begins with `prefix`: the rest of the name, and the address.
    pub fn statics<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = (&'s str, u64)> {
        let fields = self.fields.iter().filter(|(_, field)| field.is_static);
        fields.filter_map(move |(name, field)| Some((name.strip_prefix(prefix)?, field.place)))
    }
}

/// The entries of a table: its bytes, cut into entries.
struct Table {
    bytes: Vec<u8>,
    stride: usize,
}

impl Table {
    /// Reads the table that the variable `table` points to, up to the first entry without a name.
    fn read(memory: &Memory, exports: &Exports, table: &str, stride: &str, name: u64) -> Option<Table> {
        let start = memory.pointer(*exports.get(table)?)?;
        let stride = usize::try_from(memory.u64(*exports.get(stride)?)?).ok()?;
        if !(8..=256).contains(&stride) || name >= stride as u64 {
            return None;
        }
        let mut bytes = memory.some_bytes(start, stride * MAX_ENTRIES);
        let count = bytes.chunks_exact(stride).position(|entry| u64_at(entry, name) == Some(0))?;
        bytes.truncate(count * stride);
        Some(Table { bytes, stride })
    }

    fn entries(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.bytes.chunks_exact(self.stride)
    }
}

/// The names of a table, which are near each other, in one read.
pub struct Names {
    range: Range<u64>,
    bytes: Vec<u8>,
}

impl Names {
    /// Reads the names that pointers lead to.
    pub fn read(memory: &Memory, pointers: impl Iterator<Item = u64> + Clone) -> Option<Names> {
        let pointers = pointers.filter(|pointer| *pointer != 0);
        let (start, last) = (pointers.clone().min()?, pointers.max()?);
        let length = last.checked_sub(start).filter(|length| *length <= MAX_NAMES)? as usize + MAX_NAME;
        let bytes = memory.some_bytes(start, length);
        Some(Names { range: start..start + bytes.len() as u64, bytes })
    }

    /// The name that a pointer leads to.
    pub fn at(&self, pointer: u64) -> Option<&str> {
        let rest = self
            .bytes
            .get((self.range.contains(&pointer)).then(|| pointer - self.range.start)? as usize..)?;
        let end = rest.iter().take(MAX_NAME).position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

fn read_fields(memory: &Memory, exports: &Exports) -> Option<HashMap<String, Field>> {
    let offset = |what: &str| memory.u64(*exports.get(format!("gHotSpotVMStructEntry{what}").as_str())?);
    let (kind, field) = (offset("TypeNameOffset")?, offset("FieldNameOffset")?);
    let (is_static, type_text) = (offset("IsStaticOffset")?, offset("TypeStringOffset")?);
    let (place, address) = (offset("OffsetOffset")?, offset("AddressOffset")?);
    let table = Table::read(memory, exports, "gHotSpotVMStructs", "gHotSpotVMStructEntryArrayStride", kind)?;
    let texts = [kind, field, type_text];
    let pointers = table.entries().flat_map(|entry| texts.into_iter().filter_map(|at| u64_at(entry, at)));
    let names = Names::read(memory, pointers)?;
    let read = |entry: &[u8]| {
        let text = |at| names.at(u64_at(entry, at)?);
        let is_static = u32_at(entry, is_static)? != 0;
        let place = u64_at(entry, if is_static { address } else { place })?;
        let kind_of_field = text(type_text).unwrap_or_default().to_owned();
        let name = format!("{}.{}", text(kind)?, text(field).unwrap_or_default());
        Some((name, Field { is_static, place, kind: kind_of_field }))
    };
    Some(table.entries().filter_map(read).collect())
}

fn read_sizes(memory: &Memory, exports: &Exports) -> Option<HashMap<String, u64>> {
    let name = memory.u64(*exports.get("gHotSpotVMTypeEntryTypeNameOffset")?)?;
    let size = memory.u64(*exports.get("gHotSpotVMTypeEntrySizeOffset")?)?;
    let table = Table::read(memory, exports, "gHotSpotVMTypes", "gHotSpotVMTypeEntryArrayStride", name)?;
    let names = Names::read(memory, table.entries().filter_map(|entry| u64_at(entry, name)))?;
    let read = |entry: &[u8]| Some((names.at(u64_at(entry, name)?)?.to_owned(), u64_at(entry, size)?));
    Some(table.entries().filter_map(read).collect())
}

/// The constants of the table `kind`: `Int` or `Long`.
fn read_constants(memory: &Memory, exports: &Exports, kind: &str) -> Option<HashMap<String, i64>> {
    let export = |what: &str| format!("gHotSpotVM{kind}Constant{what}");
    let offset = |what: &str| memory.u64(*exports.get(export(what).as_str())?);
    let (name, value) = (offset("EntryNameOffset")?, offset("EntryValueOffset")?);
    let table = Table::read(memory, exports, &export("s"), &export("EntryArrayStride"), name)?;
    let names = Names::read(memory, table.entries().filter_map(|entry| u64_at(entry, name)))?;
    let read = |entry: &[u8]| {
        let value = match kind {
            "Int" => i64::from(u32_at(entry, value)? as i32),
            _ => u64_at(entry, value)? as i64,
        };
        Some((names.at(u64_at(entry, name)?)?.to_owned(), value))
    };
    Some(table.entries().filter_map(read).collect())
}
