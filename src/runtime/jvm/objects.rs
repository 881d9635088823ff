//! Objects of the Java heap, as far as names of threads need them: classes, fields by name,
//! strings.
//!
//! A moving collector may move an object while it is read: every hop is checked by the class, and
//! a failure means that nothing is known. Not here: methods (`methods`), threads (`threads`).

use std::collections::HashMap;

use super::{
    compressed::Numbers,
    flags::Flags,
    layout::Layout,
    memory::{Memory, u16_at},
    methods::symbol,
    structs::VmStructs,
};

/// The most fields of a class and superclasses that are read.
const MAX_FIELDS: u32 = 4096;
const MAX_SUPERS: usize = 64;
/// The most characters of a string.
const MAX_STRING: u32 = 256;
/// Flags of a field that say that another number follows (`FieldInfo::FieldFlags`).
const FIELD_EXTRAS: [u32; 3] = [1, 4, 16];

/// How a process's heap is read.
#[derive(Clone, Debug)]
pub struct Objects {
    oops: References,
    classes: References,
    /// The class is in the mark word, above this bit.
    compact_shift: Option<u32>,
    class_at: u64,
    /// Where arrays have their length, and their elements.
    array_length: u64,
    array_data: u64,
    constants: u64,
    super_class: u64,
    fields: FieldsLayout,
}

/// How references are stored.
#[derive(Clone, Copy, Debug)]
enum References {
    /// As addresses.
    Plain,
    /// In 32 bits: base and shift.
    Narrow(u64, u32),
    /// As ZGC's addresses with the state in bits 12 to 15.
    Coloured,
}

/// Where a class has its fields.
#[derive(Clone, Copy, Debug)]
enum FieldsLayout {
    /// `_fieldinfo_stream`.
    Stream(u64),
    /// `_fields` and `_java_fields_count`.
    Array(u64, u64),
}

/// Memory, layout and objects together.
#[derive(Clone, Copy, Debug)]
pub struct Heap<'h> {
    /// The process's memory.
    pub memory: &'h Memory,
    /// Offsets.
    pub layout: &'h Layout,
    /// How objects are read.
    pub objects: &'h Objects,
}

impl Objects {
    /// How the heap of a process is read; `None`: it has an unknown form.
    pub fn of(memory: &Memory, structs: &VmStructs, flags: &Flags, release: &str) -> Option<Objects> {
        let is_on = |name: &str| flags.is_on(memory, name);
        let narrow = |base: &[&str], shift: &[&str]| {
            let (base, shift) = (structs.address(base)?, structs.address(shift)?);
            Some(References::Narrow(memory.u64(base)?, memory.u32(shift)?.min(16)))
        };
        let major: u32 = release.split(['.', '+', '-']).next()?.parse().ok()?;
        let oops = match is_on("UseCompressedOops") {
            Some(true) => narrow(
                &["CompressedOops._base", "CompressedOops._narrow_oop._base", "Universe._narrow_oop._base"],
                &[
                    "CompressedOops._shift",
                    "CompressedOops._narrow_oop._shift",
                    "Universe._narrow_oop._shift",
                ],
            )?,
            _ if is_on("UseZGC") == Some(true) && (major >= 23 || is_on("ZGenerational") == Some(true)) => {
                References::Coloured
            }
            _ => References::Plain,
        };
        let is_compact = is_on("UseCompactObjectHeaders") == Some(true);
        let has_narrow_class = is_compact || is_on("UseCompressedClassPointers") == Some(true);
        let classes = match has_narrow_class {
            true => narrow(
                &[
                    "CompressedKlassPointers._base",
                    "CompressedKlassPointers._narrow_klass._base",
                    "Universe._narrow_klass._base",
                ],
                &[
                    "CompressedKlassPointers._shift",
                    "CompressedKlassPointers._narrow_klass._shift",
                    "Universe._narrow_klass._shift",
                ],
            )?,
            false => References::Plain,
        };
        let array_length = if is_compact { 8 } else { 8 + if has_narrow_class { 4 } else { 8 } };
        let array_data = array_length + 4;
        Some(Objects {
            oops,
            classes,
            compact_shift: match is_compact {
                true => Some(structs.constant(&["markWord::klass_shift"])? as u32 & 63),
                false => None,
            },
            class_at: structs.offset(&["oopDesc._metadata._klass"]).unwrap_or(8),
            array_length,
            array_data: if major < 23 { array_data.next_multiple_of(8) } else { array_data },
            constants: structs.offset(&["InstanceKlass._constants"])?,
            super_class: structs.offset(&["Klass._super"])?,
            fields: match structs.offset(&["InstanceKlass._fieldinfo_stream"]) {
                Some(stream) => FieldsLayout::Stream(stream),
                None => FieldsLayout::Array(
                    structs.offset(&["InstanceKlass._fields"])?,
                    structs.offset(&["InstanceKlass._java_fields_count"])?,
                ),
            },
        })
    }
}

impl References {
    fn read(self, memory: &Memory, at: u64) -> Option<u64> {
        match self {
            References::Plain => memory.pointer(at),
            References::Narrow(base, shift) => {
                let narrow = u64::from(memory.u32(at)?);
                (narrow != 0).then(|| base.wrapping_add(narrow << shift))
            }
            References::Coloured => uncoloured(memory.u64(at)?),
        }
    }
}

/// The address in a reference of ZGC: above the colour, whose one set bit tells the shift.
fn uncoloured(reference: u64) -> Option<u64> {
    let colour = reference >> 12 & 15;
    (colour.is_power_of_two()).then(|| reference >> (13 + colour.trailing_zeros())).filter(|to| *to != 0)
}

impl Heap<'_> {
    /// The reference that a field or handle at an address has; `None`: null.
    pub fn reference(&self, at: u64) -> Option<u64> {
        self.objects.oops.read(self.memory, at)
    }

    /// The object of a handle of the virtual machine, which is never compressed.
    pub fn handle(&self, handle: u64) -> Option<u64> {
        match self.objects.oops {
            References::Coloured => uncoloured(self.memory.u64(handle)?),
            _ => self.memory.pointer(handle),
        }
    }

    /// An object's class.
    pub fn class(&self, object: u64) -> Option<u64> {
        match (self.objects.compact_shift, self.objects.classes) {
            (Some(shift), References::Narrow(base, class_shift)) => {
                let narrow = self.memory.u64(object)?.checked_shr(shift)?;
                Some(base.wrapping_add(narrow << class_shift))
            }
            (_, classes) => classes.read(self.memory, object.checked_add(self.objects.class_at)?),
        }
    }

    /// A class's name with slashes.
    pub fn class_name(&self, class: u64) -> Option<String> {
        let name = self.memory.pointer(class.checked_add(self.layout.method.class_name)?)?;
        symbol(self.memory, self.layout, name)
    }

    /// The class with this name among an object's class and its superclasses.
    pub fn class_named(&self, object: u64, name: &str) -> Option<u64> {
        let mut class = self.class(object)?;
        for _ in 0..MAX_SUPERS {
            if self.class_name(class)? == name {
                return Some(class);
            }
            class = self.memory.pointer(class.checked_add(self.objects.super_class)?)?;
        }
        None
    }

    /// The fields that a class declares: name and offset.
    pub fn fields(&self, class: u64) -> Option<HashMap<String, u64>> {
        let pool = self.memory.pointer(class.checked_add(self.objects.constants)?)?;
        let text = |index: u32| {
            let entry = pool + self.layout.method.pool_size + u64::from(index) * 8;
            symbol(self.memory, self.layout, self.memory.pointer(entry)? & !1)
        };
        let numbered = match self.objects.fields {
            FieldsLayout::Stream(at) => {
                let array = self.memory.pointer(class.checked_add(at)?)?;
                let length = self.memory.u32(array)?.min(MAX_FIELDS * 16);
                stream_fields(&self.memory.bytes(array + 4, length as usize)?)
            }
            FieldsLayout::Array(at, count_at) => {
                let array = self.memory.pointer(class.checked_add(at)?)?;
                let count = u32::from(self.memory.u16(class + count_at)?).min(MAX_FIELDS);
                array_fields(&self.memory.bytes(array + 4, count as usize * 12)?)
            }
        };
        let named = |(name, offset): (u32, u32)| Some((text(name)?, u64::from(offset)));
        Some(numbered.into_iter().filter_map(named).collect())
    }

    /// A string's text, at most [`MAX_STRING`] characters.
    pub fn string(&self, object: u64) -> Option<String> {
        let class = self.class_named(object, "java/lang/String")?;
        let fields = self.fields(class)?;
        let array = self.reference(object.checked_add(*fields.get("value")?)?)?;
        let coder = fields.get("coder").map(|at| self.memory.u8(object + at));
        let length = self.memory.u32(array.checked_add(self.objects.array_length)?)?;
        let data = array + self.objects.array_data;
        let text: String = match coder {
            Some(Some(0)) => {
                let bytes = self.memory.bytes(data, length.min(MAX_STRING) as usize)?;
                bytes.into_iter().map(char::from).collect()
            }
            other => {
                // Up to Java 8 an array of characters, later of bytes.
                let characters = if other.is_some() { length / 2 } else { length }.min(MAX_STRING);
                let bytes = self.memory.bytes(data, characters as usize * 2)?;
                let words = bytes.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word));
                char::decode_utf16(words).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
        };
        Some(text.chars().map(|c| if c.is_control() { '?' } else { c }).collect())
    }
}

/// Name and offset of the fields in a stream of numbers (from Java 21 on).
fn stream_fields(bytes: &[u8]) -> Vec<(u32, u32)> {
    let mut numbers = Numbers::new(bytes, 1);
    let (Some(count), Some(_injected)) = (numbers.unsigned(), numbers.unsigned()) else { return Vec::new() };
    let mut field = || {
        let [name, _, offset, _, flags] = [(); 5].map(|()| numbers.unsigned());
        let flags = flags?;
        for extra in FIELD_EXTRAS {
            if flags & extra != 0 {
                numbers.unsigned()?;
            }
        }
        name.zip(offset)
    };
    (0..count.min(MAX_FIELDS)).map_while(|_| field()).collect()
}

/// The same of records of six 16-bit numbers.
fn array_fields(bytes: &[u8]) -> Vec<(u32, u32)> {
    let field = |record: &[u8]| {
        let number = |index: u64| u16_at(record, index * 2).map(u32::from);
        Some((number(1)?, (number(5)? << 16 | number(4)?) >> 2))
    };
    bytes.chunks_exact(12).filter_map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_both_forms_are_decoded() {
        // Two fields and one that is injected; the first has an initial value.
        let stream = [3, 2, 8, 9, 13, 1, 2, 77, 10, 9, 17, 1, 1, 5, 5, 5, 1, 1];
        assert_eq!(stream_fields(&stream), [(7, 12), (9, 16)]);
        assert_eq!(stream_fields(&stream[..4]), []);
        let record: Vec<u8> =
            [1u16, 7, 8, 0, 12 << 2 | 1, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(array_fields(&record), [(7, 12)]);
    }

    #[test]
    fn a_coloured_reference_has_one_colour() {
        assert_eq!(uncoloured(0x1234_5678 << 14 | 1 << 13), Some(0x1234_5678));
        assert_eq!(uncoloured(0x1234_5678 << 13 | 1 << 12), Some(0x1234_5678));
        assert_eq!(uncoloured(0), None);
        assert_eq!(uncoloured(3 << 12), None);
    }
}
