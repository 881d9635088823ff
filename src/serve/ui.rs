//! `/ui/`: a page on which profiles are captured, and the pages on which they are looked at.
//!
//! A GET changes nothing; a capture is asked for by POST, which a link or a picture on a page of another site cannot
//! make a browser do, and its form cannot without its `Origin` being seen (`guard`). Not here: capturing (`listen`,
//! the same as for `/debug/pprof/`), what the first page looks like ([`super::capture_page`]), the others (`web`).

use std::sync::Arc;

use hyper::{
    Method, StatusCode,
    header::{self, HeaderValue},
    http::request::Parts,
};
use serde_json::json;

use super::{
    Server, capture_page, listen,
    pages::{self, Answer},
    route::{self, Parameters, ProfileRequest},
    targets::choose_among,
    web,
};

/// What a request asks for below `/ui/`; `None`: it asks for something else.
pub fn path(head: &Parts) -> Option<&str> {
    let path = head.uri.path();
    path.strip_prefix(web::ROOT).or((path == "/ui").then_some("/"))
}

/// Answers it. Errors are answers too.
pub async fn answer(server: &Server, head: &Parts, path: &str) -> Result<Answer, Box<Answer>> {
    let parameters = Parameters::parse(head.uri.query().unwrap_or_default());
    match path {
        "/" => Ok(web::moved(web::ROOT, StatusCode::TEMPORARY_REDIRECT)),
        "" => Ok(first(server, &parameters)),
        "capture" if head.method != Method::POST => {
            Err(Box::new(pages::failure(StatusCode::METHOD_NOT_ALLOWED, "a capture is asked for by POST")))
        }
        "capture" => capture(server, &parameters).await,
        _ => Ok(web::shown(server.gallery.site(), head, path.to_owned()).await),
    }
}

/// Captures, keeps what was captured, and says where it is shown.
async fn capture(server: &Server, parameters: &Parameters) -> Result<Answer, Box<Answer>> {
    let identity = server
        .options
        .targets
        .choose(parameters.get("pid"))
        .map_err(|why| Box::new(listen::no_target(&why)))?;
    let ask = route::parse_profile(parameters.get("kind"), parameters, server.options.limits.most_seconds)
        .map_err(|bad| Box::new(listen::bad_ask(&bad)))?;
    if ask.debug != 0 {
        let why = "text is nothing that these pages show: download it";
        return Err(Box::new(pages::failure(StatusCode::BAD_REQUEST, why)));
    }
    let ask = ProfileRequest { as_profile: true, ..ask };
    let profile = listen::captured(server, &identity, &ask).await?;
    let gallery = Arc::clone(&server.gallery);
    // It may have to wait for a comparison that is being made: others are answered meanwhile.
    let kept =
        tokio::task::spawn_blocking(move || gallery.keep(&identity, &ask, profile)).await.map_err(|_| {
            let why = "the profile cannot be kept: a mistake in rprof";
            Box::new(pages::failure(StatusCode::INTERNAL_SERVER_ERROR, why))
        })?;
    let made = json!({ "number": kept.number, "clock": kept.clock, "bytes": kept.bytes });
    Ok(pages::answer(StatusCode::OK, "application/json", format!("{made}\n")))
}

/// The page of what can be captured and what has been.
fn first(server: &Server, parameters: &Parameters) -> Answer {
    let living = server.options.targets.living();
    let pid = parameters.get("pid");
    let chosen =
        if pid.is_empty() && living.len() != 1 { Ok(None) } else { choose_among(&living, pid).map(Some) };
    let (status, chosen, why) = match chosen {
        Ok(chosen) => (StatusCode::OK, chosen, String::new()),
        // The rest of the page is of use all the same.
        Err(_) => {
            (StatusCode::NOT_FOUND, None, format!("Process {pid} is not served, or not there any more."))
        }
    };
    let page = capture_page::Page {
        living: &living,
        chosen,
        trouble: &why,
        captured: &server.gallery.list(),
        most_seconds: server.options.limits.most_seconds,
        redact: server.options.redact_cmdline,
    };
    let mut answer = pages::answer(status, "text/html; charset=utf-8", page.html());
    let policy = HeaderValue::from_static(capture_page::CONTENT_SECURITY_POLICY);
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    answer
}
