//! Text reports for a terminal: lines are coloured by their percentage, and control characters are
//! removed.
//!
//! Not here: whether the output is a terminal (`cli`, `shell`).

use std::{borrow::Cow, sync::OnceLock};

use regex::{Captures, Regex};

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const HOT: &str = "\x1b[1;31m";
const WARM: &str = "\x1b[33m";
const COOL: &str = "\x1b[36m";
const END: &str = "\x1b[0m";

/// Whether to use colours, by <https://no-color.org> and `TERM`.
pub fn is_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && variable("TERM").is_none_or(|term| term != "dumb")
}

/// Whether a character is a control character or changes the text direction.
pub fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text without control characters, except line breaks and tabs. The target chooses the names
/// in a profile.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |letter: char| is_harmful(letter) && letter != '\n' && letter != '\t';
    if text.contains(harmful) { text.replace(harmful, "\u{fffd}").into() } else { text.into() }
}

/// A report with colours: large shares red, medium ones yellow, headers pale. Only escape sequences
/// are added.
pub fn paint(report: &str) -> String {
    let mut out = String::with_capacity(report.len() * 5 / 4);
    let mut in_head = true;
    for line in report.split_inclusive('\n') {
        let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
        let title = is_title(text);
        if in_head && !title && is_head(text) {
            wrap(&mut out, DIM, text);
        } else if title || text.starts_with("ROUTINE ") {
            wrap(&mut out, BOLD, text);
        } else {
            row(&mut out, text);
        }
        in_head &= !title && is_head(text);
        out.push_str(end);
    }
    out
}

fn wrap(out: &mut String, style: &str, text: &str) {
    for part in [style, text, END] {
        out.push_str(part);
    }
}

fn is_title(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("flat") && words.next() == Some("flat%")
}

fn is_head(line: &str) -> bool {
    let starts = [
        "File: ",
        "Build ID: ",
        "Type: ",
        "Doc: ",
        "Time: ",
        "Duration: ",
        "Active filters:",
        "Showing ",
        "Dropped ",
        "Total: ",
        "quality: ",
        "Comment: ",
    ];
    let is_filter = line.starts_with("   ") && !line.starts_with("    ");
    is_filter || starts.iter().any(|start| line.starts_with(start))
}

/// A row: each number with a percentage is coloured by it.
fn row(out: &mut String, line: &str) {
    static PATTERNS: OnceLock<Option<(Regex, Regex)>> = OnceLock::new();
    let compile = || {
        let table = r"^( *\S+ +([0-9.e+-]+)%)( +[0-9.e+-]+%)( +\S+ +([0-9.e+-]+)%)(.*)$";
        let source = r"^( +\S+)( +\S+)( +\d+:)(.*)$";
        Some((Regex::new(table).ok()?, Regex::new(source).ok()?))
    };
    let Some((table, source)) = PATTERNS.get_or_init(compile) else { return out.push_str(line) };
    if let Some(found) = table.captures(line) {
        let part = |at: usize| found.get(at).map_or("", |part| part.as_str());
        heat(out, part(1), part(2));
        wrap(out, DIM, part(3));
        heat(out, part(4), part(5));
        return out.push_str(part(6));
    }
    match source.captures(line) {
        Some(found) => source_line(out, &found),
        None => out.push_str(line),
    }
}

fn heat(out: &mut String, text: &str, percent: &str) {
    match percent.parse::<f64>() {
        Ok(10.0..) => wrap(out, HOT, text),
        Ok(2.0..) => wrap(out, WARM, text),
        _ => out.push_str(text),
    }
}

fn source_line(out: &mut String, found: &Captures) {
    let part = |at: usize| found.get(at).map_or("", |part| part.as_str());
    for (at, style) in [(1, HOT), (2, WARM)] {
        if part(at).trim() == "." { out.push_str(part(at)) } else { wrap(out, style, part(at)) }
    }
    wrap(out, COOL, part(3));
    out.push_str(part(4));
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
File: app
Showing nodes accounting for 80ms, 80.00% of 100ms total
      flat  flat%   sum%        cum   cum%
      50ms 50.00% 50.00%       50ms 50.00%  leaf (inline)
       3ms  3.00% 53.00%       80ms 80.00%  recur
         0     0% 53.00%        1ms  1.00%  cold
";

    #[test]
    fn colours_only_add_escape_sequences() {
        let escape = Regex::new("\x1b\\[[0-9;]*m").unwrap();
        let painted = paint(REPORT);
        assert_eq!(escape.replace_all(&painted, ""), REPORT);
        let lines: Vec<&str> = painted.lines().collect();
        assert!(lines[0].starts_with(DIM) && lines[2].starts_with(BOLD), "{painted:?}");
        assert!(lines[3].starts_with(HOT) && lines[4].starts_with(WARM), "{painted:?}");
        assert!(lines[5].starts_with("         0     0%"), "{painted:?}");
        let list = "         .      30ms     12:	work();\n";
        assert_eq!(paint(list), "         .\x1b[33m      30ms\x1b[0m\x1b[36m     12:\x1b[0m	work();\n");
    }

    #[test]
    fn control_characters_are_removed() {
        assert_eq!(harmless("a\tb\n\u{1b}[2Jc\r\u{202e}d"), "a\tb\n\u{fffd}[2Jc\u{fffd}\u{fffd}d");
        assert!(matches!(harmless("plain\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn no_color_and_dumb_terminals_disable_colours() {
        let with = |name: &'static str, value: &'static str| {
            is_wanted(move |variable| (variable == name).then(|| value.to_string()))
        };
        assert!(!with("NO_COLOR", "1") && !with("TERM", "dumb"));
        assert!(with("NO_COLOR", "") && with("TERM", "xterm"));
    }
}
