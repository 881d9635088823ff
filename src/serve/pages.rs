//! Answers: their headers, the index page, the list of processes, what went wrong.
//!
//! All that comes from processes (names, command lines) is hostile text: it is escaped. Not here: what is
//! answered to which question (`listen`).

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use serde_json::json;

use super::kinds::KINDS;
use crate::{
    process::{Identity, select},
    text::html::html_escape,
};

pub type Answer = Response<Full<Bytes>>;

const STYLE: &str = "\
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 50em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .2em 1em .2em 0; vertical-align: top; }
code { font-size: 13px; overflow-wrap: anywhere; }
";

/// An answer with the headers that all have.
pub fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'self'; frame-ancestors 'none'"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

/// A profile, with the name under which a browser saves it.
pub fn download(name: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = answer(StatusCode::OK, "application/octet-stream", body);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    answer
}

/// What went wrong. `go tool pprof` shows the text of an answer with `X-Go-Pprof` (net/http/pprof).
pub fn failure(status: StatusCode, why: &str) -> Answer {
    let mut answer = text(status, format!("{why}\n"));
    answer.headers_mut().insert("x-go-pprof", HeaderValue::from_static("1"));
    match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = HeaderValue::from_static("Basic realm=\"rprof\", charset=\"UTF-8\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        _ => {}
    }
    answer
}

pub fn redirect(to: &'static str) -> Answer {
    let mut answer = text(StatusCode::MOVED_PERMANENTLY, "");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    answer
}

pub fn style() -> Answer {
    answer(StatusCode::OK, "text/css; charset=utf-8", STYLE)
}

/// What there is: of one process, or which processes there are.
pub fn index(living: &[Identity], chosen: Option<&Identity>, redact: bool) -> Answer {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>/debug/pprof/</title>\n\
         <link rel=\"stylesheet\" href=\"/style.css\"></head><body>\n<h1>/debug/pprof/</h1>\n",
    );
    match chosen {
        Some(identity) => of_process(identity, living.len() > 1, redact, &mut page),
        None => of_processes(living, redact, &mut page),
    }
    page.push_str("</body></html>\n");
    answer(StatusCode::OK, "text/html; charset=utf-8", page)
}

fn of_process(identity: &Identity, one_of_several: bool, redact: bool, page: &mut String) {
    let query = if one_of_several { format!("pid={}&", identity.pid) } else { String::new() };
    page.push_str(&format!(
        "<p>Process {}: <strong>{}</strong> <code>{}</code></p>\n<table>\n<tr><th>Profile</th><th></th></tr>\n",
        identity.pid,
        escaped(&identity.display_name()),
        escaped(&command_line(identity, redact)),
    ));
    for kind in &KINDS {
        let form = if kind.default_seconds.is_some() { "" } else { "debug=1" };
        page.push_str(&format!(
            "<tr><td><a href=\"{0}?{query}{form}\">{0}</a></td><td>{1}</td></tr>\n",
            kind.name,
            escaped(&kind.in_full())
        ));
    }
    let rest = query.trim_end_matches('&');
    let here = if rest.is_empty() { String::new() } else { format!("?{rest}") };
    page.push_str(&format!(
        "<tr><td><a href=\"cmdline?{rest}\">cmdline</a></td><td>The command line</td></tr>\n\
         <tr><td><a href=\"symbol?{rest}\">symbol</a></td><td>Names of addresses, given as 0x401000+0x402000</td></tr>\n\
         </table>\n<p><a href=\"/ui/{here}\">Capture and look at it here</a>: flame graphs, tables, comparisons.</p>\n<p>Without <code>debug=1</code> all are pprof files: <code>go tool pprof URL</code>, \
         <code>rprof pprof URL</code>.</p>\n"
    ));
}

fn of_processes(living: &[Identity], redact: bool, page: &mut String) {
    page.push_str("<table>\n<tr><th>PID</th><th>Name</th><th>Command</th></tr>\n");
    for identity in living {
        page.push_str(&format!(
            "<tr><td><a href=\"?pid={0}\">{0}</a></td><td>{1}</td><td><code>{2}</code></td></tr>\n",
            identity.pid,
            escaped(&identity.display_name()),
            escaped(&command_line(identity, redact)),
        ));
    }
    page.push_str("</table>\n");
    if living.is_empty() {
        page.push_str("<p>None of the processes served lives now.</p>\n");
    }
    page.push_str(
        "<p><a href=\"/ui/\">Capture and look at it here</a>: flame graphs, tables, comparisons.</p>\n",
    );
}

/// The processes served, for programs.
pub fn pids(living: &[Identity], redact: bool) -> Answer {
    let list: Vec<_> = living
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
    answer(StatusCode::OK, "application/json", format!("{:#}\n", json!(list)))
}

/// The arguments with NULs between them, as Go gives them.
pub fn cmdline(identity: &Identity, redact: bool) -> Answer {
    let arguments = select::arguments(identity.pid);
    let shown = if redact { arguments.into_iter().take(1).collect() } else { arguments };
    text(StatusCode::OK, shown.join("\0"))
}

/// A process's command line; its program alone, where arguments are kept back.
pub fn command_line(identity: &Identity, redact: bool) -> String {
    let arguments = select::arguments(identity.pid);
    if redact { arguments.into_iter().next().unwrap_or_default() } else { arguments.join(" ") }
}

/// Text as it stands in a page; control characters, which have no place there, are shown as such.
pub fn escaped(text: &str) -> String {
    html_escape(text).replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_calls_itself_is_text_and_not_markup() {
        assert_eq!(
            escaped("<script>alert('x')</script>\0&\""),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;\u{fffd}&amp;&#34;"
        );
    }

    #[test]
    fn every_answer_forbids_scripts_and_sniffing() {
        for answer in
            [style(), redirect("/"), failure(StatusCode::NOT_FOUND, "no"), download("heap", vec![1])]
        {
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
            assert!(
                answer.headers()["content-security-policy"]
                    .to_str()
                    .expect("text")
                    .starts_with("default-src 'none'")
            );
        }
    }
}
