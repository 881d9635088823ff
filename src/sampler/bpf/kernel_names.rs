//! Names of kernel addresses, requested from the kernel one by one (`names.bpf.c`): it looks each
//! up in its tables, which takes a microsecond. To print all of them as `/proc/kallsyms` takes as
//! long as a short profile.
//!
//! Not here: reading `/proc/kallsyms`, which is used where this does not work.

use std::os::fd::AsFd;

use super::{
    load::{self, ANSWER_BYTES},
    refusal,
};
use crate::{
    addr::RuntimeAddr,
    sampler::{KernelName, SamplerError},
    sys::bpf,
};

/// The name of each address, in their order. Errors: the kernel does not offer such a program.
pub fn names(addresses: &[RuntimeAddr]) -> Result<Vec<Option<KernelName>>, SamplerError> {
    let loaded = load::load_names()?;
    let name = |address: &RuntimeAddr| {
        let bytes = bpf::run_raw_tracepoint(loaded.name.as_fd(), &[address.0])
            .map_err(|source| SamplerError::System { what: "running a BPF program".to_owned(), source })?;
        // 0: no result; more than fits: the name is cut.
        if !(1..=ANSWER_BYTES).contains(&(bytes as usize)) {
            return Ok(None);
        }
        let answer = loaded.answer.get(&0, 0).map_err(|error| refusal::from_map(&error))?;
        Ok(parse(&answer))
    };
    addresses.iter().map(name).collect()
}

/// `function` or `function [module]`; an address without a name is printed as a number.
pub(super) fn parse(answer: &[u8]) -> Option<KernelName> {
    let text = answer.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let (function, module) = match text.split_once(' ') {
        Some((function, module)) => (function, Some(module.to_owned())),
        None => (&*text, None),
    };
    let is_name = function.starts_with(|first: char| !first.is_ascii_digit() && first != '(');
    is_name.then(|| KernelName { function: function.to_owned(), module })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_followed_by_its_module_and_a_number_is_none() {
        let name = |function: &str, module: Option<&str>| {
            Some(KernelName { function: function.to_owned(), module: module.map(str::to_owned) })
        };
        assert_eq!(parse(b"do_idle\0[old]"), name("do_idle", None));
        assert_eq!(parse(b"lookup.isra.0 [ext4]\0"), name("lookup.isra.0", Some("[ext4]")));
        assert_eq!(parse(b"0xffffffffc0001234\0"), None);
        assert_eq!(parse(b"(null)\0"), None);
        assert_eq!(parse(b"\0"), None);
    }
}
