//! The contract between the BPF walker of CPython frames (`walk.bpf.c`) and this module: the
//! settings it takes for a process, and the section that it adds to a sample.
//!
//! The walker finds the thread state of the running thread, follows its chain of frames, and writes
//! a [`SectionHead`] and one [`WalkedFrame`] per frame, leaf first. It knows no version: every
//! offset comes from [`WalkerSettings`]. All structures have the layout of C; all numbers are
//! little-endian.
//!
//! **Thread state.** If `current` is not 0, the word at that address is the thread state that holds
//! the interpreter lock (up to 3.11); it is taken if its `thread_id` is the thread pointer. Else
//! the word at thread pointer + `slot`. Else (`slot` is 0, or the word is 0) user space's map from
//! thread ID to thread state, if the sampler has one. Else no frames, and [`NO_THREAD_STATE`].
//!
//! **First frame.** [`FORM_OBJECTS`] and [`FORM_CURRENT`]: the word at thread state +
//! `tstate_frame`. [`FORM_CFRAME`]: that word is the address of a record on the C stack, the
//! anchor: the frame is at anchor + `cframe_frame`, the anchor of the evaluation before at anchor +
//! `cframe_previous`.
//!
//! **One frame.** Its first `header_bytes` bytes are read at once; `code`, `previous` and `instr`
//! are offsets of words in them, `entry` is the offset of a byte. The chain ends at a `previous` of
//! 0. It is [`COMPLETE`] if the last frame's entry byte is at least `entry_min`, or the form is
//! [`FORM_OBJECTS`].
//!
//! **Entering a frame in 3.11 and 3.12.** The evaluator links its record into the thread state
//! before the record's frame is valid. Therefore the first entry frame's `previous` must be the
//! frame of the anchor before. If it is not, or a frame before it cannot be read, the walk starts
//! again from that frame ([`RESTARTED`]). A generator that is being left has no `previous`: the
//! walk goes on at that frame ([`GAP`]).
//!
//! Not here: reading frames without BPF (`frames`).

/// Frames are objects that point to each other (3.8 to 3.10).
pub const FORM_OBJECTS: u32 = 1;
/// The thread state points to a record on the C stack, which points to the frame (3.11, 3.12).
pub const FORM_CFRAME: u32 = 2;
/// The thread state points to the frame (3.13 and newer).
pub const FORM_CURRENT: u32 = 3;

/// What the walker must know of a process's interpreter. Offsets are in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkerSettings {
    /// [`FORM_OBJECTS`], [`FORM_CFRAME`] or [`FORM_CURRENT`].
    pub form: u32,
    /// In a thread state: the frame, or the anchor.
    pub tstate_frame: u32,
    /// In an anchor: the frame.
    pub cframe_frame: u32,
    /// In an anchor: the anchor of the evaluation before.
    pub cframe_previous: u32,
    /// In a frame: the code object (a multiple of 8).
    pub code: u32,
    /// In a frame: the frame that called it (a multiple of 8).
    pub previous: u32,
    /// In a frame: the instruction, an address (3.11 and newer) or a 4-byte index.
    pub instr: u32,
    /// In a frame: the byte that says how it was entered (owner, or `is_entry` in 3.11).
    pub entry: u32,
    /// Bytes to read of each frame: a multiple of 8, at most 120.
    pub header_bytes: u32,
    /// The least entry byte of a frame that was entered from C. 256: none.
    pub entry_min: u32,
    /// In a thread state: `thread_id`, which is the thread pointer on glibc for x86-64.
    pub thread_id: u32,
    /// In a thread state: the interpreter; with `gil` as an offset in the interpreter. 0: `gil` is
    /// an address.
    pub tstate_interp: u32,
    /// In the lock's record: the thread state that held the interpreter lock last; the 4-byte
    /// `locked` is 8 bytes after it. Only with `tstate_interp`.
    pub gil_holder: u32,
    /// 0.
    pub reserved: u32,
    /// What of the code word is the address.
    pub code_mask: u64,
    /// What of the instruction word counts.
    pub instr_mask: u64,
    /// From the thread pointer to the word that holds the thread state; 0: unknown.
    pub slot: i64,
    /// Address of the word with the thread state that holds the interpreter lock; 0: none.
    pub current: u64,
    /// `tstate_interp` is 0: address of the word with the thread state that held the interpreter
    /// lock last, and 8 bytes after it the 4-byte `locked`; 0: unknown. Else the offset, in the
    /// interpreter, of the pointer to the lock's record.
    pub gil: u64,
}

/// The chain was followed to its end.
pub const COMPLETE: u32 = 1;
/// The chain has more frames than the walker reads.
pub const CUT: u32 = 2;
/// A frame could not be read.
pub const UNREADABLE: u32 = 4;
/// The walk started again from the evaluation before: inner frames may be missing.
pub const RESTARTED: u32 = 8;
/// The chain had a gap, which the evaluation before closed.
pub const GAP: u32 = 16;
/// The thread has no thread state, or it was not found.
pub const NO_THREAD_STATE: u32 = 32;
/// The thread held the interpreter lock.
pub const HOLDS_GIL: u32 = 64;
/// Whether the thread held the interpreter lock is known.
pub const GIL_KNOWN: u32 = 128;
/// Not from the walker: the frames were read while the thread ran.
pub const UNSYNCHRONISED: u32 = 256;

/// The beginning of the section.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SectionHead {
    /// The address of the thread state; 0: none.
    pub tstate: u64,
    /// The address of the innermost evaluation's record on the C stack ([`FORM_CFRAME`]); else 0.
    pub anchor: u64,
    /// [`COMPLETE`] and others.
    pub flags: u32,
    /// The number of frames that follow.
    pub frames: u32,
}

/// One frame as the walker read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkedFrame {
    /// The address of the code object.
    pub code: u64,
    /// The instruction: an address, or an index (`f_lasti`).
    pub instr: u64,
    /// The address of the frame; the top byte is the entry byte.
    pub address: u64,
}

/// Bits of [`WalkedFrame::address`] that are the address.
pub const ADDRESS_BITS: u32 = 56;

impl WalkedFrame {
    /// The address of the frame.
    pub fn frame(&self) -> u64 {
        self.address & ((1 << ADDRESS_BITS) - 1)
    }

    /// The byte that says how the frame was entered.
    pub fn entry(&self) -> u8 {
        (self.address >> ADDRESS_BITS) as u8
    }
}

/// The most frames of one section.
pub const MAX_FRAMES: usize = 1000;
/// Bytes of a [`SectionHead`].
pub const HEAD_BYTES: usize = 24;
/// Bytes of a [`WalkedFrame`].
pub const FRAME_BYTES: usize = 24;

/// The Python frames of one thread, leaf first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Thread state, anchor and flags.
    pub head: SectionHead,
    /// The frames, with those of the evaluator's own (shims).
    pub frames: Vec<WalkedFrame>,
}

impl Section {
    /// Decodes the beginning of a section. `None`: it is shorter.
    pub fn decode_head(bytes: &[u8]) -> Option<SectionHead> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let both = word(16)?;
        Some(SectionHead {
            tstate: word(0)?,
            anchor: word(8)?,
            flags: both as u32,
            frames: (both >> 32) as u32,
        })
    }

    /// Decodes a section. `None`: it is shorter than it states, or states more frames than
    /// [`MAX_FRAMES`].
    pub fn decode(bytes: &[u8]) -> Option<Section> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let head = Section::decode_head(bytes)?;
        let count = usize::try_from(head.frames).ok().filter(|count| *count <= MAX_FRAMES)?;
        let frame = |index: usize| {
            let at = HEAD_BYTES + index * FRAME_BYTES;
            Some(WalkedFrame { code: word(at)?, instr: word(at + 8)?, address: word(at + 16)? })
        };
        Some(Section { head, frames: (0..count).map(frame).collect::<Option<_>>()? })
    }

    /// The bytes of the section, as the walker writes them.
    pub fn encode(&self) -> Vec<u8> {
        let head = self.head;
        let words = [head.tstate, head.anchor, u64::from(head.flags) | u64::from(head.frames) << 32];
        let frames = self.frames.iter().flat_map(|frame| [frame.code, frame.instr, frame.address]);
        words.into_iter().chain(frames).flat_map(u64::to_le_bytes).collect()
    }

    /// The length of [`Section::encode`].
    pub fn bytes(&self) -> usize {
        HEAD_BYTES + self.frames.len() * FRAME_BYTES
    }

    /// Whether this flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.head.flags & flag != 0
    }

    /// Whether a frame's address repeats, which no valid chain has.
    pub fn is_circular(&self) -> bool {
        let mut addresses: Vec<u64> = self.frames.iter().map(WalkedFrame::frame).collect();
        addresses.sort_unstable();
        addresses.windows(2).any(|pair| pair[0] == pair[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_sizes_of_the_walkers() {
        assert_eq!(size_of::<SectionHead>(), HEAD_BYTES);
        assert_eq!(size_of::<WalkedFrame>(), FRAME_BYTES);
        assert_eq!(size_of::<WalkerSettings>(), 14 * 4 + 5 * 8);
    }

    #[test]
    fn a_section_is_decoded_as_it_was_encoded() {
        let frame = |index: u64| WalkedFrame { code: 0x1000 + index, instr: index, address: 1 << 56 | index };
        let frames: Vec<_> = (1..4).map(frame).collect();
        let head = SectionHead { tstate: 7, anchor: 9, flags: COMPLETE | HOLDS_GIL, frames: 3 };
        let section = Section { head, frames };
        let bytes = section.encode();
        assert_eq!(Section::decode(&bytes).as_ref(), Some(&section));
        assert_eq!((section.frames[1].frame(), section.frames[1].entry()), (2, 1));
        assert_eq!(Section::decode(&bytes[..bytes.len() - 1]), None);
        assert!(!section.is_circular());
    }

    #[test]
    fn a_section_that_states_too_many_frames_is_refused() {
        let head = SectionHead { frames: MAX_FRAMES as u32 + 1, ..SectionHead::default() };
        let frames = vec![WalkedFrame::default(); MAX_FRAMES + 1];
        assert_eq!(Section::decode(&Section { head, frames }.encode()), None);
    }

    #[test]
    fn a_frame_that_repeats_is_noticed() {
        let frames = vec![WalkedFrame { address: 16, ..WalkedFrame::default() }; 2];
        assert!(Section { head: SectionHead::default(), frames }.is_circular());
    }
}
