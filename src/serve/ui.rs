//! `/ui/`: the page that captures profiles, and the pages that show them.
//!
//! A GET changes nothing. A capture needs a POST: links and images on pages of other sites cannot
//! send one, and `guard` refuses their forms by `Origin`. Not here: capturing (`capture_response`,
//! the same as for `/debug/pprof/`), the HTML of the first page ([`super::capture_page`]), the
//! other pages (`web`).

use std::sync::Arc;

use hyper::{
    Method, StatusCode,
    header::{self, HeaderValue},
    http::request::Parts,
};
use serde_json::json;

use super::{
    Server, capture_page, capture_response,
    pages::{self, HttpResponse},
    route::{self, Parameters, ProfileRequest},
    targets::choose_among,
    web,
};

/// The path below `/ui/`; `None` if the request is for another path.
pub fn path(head: &Parts) -> Option<&str> {
    let path = head.uri.path();
    path.strip_prefix(web::ROOT).or((path == "/ui").then_some("/"))
}

/// Responds to a request below `/ui/`; the error is a response too.
pub async fn respond(server: &Server, head: &Parts, path: &str) -> Result<HttpResponse, Box<HttpResponse>> {
    let parameters = Parameters::parse(head.uri.query().unwrap_or_default());
    match path {
        "/" => Ok(web::moved(web::ROOT, StatusCode::TEMPORARY_REDIRECT)),
        "" => Ok(first(server, &parameters).await),
        "capture" if head.method != Method::POST => {
            Err(Box::new(pages::failure(StatusCode::METHOD_NOT_ALLOWED, "a capture needs POST")))
        }
        "capture" => capture(server, &parameters).await,
        _ => Ok(web::respond(server.store.site(), head, path.to_owned()).await),
    }
}

/// Captures and stores a profile; the response has the number in its URL.
async fn capture(server: &Server, parameters: &Parameters) -> Result<HttpResponse, Box<HttpResponse>> {
    let identity = server
        .options
        .targets
        .choose(parameters.get("pid"))
        .map_err(|why| Box::new(capture_response::no_target(&why)))?;
    let request = route::parse_profile(parameters.get("kind"), parameters, server.options.limits.max_seconds)
        .map_err(|bad| Box::new(capture_response::bad_request(&bad)))?;
    if request.debug != 0 {
        let why = "these pages cannot show text: download it from /debug/pprof/";
        return Err(Box::new(pages::failure(StatusCode::BAD_REQUEST, why)));
    }
    let request = ProfileRequest { as_profile: true, ..request };
    let profile = capture_response::captured(server, &identity, &request).await?;
    let store = Arc::clone(&server.store);
    // The store may be locked while a comparison is computed, so this does not block the event loop.
    let kept = tokio::task::spawn_blocking(move || store.keep(&identity, &request, profile)).await.map_err(
        |_| {
            let why = "the profile cannot be stored because of a bug in rprof";
            Box::new(pages::failure(StatusCode::INTERNAL_SERVER_ERROR, why))
        },
    )?;
    let stored = json!({ "number": kept.number, "clock": kept.clock, "bytes": kept.bytes });
    Ok(pages::response(StatusCode::OK, "application/json", format!("{stored}\n")))
}

/// The first page: the kinds that can be captured, and the captured profiles.
async fn first(server: &Server, parameters: &Parameters) -> HttpResponse {
    let running = server.options.targets.running();
    let pid = parameters.get("pid");
    let chosen =
        if pid.is_empty() && running.len() != 1 { Ok(None) } else { choose_among(&running, pid).map(Some) };
    let (status, chosen, why) = match chosen {
        Ok(chosen) => (StatusCode::OK, chosen, String::new()),
        // The rest of the page is still useful.
        Err(_) => (StatusCode::NOT_FOUND, None, format!("Process {pid} is not served or has ended.")),
    };
    let kinds = capture_response::available_kinds(chosen).await;
    let page = capture_page::Page {
        running: &running,
        chosen,
        kinds: &kinds,
        message: &why,
        captured: &server.store.list(),
        max_seconds: server.options.limits.max_seconds,
        redact: !server.options.show_arguments,
    };
    let mut response = pages::response(status, "text/html; charset=utf-8", page.html());
    let policy = HeaderValue::from_static(capture_page::CONTENT_SECURITY_POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}
