//! The size of what a tool returns.

use crate::{report::paint, text::counted};

/// The default size, in bytes: about two thousand tokens of a language model.
pub const DEFAULT: u64 = 8_000;
/// The smallest and the largest size.
pub const RANGE: (u64, u64) = (500, 200_000);

/// Room for the last line, which says what was left out.
const NOTE: usize = 90;

/// The first lines of `text` in at most `budget` bytes, and how much was left out. Names come from
/// the target: control characters are replaced.
pub fn cut(text: &str, budget: usize) -> String {
    let text = paint::harmless(text);
    let text = text.trim_end();
    if text.len() <= budget {
        return text.to_owned();
    }
    let room = budget.saturating_sub(NOTE);
    let (mut kept, mut lines) = (0, 0);
    for line in text.split_inclusive('\n') {
        if kept + line.len() > room {
            break;
        }
        kept += line.len();
        lines += 1;
    }
    if lines == 0 {
        // One long line.
        kept = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    }
    let left = counted(text[kept..].lines().count(), "line");
    let end = if lines == 0 { "\n" } else { "" };
    format!(
        "{}{end}… {left} ({} bytes) left out: a larger budget shows more",
        &text[..kept],
        text.len() - kept
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_line_and_says_how_much_is_left_out() {
        assert_eq!(cut("one\ntwo\n", 500), "one\ntwo");
        let text = "0123456789\n".repeat(100);
        let short = cut(&text, 500);
        assert!(short.len() <= 500, "{}", short.len());
        let kept = short.lines().count() - 1;
        assert!(
            short.ends_with(&format!(
                "… {} lines ({} bytes) left out: a larger budget shows more",
                100 - kept,
                1099 - kept * 11
            )),
            "{short}"
        );
        let line = cut(&"é".repeat(1000), 500);
        assert!(line.len() <= 500 && line.contains("1 line ("), "{line}");
    }

    #[test]
    fn control_characters_are_replaced() {
        assert!(!cut("a\u{1b}[31mb", 500).contains('\u{1b}'));
    }
}
