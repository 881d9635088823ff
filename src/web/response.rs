//! Requests, responses and errors of the pages.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

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
    /// A response with status 200.
    pub fn new(content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status: 200,
            content_type,
            body: body.into(),
            location: None,
            save_as: None,
            is_compressed: false,
        }
    }

    /// JSON with status 200.
    pub fn json(body: impl Into<Vec<u8>>) -> Response {
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

    /// An error, with its reason as JSON.
    pub fn failure(status: u16, why: &str) -> Response {
        let body = serde_json::json!({ "error": why }).to_string();
        Response { status, ..Response::json(body) }
    }
}

/// A request that failed.
#[derive(Debug)]
pub struct DataError {
    /// The HTTP status.
    pub status: u16,
    /// The reason, for a person.
    pub why: String,
}

impl DataError {
    /// Status 400.
    pub fn bad_request(why: &str) -> DataError {
        DataError { status: 400, why: why.into() }
    }

    /// Status 404.
    pub fn missing(why: &str) -> DataError {
        DataError { status: 404, why: why.into() }
    }

    /// The error as a response.
    pub fn response(self) -> Response {
        Response::failure(self.status, &self.why)
    }
}
