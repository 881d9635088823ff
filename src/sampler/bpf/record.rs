//! The records that the BPF programs write (`record.bpf.h`): a head of constant size, then
//! sections, each with a header and its content.
//!
//! Not here: the ring that holds them.

use crate::{
    addr::RuntimeAddr,
    arch::{Registers, native},
    process::{LanguageId, Section as LanguageSection, SectionOrigin, Sections},
    sampler::{KernelStack, LockUse, RawSample, StackCopy, Task, Values},
};

/// Offsets in `struct record_head`.
const TIME_NS: usize = 0;
const VALUES: usize = 8;
const PID: usize = 40;
const TID: usize = 44;
const FLAGS: usize = 48;
const SECTION_BYTES: usize = 52;
const COMM: usize = 56;
const TASK_LABELS: usize = 80;
const TASK_PC: usize = 88;
const TASK_SP: usize = 96;
const TASK_FP: usize = 104;
const LOCK: usize = 112;
const REGISTERS: usize = 120;
/// Bytes of a thread's name, with the NUL that ends it (TASK_COMM_LEN).
pub const COMM_BYTES: usize = 16;
const HEAD_BYTES: usize = REGISTERS + 8 * native::PT_REGS_WORDS;

/// A place in `values`, of 8 bytes each: `enum value_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `VALUE_COUNT`: samples or occurrences, in parts of [`ONE`].
    Count = 0,
    /// `VALUE_NANOSECONDS`.
    Nanoseconds = 1,
    /// `VALUE_BYTES`.
    Bytes = 2,
    /// `VALUE_OBJECTS`.
    Objects = 3,
}

/// `ONE`: occurrences are counted in these parts.
pub(super) const ONE: u64 = 1024;

/// `enum record_flag`.
const HAS_REGISTERS: u32 = 1;
const HAS_TASK_REGISTERS: u32 = 8;
const HAS_TASK: u32 = 16;

/// Offsets in `struct section`.
const KIND: usize = 0;
const SECTION_FLAGS: usize = 4;
const DETAIL: usize = 8;
const BYTES: usize = 12;
const ADDRESS: usize = 16;
const SECTION_HEAD_BYTES: usize = 24;

/// `enum section_kind`.
const KERNEL_FRAMES: u32 = 1;
const USER_STACK: u32 = 2;
const TASK_STACK: u32 = 3;
const LANGUAGE_FRAMES: u32 = 4;
const INTERRUPTED_STACK: u32 = 5;

/// `enum section_flag`.
const STACK_CUT: u32 = 1;
const STACK_HOLES: u32 = 2;

/// A number at an offset; `None` beyond the end.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

/// A number at an offset; `None` beyond the end.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset.checked_add(8)?)?.try_into().ok()?))
}

/// The time at which the record's sample was taken (CLOCK_MONOTONIC, nanoseconds).
pub fn time_ns(record: &[u8]) -> Option<u64> {
    u64_at(record, TIME_NS)
}

/// A sample, and how many occurrences it represents in parts of [`ONE`].
pub struct Record<'r> {
    /// The sample; it counts 1.
    pub sample: RawSample<'r>,
    /// In parts of [`ONE`].
    pub parts: u64,
}

/// The sample in a record, from which it borrows; `None` if the record is cut short. `walkers` are
/// the languages of the walkers, in the order of their places in the programs' map, which begin
/// with 1.
pub fn parse<'r>(record: &'r [u8], walkers: &[LanguageId]) -> Option<Record<'r>> {
    let section_bytes = u32_at(record, SECTION_BYTES)? as usize;
    let mut sections = record.get(HEAD_BYTES..)?.get(..section_bytes)?;
    let flags = u32_at(record, FLAGS)?;
    let mut sample = RawSample {
        time_ns: time_ns(record)?,
        pid: u32_at(record, PID)?,
        tid: u32_at(record, TID)?,
        comm: Some(until_nul(record.get(COMM..COMM + COMM_BYTES)?)),
        values: Values {
            count: 1,
            nanoseconds: value(record, ValueKind::Nanoseconds)?,
            bytes: value(record, ValueKind::Bytes)?,
            objects: value(record, ValueKind::Objects)?,
        },
        registers: if flags & HAS_REGISTERS != 0 { registers_at(record, REGISTERS) } else { None },
        stack: StackCopy::default(),
        kernel_stack: KernelStack::default(),
        task: task(record, flags),
        lock: None,
        interrupted_stack: None,
        sections: Sections::default(),
    };
    sample.lock = LockUse::of(u64_at(record, LOCK)?, sample.registers.as_ref());
    while !sections.is_empty() {
        let (section, rest) = Section::split_off(sections)?;
        section.add_to(&mut sample, walkers);
        sections = rest;
    }
    Some(Record { sample, parts: value(record, ValueKind::Count)? })
}

fn value(record: &[u8], kind: ValueKind) -> Option<u64> {
    u64_at(record, VALUES + 8 * kind as usize)
}

/// A section of a record.
struct Section<'r> {
    kind: u32,
    flags: u32,
    detail: u32,
    address: u64,
    content: &'r [u8],
}

impl<'r> Section<'r> {
    /// The first section of `bytes`, and what follows it; `None` if it is cut short.
    fn split_off(bytes: &'r [u8]) -> Option<(Section<'r>, &'r [u8])> {
        let length = u32_at(bytes, BYTES)? as usize;
        let section = Section {
            kind: u32_at(bytes, KIND)?,
            flags: u32_at(bytes, SECTION_FLAGS)?,
            detail: u32_at(bytes, DETAIL)?,
            address: u64_at(bytes, ADDRESS)?,
            content: bytes.get(SECTION_HEAD_BYTES..)?.get(..length)?,
        };
        Some((section, bytes.get(SECTION_HEAD_BYTES + length.next_multiple_of(8)..)?))
    }

    /// Sets what the section holds. Unknown kinds are ignored.
    fn add_to(&self, sample: &mut RawSample<'r>, walkers: &[LanguageId]) {
        match self.kind {
            KERNEL_FRAMES => sample.kernel_stack = KernelStack(self.content),
            USER_STACK => sample.stack = self.stack(),
            TASK_STACK => {
                if let Some(task) = &mut sample.task {
                    task.stack = self.stack();
                }
            }
            INTERRUPTED_STACK => sample.interrupted_stack = Some(self.stack()),
            LANGUAGE_FRAMES => {
                let place = (self.detail as usize).checked_sub(1);
                let walker = place.and_then(|place| walkers.get(place));
                if let Some(language) = walker.copied() {
                    let (origin, bytes) = (SectionOrigin::AtSample, self.content);
                    sample.sections.push(LanguageSection { language, origin, bytes });
                }
            }
            _ => {}
        }
    }

    fn stack(&self) -> StackCopy<'r> {
        StackCopy {
            start: RuntimeAddr(self.address),
            bytes: self.content,
            capped: self.flags & STACK_CUT != 0,
            has_holes: self.flags & STACK_HOLES != 0,
        }
    }
}

/// The task that the thread works for, without its stack.
fn task<'r>(record: &[u8], flags: u32) -> Option<Task<'r>> {
    if flags & HAS_TASK == 0 {
        return None;
    }
    let registers = if flags & HAS_TASK_REGISTERS != 0 {
        let mut registers = Registers::default();
        for (number, at) in [(native::PC, TASK_PC), (native::SP, TASK_SP), (native::FP, TASK_FP)] {
            registers.set(number, u64_at(record, at)?);
        }
        Some(registers)
    } else {
        None
    };
    Some(Task { labels: u64_at(record, TASK_LABELS)?, registers, stack: StackCopy::default() })
}

/// The registers in a `struct pt_regs` that begins at `offset`; `None` if it is cut short.
pub(super) fn registers_at(record: &[u8], offset: usize) -> Option<Registers> {
    let mut words = [0; native::PT_REGS_WORDS];
    for (index, word) in words.iter_mut().enumerate() {
        *word = u64_at(record, offset + 8 * index)?;
    }
    Some(native::registers_from_pt_regs(&words))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sampler::bpf::{kernel_types::Types, objects};

    /// A record with these sections: kind, flags, detail, address, content.
    fn record(flags: u32, sections: &[(u32, u32, u32, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        for (kind, flags, detail, address, content) in sections {
            let words = [*kind, *flags, *detail, content.len() as u32];
            bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            bytes.extend(address.to_ne_bytes());
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        let section_bytes = (bytes.len() - HEAD_BYTES) as u32;
        bytes[TIME_NS..][..8].copy_from_slice(&77u64.to_ne_bytes());
        for (place, value) in [3 * ONE, 500, 600, 700].into_iter().enumerate() {
            bytes[VALUES + 8 * place..][..8].copy_from_slice(&value.to_ne_bytes());
        }
        bytes[FLAGS..][..4].copy_from_slice(&flags.to_ne_bytes());
        bytes[SECTION_BYTES..][..4].copy_from_slice(&section_bytes.to_ne_bytes());
        bytes[COMM..][..4].copy_from_slice(b"name");
        bytes
    }

    #[test]
    fn each_section_is_found_by_its_kind_in_any_order() {
        let bytes = record(
            HAS_REGISTERS | HAS_TASK | HAS_TASK_REGISTERS,
            &[
                (LANGUAGE_FRAMES, 0, 2, 0, &[5; 16]),
                (99, 0, 0, 0, &[6; 3]),
                (USER_STACK, STACK_CUT | STACK_HOLES, 0, 0x1000, &[1; 17]),
                (TASK_STACK, 0, 0, 0x2000, &[2; 8]),
                (INTERRUPTED_STACK, STACK_CUT, 0, 0x3000, &[4; 8]),
                (KERNEL_FRAMES, 0, 0, 0, &[3; 24]),
            ],
        );
        let Record { sample, parts } = parse(&bytes, &[LanguageId(7), LanguageId(8)]).expect("parses");
        assert_eq!((sample.time_ns, sample.comm, parts), (77, Some(&b"name"[..]), 3 * ONE));
        assert_eq!(sample.values, Values { count: 1, nanoseconds: 500, bytes: 600, objects: 700 });
        assert_eq!((sample.stack.start, sample.stack.bytes), (RuntimeAddr(0x1000), &[1; 17][..]));
        assert!(sample.stack.capped && sample.stack.has_holes && sample.registers.is_some());
        assert_eq!(sample.kernel_stack.0, [3; 24]);
        let task = sample.task.expect("a task");
        assert_eq!((task.stack.start, task.stack.bytes), (RuntimeAddr(0x2000), &[2; 8][..]));
        assert!(task.registers.is_some() && !task.stack.capped);
        let interrupted = sample.interrupted_stack.expect("an interrupted stack");
        assert_eq!((interrupted.start, interrupted.bytes), (RuntimeAddr(0x3000), &[4; 8][..]));
        let found = sample.sections.of(LanguageId(8)).expect("a section");
        assert_eq!((found.origin, found.bytes), (SectionOrigin::AtSample, &[5; 16][..]));
    }

    #[test]
    fn without_sections_and_flags_a_sample_has_no_registers_no_task_and_no_stack() {
        let bytes = record(0, &[]);
        let sample = parse(&bytes, &[]).expect("parses").sample;
        assert!(sample.registers.is_none() && sample.task.is_none() && sample.sections.is_empty());
        assert!(sample.stack.bytes.is_empty() && sample.kernel_stack.0.is_empty());
        assert!(parse(&bytes[..HEAD_BYTES - 1], &[]).is_none());
    }

    #[test]
    fn a_section_of_a_walker_that_is_not_loaded_is_ignored() {
        for place in [0, 2, u32::MAX] {
            let bytes = record(0, &[(LANGUAGE_FRAMES, 0, place, 0, &[5; 16])]);
            assert!(parse(&bytes, &[LanguageId(7)]).expect("parses").sample.sections.is_empty());
        }
    }

    #[test]
    fn the_layout_is_the_one_in_the_objects_types() {
        let both = [&objects::CPU, &objects::OFF_CPU].map(objects::Objects::both);
        for object in both.as_flattened() {
            let parsed = aya_obj::Object::parse(object).expect("parses");
            let btf = parsed.btf.as_ref().expect("types").to_bytes();
            let types = Types::parse(&btf).expect("parses");
            let offset = |structure: &str, member: &str| {
                let found = types.member_offset(structure.as_bytes(), member.as_bytes());
                found.unwrap_or_else(|| panic!("{structure}.{member} is not in the object's types"))
            };
            for (member, at) in [
                ("time_ns", TIME_NS),
                ("values", VALUES),
                ("pid", PID),
                ("tid", TID),
                ("flags", FLAGS),
                ("section_bytes", SECTION_BYTES),
                ("comm", COMM),
                ("task_labels", TASK_LABELS),
                ("task_pc", TASK_PC),
                ("task_sp", TASK_SP),
                ("task_fp", TASK_FP),
                ("lock", LOCK),
                ("registers", REGISTERS),
            ] {
                assert_eq!(offset("record_head", member), at, "{member}");
            }
            assert_eq!(types.structure_bytes(b"record_head"), Some(HEAD_BYTES));
            for (member, at) in [
                ("kind", KIND),
                ("flags", SECTION_FLAGS),
                ("detail", DETAIL),
                ("bytes", BYTES),
                ("address", ADDRESS),
            ] {
                assert_eq!(offset("section", member), at, "{member}");
            }
            assert_eq!(types.structure_bytes(b"section"), Some(SECTION_HEAD_BYTES));
            for (enumerator, value) in [
                ("VALUE_COUNT", ValueKind::Count as u32),
                ("VALUE_NANOSECONDS", ValueKind::Nanoseconds as u32),
                ("VALUE_BYTES", ValueKind::Bytes as u32),
                ("VALUE_OBJECTS", ValueKind::Objects as u32),
                ("HAS_REGISTERS", HAS_REGISTERS),
                ("HAS_TASK_REGISTERS", HAS_TASK_REGISTERS),
                ("HAS_TASK", HAS_TASK),
                ("KERNEL_FRAMES", KERNEL_FRAMES),
                ("USER_STACK", USER_STACK),
                ("TASK_STACK", TASK_STACK),
                ("LANGUAGE_FRAMES", LANGUAGE_FRAMES),
                ("INTERRUPTED_STACK", INTERRUPTED_STACK),
                ("STACK_CUT", STACK_CUT),
                ("STACK_HOLES", STACK_HOLES),
            ] {
                assert_eq!(types.enumerator(enumerator.as_bytes()), Some(value), "{enumerator}");
            }
        }
    }

    proptest! {
        #[test]
        fn lengths_beyond_the_record_are_refused(
            length in 0usize..400,
            section_bytes: u32,
            bytes: u32,
            flags: u32,
        ) {
            let mut record = record(flags, &[(USER_STACK, 0, 0, 0, &[1; 100]), (KERNEL_FRAMES, 0, 0, 0, &[2; 8])]);
            record[HEAD_BYTES + BYTES..][..4].copy_from_slice(&bytes.to_ne_bytes());
            if section_bytes % 2 == 0 {
                record[SECTION_BYTES..][..4].copy_from_slice(&section_bytes.to_ne_bytes());
            }
            record.truncate(length);
            if let Some(parsed) = parse(&record, &[LanguageId(7)]) {
                prop_assert!(parsed.sample.stack.bytes.len() <= 124);
            }
        }
    }
}
