//! Recognizes files with a CPython interpreter: programs, `libpython`, and programs that embed it,
//! stripped or not. Names and sections alone decide; no process is read.
//!
//! Every interpreter exports its API, so that extension modules can use it: `_PyRuntime` (3.7 and
//! newer), `_PyEval_EvalFrameDefault` (3.6 and newer) and `PyEval_EvalFrameEx` (2.5 and newer) are
//! in `.dynsym`. From 3.11 on `_PyRuntime` is also a section, and `Py_Version` states the release.

use super::layouts::OLDEST;
use crate::{
    addr::ElfAddr,
    elf::{ElfFile, SymbolTable},
};

/// Larger symbol tables are not searched unless the file's name says that it is CPython: looking
/// for a runtime must not delay a profile of a large program.
const MAX_SEARCHED: usize = 1 << 20;
/// Longest file name part that can be a version: `python3.15td`.
const NAMES: [&str; 2] = ["libpython", "python"];

/// What a file with CPython has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonFile {
    /// `_PyRuntime`; `None`: the release is older than 3.7.
    pub runtime: Option<ElfAddr>,
    /// `Py_Version` (3.11 and newer).
    pub version: Option<ElfAddr>,
    /// `_PyEval_EvalFrameDefault` with its size, and the parts that the compiler moved away.
    pub evaluator: Vec<(ElfAddr, u64)>,
    /// The release that the file's name states.
    pub named_release: Option<(u32, u32)>,
}

/// Recognizes CPython in a file whose path is `path`; `None`: it has none.
pub fn find(elf: &ElfFile, path: &str) -> Option<PythonFile> {
    let file_name = path.rsplit('/').next().unwrap_or(path);
    let is_named = NAMES.iter().any(|name| file_name.starts_with(name));
    let section = elf.section(".PyRuntime").map(|section| section.address);
    let mut found = PythonFile {
        runtime: section,
        version: None,
        evaluator: Vec::new(),
        named_release: named_release(file_name),
    };
    let mut is_python = section.is_some();
    for table in elf.symbol_tables() {
        let is_small = table.is_dynamic() && table.size() <= MAX_SEARCHED;
        if is_named || is_small || is_python {
            is_python |= search(&table, &mut found);
        }
    }
    is_python.then_some(found)
}

/// Takes what is needed from a symbol table; whether it is CPython's.
fn search(table: &SymbolTable<'_>, found: &mut PythonFile) -> bool {
    let mut is_python = false;
    for symbol in table.defined_symbols() {
        match symbol.name {
            b"_PyRuntime" => found.runtime = found.runtime.or(Some(symbol.address)),
            b"Py_Version" => found.version = Some(symbol.address),
            b"PyEval_EvalFrameEx" => is_python = true,
            name if name.starts_with(b"_PyEval_EvalFrameDefault") => {
                let part = (symbol.address, symbol.size);
                if !found.evaluator.contains(&part) {
                    found.evaluator.push(part);
                }
            }
            _ => {}
        }
    }
    is_python || found.runtime.is_some()
}

/// The release in a file name: `python3.11`, `libpython3.8.so.1.0`, `python3.13t`.
fn named_release(file_name: &str) -> Option<(u32, u32)> {
    let rest = NAMES.iter().find_map(|name| file_name.strip_prefix(name))?;
    release_in(rest)
}

/// `3.11` at the beginning of a text.
fn release_in(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let release = (major.parse().ok()?, rest[..digits].parse().ok()?);
    matches!(release, (2..=4, 0..=99)).then_some(release)
}

/// The release in the paths of a process's other mapped files (`…/lib/python3.9/lib-dynload/…`),
/// for a program that embeds a release that does not state its version. `None`: none, or several.
pub fn release_of_paths<'a>(paths: impl Iterator<Item = &'a str>) -> Option<(u32, u32)> {
    let of_path = |path: &str| path.split('/').find_map(|part| release_in(part.strip_prefix("python")?));
    let mut releases: Vec<_> = paths.filter_map(of_path).collect();
    releases.sort_unstable();
    releases.dedup();
    (releases.len() == 1).then(|| releases[0])
}

/// Whether a release is supported.
pub fn is_supported((major, minor): (u32, u32)) -> bool {
    major == 3 && minor >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_state_their_release() {
        for (name, release) in [
            ("python3.11", Some((3, 11))),
            ("libpython3.8.so.1.0", Some((3, 8))),
            ("python3.13t", Some((3, 13))),
            ("python2.7", Some((2, 7))),
            ("libpython3.14d.so.1.0", Some((3, 14))),
            ("python3", None),
            ("python", None),
            ("uwsgi", None),
            ("libpython.so", None),
            ("python9.1", None),
        ] {
            assert_eq!(named_release(name), release, "{name}");
        }
    }

    #[test]
    fn paths_of_modules_state_the_release_unless_they_differ() {
        let one = ["/usr/lib/python3.9/lib-dynload/_ssl.so", "/opt/x.so", "/srv/lib/python3.9/m.so"];
        assert_eq!(release_of_paths(one.into_iter()), Some((3, 9)));
        let two = ["/usr/lib/python3.9/a.so", "/usr/lib/python3.8/b.so"];
        assert_eq!(release_of_paths(two.into_iter()), None);
        assert_eq!(release_of_paths(["/usr/lib/python3/dist-packages/a.so"].into_iter()), None);
    }

    #[test]
    fn this_program_has_no_interpreter() {
        let file = std::fs::File::open("/proc/self/exe").expect("this program");
        let elf = ElfFile::open(&file).expect("an ELF file");
        assert_eq!(find(&elf, "/target/rprof"), None);
    }
}
