//! Profiles in a browser: pages, and the data they ask for.
//!
//! ```text
//! Request ► route (a page, a script, data?) ► settings (what do its parameters ask for?) ► reports ► Response
//! ```
//!
//! Everything shown comes from `report`; here it is only chosen and sent. The pages are plain modules and
//! style sheets in `assets/`, carried along as they are. Not here: sockets, and who may ask (`serve`), files and
//! programs (`cli` hands in what reads them).

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

/// The pages' scripts and styles come from here, nothing from elsewhere, and nothing stands in the page itself.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
     data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Draws a graph written in Graphviz's language as SVG.
pub type Draw = dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync;

/// What the pages are made with; whoever serves them hands it in.
pub struct Tools {
    /// Where the address says nothing else.
    pub settings: Settings,
    /// The file of saved settings; `None`: none can be saved.
    pub configs: Option<PathBuf>,
    /// Opens programs, for assembly.
    pub objects: Box<dyn ObjectTool + Send + Sync>,
    pub draw: Box<Draw>,
}

/// What the pages show, and with what.
pub struct Site {
    profiles: Profiles,
    tools: Tools,
    cache: Mutex<Cache>,
}

/// A question: what stands behind the pages' place in the address.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `flamegraph`, `api/flame`, `assets/app.js`.
    pub path: &'a str,
    /// Without `?`.
    pub query: &'a str,
    pub is_post: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// As HTTP numbers them.
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// Where to look instead, below the pages' place.
    pub location: Option<&'static str>,
    /// The name under which a browser is to save it.
    pub save_as: Option<String>,
    /// Whether the body is packed by gzip.
    pub is_packed: bool,
}

impl Response {
    fn new(content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status: 200,
            content_type,
            body: body.into(),
            location: None,
            save_as: None,
            is_packed: false,
        }
    }

    fn json(body: impl Into<Vec<u8>>) -> Response {
        Response::new("application/json", body)
    }

    /// The same with its body packed, if that makes it smaller by much.
    pub fn packed(mut self) -> Response {
        const LEAST: usize = 2048;
        if self.body.len() < LEAST || self.save_as.is_some() {
            return self;
        }
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        if let Ok(packed) = packer.write_all(&self.body).and_then(|()| packer.finish()) {
            (self.body, self.is_packed) = (packed, true);
        }
        self
    }

    fn failure(status: u16, why: &str) -> Response {
        let body = serde_json::json!({ "error": why }).to_string();
        Response { status, ..Response::json(body) }
    }
}

impl Site {
    /// Pages of `profiles`, numbered from 0; there is at least one.
    pub fn new(profiles: Vec<Offered>, tools: Tools) -> Site {
        Site { profiles: Profiles::new(profiles), tools, cache: Mutex::default() }
    }

    /// Pages of profiles that are still to be made, on a page of somebody else's.
    pub fn growing(tools: Tools) -> Site {
        Site { profiles: Profiles::growing(), tools, cache: Mutex::default() }
    }

    /// Adds a profile, and gives the number that pages call it by: the first has 1.
    pub fn add(&self, offered: Offered) -> usize {
        self.profiles.add(offered)
    }

    /// Takes the profile with the lowest number away.
    pub fn remove_oldest(&self) {
        self.profiles.remove_oldest();
    }

    /// Answers a question. What is wrong with it is said in the answer.
    pub fn answer(&self, request: Request) -> Response {
        if let Some(name) = request.path.strip_prefix("assets/") {
            return assets::find(name).unwrap_or_else(|| Response::failure(404, "there is no such file"));
        }
        if request.path.is_empty() {
            return Response { status: 302, location: Some("flamegraph"), ..Response::json("") };
        }
        if assets::VIEWS.contains(&request.path) {
            // The page says itself what is wrong with the rest.
            let status = match self.profiles.asked(&Query::parse(request.query)) {
                Err(why) if why.status == 404 => 404,
                _ => 200,
            };
            return Response { status, ..assets::page() };
        }
        data::answer(self, request).unwrap_or_else(|why| why.response())
    }

    /// The profile as filters leave it, made once for the same filters.
    fn prepared(&self, query: &Query) -> Result<Arc<prepared::Prepared>, data::DataError> {
        let settings = query.settings(&self.tools.settings)?;
        let key = format!("{:?} {settings:?}", self.profiles.asked(query)?);
        // Whoever failed while it held the cache left it as it was.
        let known = self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).find(&key);
        if let Some(known) = known {
            return Ok(known);
        }
        let made = Arc::new(prepared::prepare(&self.profiles.columns(query)?, &settings)?);
        self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).keep(key, &made);
        Ok(made)
    }
}

#[cfg(test)]
mod tests;
