//! The names of threads and processes that the kernel keeps (`comm`): up to 15 bytes, which may not
//! be UTF-8.

/// `TASK_COMM_LEN` of the kernel's include/linux/sched.h, less the NUL.
pub const MAX_COMM_BYTES: usize = 15;

/// A `comm` as text: bytes up to the first NUL, control characters replaced by `?`.
pub fn printable(comm: &[u8]) -> String {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    let text = String::from_utf8_lossy(&comm[..end]);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Whether a name has all the bytes that the kernel keeps, so that it may be the beginning of a
/// longer one. A character that the kernel has cut (1 to 3 bytes) has become U+FFFD.
pub fn has_full_length(name: &str) -> bool {
    match name.strip_suffix('\u{fffd}') {
        Some(whole) => (MAX_COMM_BYTES - 3..MAX_COMM_BYTES).contains(&whole.len()),
        None => name.len() == MAX_COMM_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(printable(b"a\x1b[31m\0junk"), "a?[31m");
    }
}
