//! Lets copies of stacks be unwound, and counts them.
//!
//! Not here: unwinding itself, which needs the files of the processes.

use std::collections::HashMap;

use super::{
    file::{Mapped, hex},
    sample::{Frame, Sample, UserStack},
};

/// A mapped part of a file with code.
#[derive(Clone, Copy, Debug)]
pub struct MappedCode<'a> {
    /// First address.
    pub start: u64,
    /// The address after the last byte.
    pub limit: u64,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// The path, or a name such as `[vdso]`.
    pub path: &'a str,
    /// The build ID of the file in hexadecimal; empty if it is not known.
    pub build_id: &'a str,
}

/// Unwinds copies of stacks. Mappings and samples come in the order of time.
pub trait StackUnwinder {
    /// A process maps code.
    fn map(&mut self, pid: u32, code: &MappedCode<'_>);
    /// A process begins as a copy of another.
    fn copy(&mut self, parent: u32, child: u32);
    /// A process has executed another program.
    fn forget(&mut self, pid: u32);
    /// Sets `addresses` to those of the stack, leaf first; return addresses are in their calls.
    /// `true`: the stack is whole.
    fn unwind(&mut self, pid: u32, stack: &UserStack<'_>, addresses: &mut Vec<u64>) -> bool;
}

/// The copies of stacks of a file.
pub(super) struct Unwound<'u> {
    unwinder: Option<&'u mut dyn StackUnwinder>,
    stacks: u64,
    whole: u64,
    addresses: Vec<u64>,
}

impl<'u> Unwound<'u> {
    /// None yet.
    pub fn by(unwinder: Option<&'u mut dyn StackUnwinder>) -> Unwound<'u> {
        Unwound { unwinder, stacks: 0, whole: 0, addresses: Vec::new() }
    }

    pub fn map(&mut self, pid: u32, mapped: &Mapped<'_>, build_ids: &HashMap<&[u8], String>) {
        let Some(unwinder) = &mut self.unwinder else { return };
        let own = mapped.build_id.map(hex);
        let build_id = own.as_ref().or(build_ids.get(mapped.path)).map_or("", String::as_str);
        let path = &*String::from_utf8_lossy(mapped.path);
        let Mapped { start, limit, offset, .. } = *mapped;
        unwinder.map(pid, &MappedCode { start, limit, offset, path, build_id });
    }

    pub fn copy(&mut self, parent: u32, child: u32) {
        if let Some(unwinder) = &mut self.unwinder {
            unwinder.copy(parent, child);
        }
    }

    pub fn forget(&mut self, pid: u32) {
        if let Some(unwinder) = &mut self.unwinder {
            unwinder.forget(pid);
        }
    }

    /// Replaces the user part of a sample's frames by the frames of its copied stack.
    pub fn unwind(&mut self, sample: &mut Sample<'_>) {
        let Some(stack) = sample.user.take() else { return };
        self.stacks += 1;
        let Some(unwinder) = &mut self.unwinder else { return };
        self.addresses.clear();
        self.whole += u64::from(unwinder.unwind(sample.pid, &stack, &mut self.addresses));
        if !self.addresses.is_empty() {
            sample.frames.retain(|frame| frame.in_kernel);
            let user = self.addresses.iter().map(|address| Frame { address: *address, in_kernel: false });
            sample.frames.extend(user);
        }
    }

    /// What the profile says about the copies.
    pub fn comment(&self) -> Option<String> {
        match (self.stacks, &self.unwinder) {
            (0, _) => None,
            (_, None) => Some(
                "The copies of stacks in this perf.data (--call-graph dwarf) were not unwound: stacks end \
                 where its call chains do."
                    .to_owned(),
            ),
            (stacks, Some(_)) => Some(format!(
                "copied stacks: {stacks} unwound, {:.2}% of them whole",
                // Never round up to "all".
                (self.whole as f64 / stacks as f64 * 10_000.0).floor() / 100.0
            )),
        }
    }
}
