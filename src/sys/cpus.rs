//! Which CPUs are online: /sys/devices/system/cpu/online (kernel document `cputopology`), or where
//! there is no /sys (a bare chroot), the lines of /proc/stat (proc_stat(5)).
//!
//! Not here: which of them a process may run on.

use std::{fs, io};

/// Upper bound of a CPU number; NR_CPUS of the kernel is 8192 at most.
const MAX_CPUS: u32 = 1 << 16;

/// The numbers of the online CPUs, ascending. Errors: neither file can be read, or it lists none.
pub fn online() -> io::Result<Vec<u32>> {
    let cpus = match fs::read_to_string("/sys/devices/system/cpu/online") {
        Ok(text) => parse_list(text.trim()),
        Err(error) => parse_stat(&fs::read_to_string("/proc/stat").map_err(|_| error)?),
    };
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

/// Numbers from the lines `cpu0 …`, `cpu1 …` of /proc/stat, which has one for each online CPU.
fn parse_stat(text: &str) -> Vec<u32> {
    let words = text.lines().filter_map(|line| line.split_whitespace().next()?.strip_prefix("cpu"));
    let mut cpus: Vec<u32> =
        words.filter_map(|number| number.parse().ok()).filter(|cpu| *cpu < MAX_CPUS).collect();
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
    fn the_lines_of_proc_stat_are_read() {
        let text = "cpu  9 9 9\ncpu0 1 2 3\ncpu2 1 2 3\ncpu99999999999 1\nintr 7\ncpux 1\n";
        assert_eq!(parse_stat(text), [0, 2]);
    }

    #[test]
    fn some_cpu_is_online_and_both_files_list_the_same() {
        let online = online().expect("online CPUs");
        let stat = fs::read_to_string("/proc/stat").expect("/proc is mounted");
        assert_eq!(parse_stat(&stat), online);
        assert!(!online.is_empty());
    }
}
