//! The records of a perf ring (perf_event_open(2), "MMAP layout"), parsed in place.
//!
//! Every event that `event` opens adds thread, time, CPU and identifier to its records: at the
//! front of a sample, at the end of all others. The target controls names and lengths in records,
//! so everything is bounds-checked, and a record that does not parse is `None`. Not here: rings.

use perf_event_open_sys::bindings;

use super::spec::SampleFields;

/// The size of `struct perf_event_header`: type (u32), misc (u16), size (u16).
pub(super) const HEADER_BYTES: usize = 8;
/// Bytes of a [`SampleId`] at the end of a record that is not a sample.
const TRAILER_BYTES: usize = 32;

/// A record in the ring, not parsed yet.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    kind: bindings::perf_event_type,
    misc: u16,
    body: &'a [u8],
}

/// The fields that every record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleId {
    /// Which event wrote it ([`super::Event::id`]); inherited events carry that of the one opened.
    pub identifier: u64,
    /// Process ID.
    pub pid: u32,
    /// Thread ID.
    pub tid: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// CPU number.
    pub cpu: u32,
}

/// A parsed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// PERF_RECORD_SAMPLE.
    Sample(Sample<'a>),
    /// A new executable mapping.
    Mmap2(Mmap2<'a>),
    /// A thread's new name; `exec` when it comes from execve(2).
    Comm {
        /// Process ID.
        pid: u32,
        /// Thread ID.
        tid: u32,
        /// Whether execve(2) changed the name.
        exec: bool,
        /// The name, without the NUL.
        comm: &'a [u8],
    },
    /// A thread or process was created.
    Fork {
        /// Process ID of the new thread.
        pid: u32,
        /// Thread ID of the new thread.
        tid: u32,
        /// Process ID of its creator.
        parent_pid: u32,
        /// Thread ID of its creator.
        parent_tid: u32,
    },
    /// A thread ended.
    Exit {
        /// Process ID.
        pid: u32,
        /// Thread ID.
        tid: u32,
        /// Process ID of its parent.
        parent_pid: u32,
        /// Thread ID of its parent.
        parent_tid: u32,
    },
    /// Records of any kind that did not fit into this ring.
    Lost {
        /// The event that lost them.
        identifier: u64,
        /// How many.
        count: u64,
    },
    /// Samples that the hardware lost.
    LostSamples {
        /// How many.
        count: u64,
    },
    /// The kernel throttles an event that fires too often (`true`), or ends that (`false`).
    Throttled(bool),
    /// A kind of record that is not used.
    Other(u32),
}

/// PERF_RECORD_SAMPLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Thread, time, CPU and event.
    pub id: SampleId,
    /// By how much the count has grown; 0 if not requested.
    pub period: u64,
    /// Native u64 words: context markers and return addresses, leaf first.
    pub callchain: &'a [u8],
    /// Native u64 words, one for each bit of the mask; `None` for a kernel thread.
    pub user_registers: Option<&'a [u8]>,
    /// The user stack.
    pub user_stack: UserStack<'a>,
}

/// A copy of the user stack, from the stack pointer up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct UserStack<'a> {
    /// The copied bytes.
    pub bytes: &'a [u8],
    /// The size of the record's space for the stack; the copy ends earlier at memory that is not
    /// present.
    pub room_bytes: u64,
}

/// PERF_RECORD_MMAP2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mmap2<'a> {
    /// Process ID.
    pub pid: u32,
    /// Thread ID.
    pub tid: u32,
    /// First address.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// Where in the file it begins, in bytes.
    pub file_offset: u64,
    /// Major number of the file's device.
    pub device_major: u32,
    /// Minor number of the file's device.
    pub device_minor: u32,
    /// Inode number; 0 for memory without a file.
    pub inode: u64,
    /// PROT_* of mmap(2).
    pub protection: u32,
    /// The path in the target's mount namespace, without the NUL.
    pub path: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// A record from its bytes, header included; `None` if they are shorter than a header.
    pub fn new(bytes: &'a [u8]) -> Option<RawRecord<'a>> {
        let mut header = Words(bytes);
        let kind = header.u32()?;
        let misc = header.u32()? & 0xffff;
        Some(RawRecord { kind, misc: misc as u16, body: header.0 })
    }

    /// The bytes after the header.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Whether it is a PERF_RECORD_SAMPLE.
    pub fn is_sample(&self) -> bool {
        self.kind == bindings::PERF_RECORD_SAMPLE
    }

    /// Thread, time, CPU and event, without parsing the rest; `None` if the record is too short.
    pub fn id(&self) -> Option<SampleId> {
        match self.is_sample() {
            true => SampleId::in_front(&mut Words(self.body)),
            false => {
                let trailer = self.body.get(self.body.len().checked_sub(TRAILER_BYTES)?..)?;
                SampleId::behind(&mut Words(trailer))
            }
        }
    }
}

impl SampleId {
    fn in_front(words: &mut Words<'_>) -> Option<SampleId> {
        let identifier = words.u64()?;
        let (pid, tid, time_ns, cpu) = SampleId::shared_part(words)?;
        Some(SampleId { identifier, pid, tid, time_ns, cpu })
    }

    fn behind(words: &mut Words<'_>) -> Option<SampleId> {
        let (pid, tid, time_ns, cpu) = SampleId::shared_part(words)?;
        Some(SampleId { identifier: words.u64()?, pid, tid, time_ns, cpu })
    }

    fn shared_part(words: &mut Words<'_>) -> Option<(u32, u32, u64, u32)> {
        let (pid, tid, time_ns, cpu) = (words.u32()?, words.u32()?, words.u64()?, words.u32()?);
        words.u32()?;
        Some((pid, tid, time_ns, cpu))
    }
}

impl<'a> Record<'a> {
    /// Parses a record; `fields` are those of the event that takes the samples. `None` if it does
    /// not have the shape that its kind demands.
    pub fn parse(raw: &RawRecord<'a>, fields: &SampleFields) -> Option<Record<'a>> {
        if raw.is_sample() {
            return Some(Record::Sample(Sample::parse(raw.body, fields)?));
        }
        let body = raw.body.get(..raw.body.len().checked_sub(TRAILER_BYTES)?)?;
        let words = &mut Words(body);
        Some(match raw.kind {
            bindings::PERF_RECORD_MMAP2 => Record::Mmap2(Mmap2::parse(words, raw.misc)?),
            bindings::PERF_RECORD_COMM => Record::Comm {
                pid: words.u32()?,
                tid: words.u32()?,
                exec: u32::from(raw.misc) & bindings::PERF_RECORD_MISC_COMM_EXEC != 0,
                comm: until_nul(words.0),
            },
            bindings::PERF_RECORD_FORK => {
                let (pid, parent_pid, tid, parent_tid) = four(words)?;
                Record::Fork { pid, tid, parent_pid, parent_tid }
            }
            bindings::PERF_RECORD_EXIT => {
                let (pid, parent_pid, tid, parent_tid) = four(words)?;
                Record::Exit { pid, tid, parent_pid, parent_tid }
            }
            bindings::PERF_RECORD_LOST => Record::Lost { identifier: words.u64()?, count: words.u64()? },
            bindings::PERF_RECORD_LOST_SAMPLES => Record::LostSamples { count: words.u64()? },
            bindings::PERF_RECORD_THROTTLE => Record::Throttled(true),
            bindings::PERF_RECORD_UNTHROTTLE => Record::Throttled(false),
            other => Record::Other(other),
        })
    }
}

impl<'a> Sample<'a> {
    fn parse(body: &'a [u8], fields: &SampleFields) -> Option<Sample<'a>> {
        let words = &mut Words(body);
        let id = SampleId::in_front(words)?;
        let period = if fields.period { words.u64()? } else { 0 };
        let callchain = match fields.kernel_callchain {
            true => {
                let count = words.u64()?;
                words.take(count.checked_mul(8)?)?
            }
            false => &[],
        };
        let user_registers = match fields.user_registers {
            0 => None,
            mask => words.registers(mask)?,
        };
        let user_stack = if fields.user_stack_bytes == 0 { UserStack::default() } else { words.stack()? };
        Some(Sample { id, period, callchain, user_registers, user_stack })
    }
}

impl<'a> Mmap2<'a> {
    fn parse(words: &mut Words<'a>, misc: u16) -> Option<Mmap2<'a>> {
        let (pid, tid) = (words.u32()?, words.u32()?);
        let (start, length, file_offset) = (words.u64()?, words.u64()?, words.u64()?);
        let (device_major, device_minor, inode) = (words.u32()?, words.u32()?, words.u64()?);
        let _inode_generation = words.u64()?;
        let (protection, _flags) = (words.u32()?, words.u32()?);
        // A build ID may be in the place of the device and the inode.
        let by_build_id = u32::from(misc) & bindings::PERF_RECORD_MISC_MMAP_BUILD_ID != 0;
        let (device_major, device_minor, inode) =
            if by_build_id { (0, 0, 0) } else { (device_major, device_minor, inode) };
        let path = until_nul(words.0);
        Some(Mmap2 {
            pid,
            tid,
            start,
            length,
            file_offset,
            device_major,
            device_minor,
            inode,
            protection,
            path,
        })
    }
}

fn four(words: &mut Words<'_>) -> Option<(u32, u32, u32, u32)> {
    Some((words.u32()?, words.u32()?, words.u32()?, words.u32()?))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or(bytes)
}

/// Bytes being read from the front.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*word))
    }

    fn u64(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*word))
    }

    /// An ABI word and, unless it is 0 (PERF_SAMPLE_REGS_ABI_NONE), the registers of the mask.
    fn registers(&mut self, mask: u64) -> Option<Option<&'a [u8]>> {
        match self.u64()? {
            0 => Some(None),
            _ => Some(Some(self.take(u64::from(mask.count_ones()) * 8)?)),
        }
    }

    /// The size of the space, that many bytes, and (unless the size is 0) how many of them were
    /// copied.
    fn stack(&mut self) -> Option<UserStack<'a>> {
        let room_bytes = self.u64()?;
        if room_bytes == 0 {
            return Some(UserStack::default());
        }
        let room = self.take(room_bytes)?;
        let copied = usize::try_from(self.u64()?).ok()?;
        Some(UserStack { bytes: room.get(..copied)?, room_bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIELDS: SampleFields =
        SampleFields { period: true, kernel_callchain: true, user_registers: 0b101, user_stack_bytes: 16 };

    struct Bytes(Vec<u8>);

    impl Bytes {
        fn of(kind: u32, misc: u16) -> Bytes {
            Bytes(Vec::new()).u32(kind).u32(misc.into())
        }

        fn u32(mut self, value: u32) -> Bytes {
            self.0.extend_from_slice(&value.to_ne_bytes());
            self
        }

        fn u64(mut self, value: u64) -> Bytes {
            self.0.extend_from_slice(&value.to_ne_bytes());
            self
        }

        fn text(mut self, text: &[u8]) -> Bytes {
            self.0.extend_from_slice(text);
            self.0.resize((self.0.len() + 1).next_multiple_of(8), 0);
            self
        }

        fn trailer(self) -> Bytes {
            self.u32(7).u32(8).u64(1234).u32(3).u32(0).u64(55)
        }
    }

    const ID: SampleId = SampleId { identifier: 55, pid: 7, tid: 8, time_ns: 1234, cpu: 3 };

    fn parse(bytes: &Bytes) -> Option<Record<'_>> {
        let raw = RawRecord::new(&bytes.0)?;
        assert_eq!(raw.id(), Some(ID));
        Record::parse(&raw, &FIELDS)
    }

    fn sample_start() -> Bytes {
        Bytes::of(9, 2).u64(55).u32(7).u32(8).u64(1234).u32(3).u32(0).u64(1_000_000)
    }

    #[test]
    fn a_sample_has_the_requested_fields() {
        let bytes = sample_start().u64(2).u64(u64::MAX - 127).u64(0xffff_8000_0000_1000);
        let bytes = bytes.u64(2).u64(0xaa).u64(0xbb).u64(16).u64(1).u64(2).u64(8);
        let Some(Record::Sample(sample)) = parse(&bytes) else { panic!("no sample") };
        assert_eq!((sample.id, sample.period, sample.callchain.len()), (ID, 1_000_000, 16));
        assert_eq!(sample.user_registers.expect("registers").len(), 16);
        assert_eq!(sample.user_stack, UserStack { bytes: &1u64.to_ne_bytes(), room_bytes: 16 });
    }

    #[test]
    fn a_kernel_thread_has_neither_registers_nor_stack() {
        let bytes = sample_start().u64(0).u64(0).u64(0);
        let Some(Record::Sample(sample)) = parse(&bytes) else { panic!("no sample") };
        assert_eq!((sample.user_registers, sample.user_stack), (None, UserStack::default()));
    }

    #[test]
    fn a_sample_that_claims_more_than_it_holds_is_refused() {
        assert!(parse(&sample_start().u64(u64::MAX / 8)).is_none());
        assert!(parse(&sample_start().u64(1 << 61)).is_none());
        assert!(parse(&sample_start().u64(0).u64(2).u64(1)).is_none());
        assert!(parse(&sample_start().u64(0).u64(0).u64(8).u64(1).u64(9)).is_none());
    }

    #[test]
    fn a_mapping_record_has_its_file() {
        let bytes = Bytes::of(10, 2).u32(7).u32(8).u64(0x1000).u64(0x2000).u64(0x3000);
        let bytes = bytes.u32(8).u32(1).u64(99).u64(0).u32(5).u32(2).text(b"/lib/a.so").trailer();
        let Some(Record::Mmap2(mapping)) = parse(&bytes) else { panic!("no mapping") };
        assert_eq!((mapping.start, mapping.length, mapping.file_offset), (0x1000, 0x2000, 0x3000));
        assert_eq!((mapping.device_major, mapping.device_minor, mapping.inode), (8, 1, 99));
        assert_eq!((mapping.path, mapping.protection), (&b"/lib/a.so"[..], 5));
    }

    #[test]
    fn names_forks_exits_and_losses_are_read() {
        let comm = Bytes::of(3, 1 << 13).u32(7).u32(8).text(b"worker").trailer();
        let fork = Bytes::of(7, 0).u32(1).u32(2).u32(3).u32(4).u64(9).trailer();
        let exit = Bytes::of(4, 0).u32(1).u32(2).u32(3).u32(4).u64(9).trailer();
        let lost = Bytes::of(2, 0).u64(55).u64(12).trailer();
        let lost_samples = Bytes::of(13, 0).u64(5).trailer();
        let other = Bytes::of(14, 0).trailer();
        assert_eq!(parse(&comm), Some(Record::Comm { pid: 7, tid: 8, exec: true, comm: b"worker" }));
        assert_eq!(parse(&fork), Some(Record::Fork { pid: 1, parent_pid: 2, tid: 3, parent_tid: 4 }));
        assert_eq!(parse(&exit), Some(Record::Exit { pid: 1, parent_pid: 2, tid: 3, parent_tid: 4 }));
        assert_eq!(parse(&lost), Some(Record::Lost { identifier: 55, count: 12 }));
        assert_eq!(parse(&lost_samples), Some(Record::LostSamples { count: 5 }));
        assert_eq!(parse(&other), Some(Record::Other(14)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            kind in 0u32..20, misc in any::<u16>(), body in proptest::collection::vec(any::<u8>(), 0..400),
            period in any::<bool>(), kernel_callchain in any::<bool>(),
            user_registers in any::<u64>(), user_stack_bytes in any::<u32>(),
        ) {
            let mut bytes = Bytes::of(kind, misc).0;
            bytes.extend(body);
            let fields = SampleFields { period, kernel_callchain, user_registers, user_stack_bytes };
            let raw = RawRecord::new(&bytes).expect("a header");
            let _ = (raw.id(), Record::parse(&raw, &fields));
        }

        #[test]
        fn every_cut_of_a_sample_is_refused_or_read_without_panic(cut in 0usize..120) {
            let bytes = sample_start().u64(1).u64(1).u64(2).u64(3).u64(4).u64(16).u64(1).u64(2).u64(16).0;
            let fields = FIELDS;
            let whole = bytes.len();
            if let Some(raw) = RawRecord::new(&bytes[..cut.min(whole)]) {
                prop_assert_eq!(Record::parse(&raw, &fields).is_some(), cut >= whole);
            }
        }
    }
}
