//! The Go release that built a program, and the build information that the linker stores in it
//! (`runtime/debug.BuildInfo`; source: `src/debug/buildinfo/buildinfo.go`).
//!
//! Not here: differences between releases.

use crate::elf::ElfFile;

/// `go1.MINOR.PATCH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The 22 of `go1.22.3`.
    pub minor: u32,
    /// The 3 of `go1.22.3`; 0 where there is none.
    pub patch: u32,
}

impl Version {
    /// Parses `go1.27.3`, `go1.27rc1`, `go1.27.3 X:something`, `devel go1.28-abc`.
    pub fn parse(text: &str) -> Option<Version> {
        let rest = &text[text.find("go1.")? + 4..];
        let number = |text: &str| {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            Some((text[..digits].parse::<u32>().ok()?, text[digits..].to_owned()))
        };
        let (minor, rest) = number(rest)?;
        let patch = rest.strip_prefix('.').and_then(number).map_or(0, |(patch, _)| patch);
        Some(Version { minor, patch })
    }
}

/// The build information of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// The release: `go1.27.3`.
    pub go_version: String,
    /// The package of `main`.
    pub path: String,
    /// The main module and its version.
    pub main_module: Option<(String, String)>,
    /// The linked modules and versions; a replaced module is shown as its replacement.
    pub dependencies: Vec<(String, String)>,
    /// Build settings: `-ldflags`, `CGO_ENABLED`, `vcs.revision` …
    pub settings: Vec<(String, String)>,
}

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The offset of the strings, in the format since Go 1.18.
const STRINGS_AT: usize = 32;
const MAX_TEXT: usize = 4 << 20;
/// The module text is enclosed by 16 bytes on each side.
const SENTINEL: usize = 16;

impl BuildInfo {
    /// Reads it from a file; `None` if there is none (some build systems strip it).
    pub fn read(elf: &ElfFile) -> Option<BuildInfo> {
        let named = elf.section(".go.buildinfo").and_then(|section| elf.section_bytes(section));
        let bytes = named.filter(|bytes| bytes.starts_with(MAGIC)).or_else(|| scan(elf))?;
        // Bit 1: the strings follow, each preceded by its length.
        if bytes.get(15)? & 2 == 0 {
            return None;
        }
        let mut rest = bytes.get(STRINGS_AT..)?;
        let version = text(&mut rest)?;
        let modules = text(&mut rest).unwrap_or_default();
        let modules = match modules.len().checked_sub(2 * SENTINEL) {
            Some(length) => &modules[SENTINEL..SENTINEL + length],
            None => &[],
        };
        let mut info = parse_modules(&String::from_utf8_lossy(modules));
        info.go_version = String::from_utf8_lossy(version).into_owned();
        Some(info)
    }
}

fn scan(elf: &ElfFile) -> Option<&[u8]> {
    elf.segments().iter().filter(|segment| !segment.executable).find_map(|segment| {
        let bytes = elf.range(segment.file_offset, segment.file_size)?;
        let skip = (16 - segment.address.0 % 16) as usize % 16;
        let at = bytes.get(skip..)?.chunks(16).position(|chunk| chunk.starts_with(MAGIC))?;
        bytes.get(skip + at * 16..)
    })
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0usize;
    for shift in (0..28).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    let text = bytes.get(..length.min(MAX_TEXT))?;
    *bytes = &bytes[text.len()..];
    Some(text)
}

/// Parses lines of tab-separated words: `path`, `mod`, `dep`, `=>` (replaces the line before),
/// `build`.
fn parse_modules(text: &str) -> BuildInfo {
    let mut info = BuildInfo::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let module =
            || Some(((*words.get(1)?).to_owned(), words.get(2).copied().unwrap_or_default().to_owned()));
        match words[0] {
            "path" => info.path = words.get(1).copied().unwrap_or_default().to_owned(),
            "mod" => info.main_module = module(),
            "dep" => info.dependencies.extend(module()),
            "=>" => {
                if let (Some(last), Some(module)) = (info.dependencies.last_mut(), module()) {
                    *last = module;
                }
            }
            "build" => {
                let setting = words.get(1).and_then(|setting| setting.split_once('='));
                let plain = |text: &str| text.trim_matches(['"', '`']).to_owned();
                info.settings.extend(setting.map(|(key, value)| (plain(key), plain(value))));
            }
            _ => {}
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_versions_are_parsed() {
        let version = |text| Version::parse(text).map(|version| (version.minor, version.patch));
        assert_eq!(version("go1.27.3"), Some((27, 3)));
        assert_eq!(version("go1.27rc1"), Some((27, 0)));
        assert_eq!(version("go1.18"), Some((18, 0)));
        assert_eq!(version("devel go1.28-abcdef Tue"), Some((28, 0)));
        assert_eq!(version("go1.25.5 X:nocoverageredesign"), Some((25, 5)));
        assert_eq!(version("gc"), None);
    }

    #[test]
    fn a_replaced_module_is_shown_as_its_replacement() {
        let info = parse_modules(
            "path\ta/cmd\nmod\ta\tv1.0.0\th1:x\ndep\tb\tv1\n=>\tc\tv2\th1:y\nbuild\t-ldflags=\"-s -w\"\nbuild\tCGO_ENABLED=0\n",
        );
        assert_eq!(info.path, "a/cmd");
        assert_eq!(info.main_module, Some(("a".into(), "v1.0.0".into())));
        assert_eq!(info.dependencies, [("c".into(), "v2".into())]);
        assert_eq!(info.settings, [("-ldflags".into(), "-s -w".into()), ("CGO_ENABLED".into(), "0".into())]);
    }
}
