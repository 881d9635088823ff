//! Whether the programs and libraries of a process have names: debug information, symbols, or neither.
//!
//! Not here: naming.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use super::Line;
use crate::{
    addr::ElfAddr,
    elf::ElfFile,
    process::{Mapping, files, read_mappings, threads},
    symbolize::{ModuleFiles, SymbolizeOptions, hex, symbolize_module},
};

/// More files than this are counted by the first of them.
const MAX_FILES: usize = 64;
/// How many without names are told.
const SHOWN: usize = 4;

/// What debug files there are for a process's programs and libraries.
pub fn line(pid: u32) -> Line {
    let reader = threads::reader(pid);
    let mut seen = BTreeSet::new();
    let mappings = read_mappings(reader).unwrap_or_default();
    let (mut lines, mut symbols, mut nothing, mut unreadable) = (0, 0, Vec::new(), Vec::new());
    for mapping in mappings.iter().filter(|mapping| mapping.executable && mapping.inode != 0) {
        if seen.len() >= MAX_FILES || !seen.insert((mapping.inode, mapping.path.clone())) {
            continue;
        }
        match look(reader, mapping) {
            Ok((true, _, _)) => lines += 1,
            Ok((false, true, _)) => symbols += 1,
            Ok((false, false, build_id)) => nothing.push(format!("{} (build-id {build_id})", mapping.path)),
            Err(why) => unreadable.push(why),
        }
    }
    if seen.is_empty() {
        let result = Err("its files are not known: its memory map may not be read".to_owned());
        return Line { what: "debug files", result, fixes: Vec::new() };
    }
    let counts = format!("{lines} files with lines and inline frames, {symbols} with symbols only");
    let missing = nothing.len() + unreadable.len();
    let fixes = advice(symbols, &nothing, &unreadable);
    let result = match missing {
        0 => Ok(counts),
        _ => Err(format!("{counts}, {} without any, {} unreadable", nothing.len(), unreadable.len())),
    };
    Line { what: "debug files", result, fixes }
}

fn advice(symbols: usize, nothing: &[String], unreadable: &[String]) -> Vec<String> {
    let mut fixes = Vec::new();
    fixes.extend(
        nothing.iter().take(SHOWN).map(|file| format!("names for {file}: its -dbg or -debuginfo package")),
    );
    fixes.extend(unreadable.iter().take(SHOWN).cloned());
    let asked = std::env::var("DEBUGINFOD_URLS").is_ok_and(|urls| !urls.is_empty());
    if symbols + nothing.len() > 0 {
        fixes.push(match asked {
            true => "`--debuginfod` asks the servers in DEBUGINFOD_URLS for debug files".to_owned(),
            false => "`--debuginfod=URL` asks a server for debug files, `--debug-dir DIR` names a folder"
                .to_owned(),
        });
    }
    fixes
}

/// Whether there are lines, whether there are symbols, and the build-id.
fn look(pid: u32, mapping: &Mapping) -> Result<(bool, bool, String), String> {
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
