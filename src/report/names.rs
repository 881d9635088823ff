//! Function names for readers: template arguments are folded, generics and closures shortened, and
//! a name that is too long for its column keeps its first and last parts.
//!
//! Only what is displayed is shortened: files, JSON and CSV have the whole names, and so have the
//! texts that imitate `go tool pprof`. Not here: demangling (`symbolize`).

use std::borrow::Cow;

/// Suffixes that compilers add to copies and parts of a function (`read.isra.0`, `main.cold`).
const CLONE_SUFFIXES: [&str; 7] = ["isra", "constprop", "part", "cold", "lto_priv", "llvm", "localalias"];

/// Types in types are written up to this depth.
const MAX_DEPTH: usize = 8;

/// The short form of a demangled name:
/// - C++: `std::vector<Row, std::allocator<Row> >::at` is `std::vector<…>::at`, and
///   `std::__cxx11::basic_string<char, …>` is `std::string`;
/// - Rust: `<alloc::vec::Vec<T> as core::clone::Clone>::clone` is
///   `<alloc::vec::Vec<…> as Clone>::clone`, `main::{{closure}}::{{closure}}` is `main::{closure}`;
/// - Go: `sort.Slice[go.shape.int]` is `sort.Slice[…]`;
/// - Python's `render.<locals>.<genexpr>` and `<module>` stay: there the brackets mark a name.
pub fn short(name: &str) -> Cow<'_, str> {
    if !name.contains(['<', '[', '{', '(']) && !name.contains("__") {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    fold(name, MAX_DEPTH, &mut out);
    for (long, short) in [
        ("std::__cxx11::", "std::"),
        ("std::__1::", "std::"),
        ("std::__ndk1::", "std::"),
        ("(anonymous namespace)::", "(anon)::"),
        ("{{closure}}", "{closure}"),
    ] {
        if out.contains(long) {
            out = out.replace(long, short);
        }
    }
    while out.contains("::{closure}::{closure}") {
        out = out.replace("::{closure}::{closure}", "::{closure}");
    }
    if out == name { Cow::Borrowed(name) } else { Cow::Owned(out) }
}

/// Appends `name` with its brackets folded; those of types in types, up to `depth` levels.
fn fold(name: &str, depth: usize, out: &mut String) {
    let mut rest = name;
    if depth == 0 {
        return out.push('…');
    }
    while let Some(at) = rest.find(['<', '[', '{']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(operator) = operator(out, rest) {
            out.push_str(&rest[..operator]);
            rest = &rest[operator..];
            continue;
        }
        let Some(inner) = bracketed(rest) else { break };
        let whole = &rest[..inner.len() + 2];
        match whole.as_bytes()[0] {
            b'<' if is_marked_name(out, &rest[whole.len()..]) => out.push_str(whole),
            b'<' => angle(inner, depth - 1, out),
            b'[' => square(whole, out),
            _ => brace(whole, out),
        }
        rest = &rest[whole.len()..];
    }
    out.push_str(rest);
}

/// Whether brackets between these texts mark a name that is none in the source (`<lambda>`): they
/// stand where a name stands, alone or after a dot.
fn is_marked_name(before: &str, after: &str) -> bool {
    (before.is_empty() || before.ends_with('.')) && (after.is_empty() || after.starts_with('.'))
}

/// The length of the operator characters at the start of `rest`, where `out` ends with `operator`.
fn operator(out: &str, rest: &str) -> Option<usize> {
    let before = out.strip_suffix("operator")?;
    if before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
        return None;
    }
    ["<=>", "<<=", "<<", "<=", "<", "[]"].iter().find(|sign| rest.starts_with(**sign)).map(|sign| sign.len())
}

/// The text inside the bracket at the start of `text`; `None` if it is not closed.
fn bracketed(text: &str) -> Option<&str> {
    let (open, close) = match text.as_bytes()[0] {
        b'<' => (b'<', b'>'),
        b'[' => (b'[', b']'),
        _ => (b'{', b'}'),
    };
    let (mut depth, mut before) = (0usize, 0u8);
    for (at, byte) in text.bytes().enumerate() {
        if byte == open {
            depth += 1;
        } else if byte == close && !(byte == b'>' && before == b'-') {
            depth -= 1;
            if depth == 0 {
                return Some(&text[1..at]);
            }
        }
        before = byte;
    }
    None
}

/// Template or generic arguments, or a qualified path of Rust.
fn angle(inner: &str, depth: usize, out: &mut String) {
    let is_path = out.is_empty() || out.ends_with("::");
    if is_path && let Some((of, as_trait)) = split_outside(inner, " as ") {
        out.push('<');
        fold(of, depth, out);
        out.push_str(" as ");
        out.push_str(&last_part(as_trait, depth));
        return out.push('>');
    }
    if is_path
        && let Some((trait_, of)) = inner.strip_prefix("impl ").and_then(|it| split_outside(it, " for "))
    {
        out.push_str("<impl ");
        out.push_str(&last_part(trait_, depth));
        out.push_str(" for ");
        fold(of, depth, out);
        return out.push('>');
    }
    if out.is_empty() {
        // `<shop::Cart>::add`: the methods of a type.
        return fold(inner, depth, out);
    }
    if let Some(before) = out.strip_suffix("::") {
        // `sum::<i32>`.
        out.truncate(before.len());
        if inner.is_empty() {
            return;
        }
    }
    match char_alias(out, inner) {
        Some((at, alias)) => {
            out.truncate(at);
            out.push_str(alias);
        }
        None => out.push_str("<…>"),
    }
}

/// `std::basic_string<char, …>` is `std::string`: where the alias starts, and the alias.
fn char_alias(out: &str, inner: &str) -> Option<(usize, &'static str)> {
    const ALIASES: [(&str, &str, &str); 10] = [
        ("basic_string", "char", "string"),
        ("basic_string", "wchar_t", "wstring"),
        ("basic_string_view", "char", "string_view"),
        ("basic_ostream", "char", "ostream"),
        ("basic_istream", "char", "istream"),
        ("basic_stringstream", "char", "stringstream"),
        ("basic_ostringstream", "char", "ostringstream"),
        ("basic_streambuf", "char", "streambuf"),
        ("basic_filebuf", "char", "filebuf"),
        ("basic_regex", "char", "regex"),
    ];
    let first = inner.split(',').next().unwrap_or_default().trim();
    let find = |(long, of, alias): &(&str, &str, &'static str)| {
        let at = out.strip_suffix(long).filter(|before| before.ends_with("::"))?.len();
        (first == *of && out[..at].contains("std::")).then_some((at, *alias))
    };
    ALIASES.iter().find_map(find)
}

/// `[abi:cxx11]` is dropped, the type arguments of a Go function are folded; others are kept.
fn square(whole: &str, out: &mut String) {
    let follows_name = out.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
    match whole {
        _ if whole.starts_with("[abi:") => {}
        "[]" | "[...]" => out.push_str(whole),
        _ if follows_name => out.push_str("[…]"),
        _ => out.push_str(whole),
    }
}

/// `{closure#1}` is `{closure}`, `{lambda(int, char)#2}` is `{lambda#2}`; others are kept.
fn brace(whole: &str, out: &mut String) {
    if whole.starts_with("{closure#") || whole.starts_with("{{closure") {
        return out.push_str("{closure}");
    }
    match whole.strip_prefix("{lambda(").and_then(|_| whole.rfind(")#")) {
        Some(at) => {
            out.push_str("{lambda");
            out.push_str(&whole[at + 1..]);
        }
        None => out.push_str(whole),
    }
}

/// Splits at the first `at` that is outside of brackets.
fn split_outside<'t>(text: &'t str, at: &str) -> Option<(&'t str, &'t str)> {
    let mut depth = 0i32;
    for (index, letter) in text.char_indices() {
        match letter {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' | ')' | ']' | '}' => depth -= 1,
            ' ' if depth == 0 && text[index..].starts_with(at) => {
                return Some((&text[..index], &text[index + at.len()..]));
            }
            _ => {}
        }
    }
    None
}

/// The last part of a path, folded: `core::iter::Iterator<T>` is `Iterator<…>`.
fn last_part(path: &str, depth: usize) -> String {
    let mut folded = String::new();
    fold(path, depth, &mut folded);
    let parts = parts(&folded);
    parts.last().copied().unwrap_or_default().to_owned()
}

/// The parts of a path that `::` separates outside of brackets.
fn parts(name: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            b'>' | b')' | b']' | b'}' => depth -= 1,
            b':' if depth <= 0 && bytes.get(at + 1) == Some(&b':') => {
                parts.push(&name[start..at]);
                start = at + 2;
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&name[start..]);
    parts
}

/// `name` in at most `width` characters. Dropped first is the import path of a Go function, then
/// the middle of a path (`tokio::…::Context::run`), then the end.
pub fn fit(name: &str, width: usize) -> Cow<'_, str> {
    let length = |text: &str| text.chars().count();
    if length(name) <= width {
        return Cow::Borrowed(name);
    }
    let plain = name.find(['(', '[', '<', ' ']).unwrap_or(name.len());
    if let Some(at) = name[..plain].rfind('/')
        && !name.contains("::")
    {
        return fit(&name[at + 1..], width);
    }
    let parts = parts(name);
    // The first part is the crate or namespace.
    for kept in (1..parts.len().saturating_sub(1)).rev() {
        let text = format!("{}::…::{}", parts[0], parts[parts.len() - kept..].join("::"));
        if length(&text) <= width {
            return Cow::Owned(text);
        }
    }
    if let Some(last) = parts.last().filter(|last| parts.len() > 1 && length(last) + 3 <= width) {
        return Cow::Owned(format!("…::{last}"));
    }
    let end = name.char_indices().nth(width.saturating_sub(1)).map_or(name.len(), |(at, _)| at);
    Cow::Owned(format!("{}…", &name[..end]))
}

/// The name without the suffixes of compilers: `read.isra.0.cold` is `read`.
pub fn without_clone_suffix(name: &str) -> &str {
    let Some(at) = name.find('.').filter(|at| *at > 0) else { return name };
    let is_known = |word: &str| CLONE_SUFFIXES.contains(&word) || word.bytes().all(|b| b.is_ascii_digit());
    let mut words = name[at + 1..].split('.');
    let first = words.next().is_some_and(|word| CLONE_SUFFIXES.contains(&word));
    if first && words.all(is_known) { &name[..at] } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_brackets_stays() {
        for name in ["<module>", "render.<locals>.<genexpr>", "Cart.total.<locals>.<lambda>", "<anonymous>"] {
            assert_eq!(short(name), name);
        }
    }

    #[test]
    fn template_arguments_are_folded_and_strings_are_called_string() {
        for (name, expected) in [
            ("std::vector<Row, std::allocator<Row> >::push_back", "std::vector<…>::push_back"),
            (
                "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >::_M_append",
                "std::string::_M_append",
            ),
            ("std::basic_ostream<char, std::char_traits<char> >::flush", "std::ostream::flush"),
            ("std::__1::basic_string<wchar_t>::size", "std::wstring::size"),
            ("mine::basic_string<char>::size", "mine::basic_string<…>::size"),
            ("shop::Index<int>::operator<", "shop::Index<…>::operator<"),
            ("operator<< <char>", "operator<< <…>"),
            ("shop::Index<int>::operator[]", "shop::Index<…>::operator[]"),
            ("a::operator-><T>", "a::operator-><…>"),
            ("(anonymous namespace)::run", "(anon)::run"),
            ("f[abi:cxx11]", "f"),
            ("sum<1, (a)0>", "sum<…>"),
            ("main::{lambda(int, char)#2}::operator()", "main::{lambda#2}::operator()"),
            ("broken<a::b", "broken<a::b"),
        ] {
            assert_eq!(short(name), expected);
        }
    }

    #[test]
    fn rust_generics_and_closures_are_shortened_and_the_crate_is_kept() {
        for (name, expected) in [
            ("<alloc::vec::Vec<T> as core::clone::Clone>::clone", "<alloc::vec::Vec<…> as Clone>::clone"),
            ("<shop::Cart>::add", "shop::Cart::add"),
            ("shop::sum::<i32>", "shop::sum<…>"),
            ("shop::sum::<>", "shop::sum"),
            (
                "shop::<impl core::fmt::Display for shop::Item<T>>::fmt",
                "shop::<impl Display for shop::Item<…>>::fmt",
            ),
            ("shop::main::{{closure}}::{{closure}}", "shop::main::{closure}"),
            ("shop::main::{closure#0}::{closure#3}", "shop::main::{closure}"),
            ("<F as core::ops::FnOnce<(A,)>>::call_once", "<F as FnOnce<…>>::call_once"),
            ("<[T]>::sort", "[T]::sort"),
        ] {
            assert_eq!(short(name), expected);
        }
    }

    #[test]
    fn other_names_are_unchanged() {
        for name in ["main", "runtime.(*mcache).refill", "[truncated stack]", "finish_task_switch.isra.0", ""]
        {
            assert!(matches!(short(name), Cow::Borrowed(same) if same == name), "{name}");
        }
        assert_eq!(short("slices.SortFunc[go.shape.[]int,go.shape.int]"), "slices.SortFunc[…]");
    }

    #[test]
    fn a_long_name_keeps_its_first_and_last_parts() {
        let name = "tokio::runtime::scheduler::multi_thread::worker::Context::run_task";
        assert_eq!(fit(name, 80), name);
        assert_eq!(fit(name, 40), "tokio::…::worker::Context::run_task");
        assert_eq!(fit(name, 20), "tokio::…::run_task");
        assert_eq!(fit(name, 12), "…::run_task");
        assert_eq!(fit(name, 6), "tokio…");
        assert_eq!(
            fit("google.golang.org/grpc/transport.(*http2Server).write", 40),
            "transport.(*http2Server).write"
        );
        assert_eq!(fit("äöüäöü", 3), "äö…");
    }

    #[test]
    fn the_suffixes_of_compilers_are_recognized() {
        for (name, expected) in [
            ("finish_task_switch.isra.0", "finish_task_switch"),
            ("do_softirq.part.0", "do_softirq"),
            ("compute.constprop.0.cold", "compute"),
            ("main.cold", "main"),
            ("runtime.isra", "runtime"),
            ("runtime.mallocgc", "runtime.mallocgc"),
            ("main.part.run", "main.part.run"),
            (".cold", ".cold"),
        ] {
            assert_eq!(without_clone_suffix(name), expected);
        }
    }

    #[test]
    fn hostile_names_do_not_panic() {
        for name in
            ["<", ">", "<>", "::", "a::<", "{", "}{", "[[", "<<<<>", "operator<", "<as>", "ä<ö>::ü", "- >->"]
        {
            let short = short(name).into_owned();
            for width in 0..8 {
                assert!(fit(&short, width).chars().count() <= width.max(1), "{name} {width}");
            }
        }
        let deep = "<".repeat(100_000);
        assert_eq!(short(&deep), deep);
        let nested = format!("{}{}", "<a as ".repeat(2000), ">".repeat(2000));
        assert!(!short(&nested).is_empty());
    }
}
