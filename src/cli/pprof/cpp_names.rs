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
    let mut text = special(text).replace("std::nullptr_t", "decltype(nullptr)");
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

/// `{vtable(X)}` as `vtable for X`.
fn special(text: &str) -> String {
    let inside = |start: &str| text.strip_prefix(start)?.strip_suffix(")}");
    let after_offset = |start: &str| inside(start)?.split_once("}, ").map(|(_, of)| of);
    let forms = [
        ("vtable for ", inside("{vtable(")),
        ("VTT for ", inside("{vtt(")),
        ("non-virtual thunk to ", after_offset("{virtual override thunk({offset(")),
        ("virtual thunk to ", after_offset("{virtual override thunk({v_offset(")),
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
