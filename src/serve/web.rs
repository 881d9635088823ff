//! Serves the pages of profiles (`web`) with the same checks as profiles of processes.
//!
//! Not here: the content of the pages.

use std::{sync::Arc, time::Duration};

use hyper::{
    Method, StatusCode,
    header::{self, HeaderValue},
    http::request::Parts,
};

use super::{
    Address, Door, ServeError,
    door::{self, Host},
    pages::{self, HttpResponse},
};
use crate::{
    capture::Stop,
    web::{CONTENT_SECURITY_POLICY, Request, Response, Site},
};

/// The root path of the pages.
pub const ROOT: &str = "/ui/";

struct Pages {
    door: Door,
    site: Arc<Site>,
}

/// Serves `site` until `stop` is set. `listening` is called with the address when connections are
/// accepted.
///
/// # Errors
/// [`ServeError`] when the address, the files of TLS or the token cannot be used.
pub fn pages_of(
    site: Site,
    door: Door,
    stop: &Stop,
    listening: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = Arc::new(Pages { door, site: Arc::new(site) });
    let done = runtime.block_on(door::serve(host, stop, listening));
    // Nobody needs a report that is still being computed.
    runtime.shutdown_timeout(Duration::from_millis(100));
    done
}

impl Host for Pages {
    fn door(&self) -> &Door {
        &self.door
    }

    async fn respond(&self, head: Parts, _body: String) -> HttpResponse {
        let path = head.uri.path();
        let Some(path) = path.strip_prefix(ROOT).map(str::to_owned) else {
            return match path {
                "/" | "/ui" => moved(ROOT, StatusCode::TEMPORARY_REDIRECT),
                _ => pages::failure(StatusCode::NOT_FOUND, "page not found; the first page is /ui/"),
            };
        };
        respond(&self.site, &head, path).await
    }
}

/// The response of `site` to a request for `path` below [`ROOT`].
pub(super) async fn respond(site: &Arc<Site>, head: &Parts, path: String) -> HttpResponse {
    let (site, query) = (Arc::clone(site), head.uri.query().unwrap_or_default().to_owned());
    let is_post = head.method == Method::POST;
    let wants_gzip = head
        .headers
        .get(header::ACCEPT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|w| w == b"gzip"));
    // A report takes time and must not block the event loop.
    let result = tokio::task::spawn_blocking(move || {
        let response = site.respond(Request { path: &path, query: &query, is_post });
        if wants_gzip { response.compressed() } else { response }
    });
    match result.await {
        Ok(response) => to_http(response),
        Err(_) => {
            pages::failure(StatusCode::INTERNAL_SERVER_ERROR, "the report failed because of a bug in rprof")
        }
    }
}

fn to_http(response: Response) -> HttpResponse {
    if let Some(location) = response.location {
        return moved(&format!("{ROOT}{location}"), StatusCode::FOUND);
    }
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut http = pages::response(status, response.content_type, response.body);
    let headers = http.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    if response.is_compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(name) = response.save_as
        && let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
    {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    http
}

/// A redirection to another path.
pub(super) fn moved(to: &str, status: StatusCode) -> HttpResponse {
    let mut response = pages::text(status, "");
    if let Ok(value) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}
