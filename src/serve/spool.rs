//! Serves the pages of a spool: which profiles it has, and the profile of any window, or the
//! difference of two.
//!
//! Not here: the HTML (`spool_page`), the pages of a profile (`web`).

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{
    StatusCode,
    header::{self, HeaderValue},
    http::request::Parts,
};

use super::{
    Address, Door, ServeError, capture_page,
    door::{self, Host},
    pages::{self, HttpResponse},
    route::Parameters,
    spool_page::{Choice, Page, minute},
    web::{ROOT, moved, respond},
};
use crate::{
    capture::Stop,
    spool::{Catalog, Query, SpoolError},
    web::{Offered, Site, Tools},
};

/// The most merged profiles that are kept; and the most bytes of their files.
const MAX_KEPT: usize = 16;
const MAX_KEPT_BYTES: usize = 256 << 20;

struct SpoolPages {
    door: Door,
    site: Arc<Site>,
    folder: PathBuf,
    /// The profiles of the site, the oldest first.
    opened: Mutex<VecDeque<Opened>>,
}

/// A merged profile that the site has.
struct Opened {
    query: Query,
    number: usize,
    bytes: usize,
}

/// Serves the pages of the spool in `folder` until `stop` is set. `listening` is called with the
/// address when connections are accepted.
///
/// # Errors
/// [`ServeError`] when the address, the files of TLS or the token cannot be used.
pub fn pages_of_spool(
    folder: &Path,
    tools: Tools,
    door: Door,
    stop: &Stop,
    listening: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = Arc::new(Shared(Arc::new(SpoolPages {
        door,
        site: Arc::new(Site::growing(tools)),
        folder: folder.to_owned(),
        opened: Mutex::default(),
    })));
    let done = runtime.block_on(door::serve(host, stop, listening));
    runtime.shutdown_timeout(Duration::from_millis(100));
    done
}

/// The pages, which threads that merge profiles share.
struct Shared(Arc<SpoolPages>);

impl Host for Shared {
    fn door(&self) -> &Door {
        &self.0.door
    }

    async fn respond(&self, head: Parts, _body: String) -> HttpResponse {
        let path = head.uri.path();
        let Some(path) = path.strip_prefix(ROOT).map(str::to_owned) else {
            return match path {
                "/" | "/ui" => moved(ROOT, StatusCode::TEMPORARY_REDIRECT),
                _ => pages::failure(StatusCode::NOT_FOUND, "page not found; the first page is /ui/"),
            };
        };
        let query = head.uri.query().unwrap_or_default().to_owned();
        let is_open = path == "open" || path == "compare";
        // The views link to the first page without parameters; with a profile it is a view.
        if !is_open && !path.is_empty() {
            return respond(&self.0.site, &head, path).await;
        }
        let pages = Arc::clone(&self.0);
        let made = tokio::task::spawn_blocking(move || match is_open {
            true => pages.open(&Parameters::parse(&query), path == "compare"),
            false => pages.first(&Parameters::parse(&query)),
        });
        let failed = || {
            let why = "the page failed because of a bug in rprof";
            pages::failure(StatusCode::INTERNAL_SERVER_ERROR, why)
        };
        made.await.unwrap_or_else(|_| failed())
    }
}

impl SpoolPages {
    /// The first page.
    fn first(&self, parameters: &Parameters) -> HttpResponse {
        match Catalog::read(&self.folder) {
            Ok(catalog) => self.page(&catalog, &Choice::of(&catalog, parameters), ""),
            Err(error) => failure(&error),
        }
    }

    fn page(&self, catalog: &Catalog, choice: &Choice, message: &str) -> HttpResponse {
        let folder = self.folder.display().to_string();
        let status = if message.is_empty() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        let html = Page { folder: &folder, catalog, choice, message }.html();
        let mut response = pages::response(status, "text/html; charset=utf-8", html);
        let policy = HeaderValue::from_static(capture_page::CONTENT_SECURITY_POLICY);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        response
    }

    /// Merges a window, or two to compare, and leads to the page that shows the result.
    fn open(&self, parameters: &Parameters, is_comparison: bool) -> HttpResponse {
        let catalog = match Catalog::read(&self.folder) {
            Ok(catalog) => catalog,
            Err(error) => return failure(&error),
        };
        let choice = Choice::of(&catalog, parameters);
        let new = self.merged(&catalog, &choice.query);
        let base = is_comparison.then(|| self.merged(&catalog, &choice.base)).transpose();
        match new.and_then(|new| Ok((new, base?))) {
            Ok((new, None)) => moved(&format!("{ROOT}flamegraph?in={new}"), StatusCode::FOUND),
            Ok((new, Some(base))) => moved(&format!("{ROOT}diff?in={new}&vs={base}"), StatusCode::FOUND),
            Err(error) => self.page(&catalog, &choice, &error.to_string()),
        }
    }

    /// The number of the merged profile of a query. Errors: nothing matches, or it is damaged.
    fn merged(&self, catalog: &Catalog, query: &Query) -> Result<usize, SpoolError> {
        // Held while profiles are merged, so that the same window is merged once.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        // A window that is not over may have new profiles.
        let is_over = query.until.is_some_and(|until| catalog.last().is_some_and(|last| last >= until));
        if let Some(known) = opened.iter().find(|known| is_over && known.query == *query) {
            return Ok(known.number);
        }
        let (columns, _damaged) = catalog.merge(query)?;
        let mut bytes = Vec::new();
        columns.write_gzip(&mut bytes).map_err(|error| SpoolError::Merge(error.to_string()))?;
        let size = bytes.len();
        let number = self.site.add(Offered::encoded(&name(query), bytes, &back(query)));
        opened.push_back(Opened { query: query.clone(), number, bytes: size });
        let is_over_limit = |opened: &VecDeque<Opened>| {
            let bytes: usize = opened.iter().map(|one| one.bytes).sum();
            opened.len() > MAX_KEPT || (bytes > MAX_KEPT_BYTES && opened.len() > 2)
        };
        while is_over_limit(&opened) {
            opened.pop_front();
            self.site.remove_oldest();
        }
        Ok(number)
    }
}

/// The name of a merged profile: `web cpu 2026-11-30 10:00–11:00 UTC`.
fn name(query: &Query) -> String {
    let time = |at: Option<i64>| at.map(minute).unwrap_or_default().replace('T', " ");
    let (service, kind) = (query.service.as_deref().unwrap_or("all"), query.kind.as_deref().unwrap_or("all"));
    format!("{service} {kind} {} to {} UTC", time(query.since), time(query.until))
}

/// The URL of the first page with this window.
fn back(query: &Query) -> String {
    Choice { query: query.clone(), base: Query::default() }.link("./")
}

fn failure(error: &SpoolError) -> HttpResponse {
    pages::failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}
