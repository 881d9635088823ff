//! Names of functions and files, as a person writes them.
//!
//! Not here: reading them.

/// The file of builtins: functions of V8 itself.
pub const BUILTIN: &str = "v8:builtin";

/// The name to show for a function that is called `name` in the script `script`. A function without
/// a name is called by its place.
pub fn display(name: &str, script: Option<&str>, line: u32) -> String {
    if !name.is_empty() {
        return printable(name);
    }
    let file = script.unwrap_or_default();
    let file = if file.starts_with("node:") { file } else { file.rsplit('/').next().unwrap_or(file) };
    match (file, line) {
        ("", _) => "(anonymous)".to_owned(),
        (file, 0) => format!("(anonymous {file})"),
        (file, line) => format!("(anonymous {file}:{line})"),
    }
}

/// The name of a method with its class, as in `Parent.method` and `get Parent.value`.
pub fn of_class(name: &str, class: Option<&str>) -> String {
    let Some(class) = class.filter(|class| *class != name) else { return name.to_owned() };
    match name.split_once(' ') {
        Some((accessor @ ("get" | "set"), rest)) => format!("{accessor} {class}.{rest}"),
        _ if name.is_empty() => String::new(),
        _ => format!("{class}.{name}"),
    }
}

/// The path of a script's name: that of a `file:` URL (modules), else the name itself.
pub fn path(name: &str) -> String {
    match name.strip_prefix("file://") {
        Some(path) => printable(&without_escapes(path)),
        None => printable(name),
    }
}

/// Replaces `%20` and the like.
fn without_escapes(path: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text of the process without control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_without_a_name_are_called_by_their_place() {
        assert_eq!(display("get", Some("/srv/app.js"), 3), "get");
        assert_eq!(display("", Some("/srv/app.js"), 3), "(anonymous app.js:3)");
        assert_eq!(display("", Some("node:internal/timers"), 3), "(anonymous node:internal/timers:3)");
        assert_eq!(display("", None, 0), "(anonymous)");
        assert_eq!(display("a\u{1b}[2J", None, 0), "a\u{fffd}[2J");
    }

    #[test]
    fn methods_are_named_with_their_class() {
        assert_eq!(of_class("run", Some("Job")), "Job.run");
        assert_eq!(of_class("get size", Some("Job")), "get Job.size");
        assert_eq!(of_class("Job", Some("Job")), "Job");
        assert_eq!([of_class("run", None), of_class("", Some("Job"))], ["run", ""]);
    }

    #[test]
    fn modules_have_paths() {
        assert_eq!(path("file:///srv/my%20app/x.mjs"), "/srv/my app/x.mjs");
        assert_eq!(path("/srv/100%.js"), "/srv/100%.js");
        assert_eq!(path("file:///a%zz"), "/a%zz");
        assert_eq!(path("node:fs"), "node:fs");
    }
}
