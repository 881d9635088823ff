//! The profiles that can be looked at: read when they are first asked for, and compared two by two.
//!
//! Not here: reading files (`cli` hands in what reads them).

use std::sync::{Arc, Mutex, OnceLock};

use super::{data::Unanswered, query::Query};
use crate::profile::columns::{Columns, labels::BASE_KEY, merge};

/// Reads a profile; the error is for a person.
pub type Read = dyn Fn() -> Result<Columns, String> + Send + Sync;

/// A profile that can be looked at.
pub struct Offered {
    /// What a person calls it: its file's name.
    pub name: String,
    read: Box<Read>,
    columns: OnceLock<Result<Columns, String>>,
}

impl Offered {
    /// One that is there already.
    pub fn loaded(name: &str, columns: Columns) -> Offered {
        let offered = Offered::unread(name, Box::new(|| Err("it is gone".into())));
        let _ = offered.columns.set(Ok(columns));
        offered
    }

    /// One that `read` reads when it is asked for.
    pub fn unread(name: &str, read: Box<Read>) -> Offered {
        Offered { name: name.into(), read, columns: OnceLock::new() }
    }

    fn columns(&self) -> Result<&Columns, Unanswered> {
        let read = self.columns.get_or_init(|| (self.read)());
        read.as_ref().map_err(|why| Unanswered { status: 502, why: format!("{}: {why}", self.name) })
    }
}

/// All of them, the one that is shown first at the beginning.
pub struct Profiles {
    pub all: Vec<Offered>,
    /// The comparison that was looked at last.
    compared: Mutex<Option<(String, Arc<Columns>)>>,
}

impl Profiles {
    pub fn new(all: Vec<Offered>) -> Profiles {
        Profiles { all, compared: Mutex::default() }
    }

    /// The number of the profile asked for, and of that to compare it with.
    pub fn asked(&self, query: &Query) -> Result<(usize, Option<usize>), Unanswered> {
        let number = |name: &str| match query.get(name) {
            "" => Ok(None),
            text => match text.parse::<usize>() {
                Ok(number) if number < self.all.len() => Ok(Some(number)),
                _ => Err(Unanswered::asked_wrongly(&format!("{name}={text}: there is no such profile"))),
            },
        };
        Ok((number("in")?.unwrap_or(0), number("vs")?))
    }

    /// What calls the two profiles of a question; one, where nothing is compared.
    pub fn name(&self, query: &Query) -> Result<String, Unanswered> {
        let (new, base) = self.asked(query)?;
        let name = &self.all[new].name;
        Ok(base.map_or_else(|| name.clone(), |base| format!("{} → {name}", self.all[base].name)))
    }

    /// The profile asked for; of two, the difference, in which the base's samples are marked.
    pub fn columns(&self, query: &Query) -> Result<Columns, Unanswered> {
        let (new, base) = self.asked(query)?;
        let Some(base) = base else { return self.all[new].columns().cloned() };
        let key = format!("{new} {base} {}", query.get("norm"));
        let mut compared = self.compared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((known, columns)) = &*compared
            && *known == key
        {
            return Ok(Columns::clone(columns));
        }
        let made = difference(self.all[new].columns()?.clone(), self.all[base].columns()?.clone(), query)
            .map_err(|why| Unanswered::asked_wrongly(&format!("the two cannot be compared: {why}")))?;
        *compared = Some((key, Arc::new(made.clone())));
        Ok(made)
    }

    /// The two profiles to compare, base first, with their names.
    pub fn both(&self, query: &Query) -> Result<([Columns; 2], [String; 2]), Unanswered> {
        let (new, base) = self.asked(query)?;
        let name = |at: usize| self.all[at].name.clone();
        if let Some(base) = base {
            let columns = [self.all[base].columns()?.clone(), self.all[new].columns()?.clone()];
            return Ok((columns, [name(base), name(new)]));
        }
        let both = split(self.all[new].columns()?);
        let both = both.ok_or_else(|| {
            Unanswered::asked_wrongly(
                "Nothing to compare with yet: choose a base, or give one: rprof pprof -http=: -diff_base=BASE FILE",
            )
        })?;
        Ok((both, ["base".into(), name(new)]))
    }
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
