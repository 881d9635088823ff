//! Which CPUs are online: /sys/devices/system/cpu/online (kernel document `cputopology`).
//!
//! Not here: which of them a process may run on.

use std::{fs, io};

/// Upper bound of a CPU number; NR_CPUS of the kernel is 8192 at most.
const MAX_CPUS: u32 = 1 << 16;

/// The numbers of the online CPUs, ascending. Errors: the file cannot be read, or lists none.
pub fn online() -> io::Result<Vec<u32>> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let cpus = parse_list(text.trim());
    match cpus.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "the list of online CPUs is empty")),
        false => Ok(cpus),
    }
}

/// Numbers from a list such as `0-3,5,8-9`; parts that do not parse are left out.
fn parse_list(text: &str) -> Vec<u32> {
    let mut cpus: Vec<u32> = text.split(',').filter_map(parse_range).flatten().collect();
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

fn parse_range(text: &str) -> Option<std::ops::RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (*range.end() < MAX_CPUS).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_numbers_are_read() {
        assert_eq!(parse_list("0-3,5,8-9"), [0, 1, 2, 3, 5, 8, 9]);
        assert_eq!(parse_list("0"), [0]);
        assert!(parse_list("0-4294967295,x,3-1").is_empty());
    }

    #[test]
    fn some_cpu_is_online() {
        assert!(!online().expect("online CPUs").is_empty());
    }
}
