//! Finds a file's separate debug information: by build ID, by `.gnu_debuglink`, dwz's supplementary
//! file, split DWARF (GDB manual, "Debugging Information in Separate Files").
//!
//! Each place is searched in the target's file system first, then in ours. A file found there may
//! be of another build, or planted: its build ID or checksum must match.
//!
//! Not here: reading the files; debuginfod.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{ModuleFiles, SymbolIssue, SymbolizeOptions};
use crate::{
    elf::{ElfFile, cache},
    process::files::{LastLink, open_in_root},
};

/// Where distributions install debug files.
const SYSTEM_DEBUG_DIR: &str = "/usr/lib/debug";

/// A debug file that was found.
#[derive(Clone, Debug)]
pub(super) struct DebugFile {
    pub elf: Arc<ElfFile>,
    /// Path as seen in the file system that holds it.
    pub path: PathBuf,
}

/// Searches for the debug files of one module.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    module: &'a ModuleFiles,
    options: &'a SymbolizeOptions,
    roots: Vec<PathBuf>,
}

enum Verdict {
    Fits,
    OtherBuild,
    WrongChecksum,
    Useless,
}

impl<'a> Finder<'a> {
    pub(super) fn new(module: &'a ModuleFiles, options: &'a SymbolizeOptions) -> Finder<'a> {
        let mut roots: Vec<PathBuf> = module.root.iter().cloned().collect();
        if roots.first().is_none_or(|root| root != Path::new("/")) {
            roots.push(PathBuf::from("/"));
        }
        Finder { module, options, roots }
    }

    /// Searches for the module's debug file on this machine.
    pub(super) fn debug_file(&self, issues: &mut Vec<SymbolIssue>) -> Option<DebugFile> {
        self.by_build_id(issues).or_else(|| self.by_debug_link(issues))
    }

    fn by_build_id(&self, issues: &mut Vec<SymbolIssue>) -> Option<DebugFile> {
        let id = self.module.file.build_id()?;
        build_id_paths(id, self.options)
            .into_iter()
            .find_map(|path| self.opened(&path).find_map(|found| self.checked(found, None, issues)))
    }

    fn by_debug_link(&self, issues: &mut Vec<SymbolIssue>) -> Option<DebugFile> {
        let (name, checksum) = self.module.file.debug_link()?;
        // The link must be a plain file name: any directory in it is ignored.
        let name = Path::new(&name).file_name()?;
        let directory = self.module.path.as_deref().and_then(Path::parent).unwrap_or(Path::new("/"));
        let inside = directory.strip_prefix("/").unwrap_or(directory);
        let mut paths = vec![directory.join(name), directory.join(".debug").join(name)];
        for debug_dir in
            self.options.debug_dirs.iter().map(PathBuf::as_path).chain([Path::new(SYSTEM_DEBUG_DIR)])
        {
            paths.push(debug_dir.join(inside).join(name));
            paths.push(debug_dir.join(name));
        }
        paths
            .into_iter()
            .find_map(|path| self.opened(&path).find_map(|found| self.checked(found, Some(checksum), issues)))
    }

    /// dwz's supplementary file of `of`, whose `.gnu_debugaltlink` names it.
    pub(super) fn supplementary(&self, of: &DebugFile, issues: &mut Vec<SymbolIssue>) -> Option<DebugFile> {
        let (name, id) = of.elf.debug_alt_link()?;
        let beside = of.path.parent().unwrap_or(Path::new("/")).join(&name);
        let mut paths = vec![beside];
        paths.extend(build_id_paths(&id, self.options));
        if let Some(file_name) = Path::new(&name).file_name() {
            paths.extend(self.options.debug_dirs.iter().map(|dir| dir.join(".dwz").join(file_name)));
        }
        let found = (paths.iter())
            .find_map(|path| self.opened(path).find(|found| found.elf.build_id() == Some(id.as_slice())));
        if found.is_none() {
            issues.push(SymbolIssue::SupplementaryMissing(format!("{name} (build-id {})", hex(&id))));
        }
        found
    }

    /// A split-DWARF file: at the path stated by the compiler, or next to the module.
    pub(super) fn split_file(&self, compilation_dir: &Path, name: &Path) -> Option<Arc<ElfFile>> {
        let mut paths = vec![compilation_dir.join(name)];
        if let (Some(directory), Some(file_name)) = (self.module_dir(), name.file_name()) {
            paths.push(directory.join(name));
            paths.push(directory.join(file_name));
        }
        paths.extend(self.options.debug_dirs.iter().filter_map(|dir| Some(dir.join(name.file_name()?))));
        paths.iter().find_map(|path| self.opened(path).next()).map(|found| found.elf)
    }

    /// `<module>.dwp`: the package of all split-DWARF files of a module.
    pub(super) fn split_package(&self, debug_file: Option<&Path>) -> Option<Arc<ElfFile>> {
        let mut paths = Vec::new();
        for path in self.module.path.as_deref().into_iter().chain(debug_file) {
            let mut name = path.file_name()?.to_owned();
            name.push(".dwp");
            paths.push(path.with_file_name(&name));
            paths.extend(self.options.debug_dirs.iter().map(|dir| dir.join(&name)));
        }
        paths.iter().find_map(|path| self.opened(path).next()).map(|found| found.elf)
    }

    fn module_dir(&self) -> Option<&Path> {
        self.module.path.as_deref()?.parent()
    }

    /// The ELF files at `path` in each root. A relative path is resolved in rprof's own working
    /// directory.
    fn opened<'p>(&'p self, path: &'p Path) -> impl Iterator<Item = DebugFile> + 'p {
        let roots: &[PathBuf] = if path.is_absolute() { &self.roots } else { &[] };
        let ours = (!path.is_absolute()).then(|| std::path::absolute(path).ok()).flatten();
        let in_roots = roots.iter().filter_map(move |root| {
            let file = open_in_root(root, path, LastLink::Follow).ok()?.file;
            Some(DebugFile {
                elf: Arc::new(cache::open(&file, &self.options.budget).ok()?),
                path: path.to_owned(),
            })
        });
        let our_own = ours.and_then(|path| {
            let file = open_in_root(Path::new("/"), &path, LastLink::Follow).ok()?.file;
            Some(DebugFile { elf: Arc::new(cache::open(&file, &self.options.budget).ok()?), path })
        });
        in_roots.chain(our_own)
    }

    fn checked(
        &self,
        found: DebugFile,
        checksum: Option<u32>,
        issues: &mut Vec<SymbolIssue>,
    ) -> Option<DebugFile> {
        let reason = match self.verdict(&found.elf, checksum) {
            Verdict::Fits => return Some(found),
            Verdict::Useless => return None,
            Verdict::OtherBuild => "its build ID differs",
            Verdict::WrongChecksum => "its checksum differs from the one in the debug link",
        };
        issues.push(SymbolIssue::DebugFileMismatch { path: found.path, reason });
        None
    }

    fn verdict(&self, elf: &ElfFile, checksum: Option<u32>) -> Verdict {
        if !has_names(elf) {
            return Verdict::Useless;
        }
        match (self.module.file.build_id(), elf.build_id(), checksum) {
            (Some(wanted), Some(found), _) if wanted == found => Verdict::Fits,
            (Some(_), Some(_), _) => Verdict::OtherBuild,
            (_, _, Some(wanted)) if crc32(elf) == wanted => Verdict::Fits,
            (_, _, Some(_)) => Verdict::WrongChecksum,
            _ => Verdict::OtherBuild,
        }
    }
}

/// `<debug dir>/.build-id/ab/cdef….debug`.
pub(super) fn build_id_paths(id: &[u8], options: &SymbolizeOptions) -> Vec<PathBuf> {
    let hex = hex(id);
    let Some((first, rest)) = hex.split_at_checked(2).filter(|(_, rest)| !rest.is_empty()) else {
        return Vec::new();
    };
    let below = format!(".build-id/{first}/{rest}.debug");
    let mut paths: Vec<PathBuf> = options.debug_dirs.iter().map(|dir| dir.join(&below)).collect();
    paths.extend(options.debug_dirs.iter().map(|dir| dir.join(format!("{hex}.debug"))));
    paths.push(Path::new(SYSTEM_DEBUG_DIR).join(&below));
    paths
}

/// Whether the file has debug information or symbols that a stripped file lacks.
fn has_names(elf: &ElfFile) -> bool {
    [".debug_info", ".zdebug_info", ".symtab"].iter().any(|name| elf.section(name).is_some())
}

/// The checksum of `.gnu_debuglink`: zlib's CRC-32 over the whole file.
fn crc32(elf: &ElfFile) -> u32 {
    const CHUNK_BYTES: usize = 16 << 20;
    let mut crc = flate2::Crc::new();
    for chunk in elf.bytes().chunks(CHUNK_BYTES) {
        crc.update(chunk);
        elf.release_pages();
    }
    crc.sum()
}

/// A build ID as text: lower-case hexadecimal.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path that DWARF states.
pub(super) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
