//! `-symbolize`: adds missing names from local files, then from the servers that the profile came
//! from, and demangles names ([`super::names`]).

use rustc_hash::FxHashMap;

use super::{
    Flags,
    binaries::Binary,
    names::{self, Detail},
    object,
    sources::http,
};
use crate::{
    profile::columns::{Columns, Function, Line},
    report::pprof::objects::{Object, ObjectMapping},
    symbolize::{SourceFrame, Symbolized},
    text::path::base_name,
};

/// The origins of mappings: by build ID, file or URL, the servers and the start address of the
/// mapping in each server's profile.
pub(super) type Origins = FxHashMap<String, Vec<(String, u64)>>;

/// The value of `-symbolize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    local: bool,
    remote: bool,
    /// Symbol tables only: no lines, no inlined functions.
    fast: bool,
    /// Replace existing names.
    force: bool,
    detail: Detail,
}

/// Adds missing names as the flags request.
pub(super) fn symbolize(
    columns: &mut Columns,
    origins: &Origins,
    flags: &Flags,
    say: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let Some(mode) = read_mode(&flags.symbolize, say) else { return Ok(()) };
    if mode.local {
        name_locally(columns, mode, say);
    }
    if mode.remote {
        name_remotely(columns, origins, mode.force, flags)?;
    }
    names::demangle(columns, mode.force, mode.detail);
    Ok(())
}

/// `None`: no symbolization.
fn read_mode(text: &str, say: &mut dyn FnMut(&str)) -> Option<Mode> {
    let mut mode = Mode { local: true, remote: true, fast: false, force: false, detail: Detail::Simple };
    for word in text.to_lowercase().split(':') {
        match word {
            "" => {}
            "none" | "no" => return None,
            "local" => (mode.local, mode.remote) = (true, false),
            "fastlocal" => (mode.local, mode.remote, mode.fast) = (true, false, true),
            "remote" => (mode.local, mode.remote) = (false, true),
            "force" => mode.force = true,
            "demangle=default" | "default" => {}
            "demangle=full" | "full" => (mode.detail, mode.force) = (Detail::Full, true),
            "demangle=none" => (mode.detail, mode.force) = (Detail::None, true),
            "demangle=templates" | "templates" => (mode.detail, mode.force) = (Detail::Templates, true),
            _ => {
                say(&format!("ignoring unrecognized symbolization option: {text}"));
                say("expecting -symbolize=[local|fastlocal|remote|none][:force]\
                     [:demangle=[none|full|templates|default]");
            }
        }
    }
    Some(mode)
}

/// The rows of locations by mapping.
fn locations_by_mapping(columns: &Columns) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); columns.mappings.len()];
    for (at, location) in columns.locations.iter().enumerate() {
        if let Some(rows) = rows.get_mut(location.mapping as usize) {
            rows.push(at);
        }
    }
    rows
}

fn name_locally(columns: &mut Columns, mode: Mode, say: &mut dyn FnMut(&str)) {
    let mut missing = false;
    let mut functions = FxHashMap::default();
    for (at, rows) in locations_by_mapping(columns).into_iter().enumerate() {
        let mapping = columns.mappings[at];
        let is_named = mapping.has_functions || mapping.has_filenames || mapping.has_line_numbers;
        if rows.is_empty() || (is_named && !mode.force) {
            continue;
        }
        let (file, build_id) = (columns.text(mapping.file), columns.text(mapping.build_id));
        if file.is_empty() {
            if at == 0 {
                say("Main binary filename not available.");
            } else {
                missing = true;
            }
            continue;
        }
        let is_elsewhere = build_id.is_empty() && is_web_address(file);
        if has_no_file(file) || is_elsewhere || object::is_empty(file) {
            continue;
        }
        let base = base_name(file);
        let id = if build_id.is_empty() { String::new() } else { format!(" (build ID {build_id})") };
        let object_mapping = ObjectMapping {
            file,
            build_id,
            start: mapping.start,
            limit: mapping.limit,
            offset: mapping.offset,
        };
        match Binary::open(&object_mapping) {
            Err(error) => {
                say(&format!("Local symbolization failed for {base}{id}: {error}"));
                missing = true;
            }
            Ok(binary) if !binary.has_build_id(build_id) => {
                say(&format!("Local symbolization failed for {base}{id}: build ID mismatch"));
            }
            Ok(binary) => name_mapping(columns, at, &rows, &binary, mode.fast, &mut functions),
        }
    }
    if missing {
        say("Some binary filenames not available. Symbolization may be incomplete.\n\
             Try setting PPROF_BINARY_PATH to the search path for local binaries.");
    }
}

/// Whether a mapping of this name is never a file.
fn has_no_file(file: &str) -> bool {
    let base = base_name(file);
    base.starts_with('[')
        || base.starts_with("linux-vdso")
        || file == "//anon"
        || ["/dev/dri/", "/memfd:"].iter().any(|folder| file.starts_with(folder))
}

fn is_web_address(file: &str) -> bool {
    http::scheme(file).is_some_and(|scheme| scheme.contains("http"))
}

fn name_mapping(
    columns: &mut Columns,
    mapping: usize,
    rows: &[usize],
    binary: &Binary,
    fast: bool,
    functions: &mut FxHashMap<Function, u32>,
) {
    let addresses: Vec<u64> =
        rows.iter().map(|row| binary.address(columns.locations[*row].address)).collect();
    for (row, Symbolized { frames, .. }) in rows.iter().zip(binary.symbolize(&addresses, !fast)) {
        if frames.is_empty() {
            continue;
        }
        let lines: Vec<Line> = frames.iter().map(|frame| line_of(columns, frame, functions)).collect();
        set_lines(columns, *row, &lines);
        let mapping = &mut columns.mappings[mapping];
        mapping.has_functions |= frames.iter().any(|frame| !frame.system_name.is_empty());
        mapping.has_filenames |= frames.iter().any(|frame| frame.file.is_some());
        mapping.has_line_numbers |= frames.iter().any(|frame| frame.line != 0);
        mapping.has_inline_frames = true;
    }
}

/// The line of a frame; a new function is added, with its linker name (demangling follows). Columns
/// and start lines are left out: `go tool pprof` does not have them, and reports would differ.
fn line_of(columns: &mut Columns, frame: &SourceFrame, functions: &mut FxHashMap<Function, u32>) -> Line {
    let name = columns.intern(&frame.system_name);
    let file = columns.intern(frame.file.as_deref().unwrap_or_default());
    let function = Function { id: 0, name, system_name: name, file, start_line: 0 };
    let row = *functions.entry(function).or_insert_with(|| {
        let row = columns.functions.len() as u32;
        columns.functions.push(Function { id: u64::from(row) + 1, ..function });
        row
    });
    Line { function: row, line: frame.line.into(), column: 0 }
}

fn set_lines(columns: &mut Columns, location: usize, lines: &[Line]) {
    let start = columns.lines.len() as u32;
    columns.lines.extend_from_slice(lines);
    let location = &mut columns.locations[location];
    location.lines = start..start + lines.len() as u32;
    location.is_folded = false;
}

/// Asks the servers that the profile came from.
fn name_remotely(columns: &mut Columns, origins: &Origins, force: bool, flags: &Flags) -> Result<(), String> {
    for at in 0..columns.mappings.len() {
        let mapping = columns.mappings[at];
        if mapping.has_functions && !force {
            continue;
        }
        let keys = [mapping.file, mapping.build_id];
        let keys = keys.iter().enumerate().filter(|(at, key)| *at == 0 || **key != 0);
        let known = keys.filter_map(|(_, key)| origins.get(columns.text(*key))).flatten();
        let server = known.cloned().find_map(|(source, start)| Some((http::symbol_address(&source)?, start)));
        let Some((address, start)) = server else { continue };
        name_mapping_remotely(columns, at, &address, start.wrapping_sub(mapping.start) as i64, flags)?;
        columns.mappings[at].has_functions = true;
    }
    Ok(())
}

/// `bias`: the server's addresses minus the profile's.
fn name_mapping_remotely(
    columns: &mut Columns,
    mapping: usize,
    server: &str,
    bias: i64,
    flags: &Flags,
) -> Result<(), String> {
    let is_own = |location: &crate::profile::columns::Location| location.mapping as usize == mapping;
    let unnamed = columns.locations.iter().filter(|location| {
        is_own(location) && location.address != 0 && columns.lines_of(location).is_empty()
    });
    let addresses: Result<Vec<String>, String> = unnamed
        .map(|location| {
            let there = location.address.checked_add_signed(bias).map(|address| format!("{address:#x}"));
            there.ok_or_else(|| {
                format!("cannot adjust address {} by {bias}, it would overflow", location.address)
            })
        })
        .collect();
    let addresses = addresses?;
    if addresses.is_empty() {
        return Ok(());
    }
    let reply = http::post(server, addresses.join("+"), flags)?;
    let names = names_in(&reply, bias)?;
    let mut functions: FxHashMap<&str, u32> = FxHashMap::default();
    for row in 0..columns.locations.len() {
        let location = &columns.locations[row];
        let Some(name) = is_own(location).then(|| names.get(&location.address)).flatten() else { continue };
        let function = *functions.entry(name).or_insert_with(|| {
            let text = columns.intern(name);
            let row = columns.functions.len() as u32;
            let id = u64::from(row) + 1;
            columns.functions.push(Function { id, name: text, system_name: text, ..Function::default() });
            row
        });
        set_lines(columns, row, &[Line { function, line: 0, column: 0 }]);
    }
    Ok(())
}

/// The names in a reply by the profile's address: lines of `0x<address> <name>`; other lines are
/// ignored.
fn names_in(reply: &str, bias: i64) -> Result<FxHashMap<u64, String>, String> {
    let mut names = FxHashMap::default();
    // A last line without a line end is ignored.
    for line in reply.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let Some((address, name)) = address_and_name(line) else { continue };
        let parsed = u64::from_str_radix(address, 16);
        let there =
            parsed.map_err(|_| format!("unexpected parse failure 0x{address}: value out of range"))?;
        let here = there.checked_add_signed(bias.wrapping_neg()).ok_or_else(|| {
            format!("cannot adjust symbolz address {there} by {}, it would overflow", bias.wrapping_neg())
        })?;
        names.insert(here, name.to_string());
    }
    Ok(names)
}

/// The first hexadecimal number that is followed by blanks, and the text after them.
fn address_and_name(line: &str) -> Option<(&str, &str)> {
    line.match_indices("0x").find_map(|(at, _)| {
        let rest = &line[at + 2..];
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (address, name) = rest.split_at(digits);
        let trimmed = name.trim_start_matches(|letter: char| letter.is_ascii_whitespace());
        (digits > 0 && trimmed.len() < name.len()).then_some((address, trimmed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_parsed_word_by_word() {
        let read = |text: &str| read_mode(text, &mut |_| ());
        let mode = Mode { local: true, remote: true, fast: false, force: false, detail: Detail::Simple };
        assert_eq!(read(""), Some(mode));
        assert_eq!(read("none"), None);
        assert_eq!(read("FastLocal"), Some(Mode { remote: false, fast: true, ..mode }));
        assert_eq!(read("remote:force"), Some(Mode { local: false, force: true, ..mode }));
        assert_eq!(read("demangle=full"), Some(Mode { detail: Detail::Full, force: true, ..mode }));
        let mut messages = Vec::new();
        assert_eq!(read_mode("bad", &mut |text| messages.push(text.to_string())), Some(mode));
        assert_eq!(messages[0], "ignoring unrecognized symbolization option: bad");
    }

    #[test]
    fn a_servers_reply_is_parsed_line_by_line() {
        let reply = "num_symbols: 1\n0x1010\tmain.f\n--- 0x1020  two words\n0xzz no\n0x1030 cut";
        let names = names_in(reply, 0x10).unwrap();
        assert_eq!(names.len(), 2);
        assert_eq!((&*names[&0x1000], &*names[&0x1010]), ("main.f", "two words"));
        assert!(names_in("0x10 f\n", 0x20).unwrap_err().contains("overflow"));
        assert!(names_in("0x11112222333344445 f\n", 0).is_err());
    }
}
