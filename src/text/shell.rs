//! Quotes words for a POSIX shell.

/// A word as it is typed in a shell, quoted if necessary. Control characters are written as
/// `$'\n'`, which bash, zsh, ksh and POSIX.1-2024 understand.
///
/// ```
/// assert_eq!(rprof::text::shell::quote("a b'c"), r"'a b'\''c'");
/// assert_eq!(rprof::text::shell::quote("plain-1.2/x"), "plain-1.2/x");
/// ```
pub fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    if !word.chars().any(char::is_control) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut quoted = String::from("$'");
    for c in word.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\'' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.extend(c.to_string().bytes().map(|byte| format!("\\{byte:03o}"))),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// A file name as an argument of a command: quoted, and not mistaken for an option.
pub fn quote_path(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    if text.starts_with('-') { quote(&format!("./{text}")) } else { quote(&text) }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;

    #[test]
    fn bash_reads_every_quoted_word_as_it_was() {
        for word in [
            "",
            "a",
            "two words",
            "it's",
            "$(reboot)",
            "a;b",
            "~",
            "*",
            "#x",
            "\\",
            "tab\there\n'\\\x1b[0m",
            "\u{85}é",
        ] {
            let script = format!("printf %s {}", quote(word));
            let Ok(output) = Command::new("bash").args(["-c", &script]).output() else { return };
            assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{script}");
        }
    }

    #[test]
    fn a_file_name_is_never_an_option() {
        assert_eq!(quote_path(Path::new("-o x")), "'./-o x'");
        assert_eq!(quote_path(Path::new("/tmp/a.pb.gz")), "/tmp/a.pb.gz");
    }
}
