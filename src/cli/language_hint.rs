//! What to do to see the functions of a language that rprof does not read: one line.

use crate::{profile::proto::Profile, text::path::base_name};

/// Languages by the beginning of the file name of their interpreter or virtual machine, and what to
/// do. Those whose code is compiled at run time get names from a perf map.
const LANGUAGES: [(&[&str], Names, &str); 6] = [
    (&["libjvm.so"], Names::PerfMap, "some Java code has no names: `rprof help java` lists what is read"),
    (
        &["node", "nodejs", "libnode.so"],
        Names::PerfMap,
        "some JavaScript code has no names: `rprof help node` lists what is read",
    ),
    (
        &["ruby", "libruby"],
        Names::None,
        "Ruby functions are not shown, only the interpreter: rbspy shows them",
    ),
    (
        &["php", "php-fpm", "libphp"],
        Names::None,
        "PHP functions are not shown, only the interpreter: phpspy shows them",
    ),
    (&["perl", "libperl"], Names::None, "Perl functions are not shown, only the interpreter"),
    (
        &["beam.smp"],
        Names::PerfMap,
        "Erlang functions have no names: start the emulator with `+JPperf true` (OTP 24 or newer)",
    ),
];

/// Where the names of a language's functions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// `/tmp/perf-PID.map`.
    PerfMap,
    /// rprof cannot name them.
    None,
}

/// The hint for a profile, if it has frames of such a language. `has_unnamed_jit`: code that was
/// generated at run time has no names.
pub fn hint(profile: &Profile, has_unnamed_jit: bool) -> Option<&'static str> {
    let modules: Vec<&str> =
        profile.mapping.iter().map(|mapping| base_name(profile.string(mapping.filename))).collect();
    let (_, _, hint) = LANGUAGES.iter().find(|(names, source, _)| {
        let is_used = modules.iter().any(|module| names.iter().any(|name| is_version_of(module, name)));
        is_used && (*source == Names::None || has_unnamed_jit)
    })?;
    Some(hint)
}

/// Whether a hint says how generated code gets names.
pub fn is_of_jit(hint: Option<&str>) -> bool {
    LANGUAGES.iter().any(|(_, source, text)| *source == Names::PerfMap && Some(*text) == hint)
}

/// Whether a file name is `name` with a version: `php8.2` and `libruby-3.1.so.3.1.2`.
fn is_version_of(file: &str, name: &str) -> bool {
    let rest = file.strip_prefix(name);
    rest.is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, MappingSpec};

    fn hint_for(path: &str, has_unnamed_jit: bool) -> &'static str {
        let mut builder = Builder::new(&[("cpu", "nanoseconds")]);
        builder.mapping(&MappingSpec { filename: path, ..MappingSpec::default() });
        hint(&builder.finish(), has_unnamed_jit).unwrap_or_default()
    }

    #[test]
    fn a_language_that_is_not_read_is_named_with_what_to_do() {
        assert!(hint_for("/usr/lib/jvm/java-17/lib/server/libjvm.so", true).contains("rprof help java"));
        assert_eq!(hint_for("/usr/lib/jvm/java-17/lib/server/libjvm.so", false), "");
        assert!(hint_for("/usr/bin/node", true).contains("rprof help node"));
        assert!(hint_for("/usr/bin/ruby3.1", false).contains("rbspy"));
        assert!(hint_for("/usr/lib/libruby-3.1.so.3.1.2", false).contains("rbspy"));
        assert!(hint_for("/usr/bin/php8.2", false).contains("phpspy"));
        assert_eq!(hint_for("/usr/bin/nodesman", true), "");
        assert_eq!(hint_for("/usr/bin/app", true), "");
    }
}
