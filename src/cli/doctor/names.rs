//! Whether the programs and libraries of a process have debug information, symbols, or neither.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use super::Line;
use crate::{
    addr::ElfAddr,
    elf::ElfFile,
    process::{Mapping, files, read_mappings, threads},
    symbolize::{ModuleFiles, SymbolizeOptions, hex, symbolize_module},
    text::counted,
};

/// How many files are checked.
const MAX_FILES: usize = 64;
/// How many files without names are listed.
const SHOWN: usize = 4;

/// The line on the debug files of a process's programs and libraries.
pub fn line(pid: u32) -> Line {
    let reader = threads::reader(pid);
    let mut seen = BTreeSet::new();
    let mappings = read_mappings(reader).unwrap_or_default();
    let (mut lines, mut symbols, mut nothing, mut unreadable) = (0, 0, Vec::new(), Vec::new());
    for mapping in mappings.iter().filter(|mapping| mapping.executable && mapping.inode != 0) {
        if seen.len() >= MAX_FILES || !seen.insert((mapping.inode, mapping.path.clone())) {
            continue;
        }
        match check(reader, mapping) {
            Ok((true, _, _)) => lines += 1,
            Ok((false, true, _)) => symbols += 1,
            Ok((false, false, build_id)) => nothing.push(format!("{} (build ID {build_id})", mapping.path)),
            Err(why) => unreadable.push(why),
        }
    }
    if seen.is_empty() {
        let result = Err("not known: no permission to read the memory map".to_owned());
        return Line { what: "debug files".to_owned(), result, fixes: Vec::new(), log: None };
    }
    let counts =
        format!("{} with lines and inlined frames, {symbols} with symbols only", counted(lines, "file"));
    let missing = nothing.len() + unreadable.len();
    let fixes = advice(symbols, &nothing, &unreadable);
    let result = match missing {
        0 => Ok(counts),
        _ => Err(format!("{counts}, {} without either, {} unreadable", nothing.len(), unreadable.len())),
    };
    Line { what: "debug files".to_owned(), result, fixes, log: None }
}

fn advice(symbols: usize, nothing: &[String], unreadable: &[String]) -> Vec<String> {
    let mut fixes = Vec::new();
    fixes.extend(
        nothing
            .iter()
            .take(SHOWN)
            .map(|file| format!("install the -dbgsym, -dbg or -debuginfo package of {file}")),
    );
    fixes.extend(unreadable.iter().take(SHOWN).cloned());
    let has_servers = std::env::var("DEBUGINFOD_URLS").is_ok_and(|urls| !urls.is_empty());
    if symbols + nothing.len() > 0 {
        fixes.push(match has_servers {
            true => "`--debuginfod` fetches debug files from the servers in DEBUGINFOD_URLS".to_owned(),
            false => {
                "`--debuginfod=URL` fetches debug files from a server, `--debug-dir DIR` reads a directory"
                    .to_owned()
            }
        });
    }
    fixes
}

/// Whether the file has lines, whether it has symbols, and its build ID.
fn check(pid: u32, mapping: &Mapping) -> Result<(bool, bool, String), String> {
    let file = files::open(&files::MappedFile::of(pid, mapping));
    let elf = ElfFile::open(&file.map_err(|error| error.to_string())?);
    let elf = elf.map_err(|error| format!("{}: {error}", mapping.path))?;
    let build_id = hex(elf.build_id().unwrap_or_default());
    let module = ModuleFiles {
        file: Arc::new(elf),
        path: Some(PathBuf::from(&mapping.path)),
        root: Some(PathBuf::from(format!("/proc/{pid}/root"))),
    };
    let options = SymbolizeOptions { time_limit: Duration::from_secs(2), ..SymbolizeOptions::default() };
    let symbols = symbolize_module(&module, &[ElfAddr(0)], &options);
    Ok((symbols.has_dwarf, symbols.has_functions, build_id))
}
