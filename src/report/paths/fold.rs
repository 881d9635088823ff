//! Folds a stack to the frames that a summary shows: own functions, the library function that they
//! called, and one line for what the kernel did.
//!
//! Not here: what kind of code a frame is ([`super::category`]).

use std::borrow::Cow;

use super::{super::names, category::Category};

/// What a summary shows unfolded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expand {
    /// All frames of the kernel.
    pub kernel: bool,
    /// All frames of libraries, runtimes and interpreters.
    pub runtime: bool,
}

/// A frame of a stack, root first.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'f> {
    /// The function's name.
    pub name: &'f str,
    /// Number of the function; equal numbers are the same function.
    pub id: u32,
    /// What kind of code it is.
    pub category: Category,
}

/// A frame of a folded stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown<'f> {
    /// The function with this number.
    Function(u32),
    /// What the kernel did: `read (system call)`, `page fault`.
    Kernel(Cow<'f, str>),
}

/// Folds `stack` (root first) into `out`.
pub fn fold<'f>(stack: &[Frame<'f>], expand: Expand, out: &mut Vec<Shown<'f>>) {
    out.clear();
    let start = stack.iter().take_while(|frame| frame.category == Category::Start).count();
    // A thread that never leaves its start shows the innermost function.
    let start = if expand.runtime { 0 } else { start.min(stack.len().saturating_sub(1)) };
    let stack = &stack[start..];
    let last_own = stack.iter().rposition(|frame| frame.category == Category::Own);
    let mut at = 0;
    while at < stack.len() {
        let category = stack[at].category;
        let length = stack[at..].iter().take_while(|frame| frame.category == category).count();
        let run = &stack[at..at + length];
        at += length;
        match category {
            Category::Kernel if !expand.kernel => {
                kernel(run, (at - length).checked_sub(1).map(|before| &stack[before]), out);
            }
            Category::Own | Category::Kernel => out.extend(run.iter().map(|frame| Shown::Function(frame.id))),
            _ if expand.runtime => out.extend(run.iter().map(|frame| Shown::Function(frame.id))),
            Category::Library if last_own.is_some_and(|own| own >= at) => {
                out.push(Shown::Function(run[0].id))
            }
            // Between own functions.
            _ if last_own.is_some_and(|own| own >= at) => {}
            _ => machinery(run, stack, at, last_own.is_some(), out),
        }
    }
    out.dedup();
}

/// What is called below the last own function: the first function of it. A stack without own
/// functions also shows the innermost one.
fn machinery<'f>(
    run: &[Frame<'f>],
    stack: &[Frame<'f>],
    end: usize,
    has_own: bool,
    out: &mut Vec<Shown<'f>>,
) {
    let before = &stack[..end - run.len()];
    let is_first =
        !before.iter().any(|frame| matches!(frame.category, Category::Library | Category::Runtime))
            || before.last().is_some_and(|frame| frame.category == Category::Own);
    // A function of libc that does nothing but a system call is shown as the call.
    let called = system_call(&stack[end..], run.last());
    let wraps_call = called.is_some_and(|call| run.iter().all(|frame| plain_call(frame.name) == call));
    if is_first && !wraps_call {
        out.push(Shown::Function(run[0].id));
    }
    if !has_own && end == stack.len() {
        out.push(Shown::Function(run[run.len() - 1].id));
    }
}

/// One line for a run of kernel frames; `caller` called the kernel.
fn kernel<'f>(run: &[Frame<'f>], caller: Option<&Frame<'f>>, out: &mut Vec<Shown<'f>>) {
    let what = match system_call(run, caller) {
        Some(call) => Cow::Owned(format!("{call} (system call)")),
        None => Cow::Borrowed(reason(run)),
    };
    out.push(Shown::Kernel(what));
}

/// The system call that the kernel frames at the start of `run` (outermost first) are of: by the
/// function of the kernel, or by the function of a library that made the call.
fn system_call<'f>(run: &[Frame<'f>], caller: Option<&Frame<'f>>) -> Option<&'f str> {
    const ENTRIES: [&str; 6] =
        ["__x64_sys_", "__arm64_sys_", "__ia32_sys_", "__do_sys_", "__se_sys_", "ksys_"];
    let kernel = || run.iter().take_while(|frame| frame.category == Category::Kernel);
    let call = |name: &'f str| ENTRIES.iter().find_map(|entry| name.strip_prefix(entry));
    if let Some(named) = kernel().find_map(|frame| call(frame.name)) {
        return Some(names::without_clone_suffix(named));
    }
    let is_call = kernel().next().is_some() && reason(run) == SYSTEM_CALL;
    let caller = caller.filter(|caller| is_call && caller.category == Category::Library)?;
    let call = plain_call(caller.name);
    // A function of C, not of another language.
    call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(call)
}

/// The name of libc's function without the prefixes and suffixes of its variants: `__libc_read`,
/// `__GI___read`, `__read_nocancel` are `read`.
fn plain_call(name: &str) -> &str {
    let mut name = name;
    for prefix in ["__GI_", "__libc_", "__"] {
        name = name.strip_prefix(prefix).unwrap_or(name);
    }
    name.strip_suffix("_nocancel").unwrap_or(name)
}

/// The reason of kernel frames of a system call.
const SYSTEM_CALL: &str = "system call";

/// Why the kernel ran, where no system call is known.
fn reason(run: &[Frame<'_>]) -> &'static str {
    const REASONS: [(&str, &str); 13] = [
        ("page_fault", "page fault"),
        ("el0_da", "page fault"),
        ("do_mem_abort", "page fault"),
        ("sysvec_", "interrupt"),
        ("common_interrupt", "interrupt"),
        ("irq_exit", "interrupt"),
        ("el0_irq", "interrupt"),
        ("el0t_64_irq", "interrupt"),
        ("do_syscall", SYSTEM_CALL),
        ("entry_SYSCALL", SYSTEM_CALL),
        ("syscall_", SYSTEM_CALL),
        ("el0_svc", SYSTEM_CALL),
        ("exit_to_user_mode", "return to the program"),
    ];
    let known = |frame: &Frame<'_>| REASONS.iter().find(|(part, _)| frame.name.contains(part));
    run.iter().find_map(known).map_or("kernel", |(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folds `category:name` words; kernel lines are in brackets.
    fn folded(stack: &str, expand: Expand) -> String {
        let words: Vec<&str> = stack.split_whitespace().collect();
        let frame = |(id, word): (usize, &&'static str)| {
            let (category, name) = word.split_once(':').expect("category:name");
            let category = match category {
                "s" => Category::Start,
                "o" => Category::Own,
                "l" => Category::Library,
                "r" => Category::Runtime,
                _ => Category::Kernel,
            };
            Frame { name, id: id as u32, category }
        };
        let words: Vec<&'static str> = words.iter().map(|word| &*word.to_string().leak()).collect();
        let frames: Vec<Frame> = words.iter().enumerate().map(frame).collect();
        let mut out = Vec::new();
        fold(&frames, expand, &mut out);
        let text = |shown: &Shown| match shown {
            Shown::Function(id) => frames[*id as usize].name.to_owned(),
            Shown::Kernel(what) => format!("[{what}]"),
        };
        out.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn stacks_are_folded_to_own_functions_what_they_call_and_the_kernel() {
        for (stack, expected) in [
            ("s:_start o:main o:work", "main work"),
            ("s:clone r:run r:poll o:handle r:poll o:inner", "handle inner"),
            ("o:main l:qsort l:msort o:compare", "main qsort compare"),
            ("o:main l:malloc l:int_malloc", "main malloc"),
            ("o:main l:malloc r:x l:y", "main malloc"),
            ("o:main l:read k:entry_SYSCALL_64 k:__x64_sys_read k:vfs_read", "main [read (system call)]"),
            ("o:main l:fread l:read k:do_syscall_64 k:__x64_sys_read", "main fread [read (system call)]"),
            ("o:main l:write l:__libc_write k:entry_SYSCALL_64 k:vfs_write", "main [write (system call)]"),
            (
                "r:internal/syscall.Syscall6 k:entry_SYSCALL_64 k:vfs_write",
                "internal/syscall.Syscall6 [system call]",
            ),
            ("o:main l:memcpy k:asm_exc_page_fault k:handle_mm_fault", "main memcpy [page fault]"),
            ("k:ret_to_user k:schedule", "[kernel]"),
            ("s:clone r:worker r:park", "worker park"),
            ("s:clone r:worker l:wait k:__x64_sys_futex.isra.0", "worker [futex (system call)]"),
            ("s:_start s:main0", "main0"),
            ("", ""),
        ] {
            assert_eq!(folded(stack, Expand::default()), expected, "{stack}");
        }
    }

    #[test]
    fn the_kernel_and_the_runtime_can_be_shown() {
        let stack = "s:clone r:run o:main l:read k:entry_SYSCALL_64 k:__x64_sys_read";
        let kernel = Expand { kernel: true, runtime: false };
        assert_eq!(folded(stack, kernel), "main entry_SYSCALL_64 __x64_sys_read");
        let runtime = Expand { kernel: false, runtime: true };
        assert_eq!(folded(stack, runtime), "clone run main read [read (system call)]");
    }
}
