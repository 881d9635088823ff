//! Profiles in a browser: pages, and the data that the pages request.
//!
//! ```text
//! Request ► route (page, asset or data) ► settings (from the parameters) ► reports ► Response
//! ```
//!
//! `report` computes everything that is shown; this module selects and sends it. The pages are
//! plain JavaScript modules and style sheets in `assets/`, embedded as they are. Not here: sockets
//! and access control (`serve`), reading files and programs (`cli` passes the functions in
//! [`Tools`]).

mod assets;
mod configs;
mod data;
mod flame;
mod frames;
mod prepared;
mod profiles;
mod query;
mod search;
mod threads;
mod timeline;
mod tree;

use std::{
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use flate2::{Compression, write::GzEncoder};

use crate::report::pprof::{Settings, objects::ObjectTool};
use prepared::Cache;
use profiles::Profiles;
use query::Query;

pub use profiles::{Offered, Read};

/// Scripts and styles come only from this server; inline ones are forbidden.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
     data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

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
    profiles: Profiles,
    tools: Tools,
    cache: Mutex<Cache>,
}

/// A request for a page, an asset or data.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The path below the root of the pages: `flamegraph`, `api/flame`, `assets/app.js`.
    pub path: &'a str,
    /// The query without `?`.
    pub query: &'a str,
    /// Whether the method is POST.
    pub is_post: bool,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The content.
    pub body: Vec<u8>,
    /// The target of a redirection, relative to the root of the pages.
    pub location: Option<&'static str>,
    /// The file name for a download.
    pub save_as: Option<String>,
    /// Whether the body is compressed with gzip.
    pub is_compressed: bool,
}

impl Response {
    fn new(content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status: 200,
            content_type,
            body: body.into(),
            location: None,
            save_as: None,
            is_compressed: false,
        }
    }

    fn json(body: impl Into<Vec<u8>>) -> Response {
        Response::new("application/json", body)
    }

    /// Compresses the body with gzip, unless it is small or a download.
    pub fn compressed(mut self) -> Response {
        const MIN_BYTES: usize = 2048;
        if self.body.len() < MIN_BYTES || self.save_as.is_some() {
            return self;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        if let Ok(compressed) = encoder.write_all(&self.body).and_then(|()| encoder.finish()) {
            (self.body, self.is_compressed) = (compressed, true);
        }
        self
    }

    fn failure(status: u16, why: &str) -> Response {
        let body = serde_json::json!({ "error": why }).to_string();
        Response { status, ..Response::json(body) }
    }
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

    /// Responds to a request. An invalid request gets a response that explains the error.
    pub fn respond(&self, request: Request) -> Response {
        if let Some(name) = request.path.strip_prefix("assets/") {
            return assets::find(name).unwrap_or_else(|| Response::failure(404, "file not found"));
        }
        if request.path.is_empty() {
            return Response { status: 302, location: Some("flamegraph"), ..Response::json("") };
        }
        if assets::VIEWS.contains(&request.path) {
            // The page itself reports other errors.
            let status = match self.profiles.requested(&Query::parse(request.query)) {
                Err(why) if why.status == 404 => 404,
                _ => 200,
            };
            return Response { status, ..assets::page() };
        }
        data::respond(self, request).unwrap_or_else(|why| why.response())
    }

    /// The filtered profile, cached by filters.
    fn prepared(&self, query: &Query) -> Result<Arc<prepared::Prepared>, data::DataError> {
        let settings = query.settings(&self.tools.settings)?;
        let key = format!("{:?} {settings:?}", self.profiles.requested(query)?);
        // A panic while the lock was held cannot have left the cache inconsistent.
        let cached = self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).find(&key);
        if let Some(cached) = cached {
            return Ok(cached);
        }
        let prepared = Arc::new(prepared::prepare(&self.profiles.displayed(query)?, &settings)?);
        self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).keep(key, &prepared);
        Ok(prepared)
    }
}

#[cfg(test)]
mod tests;
