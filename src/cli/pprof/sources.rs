//! Fetches the profiles named on the command line and merges them.
//!
//! `profile::columns` decodes them, [`super::symbolize`] adds names.

use std::{fs, io, path::Path};

use super::{
    Flags, binaries, object,
    symbolize::{Origins, symbolize},
    words::system_words,
};
use crate::cli::perf_stacks::PerfStacks;
use crate::cli::symbolize::MAX_PROFILE_BYTES;
use crate::process::files::read_input;
use crate::profile::columns::{
    Columns, Location, Mapping, decode,
    error::ReadError,
    merge::{self, Accumulator},
    parallel::in_order,
};
use crate::profile::perf_data;
use crate::text::path::base_name;

pub(super) mod http;

/// How many files are read at a time.
const CHUNK: usize = 128;

/// The profile that the flags describe.
pub(super) fn fetch(flags: &Flags, say: &mut dyn FnMut(&str)) -> Result<Columns, String> {
    let base: Vec<String> =
        [&flags.base, &flags.diff_base].into_iter().filter(|base| !base.is_empty()).cloned().collect();
    let base = crate::cli::spool::expand(&base)?;
    let own = grab(&flags.arguments, flags, say)
        .map_err(|error| format!("problem fetching source profiles: {error}"))?;
    let other =
        grab(&base, flags, say).map_err(|error| format!("problem fetching base profiles: {error},"))?;
    let Some(mut columns) = own.columns else {
        return Err("failed to fetch any source profiles".into());
    };
    if other.columns.is_none() && !base.is_empty() {
        return Err("failed to fetch any base profiles".into());
    }
    for (what, wanted, got) in
        [("source", flags.arguments.len(), own.count), ("base", base.len(), other.count)]
    {
        if wanted != got {
            say(&format!("Fetched {got} {what} profiles out of {wanted}"));
        }
    }
    if let Some(mut other) = other.columns {
        if !flags.diff_base.is_empty() {
            other.mark_as_base();
        }
        if flags.settings.normalize {
            columns.normalize(&other)?;
        }
        other.scale(-1.0);
        columns = merge::combine(vec![columns, other])?;
    }
    let mut origins = own.origins;
    for (key, known) in other.origins {
        origins.entry(key).or_default().extend(known);
    }
    symbolize(&mut columns, &origins, flags, say)?;
    columns.drop_uninteresting();
    forget_origins(&mut columns);
    if !flags.comment.is_empty() {
        let comment = columns.intern(&flags.comment);
        columns.header.comments.push(comment);
    }
    if own.is_remote || other.is_remote {
        save(&columns, say)?;
    }
    Ok(columns)
}

#[derive(Default)]
struct FetchedProfiles {
    columns: Option<Columns>,
    count: usize,
    is_remote: bool,
    origins: Origins,
}

/// Fetches all sources and merges them; sources that fail are only reported.
fn grab(sources: &[String], flags: &Flags, say: &mut dyn FnMut(&str)) -> Result<FetchedProfiles, String> {
    let mut grabbed = FetchedProfiles::default();
    for chunk in sources.chunks(CHUNK) {
        let is_file = |source: &String| fs::metadata(source).is_ok_and(|found| found.is_file());
        let mut fetched = None;
        // Profiles merged as they arrive may have to be read again, so all must be files.
        if chunk.len() > 2 && chunk.iter().all(is_file) {
            fetched = fetch_all(chunk, flags, Accumulator::merged());
        }
        let fetched = fetched.or_else(|| fetch_all(chunk, flags, Accumulator::Kept(Vec::new())));
        let Some((batch, gathered, messages)) = fetched else { continue };
        messages.iter().for_each(|message| say(message));
        grabbed.is_remote |= batch.is_remote;
        grabbed.count += batch.count;
        for (key, known) in batch.origins {
            grabbed.origins.entry(key).or_default().extend(known);
        }
        let Some(combined) = gathered.finish()? else { continue };
        grabbed.columns = Some(match grabbed.columns.take() {
            None => combined,
            Some(before) => merge::combine(vec![before, combined])?,
        });
    }
    Ok(grabbed)
}

/// Fetches some sources. Returns facts about them, their profiles, and messages; `None` if
/// `gathered` cannot take the profiles.
fn fetch_all(
    sources: &[String],
    flags: &Flags,
    mut gathered: Accumulator,
) -> Option<(FetchedProfiles, Accumulator, Vec<String>)> {
    let mut batch = FetchedProfiles::default();
    let mut messages = Vec::new();
    let mut names = sources.iter();
    let mut is_gathered = true;
    // A single profile is decoded on all processors.
    let series = (sources.len() > 1).then(decode::Series::default);
    in_order(
        sources.len(),
        |at| fetch_one(&sources[at], flags, series.as_ref()),
        |fetched| {
            let source = names.next().map_or("", String::as_str);
            messages.extend(fetched.messages);
            match fetched.columns {
                Ok(mut columns) => {
                    locate_binaries(&mut columns, flags, &mut |message| messages.push(message.into()));
                    if let Some(server) = &fetched.server {
                        batch.is_remote = true;
                        note_origins(&mut columns, server, &mut batch.origins);
                    }
                    batch.count += 1;
                    is_gathered = gathered.add(columns);
                }
                Err(error) => messages.push(format!("{source}: {error}")),
            }
            is_gathered
        },
    );
    is_gathered.then_some((batch, gathered, messages))
}

struct Fetched {
    columns: Result<Columns, String>,
    messages: Vec<String>,
    /// Its URL, unless it is a file.
    server: Option<String>,
}

/// Fetches a source, which may be one of a `series`.
fn fetch_one(source: &str, flags: &Flags, series: Option<&decode::Series>) -> Fetched {
    let mut messages = Vec::new();
    let missing = match fs::metadata(source) {
        Ok(_) => {
            let columns = read_file(source, series);
            return Fetched { columns, messages, server: None };
        }
        Err(error) => format!("stat {source}: {}", system_words(&error)),
    };
    match http::Request::new(source, flags) {
        None => Fetched { columns: Err(missing), messages, server: None },
        Some(request) => {
            let bytes = request.fetch(&mut messages);
            let columns = bytes.and_then(|bytes| read(bytes, series));
            Fetched { columns, messages, server: Some(request.url().to_string()) }
        }
    }
}

fn read_file(path: &str, series: Option<&decode::Series>) -> Result<Columns, String> {
    let bytes = read_input(Path::new(path), MAX_PROFILE_BYTES).map_err(|error| {
        let call = if error.kind() == io::ErrorKind::IsADirectory { "read" } else { "open" };
        format!("{call} {path}: {}", system_words(&error))
    })?;
    read(bytes, series)
}

/// Copies of stacks in `perf.data` are unwound here: reading a profile opens no files.
fn read(bytes: Vec<u8>, series: Option<&decode::Series>) -> Result<Columns, String> {
    if perf_data::is_perf_data(&bytes) {
        let read = perf_data::read_with(&bytes, Some(&mut PerfStacks::default()));
        return read.map_err(|error| ReadError::PerfData(error).to_string());
    }
    let columns = match series {
        Some(series) => series.read(bytes),
        None => decode::read(bytes),
    };
    columns.map_err(|error| error.to_string())
}

/// Sets the files of mappings to local files, and adds a mapping if the profile has none.
fn locate_binaries(columns: &mut Columns, flags: &Flags, say: &mut dyn FnMut(&str)) {
    let home = || format!("{}/pprof/binaries", std::env::var("HOME").unwrap_or_default());
    let search = std::env::var("PPROF_BINARY_PATH").ok().filter(|path| !path.is_empty());
    let search = search.unwrap_or_else(home);
    for at in 0..columns.mappings.len() {
        let Mapping { file, build_id, .. } = columns.mappings[at];
        let (file, build_id) = (columns.text(file), columns.text(build_id).to_string());
        for name in candidates(&search, file, &build_id) {
            if !object::opens(&name) {
                continue;
            }
            let found = if build_id.is_empty() { String::new() } else { binaries::build_id_of(&name) };
            if found == build_id {
                columns.mappings[at].file = columns.intern(&name);
                break;
            }
            say(&format!("Ignoring local file {name}: build-id mismatch ({build_id} != {found})"));
        }
    }
    if columns.mappings.is_empty() {
        columns.mappings.push(Mapping { id: 1, ..Mapping::default() });
        columns.locations.iter_mut().for_each(|location: &mut Location| location.mapping = 0);
    }
    if let Some(binary) = &flags.binary {
        columns.mappings[0].file = columns.intern(binary);
    }
    if !flags.build_id.is_empty() && columns.mappings[0].build_id == 0 {
        columns.mappings[0].build_id = columns.intern(&flags.build_id);
    }
}

/// The paths at which a binary may be.
fn candidates(search: &str, file: &str, build_id: &str) -> Vec<String> {
    let mut names = Vec::new();
    let join = |parts: &[&str]| crate::text::path::clean_path(&parts.join("/"));
    let base = if file.is_empty() { "" } else { base_name(file) };
    for folder in search.split(':') {
        if !build_id.is_empty() {
            names.push(join(&[folder, build_id, base]));
            let listed = fs::read_dir(Path::new(folder).join(build_id));
            let mut entries: Vec<String> = listed
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path().display().to_string())
                .collect();
            entries.sort();
            names.extend(entries);
            names.push(join(&[folder, file, build_id]));
            if let (Some(start), Some(rest)) = (build_id.get(..2), build_id.get(2..)) {
                names.push(join(&[folder, start, &format!("{rest}.debug")]));
            }
        }
        if !file.is_empty() {
            let own_folder =
                Path::new(file).parent().map_or(String::new(), |path| path.display().to_string());
            names.push(join(&[folder, base]));
            names.push(join(&[folder, file]));
            names.push(join(&[folder, &format!("{file}.debug")]));
            names.push(join(&[folder, &own_folder, ".debug", &format!("{base}.debug")]));
            names.push(join(&[folder, "usr/lib/debug", &own_folder, &format!("{base}.debug")]));
        }
    }
    names
}

/// Notes the server of each mapping. Mappings without a file have the URL as a temporary file name.
fn note_origins(columns: &mut Columns, source: &str, origins: &mut Origins) {
    for at in 0..columns.mappings.len() {
        let mapping = columns.mappings[at];
        let mut key = if mapping.build_id == 0 { mapping.file } else { mapping.build_id };
        if key == 0 {
            key = columns.intern(source);
            columns.mappings[at].file = key;
        }
        let known = origins.entry(columns.text(key).to_string()).or_default();
        known.push((source.to_string(), mapping.start));
    }
}

/// Removes the temporary file names of [`note_origins`].
fn forget_origins(columns: &mut Columns) {
    for at in 0..columns.mappings.len() {
        let mapping = columns.mappings[at];
        if mapping.build_id == 0 && http::scheme(columns.text(mapping.file)).is_some() {
            columns.mappings[at].file = 0;
        }
    }
}

/// Saves a profile that was fetched over the network.
fn save(columns: &Columns, say: &mut dyn FnMut(&str)) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let folders = [
        variable("PPROF_TMPDIR"),
        variable("HOME").map(|home| format!("{home}/pprof")),
        Some(std::env::temp_dir().display().to_string()),
    ];
    let usable = folders.into_iter().flatten().find(|folder| match fs::create_dir_all(folder) {
        Ok(()) => true,
        Err(error) => {
            say(&format!("Could not use temp dir {folder}: mkdir {folder}: {}", system_words(&error)));
            false
        }
    });
    let Some(folder) = usable else { return Err("failed to identify temp dir".into()) };
    let mut prefix = String::from("pprof.");
    if let Some(main) = columns.mappings.first().filter(|main| main.file != 0) {
        prefix += &format!("{}.", base_name(columns.text(main.file)));
    }
    for kind in &columns.header.kinds {
        prefix += &format!("{}.", columns.text(kind.name));
    }
    let saved = super::numbered_file(Path::new(&folder), &prefix, "pb.gz").and_then(|(name, file)| {
        columns.write_gzip(io::BufWriter::new(file)).map(|()| name).map_err(|error| error.to_string())
    });
    match saved {
        Ok(name) => say(&format!("Saved profile in {name}")),
        Err(error) => say(&format!("Could not save profile: {error}")),
    }
    Ok(())
}
