//! Reading a spool while another process may be writing it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    INDEX, SpoolError, index,
    name::{Entry, Time},
    walk::walk,
};
use crate::profile::columns::{self, Columns, decode::Series as Reader, merge::Merger};

/// What is in a spool.
#[derive(Clone, Debug)]
pub struct Catalog {
    folder: PathBuf,
    /// By time.
    entries: Vec<(Entry, u64)>,
}

/// Which profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only of this service.
    pub service: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only windows that end after this.
    pub since: Option<Time>,
    /// Only windows that begin before this.
    pub until: Option<Time>,
}

/// The profiles of one service and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The service.
    pub service: String,
    /// The kind.
    pub kind: String,
    /// How many profiles.
    pub count: usize,
    /// Their length in bytes.
    pub bytes: u64,
    /// The start of the first.
    pub first: Time,
    /// The end of the last.
    pub last: Time,
}

impl Query {
    /// Whether an entry matches.
    pub fn has(&self, entry: &Entry) -> bool {
        self.service.as_ref().is_none_or(|service| *service == entry.service)
            && self.kind.as_ref().is_none_or(|kind| *kind == entry.kind)
            && self.since.is_none_or(|since| entry.end() > since)
            && self.until.is_none_or(|until| entry.start < until)
    }

    fn text(&self) -> String {
        let time = |at: Time| jiff::Timestamp::from_millisecond(at).unwrap_or_default().to_string();
        let mut words = Vec::new();
        words.extend(self.service.as_ref().map(|service| format!("service {service}")));
        words.extend(self.kind.as_ref().map(|kind| format!("kind {kind}")));
        words.extend(self.since.map(|since| format!("since {}", time(since))));
        words.extend(self.until.map(|until| format!("until {}", time(until))));
        if words.is_empty() { "it is empty".to_owned() } else { words.join(", ") }
    }
}

impl Catalog {
    /// Whether a directory is a spool.
    pub fn is_spool(folder: &Path) -> bool {
        folder.join(INDEX).is_file()
    }

    /// Reads which profiles a spool has. Where the index is damaged, the names of the files say.
    ///
    /// # Errors
    /// It is not a spool, or not readable.
    pub fn read(folder: &Path) -> Result<Catalog, SpoolError> {
        if !Catalog::is_spool(folder) {
            return Err(SpoolError::NotASpool(folder.to_owned()));
        }
        let indexed = index::read(folder).map_err(SpoolError::io("cannot read", folder.join(INDEX)))?;
        // The last line may be in the course of being written.
        let entries = match indexed {
            (files, damaged) if damaged <= 1 => {
                files.into_iter().map(|(entry, known)| (entry, known.bytes)).collect()
            }
            _ => {
                let found: BTreeMap<Entry, u64> =
                    walk(folder).profiles.into_iter().map(|(entry, size)| (entry, size.bytes)).collect();
                found.into_iter().collect()
            }
        };
        Ok(Catalog { folder: folder.to_owned(), entries })
    }

    /// The profiles that match, by time.
    pub fn entries<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().map(|(entry, _)| entry).filter(|entry| query.has(entry))
    }

    /// The path of an entry's file.
    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.folder.join(entry.path())
    }

    /// The services and kinds that match, in alphabetical order.
    pub fn series(&self, query: &Query) -> Vec<Series> {
        let mut all: BTreeMap<(&str, &str), Series> = BTreeMap::new();
        for (entry, bytes) in self.entries.iter().filter(|(entry, _)| query.has(entry)) {
            let series = all.entry((&entry.service, &entry.kind)).or_insert_with(|| Series {
                service: entry.service.clone(),
                kind: entry.kind.clone(),
                count: 0,
                bytes: 0,
                first: entry.start,
                last: entry.end(),
            });
            series.count += 1;
            series.bytes += bytes;
            series.first = series.first.min(entry.start);
            series.last = series.last.max(entry.end());
        }
        all.into_values().collect()
    }

    /// Merges the profiles that match; also returns the damaged files, which are left out.
    ///
    /// # Errors
    /// None matches, or all are damaged, or they measure different things.
    pub fn merge(&self, query: &Query) -> Result<(Columns, Vec<SpoolError>), SpoolError> {
        let mut merger = Merger::default();
        let (mut merged, mut damaged) = (0, Vec::new());
        let reader = Reader::default();
        for entry in self.entries(query) {
            let path = self.path(entry);
            let read = match fs::read(&path) {
                // It has reached its age since the index was read.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => Err(error.to_string()),
                Ok(bytes) => reader.read(bytes).map_err(|error| error.to_string()),
            };
            match read {
                Ok(columns) if merger.takes(&columns) => {
                    merger.add(columns);
                    merged += 1;
                }
                Ok(_) => return Err(SpoolError::Merge(different(query))),
                Err(why) => damaged.push(SpoolError::Damaged { path, why }),
            }
        }
        match (merged, damaged.pop()) {
            (0, Some(error)) => Err(error),
            (0, None) => Err(SpoolError::NothingMatches(query.text())),
            (_, last) => {
                damaged.extend(last);
                let columns = merger.finish().map_err(SpoolError::Merge)?;
                Ok((columns, damaged))
            }
        }
    }

    /// One profile.
    ///
    /// # Errors
    /// It is damaged, or gone.
    pub fn profile(&self, entry: &Entry) -> Result<Columns, SpoolError> {
        let path = self.path(entry);
        let bytes = fs::read(&path).map_err(SpoolError::io("cannot read", &path))?;
        columns::decode::read(bytes).map_err(|error| SpoolError::Damaged { path, why: error.to_string() })
    }
}

fn different(query: &Query) -> String {
    match query.kind {
        Some(_) => "they have different types of values".to_owned(),
        None => "they are of different kinds: name one kind".to_owned(),
    }
}
