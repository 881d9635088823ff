//! Demangled C++ names as `go tool pprof` spells them: where its demangler and rprof's differ.
//!
//! Not here: demangling.

/// The streams that have abbreviations in mangled names (Itanium C++ ABI, 5.1.10): letter, class
/// template, name.
const STREAMS: [(char, &str, &str); 3] = [
    ('i', "std::basic_istream", "std::istream"),
    ('o', "std::basic_ostream", "std::ostream"),
    ('d', "std::basic_iostream", "std::iostream"),
];
const OF_STREAM: &str = "<char, std::char_traits<char> >";
const OF_STRING: &str = "<char, std::char_traits<char>, std::allocator<char> >";

/// The text of a symbol in the reference's spelling. `keeps_parameters`: the text has them.
pub(super) fn as_reference(mangled: &str, text: &str, keeps_parameters: bool) -> String {
    let mut text = with_suffixes(special(text).replace("std::nullptr_t", "decltype(nullptr)"));
    for (_, template, name) in STREAMS {
        text = text.replace(&format!("{template}{OF_STREAM}"), name);
    }
    if !keeps_parameters {
        // A member function for references only.
        for end in [" &&", " &"] {
            text.truncate(text.strip_suffix(end).unwrap_or(&text).len());
        }
    }
    expand_constructor(mangled, text)
}

/// Numbers among template arguments with suffixes instead of casts: `8ul`, not `(unsigned long)8`.
fn with_suffixes(mut text: String) -> String {
    const TYPES: [(&str, &str); 5] = [
        ("(unsigned long long)", "ull"),
        ("(unsigned long)", "ul"),
        ("(unsigned int)", "u"),
        ("(long long)", "ll"),
        ("(long)", "l"),
    ];
    for (cast, suffix) in TYPES {
        let mut from = 0;
        while let Some(at) = text[from..].find(cast).map(|at| from + at) {
            let digits = text[at + cast.len()..].bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 {
                text.insert_str(at + cast.len() + digits, suffix);
                text.replace_range(at..at + cast.len(), "");
            }
            from = at + 1;
        }
    }
    text
}

/// `{vtable(X)}` as `vtable for X`.
fn special(text: &str) -> String {
    let inside = |start: &str| text.strip_prefix(start)?.strip_suffix(")}");
    let after_offset = |start: &str| inside(start)?.split_once("}, ").map(|(_, of)| of);
    let forms = [
        ("vtable for ", inside("{vtable(")),
        ("VTT for ", inside("{vtt(")),
        ("non-virtual thunk to ", after_offset("{virtual override thunk({offset(")),
        ("virtual thunk to ", after_offset("{virtual override thunk({virtual offset(")),
    ];
    let found = forms.into_iter().find_map(|(prefix, of)| Some(format!("{prefix}{}", of?)));
    found.unwrap_or_else(|| text.to_owned())
}

/// The constructors and destructors of abbreviated classes have the name of the class template:
/// `std::ostream::ostream` becomes `std::basic_ostream<…>::basic_ostream`.
fn expand_constructor(mangled: &str, text: String) -> String {
    let Some((letter, kind)) = mangled.strip_prefix("_ZNS").and_then(|rest| {
        let mut letters = rest.chars();
        letters.next().zip(letters.next())
    }) else {
        return text;
    };
    let stream = STREAMS.iter().find(|(of, ..)| *of == letter);
    let (template, name, arguments) = match (letter, stream) {
        ('s', _) => ("std::basic_string", "std::string", OF_STRING),
        (_, Some((_, template, name))) => (*template, *name, OF_STREAM),
        _ => return text,
    };
    let of_class = text.strip_prefix(name).and_then(|rest| rest.strip_prefix("::"));
    match of_class {
        Some(rest) if matches!(kind, 'C' | 'D') => {
            let own = |name: &str| name.trim_start_matches("std::").to_owned();
            let (destroys, rest) = rest.strip_prefix('~').map_or(("", rest), |rest| ("~", rest));
            let rest = rest.strip_prefix(&own(name)).or(rest.strip_prefix(&own(template))).unwrap_or(rest);
            format!("{template}{arguments}::{destroys}{}{rest}", own(template))
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_thunks_are_spelled_as_in_the_reference() {
        let text = "v8::base::SmallVector<int, (unsigned long)64, std::allocator<int> >::Grow";
        let expected = "v8::base::SmallVector<int, 64ul, std::allocator<int> >::Grow";
        assert_eq!(as_reference("_ZN2v84base11SmallVectorIiLm64ESaIiEE4GrowEv", text, false), expected);
        let text = "{virtual override thunk({virtual offset(0, -24)}, std::strstream::~strstream())}";
        let expected = "virtual thunk to std::strstream::~strstream()";
        assert_eq!(as_reference("_ZTv0_n24_NSt9strstreamD1Ev", text, true), expected);
        assert_eq!(with_suffixes("f(unsigned long)".to_owned()), "f(unsigned long)");
    }
}
