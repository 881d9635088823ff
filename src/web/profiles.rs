//! The profiles of a site: read on first use, and compared in pairs.
//!
//! Each profile has a number that is never used again. Not here: reading files (`cli` passes the
//! functions), limits on the number of profiles (the caller removes old ones).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use serde_json::{Value, json};

use super::{DataError, query::Query};
use crate::profile::{
    columns::{Columns, decode, labels::BASE_KEY, merge},
    function_starts,
};

/// Reads a profile; the error is for a person.
pub type Read = dyn Fn() -> Result<Columns, String> + Send + Sync;

/// The number of encoded profiles that are cached decoded: the two of a comparison.
const KEPT_DECODED: usize = 2;

/// A profile of a site.
pub struct Offered {
    /// Its name for a person: its file's name.
    pub name: String,
    content: Content,
    /// The URL of the page that captured it; empty: none.
    made_at: String,
}

/// A profile's number and its file's bytes.
pub type Encoded = (usize, Arc<[u8]>);

enum Content {
    /// Read on first use.
    Read { read: Box<Read>, columns: OnceLock<Result<Arc<Columns>, String>> },
    /// The bytes of its file, decoded while it is in use.
    Encoded(Arc<[u8]>),
}

impl Offered {
    /// A profile that is already decoded.
    pub fn loaded(name: &str, columns: Columns) -> Offered {
        let read: Box<Read> = Box::new(|| Err("the profile is not available any more".into()));
        let columns = Ok(Arc::new(columns)).into();
        Offered::of(name, Content::Read { read, columns }, "")
    }

    /// A profile that `read` reads on first use.
    pub fn unread(name: &str, read: Box<Read>) -> Offered {
        Offered::of(name, Content::Read { read, columns: OnceLock::new() }, "")
    }

    /// A profile that is kept as the bytes of its file. `made_at` is the URL, relative to the root
    /// of the pages, of the page that captured it.
    pub fn encoded(name: &str, bytes: impl Into<Arc<[u8]>>, made_at: &str) -> Offered {
        Offered::of(name, Content::Encoded(bytes.into()), made_at)
    }

    fn of(name: &str, content: Content, made_at: &str) -> Offered {
        Offered { name: name.into(), content, made_at: made_at.into() }
    }

    fn unreadable(&self, why: &str) -> DataError {
        DataError { status: 502, why: format!("{}: {why}", self.name) }
    }
}

/// All profiles, by number.
pub struct Profiles {
    all: RwLock<Row>,
    /// Which profile is the default: the newest or the first.
    shows_newest: bool,
    /// The decoded profiles of [`Content::Encoded`], the most recently used last.
    decoded: Mutex<Vec<(usize, Arc<Columns>)>>,
    /// The most recent comparison.
    compared: Mutex<Option<(String, Arc<Columns>)>>,
}

/// Profiles with consecutive numbers.
struct Row {
    first: usize,
    all: VecDeque<Arc<Offered>>,
}

impl Row {
    fn get(&self, number: usize) -> Option<&Arc<Offered>> {
        self.all.get(number.checked_sub(self.first)?)
    }
}

impl Profiles {
    /// `all`, numbered from 0.
    pub fn new(all: Vec<Offered>) -> Profiles {
        let all = all.into_iter().map(Arc::new).collect();
        Profiles::of(Row { first: 0, all }, false)
    }

    /// No profiles yet; added ones are numbered from 1.
    pub fn growing() -> Profiles {
        Profiles::of(Row { first: 1, all: VecDeque::new() }, true)
    }

    fn of(row: Row, shows_newest: bool) -> Profiles {
        Profiles {
            all: RwLock::new(row),
            shows_newest,
            decoded: Mutex::default(),
            compared: Mutex::default(),
        }
    }

    /// No code panics while it holds the lock.
    fn row(&self) -> std::sync::RwLockReadGuard<'_, Row> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a profile and returns its number.
    pub fn add(&self, offered: Offered) -> usize {
        let mut row = self.all.write().unwrap_or_else(PoisonError::into_inner);
        row.all.push_back(Arc::new(offered));
        row.first + row.all.len() - 1
    }

    /// Removes the profile with the lowest number.
    pub fn remove_oldest(&self) {
        let mut row = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if row.all.pop_front().is_none() {
            return;
        }
        row.first += 1;
        let first = row.first;
        drop(row);
        self.decoded.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, _)| *number >= first);
        *self.compared.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The numbers and names of all profiles.
    pub fn list(&self) -> Vec<Value> {
        let row = self.row();
        let numbered = row.all.iter().enumerate();
        numbered.map(|(at, one)| json!({ "number": row.first + at, "name": one.name })).collect()
    }

    /// The numbers of the requested profile and of the base to compare it with.
    ///
    /// # Errors
    /// [`DataError`] when there is no such profile.
    pub fn requested(&self, query: &Query) -> Result<(usize, Option<usize>), DataError> {
        let row = self.row();
        let number = |name: &str| match query.get(name) {
            "" => Ok(None),
            text => match text.parse::<usize>() {
                Ok(number) if row.get(number).is_some() => Ok(Some(number)),
                Ok(number) => Err(missing(number, &row)),
                Err(_) => Err(DataError::bad_request(&format!("{name}={text}: profile not found"))),
            },
        };
        let (new, base) = (number("in")?, number("vs")?);
        let default = if self.shows_newest { row.all.len().saturating_sub(1) } else { 0 } + row.first;
        match new {
            None if row.all.is_empty() => Err(DataError::missing("no profile has been captured yet")),
            new => Ok((new.unwrap_or(default), base)),
        }
    }

    fn one(&self, number: usize) -> Result<Arc<Offered>, DataError> {
        let row = self.row();
        row.get(number).cloned().ok_or_else(|| missing(number, &row))
    }

    fn decoded(&self, number: usize) -> Result<Arc<Columns>, DataError> {
        let offered = self.one(number)?;
        let bytes = match &offered.content {
            Content::Read { read, columns } => {
                let read = columns.get_or_init(|| read().map(Arc::new));
                return read.clone().map_err(|why| offered.unreadable(&why));
            }
            Content::Encoded(bytes) => bytes,
        };
        // The lock is held while decoding, so that concurrent requests decode only once.
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        let columns = match decoded.iter().position(|(known, _)| *known == number) {
            Some(at) => decoded.remove(at).1,
            None => {
                let read = decode::read(bytes.to_vec());
                Arc::new(read.map_err(|why| offered.unreadable(&why.to_string()))?)
            }
        };
        if decoded.len() == KEPT_DECODED {
            decoded.remove(0);
        }
        decoded.push((number, Arc::clone(&columns)));
        Ok(columns)
    }

    /// The name of the requested profile, or of both in a comparison.
    ///
    /// # Errors
    /// [`DataError`] when there is no such profile.
    pub fn name(&self, query: &Query) -> Result<String, DataError> {
        let (new, base) = self.requested(query)?;
        let name = self.one(new)?.name.clone();
        base.map_or_else(|| Ok(name.clone()), |base| Ok(format!("{} → {name}", self.one(base)?.name)))
    }

    /// The URL of the page that captured the requested profile; empty: none.
    ///
    /// # Errors
    /// [`DataError`] when there is no such profile.
    pub fn made_at(&self, query: &Query) -> Result<String, DataError> {
        Ok(self.one(self.requested(query)?.0)?.made_at.clone())
    }

    /// The bytes of the requested profile, if it is kept encoded.
    ///
    /// # Errors
    /// [`DataError`] when there is no such profile.
    pub fn encoded(&self, query: &Query) -> Result<Option<Encoded>, DataError> {
        let (number, base) = self.requested(query)?;
        Ok(match &self.one(number)?.content {
            Content::Encoded(bytes) if base.is_none() => Some((number, Arc::clone(bytes))),
            _ => None,
        })
    }

    /// The requested profile; for two, the difference, in which the base's samples are marked.
    ///
    /// # Errors
    /// [`DataError`] when a profile is missing, not readable or not comparable.
    pub fn columns(&self, query: &Query) -> Result<Columns, DataError> {
        let (new, base) = self.requested(query)?;
        let Some(base) = base else { return self.decoded(new).map(|columns| Columns::clone(&columns)) };
        let key = format!("{new} {base} {}", query.get("norm"));
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, columns)) = &*compared
            && *known == key
        {
            return Ok(Columns::clone(columns));
        }
        let [new, base] = [self.decoded(new)?, self.decoded(base)?].map(|columns| Columns::clone(&columns));
        let combined = difference(new, base, query)
            .map_err(|why| DataError::bad_request(&format!("cannot compare the two profiles: {why}")))?;
        *compared = Some((key, Arc::new(combined.clone())));
        Ok(combined)
    }

    /// The requested profile for display: functions without a name are called by their start.
    ///
    /// # Errors
    /// As for [`Profiles::columns`].
    pub fn displayed(&self, query: &Query) -> Result<Columns, DataError> {
        let mut columns = self.columns(query)?;
        function_starts::name_unnamed(&mut columns);
        Ok(columns)
    }

    /// The two profiles to compare, base first, with their names, for display.
    ///
    /// # Errors
    /// [`DataError`] when there are not two profiles.
    pub fn both(&self, query: &Query) -> Result<([Columns; 2], [String; 2]), DataError> {
        let (new, base) = self.requested(query)?;
        let name = self.one(new)?.name.clone();
        let columns = self.decoded(new)?;
        if let Some(base) = base {
            let mut both = [Columns::clone(&*self.decoded(base)?), Columns::clone(&columns)];
            both.iter_mut().for_each(function_starts::name_unnamed);
            return Ok((both, [self.one(base)?.name.clone(), name]));
        }
        let mut both = split(&columns).ok_or_else(|| {
            DataError::bad_request(if self.shows_newest {
                "Choose a base to compare with. If there is no other profile, capture one first."
            } else {
                "Choose a base to compare with, or start with one: rprof pprof -http=: -diff_base=BASE FILE"
            })
        })?;
        both.iter_mut().for_each(function_starts::name_unnamed);
        Ok((both, ["base".into(), name]))
    }
}

/// The error for a number without a profile.
fn missing(number: usize, row: &Row) -> DataError {
    DataError::missing(&if number < row.first && number > 0 {
        format!("profile {number} is not kept any more: newer profiles replaced it")
    } else {
        format!("profile {number} not found")
    })
}

fn difference(mut new: Columns, mut base: Columns, query: &Query) -> Result<Columns, String> {
    base.mark_as_base();
    if matches!(query.get("norm"), "true" | "t" | "1" | "yes" | "y") {
        new.normalize(&base)?;
    }
    base.scale(-1.0);
    merge::combine(vec![new, base])
}

/// Splits a difference into base and new. `None` if no sample is marked as the base's.
fn split(columns: &Columns) -> Option<[Columns; 2]> {
    let key = columns.texts.find(BASE_KEY).filter(|_| columns.has_labels())?;
    let is_base: Vec<bool> = (0..columns.sample_count())
        .map(|sample| columns.labels(sample).iter().any(|label| label.key == key))
        .collect();
    if !is_base.contains(&true) {
        return None;
    }
    let part = |of_base: bool| {
        let mut part = columns.clone();
        part.retain(None, |sample, stack| (is_base[sample] == of_base).then_some(0..stack.len()));
        part
    };
    let mut base = part(true);
    base.scale(-1.0);
    Some([base, part(false)])
}
