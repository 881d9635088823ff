//! Serves the pages of profiles (`web`) through the door that profiles of processes go through.
//!
//! Not here: what the pages show.

use std::{sync::Arc, time::Duration};

use hyper::{
    Method, StatusCode,
    header::{self, HeaderValue},
    http::request::Parts,
};

use super::{
    Address, Door, ServeError,
    door::{self, Host},
    pages::{self, Answer},
};
use crate::{
    capture::Stop,
    web::{CONTENT_SECURITY_POLICY, Request, Response, Site},
};

/// Where the pages stand.
pub const ROOT: &str = "/ui/";

struct Pages {
    door: Door,
    site: Arc<Site>,
}

/// Serves `site` until told to stop. `listening` is called with the address once connections are taken.
pub fn pages_of(
    site: Site,
    door: Door,
    stop: &Stop,
    listening: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = Arc::new(Pages { door, site: Arc::new(site) });
    let done = runtime.block_on(door::serve(host, stop, listening));
    // A report that is being made is of no use to anybody now.
    runtime.shutdown_timeout(Duration::from_millis(100));
    done
}

impl Host for Pages {
    fn door(&self) -> &Door {
        &self.door
    }

    async fn answer(&self, head: Parts, _body: String) -> Answer {
        let path = head.uri.path();
        let Some(path) = path.strip_prefix(ROOT).map(str::to_owned) else {
            return match path {
                "/" | "/ui" => moved(ROOT, StatusCode::TEMPORARY_REDIRECT),
                _ => pages::failure(StatusCode::NOT_FOUND, "there is no such page; the first is /ui/"),
            };
        };
        shown(&self.site, &head, path).await
    }
}

/// What `site` answers to a request for `path` below the pages' place.
pub(super) async fn shown(site: &Arc<Site>, head: &Parts, path: String) -> Answer {
    let (site, query) = (Arc::clone(site), head.uri.query().unwrap_or_default().to_owned());
    let is_post = head.method == Method::POST;
    let wants_gzip = head
        .headers
        .get(header::ACCEPT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|w| w == b"gzip"));
    // Reports take a while: others may ask meanwhile.
    let made = tokio::task::spawn_blocking(move || {
        let response = site.answer(Request { path: &path, query: &query, is_post });
        if wants_gzip { response.packed() } else { response }
    });
    match made.await {
        Ok(response) => sent(response),
        Err(_) => pages::failure(StatusCode::INTERNAL_SERVER_ERROR, "the report failed: a mistake in rprof"),
    }
}

fn sent(response: Response) -> Answer {
    if let Some(location) = response.location {
        return moved(&format!("{ROOT}{location}"), StatusCode::FOUND);
    }
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = pages::answer(status, response.content_type, response.body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    if response.is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(name) = response.save_as
        && let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""))
    {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    answer
}

pub(super) fn moved(to: &str, status: StatusCode) -> Answer {
    let mut answer = pages::text(status, "");
    if let Ok(value) = HeaderValue::from_str(to) {
        answer.headers_mut().insert(header::LOCATION, value);
    }
    answer
}
