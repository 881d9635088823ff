//! A spool in the place of a profile: `SPOOL` or `SPOOL?since=1h&service=web&kind=cpu` stands for
//! the files in it that match.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::spool::{Catalog, Query};

/// The directory of a spool and the query, if `source` is one.
pub fn parts(source: &str) -> Option<(&str, &str)> {
    let (folder, query) = source.split_once('?').unwrap_or((source, ""));
    Catalog::is_spool(Path::new(folder)).then_some((folder, query))
}

/// The sources, with each spool replaced by its files that match. Errors: none matches, or the
/// query is wrong.
pub fn expand(sources: &[String]) -> Result<Vec<String>, String> {
    let mut expanded = Vec::new();
    for source in sources {
        match parts(source) {
            Some((folder, query)) => expanded.extend(files(Path::new(folder), query)?),
            None => expanded.push(source.clone()),
        }
    }
    Ok(expanded)
}

/// The time in milliseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn files(folder: &Path, query: &str) -> Result<Vec<String>, String> {
    let catalog = Catalog::read(folder).map_err(|error| error.to_string())?;
    let mut query = Query::parse(query, now())?;
    query.kind = query.kind.clone().or_else(|| catalog.default_kind(&query));
    let files = catalog.entries(&query).map(|entry| catalog.path(entry).display().to_string());
    let files: Vec<String> = files.collect();
    if files.is_empty() { Err(nothing(folder, &catalog)) } else { Ok(files) }
}

/// No profile matches; lists the services and kinds of the spool.
fn nothing(folder: &Path, catalog: &Catalog) -> String {
    let series = catalog.series(&Query::default());
    let known: Vec<String> =
        series.iter().take(10).map(|one| format!("{} {}", one.service, one.kind)).collect();
    let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
    format!("{}: no profile of the spool matches; it has {known}", folder.display())
}
