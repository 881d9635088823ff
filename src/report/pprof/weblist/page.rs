//! Writes the page. Text and elements are those of the reference, byte for byte; style and script
//! are rprof's own.
//!
//! Not here: the content.

use super::files::{Assembly, Call, Function, Line};
use crate::{
    report::pprof::{header, prepare::Report},
    text::{html::html_escape, path::base_name},
};

const HEAD: &str = include_str!("head.html");
/// The minimum width of the column with instructions.
const WIDTH: usize = 80;

pub(super) fn write(report: &Report, functions: &[Function]) -> String {
    let legend = header::of_profile(report);
    let said = |start: &str| legend.iter().find_map(|line| line.strip_prefix(start)).unwrap_or("unknown");
    let title = format!("{} {}", said("File: "), said("Type: "));
    let mut page = HEAD.replace("{title}", &escaped(&title));
    page += "<body>\n\n<div class=\"legend\">";
    page += &legend.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("<br>\n");
    page += &format!("<br>Total: {}</div>", escaped(&report.format.value(report.total)));
    for function in functions {
        write_function(function, &mut page);
    }
    page + "\n</body>\n</html>\n"
}

fn write_function(function: &Function, page: &mut String) {
    let (name, file) = (escaped(&function.name), escaped(&function.file));
    *page += &format!("<h2>{name}</h2><p class=\"filename\">{file}</p>\n");
    *page += "<pre onClick=\"pprof_toggle_asm(event)\">\n";
    let total =
        format!("  Total:  {:>10} {:>10} (flat, cum) {}", function.flat, function.cum, function.percent);
    *page += &escaped(&total);
    function.lines.iter().for_each(|line| write_line(line, page));
    *page += "\n</pre>\n";
}

fn write_line(line: &Line, page: &mut String) {
    // Only lines with instructions can be expanded.
    let opens = line.assembly.iter().any(|row| !row.calls.is_empty() || !row.text.is_empty());
    let class = match (line.assembly.is_empty(), opens) {
        (true, _) => "nop",
        (false, true) => "livesrc",
        (false, false) => "deadsrc",
    };
    let text = format!("  {:>10} {:>10} {:>8}  {} ", line.flat, line.cum, "", line.text);
    *page += &format!(
        "\n<span class=line> {:>6}</span> <span class={class}>{}</span>",
        line.number,
        escaped(&text)
    );
    if !opens {
        return;
    }
    *page += "<span class=asm>";
    let indent = indentation(&line.text);
    let mut before: &[Call] = &[];
    for row in &line.assembly {
        write_assembly(row, before, indent, page);
        before = &row.calls;
    }
    *page += "</span>";
}

fn write_assembly(row: &Assembly, before: &[Call], indent: usize, page: &mut String) {
    if row.starts_block {
        *page += &format!(" {:>8} {:>28}\n", "", "⋮");
    }
    let mut before = before;
    for (depth, call) in row.calls.iter().enumerate() {
        if before.get(depth) == Some(call) {
            continue;
        }
        before = &[];
        let source = padded(&format!("{}{}", " ".repeat(indent + 4 + 4 * depth), call.source));
        *page += &format!(
            " {:>8} {:>10} {:>10} {:>8}  <span class=inlinesrc>{}</span> <span class=unimportant>{}:{}</span>\n",
            "",
            "",
            "",
            "",
            escaped(&source),
            escaped(base_name(&call.file)),
            call.line
        );
    }
    if row.text.is_empty() {
        return;
    }
    let text = padded(&format!("{}{}", " ".repeat(indent + 4 + 4 * row.calls.len()), row.text));
    let place = match row.file.as_str() {
        "" => String::new(),
        file => format!("{}:{}", base_name(file), row.line),
    };
    let row = format!(" {:>8} {:>10} {:>10} {:>8x}: {text} ", "", row.flat, row.cum, row.address);
    // The reference escapes the place twice.
    let place = escaped(&html_escape(&place));
    *page += &format!("{}<span class=unimportant>{place}</span>\n", escaped(&row));
}

/// The indentation of a line, with tab stops every 8 columns.
fn indentation(line: &str) -> usize {
    let mut column = 0;
    for letter in line.chars() {
        match letter {
            ' ' => column += 1,
            '\t' => column = column / 8 * 8 + 8,
            _ => break,
        }
    }
    column
}

/// The text with tabs replaced by blanks, padded to the common width.
fn padded(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for letter in text.chars() {
        column += 1;
        if letter != '\t' {
            out.push(letter);
            continue;
        }
        out.push(' ');
        while column % 8 != 0 {
            column += 1;
            out.push(' ');
        }
    }
    out.extend(std::iter::repeat_n(' ', WIDTH.saturating_sub(column)));
    out
}

/// Escapes a text like Go's `html/template`.
fn escaped(text: &str) -> String {
    html_escape(text).replace('+', "&#43;").replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_become_columns() {
        assert_eq!(indentation("\t  x"), 10);
        assert_eq!(indentation("  \tx"), 8);
        assert_eq!(padded("a\tb").len(), WIDTH);
        assert!(padded("a\tb").starts_with("a       b"));
    }

    #[test]
    fn html_special_characters_are_escaped() {
        assert_eq!(escaped("a<b> & 'c'+\"d\""), "a&lt;b&gt; &amp; &#39;c&#39;&#43;&#34;d&#34;");
    }
}
