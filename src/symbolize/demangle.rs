//! Demangles symbol names: Rust (both manglings) and C++ (Itanium ABI). Other names are unchanged.
//!
//! Not here: shortening for display (dropping template arguments), which reports decide.

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

/// The end of the names of stubs of the procedure linkage table.
pub const STUB_SUFFIX: &str = "@plt";

/// Longer names are cut: the longest seen in practice are about 30 KB of templates.
const MAX_NAME_BYTES: usize = 64 << 10;
/// A short mangled name can expand exponentially through its substitutions.
const MAX_DEMANGLED_BYTES: usize = 64 << 10;
const RECURSION_LIMIT: u32 = 128;

/// The demangled name without return type, parameters and Rust's hash; the suffixes of compilers
/// (`.cold`, `.part.0`, `.constprop.0`) are kept. A name that is not mangled is returned unchanged.
/// A symbol version (`@@GLIBC_2.34`) is dropped.
pub fn demangle(linkage_name: &str) -> String {
    if let Some(function) = linkage_name.strip_suffix(STUB_SUFFIX) {
        return demangle(function) + STUB_SUFFIX;
    }
    let name = bounded(without_version(linkage_name));
    let mangled = name.starts_with("_Z") || name.starts_with("_R") || name.starts_with("__Z");
    if !mangled {
        return name.to_owned();
    }
    rust(name).or_else(|| cpp(name)).unwrap_or_else(|| name.to_owned())
}

fn without_version(name: &str) -> &str {
    match name.find('@') {
        Some(at) if at > 0 => &name[..at],
        _ => name,
    }
}

fn bounded(name: &str) -> &str {
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let end = (0..=MAX_NAME_BYTES).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    &name[..end]
}

fn rust(name: &str) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(name).ok()?;
    // A legacy Rust name is also a valid C++ name: only the hash distinguishes them.
    if !name.starts_with("_R") && !has_legacy_hash(name) {
        return None;
    }
    bounded_format(format_args!("{demangled:#}"))
}

/// `17h`, 16 hexadecimal digits and `E` at the end, or before the suffixes of compilers.
fn has_legacy_hash(name: &str) -> bool {
    let Some(rest) = name.rfind("17h").and_then(|at| name.get(at + 3..)) else { return false };
    let (digits, end) = rest.split_at_checked(16).unwrap_or_default();
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && end.strip_prefix('E').is_some_and(|suffix| suffix.is_empty() || suffix.starts_with('.'))
}

fn cpp(name: &str) -> Option<String> {
    let (base, suffix) = split_suffix(name);
    let parse = ParseOptions::default().recursion_limit(RECURSION_LIMIT);
    let show = DemangleOptions::new().no_params().no_return_type().recursion_limit(RECURSION_LIMIT);
    let symbol = Symbol::new_with_options(base.as_bytes(), &parse).ok()?;
    let mut out = Bounded(String::new());
    symbol.structured_demangle(&mut out, &show).ok()?;
    Some(out.0 + suffix)
}

/// Splits `.cold`, `.part.0`, `.isra.0.cold`, `.llvm.123` off a mangled name. An LLVM hash is
/// meaningless to readers and is dropped.
fn split_suffix(name: &str) -> (&str, &str) {
    match name.find('.') {
        Some(at) if at > 0 => {
            let suffix = &name[at..];
            (&name[..at], if suffix.starts_with(".llvm.") { "" } else { suffix })
        }
        _ => (name, ""),
    }
}

struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_DEMANGLED_BYTES {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn bounded_format(arguments: std::fmt::Arguments<'_>) -> Option<String> {
    let mut out = Bounded(String::new());
    std::fmt::Write::write_fmt(&mut out, arguments).ok()?;
    Some(out.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_names_lose_their_hash() {
        assert_eq!(
            demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            "core::fmt::Write::write_fmt"
        );
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangle("_ZN4main4work17h0123456789abcdefE.llvm.123456789"), "main::work");
        assert_eq!(
            demangle(
                "_ZN63_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$core..clone..Clone$GT$5clone17h0123456789abcdefE"
            ),
            "<alloc::vec::Vec<T> as core::clone::Clone>::clone"
        );
    }

    #[test]
    fn cpp_names_keep_template_arguments_but_no_parameters_or_return_type() {
        assert_eq!(demangle("_ZN5space3fooEii"), "space::foo");
        assert_eq!(
            demangle("_ZNSt6vectorIiSaIiEE9push_backEOi"),
            "std::vector<int, std::allocator<int> >::push_back"
        );
        assert_eq!(demangle("_Z4workIiET_S0_"), "work<int>");
        assert_eq!(demangle("_ZN12_GLOBAL__N_17computeEv"), "(anonymous namespace)::compute");
    }

    #[test]
    fn compiler_suffixes_are_kept_and_versions_are_dropped() {
        assert_eq!(demangle("_ZN5space3fooEii.cold"), "space::foo.cold");
        assert_eq!(demangle("_ZN5space3fooEii.part.0.cold"), "space::foo.part.0.cold");
        assert_eq!(demangle("compute.constprop.0"), "compute.constprop.0");
        assert_eq!(demangle("memcpy@@GLIBC_2.14"), "memcpy");
        assert_eq!(demangle("plain_c"), "plain_c");
    }

    #[test]
    fn hostile_names_stay_within_the_size_limit() {
        assert_eq!(demangle("_Z"), "_Z");
        assert_eq!(demangle(&"P".repeat(1 << 20)).len(), MAX_NAME_BYTES);
        let deep = format!("_Z1f{}i", "P".repeat(60_000));
        assert!(demangle(&deep).len() <= MAX_NAME_BYTES);
        let wide =
            format!("_Z1fI{}E", (0..40).map(|i| format!("S{i}_I{}E", "S_".repeat(40))).collect::<String>());
        assert!(demangle(&wide).len() <= MAX_DEMANGLED_BYTES);
        assert!(demangle(&format!("_RNvC{}", "B_".repeat(1000))).len() <= MAX_DEMANGLED_BYTES);
    }
}
