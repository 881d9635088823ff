//! Counted things in messages: `1 sample`, `2 samples`.

use std::fmt::Display;

/// A count and its noun, in the plural (`noun` + `s`) unless the count is 1.
///
/// ```
/// assert_eq!(rprof::text::counted(1, "sample"), "1 sample");
/// assert_eq!(rprof::text::counted(0, "sample"), "0 samples");
/// ```
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    counted_as(count, noun, &format!("{noun}s"))
}

/// As [`counted`], for a noun whose plural is irregular (`1 process`, `2 processes`).
pub fn counted_as<N: Display + PartialEq + From<u8>>(count: N, one: &str, several: &str) -> String {
    let noun = if count == N::from(1) { one } else { several };
    format!("{count} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_thing_is_singular() {
        let texts = [0_usize, 1, 2].map(|count| counted(count, "different stack"));
        assert_eq!(texts, ["0 different stacks", "1 different stack", "2 different stacks"]);
        assert_eq!(counted_as(2_u64, "process", "processes"), "2 processes");
    }
}
