//! Serves the state of a sidecar, behind the same checks as profiles: `/metrics` for Prometheus,
//! `/healthz`, and `POST /trigger`, which requests an incident.
//!
//! Not here: the numbers and what a request causes; the caller passes functions.

use std::{sync::Arc, time::Duration};

use hyper::{Method, StatusCode, http::request::Parts};

use super::{
    Address, Door, ServeError,
    door::{self, Host},
    pages::{self, HttpResponse},
    route::Parameters,
};
use crate::capture::Stop;

/// What the requests get.
pub struct Status {
    /// The content type and the text of `/metrics`.
    pub metrics: Box<dyn Fn() -> (&'static str, String) + Send + Sync>,
    /// Whether the sidecar works; the error says what does not.
    pub health: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Requests an incident of a process, or of all; the error says why not.
    pub trigger: Box<dyn Fn(Option<u32>) -> Result<(), String> + Send + Sync>,
}

struct StatusHost {
    door: Door,
    status: Status,
}

/// Serves until `stop` is set. `listening` is called with the address when connections are
/// accepted.
///
/// # Errors
/// [`ServeError`] when the address, the files of TLS or the token cannot be used.
pub fn status(
    status: Status,
    door: Door,
    stop: &Stop,
    listening: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = Arc::new(StatusHost { door, status });
    let done = runtime.block_on(door::serve(host, stop, listening));
    runtime.shutdown_timeout(Duration::from_millis(100));
    done
}

impl Host for StatusHost {
    fn door(&self) -> &Door {
        &self.door
    }

    async fn respond(&self, head: Parts, body: String) -> HttpResponse {
        self.status.respond(&head, &body)
    }
}

impl Status {
    fn respond(&self, head: &Parts, body: &str) -> HttpResponse {
        let is_post = head.method == Method::POST;
        match head.uri.path() {
            "/metrics" if !is_post => {
                let (kind, text) = (self.metrics)();
                pages::response(StatusCode::OK, kind, text)
            }
            "/healthz" if !is_post => match (self.health)() {
                Ok(()) => pages::text(StatusCode::OK, "ok\n"),
                Err(why) => pages::text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            "/trigger" if is_post => self.triggered(head.uri.query().unwrap_or_default(), body),
            "/trigger" => {
                pages::failure(StatusCode::METHOD_NOT_ALLOWED, "send a POST request to write an incident")
            }
            "/metrics" | "/healthz" => pages::failure(StatusCode::METHOD_NOT_ALLOWED, "send a GET request"),
            _ => pages::failure(StatusCode::NOT_FOUND, "there are /metrics, /healthz and POST /trigger"),
        }
    }

    fn triggered(&self, query: &str, body: &str) -> HttpResponse {
        let parameters = Parameters::parse(&format!("{body}&{query}"));
        let pid = match parameters.get("pid") {
            "" => None,
            text => match text.parse() {
                Ok(pid) => Some(pid),
                Err(_) => {
                    let why = "pid must be the number of a watched process, as in /trigger?pid=1234";
                    return pages::failure(StatusCode::BAD_REQUEST, why);
                }
            },
        };
        match (self.trigger)(pid) {
            Ok(()) => pages::text(StatusCode::ACCEPTED, "the incident is being written\n"),
            Err(why) => pages::failure(StatusCode::SERVICE_UNAVAILABLE, &why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use hyper::Request;

    use super::*;

    fn response(status: &Status, method: &str, uri: &str, body: &str) -> u16 {
        let head = Request::builder().method(method).uri(uri).body(()).expect("a request").into_parts().0;
        status.respond(&head, body).status().as_u16()
    }

    fn status(health: Result<(), String>, triggered: &Arc<Mutex<Vec<Option<u32>>>>) -> Status {
        let sink = Arc::clone(triggered);
        Status {
            metrics: Box::new(|| ("text/plain", "a 1\n".to_owned())),
            health: Box::new(move || health.clone()),
            trigger: Box::new(move |pid| {
                sink.lock().expect("not poisoned").push(pid);
                if pid == Some(9) { Err("too many".to_owned()) } else { Ok(()) }
            }),
        }
    }

    #[test]
    fn metrics_and_health_are_read_and_a_trigger_is_posted() {
        let triggered = Arc::default();
        let healthy = status(Ok(()), &triggered);
        assert_eq!(response(&healthy, "GET", "/metrics", ""), 200);
        assert_eq!(response(&healthy, "GET", "/healthz", ""), 200);
        assert_eq!(response(&status(Err("no window".into()), &triggered), "GET", "/healthz", ""), 503);
        assert_eq!(response(&healthy, "POST", "/trigger", ""), 202);
        assert_eq!(response(&healthy, "POST", "/trigger?pid=7", ""), 202);
        assert_eq!(response(&healthy, "POST", "/trigger", "pid=8"), 202);
        assert_eq!(response(&healthy, "POST", "/trigger?pid=9", ""), 503);
        assert_eq!(response(&healthy, "POST", "/trigger?pid=x", ""), 400);
        // A link or an image in a page cannot cause an incident.
        assert_eq!(response(&healthy, "GET", "/trigger", ""), 405);
        assert_eq!(response(&healthy, "POST", "/metrics", ""), 405);
        assert_eq!(response(&healthy, "GET", "/debug/pprof/", ""), 404);
        assert_eq!(*triggered.lock().expect("not poisoned"), [None, Some(7), Some(8), Some(9)]);
    }
}
