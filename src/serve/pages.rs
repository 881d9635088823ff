//! Responses: their headers, the index page, the list of processes, failures.
//!
//! Names and command lines of processes are hostile text: they are escaped. Not here: which
//! response belongs to which request (`listen`).

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use serde_json::json;

use crate::{
    capture::kinds::{Kind, Span},
    process::{Identity, select},
    text::html::html_escape,
};

/// A response of the server.
pub type HttpResponse = Response<Full<Bytes>>;

const STYLE: &str = "\
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 50em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .2em 1em .2em 0; vertical-align: top; }
code { font-size: 13px; overflow-wrap: anywhere; }
";

/// A response with the headers that all responses have; `kind` is its content type.
pub fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> HttpResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'self'; frame-ancestors 'none'"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A response of plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> HttpResponse {
    response(status, "text/plain; charset=utf-8", body)
}

/// A profile, with the file name that browsers save it under.
pub fn download(name: &'static str, body: Vec<u8>) -> HttpResponse {
    let mut response = response(StatusCode::OK, "application/octet-stream", body);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// A failure. `go tool pprof` shows the text of a response with `X-Go-Pprof` (net/http/pprof).
pub fn failure(status: StatusCode, why: &str) -> HttpResponse {
    let mut response = text(status, format!("{why}\n"));
    response.headers_mut().insert("x-go-pprof", HeaderValue::from_static("1"));
    match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = HeaderValue::from_static("Basic realm=\"rprof\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        _ => {}
    }
    response
}

/// A permanent redirection.
pub fn redirect(to: &'static str) -> HttpResponse {
    let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}

/// The style sheet of the index page.
pub fn style() -> HttpResponse {
    response(StatusCode::OK, "text/css; charset=utf-8", STYLE)
}

/// The index page: the profiles of the chosen process, with the kinds that are available for it, or
/// the list of processes.
pub fn index(running: &[Identity], chosen: Option<(&Identity, &[Kind])>, redact: bool) -> HttpResponse {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>/debug/pprof/</title>\n\
         <link rel=\"stylesheet\" href=\"/style.css\"></head><body>\n<h1>/debug/pprof/</h1>\n",
    );
    match chosen {
        Some((identity, kinds)) => of_process(identity, kinds, running.len() > 1, redact, &mut page),
        None => of_processes(running, redact, &mut page),
    }
    page.push_str("</body></html>\n");
    response(StatusCode::OK, "text/html; charset=utf-8", page)
}

fn of_process(identity: &Identity, kinds: &[Kind], one_of_several: bool, redact: bool, page: &mut String) {
    let query = if one_of_several { format!("pid={}&", identity.pid) } else { String::new() };
    page.push_str(&format!(
        "<p>Process {}: <strong>{}</strong> <code>{}</code></p>\n<table>\n<tr><th>Profile</th><th></th></tr>\n",
        identity.pid,
        escaped(&identity.display_name()),
        escaped(&command_line(identity, redact)),
    ));
    for kind in kinds {
        let form = if kind.span == Span::Instant { "debug=1" } else { "" };
        page.push_str(&format!(
            "<tr><td><a href=\"{0}?{query}{form}\">{0}</a></td><td>{1}</td></tr>\n",
            kind.path(),
            escaped(&kind.in_full())
        ));
    }
    let rest = query.trim_end_matches('&');
    let here = if rest.is_empty() { String::new() } else { format!("?{rest}") };
    page.push_str(&format!(
        "<tr><td><a href=\"cmdline?{rest}\">cmdline</a></td><td>The command line</td></tr>\n\
         <tr><td><a href=\"symbol?{rest}\">symbol</a></td><td>Names of addresses, for example symbol?0x401000+0x402000</td></tr>\n\
         </table>\n<p><a href=\"/ui/{here}\">Capture and view profiles in the browser</a>: flame graphs, tables, comparisons.</p>\n<p>Without <code>debug=1</code> these are pprof files: <code>go tool pprof URL</code>, \
         <code>rprof pprof URL</code>.</p>\n"
    ));
}

fn of_processes(running: &[Identity], redact: bool, page: &mut String) {
    page.push_str("<table>\n<tr><th>PID</th><th>Name</th><th>Command</th></tr>\n");
    for identity in running {
        page.push_str(&format!(
            "<tr><td><a href=\"?pid={0}\">{0}</a></td><td>{1}</td><td><code>{2}</code></td></tr>\n",
            identity.pid,
            escaped(&identity.display_name()),
            escaped(&command_line(identity, redact)),
        ));
    }
    page.push_str("</table>\n");
    if running.is_empty() {
        page.push_str("<p>None of the served processes is running.</p>\n");
    }
    page.push_str(
        "<p><a href=\"/ui/\">Capture and view profiles in the browser</a>: flame graphs, tables, comparisons.</p>\n",
    );
}

/// The served processes, as JSON.
pub fn pids(running: &[Identity], redact: bool) -> HttpResponse {
    let list: Vec<_> = running
        .iter()
        .map(|identity| {
            json!({
                "pid": identity.pid,
                "name": identity.display_name(),
                "uid": identity.uid,
                "cmdline": command_line(identity, redact),
                "profiles": format!("{}?pid={}", super::route::ROOT, identity.pid),
            })
        })
        .collect();
    response(StatusCode::OK, "application/json", format!("{:#}\n", json!(list)))
}

/// The arguments separated by NUL bytes, as in Go.
pub fn cmdline(identity: &Identity, redact: bool) -> HttpResponse {
    let shown = if redact { vec![select::program(identity)] } else { select::arguments_of(identity) };
    text(StatusCode::OK, shown.join("\0"))
}

/// A process's command line; the program alone if `redact` is set.
pub fn command_line(identity: &Identity, redact: bool) -> String {
    if redact { select::program(identity) } else { select::arguments_of(identity).join(" ") }
}

/// Escapes text for HTML. Control characters become U+FFFD.
pub fn escaped(text: &str) -> String {
    html_escape(text).replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_processes_are_escaped() {
        assert_eq!(
            escaped("<script>alert('x')</script>\0&\""),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;\u{fffd}&amp;&#34;"
        );
    }

    #[test]
    fn every_response_forbids_scripts_and_sniffing() {
        for response in
            [style(), redirect("/"), failure(StatusCode::NOT_FOUND, "no"), download("heap", vec![1])]
        {
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            assert!(
                response.headers()["content-security-policy"]
                    .to_str()
                    .expect("text")
                    .starts_with("default-src 'none'")
            );
        }
    }
}
