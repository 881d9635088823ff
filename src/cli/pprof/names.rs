//! Demangles C++ and Rust names in profiles that have linker names only.

use std::borrow::Cow;

use super::cpp_names as cpp;
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
    // What follows a name of the newer mangling is the compiler's.
    let rust = if name.starts_with("_R") { name.split('.').next().unwrap_or(name) } else { name };
    if let Ok(rust) = rustc_demangle::try_demangle(rust) {
        // The hash is not shown; `<T as Trait>::method` is kept.
        let text = format!("{rust:#}");
        let is_short = detail == Detail::Simple && name.starts_with("_R");
        return Some(if is_short { without_generic_arguments(&text) } else { text });
    }
    let symbol = cpp_demangle::Symbol::new(name).ok().or_else(|| beginning(name, detail))?;
    let options = cpp_demangle::DemangleOptions::new();
    let keeps_parameters = detail == Detail::Full || is_wrapper(name);
    let options = if keeps_parameters { options } else { options.no_params().no_return_type() };
    let text = cpp::as_reference(name, &symbol.demangle_with_options(&options).ok()?, keeps_parameters);
    Some(if detail == Detail::Simple { without_templates(&text).trim_end().to_owned() } else { text })
}

/// Whether a C++ symbol wraps a function (a thunk, a transaction clone), whose parameters the
/// reference always shows.
fn is_wrapper(name: &str) -> bool {
    ["_ZTh", "_ZTv", "_ZTc", "_ZGT"].iter().any(|prefix| name.starts_with(prefix))
}

/// Empties the lists of generic arguments of a Rust path: `Vec<u8>` becomes `Vec<>`. The brackets
/// of `<T as Trait>` are none.
fn without_generic_arguments(name: &str) -> String {
    let mut out = String::new();
    let mut depth = 0usize;
    let mut last = ' ';
    for letter in name.chars() {
        let opens = letter == '<' && (depth > 0 || last.is_alphanumeric() || "_:}".contains(last));
        let closes = letter == '>' && last != '-' && depth > 0;
        if closes {
            depth -= 1;
        }
        if depth == 0 {
            out.push(letter);
        }
        depth += usize::from(opens);
        last = letter;
    }
    out
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
            // As `go tool pprof` of Go 1.26 shows them.
            ("_RNvXsh_NtCsgEmfK2I1SDS_4core3fmteNtB5_5Debug3fmt", "<str as core::fmt::Debug>::fmt"),
            ("_RNvMs2_NtCsjrHSEGnQ3l9_3std2fsNtB5_4File8sync_all", "<std::fs::File>::sync_all"),
            ("_RINvNtCsjrHSEGnQ3l9_3std2rt15handle_rt_paniciEB4_", "std::rt::handle_rt_panic::<>"),
            ("_RNvNtNtCsjrHSEGnQ3l9_3std6thread11main_thread4MAIN.0", "std::thread::main_thread::MAIN"),
            ("_ZN1r4deep17h3b723a5ece76e9c7E", "r::deep"),
            ("_ZNSoC1Ev", "std::basic_ostream::basic_ostream"),
            ("_ZNSsD1Ev", "std::basic_string::~basic_string"),
            ("_ZNSirsERb", "std::istream::operator>>"),
            ("_ZTVSd", "vtable for std::iostream"),
            ("_ZTIDn", "typeinfo for decltype(nullptr)"),
            ("_ZTTSt10istrstream", "VTT for std::istrstream"),
            ("_ZGTtNKSt11logic_error4whatEv", "transaction clone for std::logic_error::what() const"),
            (
                "_ZThn16_NSt13basic_fstreamIwSt11char_traitsIwEED0Ev",
                "non-virtual thunk to std::basic_fstream::~basic_fstream()",
            ),
            (
                "_ZNOSt7__cxx1115basic_stringbufIcSt11char_traitsIcESaIcEE3strEv",
                "std::__cxx11::basic_stringbuf::str",
            ),
            ("_ZStlsISt11char_traitsIcEERSt13basic_ostreamIcT_ES5_PKc", "std::operator<<"),
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
