//! The profiles that were captured in a session, under short ids, bounded in number and size.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, anyhow, bail};

use crate::{
    cli::report,
    profile::{columns::Columns, columns::decode, function_starts, proto::Profile, write_gzip},
};

/// The most profiles that are kept. The oldest is dropped for a new one.
pub const MOST_PROFILES: usize = 32;
/// The most bytes of all kept profiles, compressed.
pub const MOST_BYTES: usize = 64 << 20;

/// A captured profile.
#[derive(Debug)]
pub struct Kept {
    /// Its id: `p1`.
    pub id: String,
    /// What was captured.
    pub title: String,
    /// What is missing or uncertain.
    pub warnings: Vec<String>,
    /// The profile, as in a file.
    bytes: Vec<u8>,
}

/// The captured profiles of a session, the oldest first.
#[derive(Debug, Default)]
pub struct Store {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: VecDeque<Arc<Kept>>,
    /// How many were kept so far: ids are never used again.
    count: u64,
}

impl Store {
    /// Keeps a profile. Returns its id.
    pub fn keep(&self, profile: &Profile, title: String, warnings: Vec<String>) -> Result<String> {
        let mut bytes = Vec::new();
        write_gzip(profile, &mut bytes)?;
        Ok(self.keep_bytes(bytes, title, warnings))
    }

    fn keep_bytes(&self, bytes: Vec<u8>, title: String, warnings: Vec<String>) -> String {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.count += 1;
        let id = format!("p{}", inner.count);
        inner.kept.push_back(Arc::new(Kept { id: id.clone(), title, warnings, bytes }));
        let size = |kept: &VecDeque<Arc<Kept>>| kept.iter().map(|kept| kept.bytes.len()).sum::<usize>();
        while inner.kept.len() > MOST_PROFILES || inner.kept.len() > 1 && size(&inner.kept) > MOST_BYTES {
            inner.kept.pop_front();
        }
        id
    }

    /// The kept profile with an id. `None`: it is not an id. Errors: there is no such profile.
    pub fn find(&self, id: &str) -> Result<Option<Arc<Kept>>> {
        let is_id = id.strip_prefix('p').is_some_and(|number| number.parse::<u64>().is_ok());
        if !is_id {
            return Ok(None);
        }
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = inner.kept.iter().find(|kept| kept.id == id) {
            return Ok(Some(Arc::clone(kept)));
        }
        let all: Vec<&str> = inner.kept.iter().map(|kept| &*kept.id).collect();
        match all.is_empty() {
            true => bail!("there is no profile {id}: none was captured in this session; call attach first"),
            false => bail!(
                "there is no profile {id}; kept are {} (the last {MOST_PROFILES}, at most {} MiB)",
                all.join(", "),
                MOST_BYTES >> 20
            ),
        }
    }

    /// Reads a profile by its id or its path. Warnings are added to `messages`.
    pub fn read(&self, name: &str, messages: &mut Vec<String>) -> Result<Columns> {
        let Some(kept) = self.find(name)? else {
            if !Path::new(name).is_file() {
                bail!("there is no profile `{name}`: it is neither an id that attach returned nor a file");
            }
            return report::read_with_messages(&[PathBuf::from(name)], messages);
        };
        let mut columns = decode::read(kept.bytes.clone()).map_err(|error| anyhow!("{error}"))?;
        function_starts::name_unnamed(&mut columns);
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_and_the_bytes_of_kept_profiles_are_bounded() {
        let store = Store::default();
        let keep = |bytes: usize| store.keep_bytes(vec![0; bytes], String::new(), Vec::new());
        for number in 1..=MOST_PROFILES + 1 {
            assert_eq!(keep(1), format!("p{number}"));
        }
        let missing = store.find("p1").expect_err("dropped").to_string();
        assert!(missing.contains("kept are p2, p3"), "{missing}");
        let large = keep(MOST_BYTES);
        assert!(store.find(&large).expect("kept").is_some() && store.find("p2").is_err());
        assert!(store.find("/tmp/p2").expect("a path").is_none());
    }

    #[test]
    fn only_ids_and_files_are_read() {
        let store = Store::default();
        for name in ["http://127.0.0.1:1/profile", "/", "nothing.pb.gz", ""] {
            let error = store.read(name, &mut Vec::new()).expect_err("no file").to_string();
            assert!(error.contains("neither an id"), "{name}: {error}");
        }
    }
}
