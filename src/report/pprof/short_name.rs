//! Shortens function names for the boxes of a graph: removes package paths, namespaces and
//! arguments.
//!
//! Not here: demangling.

use std::sync::LazyLock;

use regex::Regex;

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a valid expression")
}

/// A module version in a Go import path: `/v2` and up.
static GO_VERSION: LazyLock<Regex> = LazyLock::new(|| regex(r"^(.*?)/v(?:[2-9]|[1-9][0-9]+)([./].*)$"));

/// Go: the part after the path. Java: class and method. C++: class and method.
static LANGUAGES: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    const W: &str = "[0-9A-Za-z_]";
    const D: &str = r"[0-9A-Za-z_\$]";
    [
        regex(r"^(?:[0-9A-Za-z_\-\.]+/)+([^.]+\..+)"),
        regex(&format!(r"^(?:[a-z]{W}*\.)*([A-Z]{D}*\.(?:<init>|[a-z]{D}*(?:\$[0-9]+)?))(?:(?:\()|$)")),
        regex(&format!(r"^(?:[_a-zA-Z]{W}*::)+(_*[A-Z]{W}*::~?[_a-zA-Z]{W}*(?:<.*>)?)")),
    ]
});

/// The short form of `name`.
pub(super) fn shorten(name: &str) -> String {
    let name = name.strip_prefix("(anonymous namespace)::").unwrap_or(name);
    let name = GO_VERSION.replace(name, "${1}${2}");
    let found = LANGUAGES.iter().find_map(|language| language.captures(&name));
    found.map_or_else(|| name.to_string(), |found| found[1].to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_packages_namespaces_and_arguments() {
        for (name, short) in [
            ("github.com/blahBlah/foo/v21.(*FooServer).Serve", "foo.(*FooServer).Serve"),
            ("runtime.mallocgc", "runtime.mallocgc"),
            ("com.foo.Bar.<init>(int)", "Bar.<init>"),
            ("com.blah.Blah$Foo.bar$12", "Blah$Foo.bar$12"),
            ("(anonymous namespace)::Bar::Foo", "Bar::Foo"),
            ("ns::inner::Class::method", "Class::method"),
            ("foo_bar::operator()", "foo_bar::operator()"),
        ] {
            assert_eq!(shorten(name), short);
        }
    }
}
