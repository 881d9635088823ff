//! The samples of `perf.data`: addresses, and the registers and the copy of the stack that
//! `--call-graph dwarf` stores.
//!
//! Not here: other records; unwinding.

use super::{bits, bytes::Bytes};

/// A frame of a call chain.
pub(super) struct Frame {
    pub address: u64,
    pub in_kernel: bool,
}

/// A sample.
pub(super) struct Sample<'a> {
    /// Position in [`super::file::File::events`].
    pub event: usize,
    pub pid: u32,
    pub tid: u32,
    pub time_ns: u64,
    pub weight: u64,
    /// Leaf first.
    pub frames: Vec<Frame>,
    /// The copy of the user stack.
    pub user: Option<UserStack<'a>>,
}

/// The user registers and a copy of the user stack.
#[derive(Clone, Copy, Debug)]
pub struct UserStack<'a> {
    /// The registers that follow (`sample_regs_user`).
    pub register_mask: u64,
    /// A word for each bit of the mask, from the lowest on.
    pub registers: &'a [u8],
    /// The stack from the stack pointer up.
    pub bytes: &'a [u8],
    /// The copy was cut at the size that perf was told: more of the stack is above it.
    pub capped: bool,
}

/// How the samples of an event are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub sample_type: u64,
    pub read_format: u64,
    /// `branch_sample_type`.
    pub branch_type: u64,
    /// `sample_regs_user`.
    pub register_mask: u64,
}

impl Layout {
    /// Parses a sample. Errors: what is cut off.
    pub fn parse<'a>(&self, body: &'a [u8], in_kernel: bool) -> Result<Sample<'a>, String> {
        let mut rest = Bytes(body);
        let has = |bit: u64| self.sample_type & bit != 0;
        let mut number = |bit: u64, what: &str| match has(bit) {
            false => Ok(0),
            true => rest.u64().ok_or_else(|| format!("{what} is cut off")),
        };
        number(bits::IDENTIFIER, "identifier")?;
        let ip = number(bits::IP, "ip")?;
        let ids = number(bits::TID, "pid and tid")?;
        let time_ns = number(bits::TIME, "time")?;
        number(bits::ADDR, "addr")?;
        number(bits::ID, "id")?;
        number(bits::STREAM_ID, "stream id")?;
        number(bits::CPU, "cpu")?;
        let weight = number(bits::PERIOD, "period")?;
        if has(bits::READ) {
            skip_read(&mut rest, self.read_format).ok_or("read is cut off")?;
        }
        let mut frames = Vec::new();
        if has(bits::CALLCHAIN) {
            let count = rest.u64().ok_or("callchain is cut off")?;
            let left = rest.0.len();
            let chain = usize::try_from(count).ok().and_then(|count| rest.take(count.checked_mul(8)?));
            let claims = || format!("callchain claims {count} addresses, {left} bytes are left");
            frames = follow(chain.ok_or_else(claims)?, in_kernel);
        }
        if frames.is_empty() && has(bits::IP) {
            frames.push(Frame { address: ip, in_kernel });
        }
        let user = if has(bits::STACK_USER) { self.user_stack(&mut rest) } else { None };
        // Of a union of two 32-bit numbers, in little-endian order.
        let (pid, tid) = (ids as u32, (ids >> 32) as u32);
        Ok(Sample { event: 0, pid, tid, time_ns, weight, frames, user })
    }

    /// What follows the call chain, up to the copy of the stack. `None`: there is none (a thread of
    /// the kernel), or it is cut off.
    fn user_stack<'a>(&self, rest: &mut Bytes<'a>) -> Option<UserStack<'a>> {
        if self.sample_type & bits::RAW != 0 {
            let size = rest.u32()?;
            rest.take(size as usize)?;
        }
        if self.sample_type & bits::BRANCH_STACK != 0 {
            let count = usize::try_from(rest.u64()?).ok()?;
            let index = if self.branch_type & bits::BRANCH_HW_INDEX != 0 { 8 } else { 0 };
            rest.take(count.checked_mul(24)?.checked_add(index)?)?;
        }
        let mut registers: &[u8] = &[];
        if self.sample_type & bits::REGS_USER != 0 && rest.u64()? != 0 {
            registers = rest.take(self.register_mask.count_ones() as usize * 8)?;
        }
        let size = usize::try_from(rest.u64()?).ok().filter(|size| *size > 0)?;
        let copied = rest.take(size)?;
        let used = usize::try_from(rest.u64()?).ok()?.min(size);
        (!registers.is_empty()).then_some(UserStack {
            register_mask: self.register_mask,
            registers,
            bytes: &copied[..used],
            capped: used == size,
        })
    }
}

/// Skips the counter values that a sample may contain.
fn skip_read(rest: &mut Bytes, format: u64) -> Option<()> {
    const GROUP: u64 = 8;
    // Times come before the values, IDs and lost counts after each.
    let (times, own) = ((format & 3).count_ones() as usize, (format & (4 | 16)).count_ones() as usize);
    let numbers = if format & GROUP == 0 {
        1 + times + own
    } else {
        let count = usize::try_from(rest.u64()?).ok()?;
        count.checked_mul(1 + own)?.checked_add(times)?
    };
    rest.take(numbers.checked_mul(8)?).map(|_| ())
}

/// The frames of a call chain. All addresses except the first of each context are return addresses,
/// which point after their calls.
fn follow(chain: &[u8], mut in_kernel: bool) -> Vec<Frame> {
    let mut frames = Vec::with_capacity(chain.len() / 8);
    let mut is_first = true;
    for address in chain.as_chunks::<8>().0 {
        let address = u64::from_le_bytes(*address);
        if address >= bits::FIRST_CONTEXT {
            (in_kernel, is_first) = (address == bits::CONTEXT_KERNEL, true);
            continue;
        }
        let address = if is_first { address } else { address.saturating_sub(1) };
        is_first = false;
        frames.push(Frame { address, in_kernel });
    }
    frames
}
