//! Demangles C++ and Rust names in profiles that have linker names only.

use std::borrow::Cow;

use crate::{profile::columns::Columns, symbolize};

/// How much of a name is kept (`-symbolize=demangle=…`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Detail {
    /// No parameters, no template arguments.
    #[default]
    Simple,
    /// No parameters.
    Templates,
    Full,
    /// The linker's name.
    None,
}

/// Demangles the names of functions that have only a linker name; with `force`, of all functions.
pub(super) fn demangle(columns: &mut Columns, force: bool, detail: Detail) {
    if force {
        for function in &mut columns.functions {
            if function.name != 0 && function.system_name != 0 {
                function.name = function.system_name;
            }
        }
    }
    if detail == Detail::None {
        return;
    }
    for at in 0..columns.functions.len() {
        let function = columns.functions[at];
        if function.name != 0 && function.name != function.system_name {
            continue;
        }
        let readable = readable(columns.text(function.system_name), detail).into_owned();
        columns.functions[at].name = columns.intern(&readable);
    }
}

fn readable(name: &str, detail: Detail) -> Cow<'_, str> {
    let shorter = name.strip_prefix('_');
    if let Some(readable) = [Some(name), shorter].into_iter().flatten().find_map(|n| mangled(n, detail)) {
        return Cow::Owned(readable);
    }
    if !looks_like_cpp(name) || detail == Detail::Full {
        return Cow::Borrowed(name);
    }
    let name = cut_out(name, '(', ')');
    Cow::Owned(if detail == Detail::Simple { cut_out(&name, '<', '>') } else { name })
}

/// The demangled forms of a symbol's name that an expression may match, as in the reference: with
/// parameters, without them (as profiles of rprof have it), and also without template arguments.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let own = symbolize::demangle(name);
    let own = (own != name).then_some(own);
    let mut all: Vec<String> = mangled(name, Detail::Full).into_iter().chain(own).collect();
    all.extend([Detail::Templates, Detail::Simple].iter().filter_map(|detail| mangled(name, *detail)));
    all.dedup();
    all
}

/// The demangled name; `None` if the name is not mangled.
fn mangled(name: &str, detail: Detail) -> Option<String> {
    if !name.starts_with("_Z") && !name.starts_with("_R") {
        return None;
    }
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        let text = if detail == Detail::Full { rust.to_string() } else { format!("{rust:#}") };
        return Some(if detail == Detail::Simple { without_templates(&text) } else { text });
    }
    let symbol = cpp_demangle::Symbol::new(name).ok().or_else(|| beginning(name, detail))?;
    let options = cpp_demangle::DemangleOptions::new();
    let options = if detail == Detail::Full { options } else { options.no_params().no_return_type() };
    let text = symbol.demangle_with_options(&options).ok()?;
    Some(if detail == Detail::Simple { without_templates(&text) } else { text })
}

/// The maximum length of a name whose prefixes are tried, because each prefix is parsed.
const LONGEST_TRIED: usize = 160;

/// The longest prefix that is a symbol. Unless parameters are shown, `go tool pprof` ignores what
/// follows a symbol (`@plt`, a version).
fn beginning(name: &str, detail: Detail) -> Option<cpp_demangle::Symbol<&str>> {
    if detail == Detail::Full || name.len() > LONGEST_TRIED {
        return None;
    }
    let beginnings = (1..name.len()).rev().filter_map(|end| name.get(..end));
    beginnings.filter_map(|part| cpp_demangle::Symbol::new(part).ok()).next()
}

/// Removes template arguments, but not the angle brackets of operators.
fn without_templates(name: &str) -> String {
    let mut out = String::new();
    let mut depth = 0usize;
    let mut rest = name;
    while let Some(letter) = rest.chars().next() {
        let operators = [
            "operator<<",
            "operator<=>",
            "operator<=",
            "operator<",
            "operator->",
            "operator>>",
            "operator>=",
            "operator>",
        ];
        if depth == 0
            && let Some(operator) = operators.iter().find(|operator| rest.starts_with(**operator))
        {
            out.push_str(operator);
            rest = &rest[operator.len()..];
            continue;
        }
        match letter {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth == 0 => out.push(letter),
            _ => {}
        }
        rest = &rest[letter.len_utf8()..];
    }
    out
}

/// Whether a name looks like a demangled C++ name. Some Java and Go names are similar.
fn looks_like_cpp(name: &str) -> bool {
    !name.contains(".<")
        && !name.contains("]).")
        && (name.contains(['<', '>', '[', ']']) || name.contains("::"))
}

/// Removes everything between matching `open` and `close`, up to the first mismatch.
fn cut_out(name: &str, open: char, close: char) -> String {
    let mut name = name.to_string();
    let (mut depth, mut first, mut at) = (0, 0, 0);
    while let Some(found) = name[at..].find([open, close]) {
        at += found;
        if name[at..].starts_with(open) {
            depth += 1;
            if depth == 1 {
                first = at;
            }
            at += 1;
            continue;
        }
        depth -= 1;
        match depth {
            ..0 => return name,
            0 => {
                name.replace_range(first..=at, "");
                at = first;
            }
            _ => at += 1,
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_demangled_and_simplified() {
        for (name, simple) in [
            ("_ZN3foo3barIiEEvT_", "foo::bar"),
            ("_ZN3foo3barEv@plt", "foo::bar"),
            ("_ZN3foo3barEv21", "foo::bar"),
            ("_Z21x", "_Z21x"),
            ("main.(*T[...]).f", "main.(*T[...]).f"),
            ("slices.Sort[...]", "slices.Sort[...]"),
            ("<alloc::vec::Vec<T> as core::ops::drop::Drop>::drop", "::drop"),
            ("foo::bar(int, std::vector<int>)", "foo::bar"),
            ("runtime.mallocgc", "runtime.mallocgc"),
        ] {
            assert_eq!(readable(name, Detail::Simple), simple);
        }
    }

    #[test]
    fn a_symbol_has_spellings_with_and_without_parameters_and_templates() {
        let all = spellings("_ZN4shop6lookupIiEEvRNS_5IndexE");
        for name in ["shop::lookup<int>", "shop::lookup"] {
            assert!(all.iter().any(|spelling| spelling == name), "{name}: {all:?}");
        }
        assert!(all[0].contains("(shop::Index&)"), "the most detailed first: {all:?}");
        assert_eq!(spellings("main.work"), Vec::<String>::new());
    }
}
