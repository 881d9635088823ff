//! The profiles that the pages show, with what the caller provides, and the filtered profiles that
//! were requested last.
//!
//! Not here: responding (`data`).

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use super::{
    prepared::{Cache, Prepared, prepare},
    profiles::{Offered, Profiles},
    query::Query,
    response::DataError,
};
use crate::report::pprof::{Settings, objects::ObjectTool};

/// Draws a graph in the DOT language as SVG; the error is for a person.
pub type Draw = dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync;

/// The functions and settings that the pages need from the caller.
pub struct Tools {
    /// The settings where the URL has no parameter.
    pub settings: Settings,
    /// The file of saved settings; `None`: settings cannot be saved.
    pub configs: Option<PathBuf>,
    /// Opens program files for disassembly.
    pub objects: Box<dyn ObjectTool + Send + Sync>,
    /// Draws call graphs.
    pub draw: Box<Draw>,
}

/// The pages of a set of profiles.
pub struct Site {
    /// The profiles.
    pub profiles: Profiles,
    /// What the caller provides.
    pub tools: Tools,
    cache: Mutex<Cache>,
}

impl Site {
    /// Pages of `profiles`, numbered from 0. There must be at least one.
    pub fn new(profiles: Vec<Offered>, tools: Tools) -> Site {
        Site { profiles: Profiles::new(profiles), tools, cache: Mutex::default() }
    }

    /// Pages of profiles that are added later.
    pub fn growing(tools: Tools) -> Site {
        Site { profiles: Profiles::growing(), tools, cache: Mutex::default() }
    }

    /// Adds a profile and returns its number in URLs; the first one has 1.
    pub fn add(&self, offered: Offered) -> usize {
        self.profiles.add(offered)
    }

    /// Removes the profile with the lowest number.
    pub fn remove_oldest(&self) {
        self.profiles.remove_oldest();
    }

    /// The filtered profile, cached by filters.
    pub fn prepared(&self, query: &Query) -> Result<Arc<Prepared>, DataError> {
        let settings = query.settings(&self.tools.settings)?;
        let key = format!("{:?} {settings:?}", self.profiles.requested(query)?);
        // A panic while the lock was held cannot have left the cache inconsistent.
        let cached = self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).find(&key);
        if let Some(cached) = cached {
            return Ok(cached);
        }
        let prepared = Arc::new(prepare(&self.profiles.displayed(query)?, &settings)?);
        self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).keep(key, &prepared);
        Ok(prepared)
    }
}
