//! Reading a spool while another process may be writing it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    INDEX, SpoolError,
    index::{self, Known},
    name::{Entry, Time},
    walk::{Size, walk},
};
use crate::profile::columns::{Columns, decode::Series as Reader, merge::Merger};

/// What is in a spool.
#[derive(Clone, Debug)]
pub struct Catalog {
    folder: PathBuf,
    /// By time.
    entries: Vec<(Entry, Known)>,
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
    /// Parses `since=1h&until=2026-11-30T10:00&service=web&kind=cpu`. A time is one of day (UTC),
    /// or how long before `now` it was. Errors: what is wrong, for a person.
    pub fn parse(text: &str, now: Time) -> Result<Query, String> {
        let mut query = Query::default();
        for word in text.split('&').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("since", value)) => query.since = Some(parse_time(value, now)?),
                Some(("until", value)) => query.until = Some(parse_time(value, now)?),
                Some(("service", value)) => query.service = Some(value.to_owned()),
                Some(("kind", value)) => query.kind = Some(value.to_owned()),
                _ => return Err(format!("{word}: expected since=, until=, service= or kind=")),
            }
        }
        Ok(query)
    }

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

/// Parses a time of day (UTC) such as `2026-11-30T10:00`, or a duration before `now` such as `1h`.
/// Errors: it is neither.
pub fn parse_time(text: &str, now: Time) -> Result<Time, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)));
    }
    let plain = text.trim_end_matches('Z').replace(' ', "T");
    let day: Option<jiff::civil::DateTime> = plain.parse().ok();
    let at = day.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok());
    at.map(|at| at.timestamp().as_millisecond()).ok_or_else(|| {
        format!("{text}: expected a duration such as 1h, or a time (UTC) such as 2026-11-30T10:00")
    })
}

impl Catalog {
    /// The kind to show if none is named: `cpu`, or else the first one.
    pub fn default_kind(&self, query: &Query) -> Option<String> {
        let series = self.series(query);
        let cpu = series.iter().find(|series| series.kind == "cpu").or(series.first());
        cpu.map(|series| series.kind.clone())
    }

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
            (files, damaged) if damaged <= 1 => files.into_iter().collect(),
            _ => {
                let known = |size: Size| Known { bytes: size.bytes, ..Known::default() };
                let found = walk(folder).profiles.into_iter();
                let found: BTreeMap<Entry, Known> = found.map(|(entry, size)| (entry, known(size))).collect();
                found.into_iter().collect()
            }
        };
        Ok(Catalog { folder: folder.to_owned(), entries })
    }

    /// The profiles that match, by time.
    pub fn entries<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().map(|(entry, _)| entry).filter(|entry| query.has(entry))
    }

    /// The main value of each profile that matches: when it began and ended, the sum, and its unit.
    pub fn totals<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = (&'a Entry, i64, &'a str)> {
        let matching = self.entries.iter().filter(|(entry, _)| query.has(entry));
        matching.map(|(entry, known)| (entry, known.total, known.unit.as_str()))
    }

    /// The end of the last window of all.
    pub fn last(&self) -> Option<Time> {
        self.entries.iter().map(|(entry, _)| entry.end()).max()
    }

    /// The path of an entry's file.
    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.folder.join(entry.path())
    }

    /// The services and kinds that match, in alphabetical order.
    pub fn series(&self, query: &Query) -> Vec<Series> {
        let mut all: BTreeMap<(&str, &str), Series> = BTreeMap::new();
        for (entry, known) in self.entries.iter().filter(|(entry, _)| query.has(entry)) {
            let series = all.entry((&entry.service, &entry.kind)).or_insert_with(|| Series {
                service: entry.service.clone(),
                kind: entry.kind.clone(),
                count: 0,
                bytes: 0,
                first: entry.start,
                last: entry.end(),
            });
            series.count += 1;
            series.bytes += known.bytes;
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
}

fn different(query: &Query) -> String {
    match query.kind {
        Some(_) => "they have different types of values".to_owned(),
        None => "they are of different kinds: name one kind".to_owned(),
    }
}
