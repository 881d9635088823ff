//! How the caller of an interrupted compiled method is found, by the machine code around its pc:
//! in its prologue and epilogue the frame is not there yet, or not any more.
//!
//! ```text
//! mov [rsp-0x14000],eax   stack bang        push rbp / sub rsp,N   or   sub rsp,N / mov [rsp+N-16],rbp
//! add rsp,N / pop rbp / cmp rsp,[r15+…] / ja … / ret               (17 and newer)
//! add rsp,N / pop rbp / test eax,[rip+…] / ret                     (older)
//! ```
//!
//! x86-64. Not here: other frames.

/// The bytes before a pc that are looked at.
pub const CODE_BEFORE: u64 = 48;

/// Where a compiled method has its return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafRule {
    /// The frame is complete.
    Complete,
    /// At the stack pointer; the frame pointer is still, or again, the caller's.
    ReturnAtSp,
    /// The caller's frame pointer is at the stack pointer, the return address after it.
    SavedFpAtSp,
    /// At the end of the frame; the frame pointer is still the caller's.
    FrameWithoutFp,
}

impl LeafRule {
    /// The rule for the code before and from a pc on. `in_prologue`: the pc is before the place
    /// from which on the frame is complete.
    pub fn of(before: &[u8], after: &[u8], in_prologue: bool) -> LeafRule {
        if after.first() == Some(&0xc3) {
            LeafRule::ReturnAtSp
        } else if in_prologue {
            prologue(before, after)
        } else {
            epilogue(before, after)
        }
    }
}

/// The length of `sub rsp,N`, if `code` begins with it.
fn sub_rsp(code: &[u8]) -> Option<usize> {
    match code {
        [0x48, 0x83, 0xec, _, ..] => Some(4),
        [0x48, 0x81, 0xec, _, _, _, _, ..] => Some(7),
        _ => None,
    }
}

/// `mov [rsp+N],rbp`.
fn is_fp_saved_by_move(code: &[u8]) -> bool {
    matches!(code, [0x48, 0x89, 0x6c, 0x24, ..] | [0x48, 0x89, 0xac, 0x24, ..])
}

fn prologue(before: &[u8], after: &[u8]) -> LeafRule {
    if is_fp_saved_by_move(after) {
        return LeafRule::FrameWithoutFp;
    }
    let is_sub_next = [4, 7].iter().any(|length| sub_rsp(after) == Some(*length));
    let ends_with = |tail: &[u8]| before.ends_with(tail);
    let is_pushed =
        ends_with(&[0x55]) || ends_with(&[0x55, 0x48, 0x8b, 0xec]) || ends_with(&[0x55, 0x48, 0x89, 0xe5]);
    if is_sub_next || is_pushed {
        return if is_pushed { LeafRule::SavedFpAtSp } else { LeafRule::ReturnAtSp };
    }
    // What follows a finished `sub rsp` has the whole frame: barriers, the first instructions.
    let finished = (0..before.len()).rev().find(|at| {
        let length = before.get(*at..).and_then(sub_rsp);
        length.is_some_and(|length| at + length <= before.len())
    });
    match finished {
        Some(_) => LeafRule::Complete,
        None => LeafRule::ReturnAtSp,
    }
}

fn epilogue(before: &[u8], after: &[u8]) -> LeafRule {
    match after {
        [0x5d, rest @ ..] if is_end(rest) => LeafRule::SavedFpAtSp,
        // `ja` to the slow path of a poll, then `ret`.
        [0x0f, 0x87, _, _, _, _, 0xc3, ..] => LeafRule::ReturnAtSp,
        after if is_end(after) && matches!(before.last(), Some(0x5d | 0xc9)) => LeafRule::ReturnAtSp,
        _ => LeafRule::Complete,
    }
}

/// Whether code is what follows `pop rbp`: a poll, or the return.
fn is_end(code: &[u8]) -> bool {
    matches!(
        code,
        [0xc3, ..]
            | [0x49, 0x3b, ..]
            | [0x85, 0x05, ..]
            | [0x41, 0x85, 0x02, ..]
            | [0xc5, 0xf8, 0x77, ..]
            | [0x4d, 0x8b, 0x97, 0x28 | 0x30, ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule at each instruction of `code`, which is cut as `lengths` say.
    fn rules(code: &[u8], lengths: &[usize], in_prologue: bool) -> Vec<LeafRule> {
        let mut at = 0;
        let rule = |length: &usize| {
            let (before, after) = code.split_at(at);
            at += length;
            LeafRule::of(before, after, in_prologue)
        };
        lengths.iter().map(rule).collect()
    }

    #[test]
    fn a_prologue_that_pushes_the_frame_pointer() {
        // mov [rsp-0x14000],eax; push rbp; sub rsp,0x20; cmp [r15+0x20],1; jne
        let code = [
            0x89, 0x84, 0x24, 0x00, 0xc0, 0xfe, 0xff, 0x55, 0x48, 0x83, 0xec, 0x20, 0x41, 0x81, 0x7f, 0x20,
            1, 0, 0, 0, 0x0f, 0x85, 0, 0, 0, 0,
        ];
        use LeafRule::{Complete, ReturnAtSp, SavedFpAtSp};
        let expected = [ReturnAtSp, ReturnAtSp, SavedFpAtSp, Complete, Complete];
        assert_eq!(rules(&code, &[7, 1, 4, 8, 6], true), expected);
    }

    #[test]
    fn a_prologue_that_stores_the_frame_pointer() {
        // sub rsp,0x18; mov [rsp+0x10],rbp; nop
        let code = [0x48, 0x81, 0xec, 0x18, 0, 0, 0, 0x48, 0x89, 0x6c, 0x24, 0x10, 0x90];
        use LeafRule::{Complete, FrameWithoutFp, ReturnAtSp};
        assert_eq!(rules(&code, &[7, 5, 1], true), [ReturnAtSp, FrameWithoutFp, Complete]);
    }

    #[test]
    fn an_epilogue_with_a_poll() {
        // add rsp,0x10; pop rbp; cmp rsp,[r15+0x3a8]; ja; ret
        let code =
            [0x48, 0x83, 0xc4, 0x10, 0x5d, 0x49, 0x3b, 0xa7, 0xa8, 3, 0, 0, 0x0f, 0x87, 1, 0, 0, 0, 0xc3];
        use LeafRule::{Complete, ReturnAtSp, SavedFpAtSp};
        let expected = [Complete, SavedFpAtSp, ReturnAtSp, ReturnAtSp, ReturnAtSp];
        assert_eq!(rules(&code, &[4, 1, 7, 6, 1], false), expected);
    }

    #[test]
    fn code_that_merely_resembles_an_end_has_a_frame() {
        // cmp rax,[r14+8] after mov; pop rbp before mov
        assert_eq!(LeafRule::of(&[0x48, 0x89, 0xc8], &[0x49, 0x3b, 0x46, 8], false), LeafRule::Complete);
        assert_eq!(LeafRule::of(&[0x90], &[0x5d, 0x48, 0x89, 0xc8], false), LeafRule::Complete);
        assert_eq!(LeafRule::of(&[], &[], false), LeafRule::Complete);
        assert_eq!(LeafRule::of(&[], &[], true), LeafRule::ReturnAtSp);
    }
}
