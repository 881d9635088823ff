//! The profiles that can be looked at: read when they are first asked for, and compared two by two.
//!
//! Each has a number that stays its own: one that is taken away leaves its number unused. Not here: reading
//! files (`cli` hands in what reads them), how many are kept (whoever adds them).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use serde_json::{Value, json};

use super::{data::DataError, query::Query};
use crate::profile::columns::{Columns, decode, labels::BASE_KEY, merge};

/// Reads a profile; the error is for a person.
pub type Read = dyn Fn() -> Result<Columns, String> + Send + Sync;

/// Of profiles that are kept as bytes, as many are kept unpacked: those that are compared.
const KEPT_UNPACKED: usize = 2;

/// A profile that can be looked at.
pub struct Offered {
    /// What a person calls it: its file's name.
    pub name: String,
    content: Content,
    /// The page where it was made, and another can be; empty: there is none.
    made_at: String,
}

/// A profile's number, and its file's bytes.
pub type Encoded = (usize, Arc<[u8]>);

enum Content {
    /// Read once, and kept.
    Read { read: Box<Read>, columns: OnceLock<Result<Arc<Columns>, String>> },
    /// Its file's bytes, unpacked while it is looked at.
    Encoded(Arc<[u8]>),
}

impl Offered {
    /// One that is there already.
    pub fn loaded(name: &str, columns: Columns) -> Offered {
        let read: Box<Read> = Box::new(|| Err("it is gone".into()));
        let columns = Ok(Arc::new(columns)).into();
        Offered::of(name, Content::Read { read, columns }, "")
    }

    /// One that `read` reads when it is asked for.
    pub fn unread(name: &str, read: Box<Read>) -> Offered {
        Offered::of(name, Content::Read { read, columns: OnceLock::new() }, "")
    }

    /// One that is kept as its file's bytes; `made_at` is the address, from the pages' place, of the page where
    /// another like it can be made.
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

/// All of them, by number.
pub struct Profiles {
    all: RwLock<Row>,
    /// Shown where the address names none: the last one added, or else the first.
    shows_newest: bool,
    /// Those of [`Content::Encoded`] that were looked at last, the newest last.
    unpacked: Mutex<Vec<(usize, Arc<Columns>)>>,
    /// The comparison that was looked at last.
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
    /// These, numbered from 0.
    pub fn new(all: Vec<Offered>) -> Profiles {
        let all = all.into_iter().map(Arc::new).collect();
        Profiles::of(Row { first: 0, all }, false)
    }

    /// None yet; those that are added are numbered from 1.
    pub fn growing() -> Profiles {
        Profiles::of(Row { first: 1, all: VecDeque::new() }, true)
    }

    fn of(row: Row, shows_newest: bool) -> Profiles {
        Profiles {
            all: RwLock::new(row),
            shows_newest,
            unpacked: Mutex::default(),
            compared: Mutex::default(),
        }
    }

    /// Nothing panics while it is held.
    fn row(&self) -> std::sync::RwLockReadGuard<'_, Row> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, and gives its number.
    pub fn add(&self, offered: Offered) -> usize {
        let mut row = self.all.write().unwrap_or_else(PoisonError::into_inner);
        row.all.push_back(Arc::new(offered));
        row.first + row.all.len() - 1
    }

    /// Takes the one with the lowest number away.
    pub fn remove_oldest(&self) {
        let mut row = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if row.all.pop_front().is_none() {
            return;
        }
        row.first += 1;
        let first = row.first;
        drop(row);
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, _)| *number >= first);
        *self.compared.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Numbers and names, for choosing.
    pub fn list(&self) -> Vec<Value> {
        let row = self.row();
        let numbered = row.all.iter().enumerate();
        numbered.map(|(at, one)| json!({ "number": row.first + at, "name": one.name })).collect()
    }

    /// The number of the profile asked for, and of that to compare it with.
    pub fn asked(&self, query: &Query) -> Result<(usize, Option<usize>), DataError> {
        let row = self.row();
        let number = |name: &str| match query.get(name) {
            "" => Ok(None),
            text => match text.parse::<usize>() {
                Ok(number) if row.get(number).is_some() => Ok(Some(number)),
                Ok(number) => Err(missing(number, &row)),
                Err(_) => Err(DataError::bad_request(&format!("{name}={text}: there is no such profile"))),
            },
        };
        let (new, base) = (number("in")?, number("vs")?);
        let usual = if self.shows_newest { row.all.len().saturating_sub(1) } else { 0 } + row.first;
        match new {
            None if row.all.is_empty() => Err(DataError::missing("there is no profile yet")),
            new => Ok((new.unwrap_or(usual), base)),
        }
    }

    fn one(&self, number: usize) -> Result<Arc<Offered>, DataError> {
        let row = self.row();
        row.get(number).cloned().ok_or_else(|| missing(number, &row))
    }

    fn unpacked(&self, number: usize) -> Result<Arc<Columns>, DataError> {
        let offered = self.one(number)?;
        let bytes = match &offered.content {
            Content::Read { read, columns } => {
                let read = columns.get_or_init(|| read().map(Arc::new));
                return read.clone().map_err(|why| offered.unreadable(&why));
            }
            Content::Encoded(bytes) => bytes,
        };
        // Held meanwhile: who asks for the same at the same time need not unpack it again.
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let columns = match unpacked.iter().position(|(known, _)| *known == number) {
            Some(at) => unpacked.remove(at).1,
            None => {
                let read = decode::read(bytes.to_vec());
                Arc::new(read.map_err(|why| offered.unreadable(&why.to_string()))?)
            }
        };
        if unpacked.len() == KEPT_UNPACKED {
            unpacked.remove(0);
        }
        unpacked.push((number, Arc::clone(&columns)));
        Ok(columns)
    }

    /// What calls the two profiles of a question; one, where nothing is compared.
    pub fn name(&self, query: &Query) -> Result<String, DataError> {
        let (new, base) = self.asked(query)?;
        let name = self.one(new)?.name.clone();
        base.map_or_else(|| Ok(name.clone()), |base| Ok(format!("{} → {name}", self.one(base)?.name)))
    }

    /// Where the profile asked for was made.
    pub fn made_at(&self, query: &Query) -> Result<String, DataError> {
        Ok(self.one(self.asked(query)?.0)?.made_at.clone())
    }

    /// The bytes of the profile asked for, if that is what is kept of it.
    pub fn encoded(&self, query: &Query) -> Result<Option<Encoded>, DataError> {
        let (number, base) = self.asked(query)?;
        Ok(match &self.one(number)?.content {
            Content::Encoded(bytes) if base.is_none() => Some((number, Arc::clone(bytes))),
            _ => None,
        })
    }

    /// The profile asked for; of two, the difference, in which the base's samples are marked.
    pub fn columns(&self, query: &Query) -> Result<Columns, DataError> {
        let (new, base) = self.asked(query)?;
        let Some(base) = base else { return self.unpacked(new).map(|columns| Columns::clone(&columns)) };
        let key = format!("{new} {base} {}", query.get("norm"));
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, columns)) = &*compared
            && *known == key
        {
            return Ok(Columns::clone(columns));
        }
        let [new, base] = [self.unpacked(new)?, self.unpacked(base)?].map(|columns| Columns::clone(&columns));
        let made = difference(new, base, query)
            .map_err(|why| DataError::bad_request(&format!("the two cannot be compared: {why}")))?;
        *compared = Some((key, Arc::new(made.clone())));
        Ok(made)
    }

    /// The two profiles to compare, base first, with their names.
    pub fn both(&self, query: &Query) -> Result<([Columns; 2], [String; 2]), DataError> {
        let (new, base) = self.asked(query)?;
        let name = self.one(new)?.name.clone();
        let columns = self.unpacked(new)?;
        if let Some(base) = base {
            let columns = [Columns::clone(&*self.unpacked(base)?), Columns::clone(&columns)];
            return Ok((columns, [self.one(base)?.name.clone(), name]));
        }
        let both = split(&columns).ok_or_else(|| {
            DataError::bad_request(if self.shows_newest {
                "Nothing to compare with yet: choose a base; where there is no choice, capture another profile first."
            } else {
                "Nothing to compare with yet: choose a base, or give one: rprof pprof -http=: -diff_base=BASE FILE"
            })
        })?;
        Ok((both, ["base".into(), name]))
    }
}

/// Why there is no profile of this number.
fn missing(number: usize, row: &Row) -> DataError {
    DataError::missing(&if number < row.first && number > 0 {
        format!("profile {number} is not kept any more: newer ones took its place")
    } else {
        format!("there is no profile {number}")
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

/// A difference taken apart again: base and new. `None`: it is none whose base is marked.
fn split(columns: &Columns) -> Option<[Columns; 2]> {
    let key = columns.texts.find(BASE_KEY).filter(|_| columns.has_labels())?;
    let is_base: Vec<bool> = (0..columns.sample_count())
        .map(|sample| columns.labels(sample).iter().any(|label| label.key == key))
        .collect();
    if !is_base.contains(&true) {
        return None;
    }
    let part = |wanted: bool| {
        let mut part = columns.clone();
        part.retain(None, |sample, stack| (is_base[sample] == wanted).then_some(0..stack.len()));
        part
    };
    let mut base = part(true);
    base.scale(-1.0);
    Some([base, part(false)])
}
