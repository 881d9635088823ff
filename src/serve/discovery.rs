//! The served processes in the format of Prometheus's HTTP service discovery
//! (prometheus.io/docs/prometheus/latest/http_sd). Scrapers of profiles find the processes in it,
//! with the label that adds each process's `pid` to their requests.
//!
//! Not here: which processes are served (`targets`), the profiles (`job`).

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::json;

use super::{
    Server,
    pages::{self, HttpResponse},
};
use crate::{capture::has_tasks, process::Identity};

/// A process and the facts that its labels state.
struct Found {
    identity: Identity,
    /// Whether it is a Go program: `allocs`, `heap`, `block` and `mutex` may be available.
    is_go: bool,
    command_line: String,
}

/// The list. `host`: the host name and port that the client used, which its scrapes will use too.
pub async fn respond(server: &Server, host: Option<&str>) -> HttpResponse {
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return pages::failure(StatusCode::BAD_REQUEST, "the request has no Host header");
    };
    let (targets, redact) = (server.options.targets.clone(), !server.options.show_arguments);
    // This reads files of every process.
    let found = tokio::task::spawn_blocking(move || inspect(targets.running(), redact)).await;
    let Ok(found) = found else {
        return pages::failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "listing the processes failed because of a bug in rprof",
        );
    };
    let is_tls = server.options.door.access.tls.is_some();
    let groups: Vec<_> =
        found.iter().map(|found| json!({ "targets": [host], "labels": labels(found, is_tls) })).collect();
    pages::response(StatusCode::OK, "application/json", format!("{:#}\n", json!(groups)))
}

fn inspect(running: Vec<Identity>, redact: bool) -> Vec<Found> {
    let found = |identity: Identity| Found {
        is_go: has_tasks(identity.pid),
        command_line: pages::command_line(&identity, redact),
        identity,
    };
    running.into_iter().map(found).collect()
}

/// `__param_` and `__scheme__` shape the scraper's request; `__meta_` labels are for its
/// relabelling rules and are then dropped; the others are stored with each profile.
fn labels(found: &Found, is_tls: bool) -> BTreeMap<&'static str, String> {
    let (pid, name) = (found.identity.pid.to_string(), found.identity.display_name());
    BTreeMap::from([
        ("__scheme__", if is_tls { "https" } else { "http" }.to_owned()),
        ("__param_pid", pid.clone()),
        ("__meta_rprof_pid", pid.clone()),
        ("__meta_rprof_name", name.clone()),
        ("__meta_rprof_uid", found.identity.uid.to_string()),
        ("__meta_rprof_cmdline", found.command_line.clone()),
        ("__meta_rprof_go", found.is_go.to_string()),
        ("service_name", name),
        // Distinguishes several processes of one program.
        ("pid", pid),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{identify, select};

    #[test]
    fn the_labels_name_the_request_and_the_process() {
        let identity = identify(std::process::id()).expect("me");
        let name = identity.display_name();
        let found = inspect(vec![identity], false);
        let labels = |is_tls| labels(&found[0], is_tls);
        assert_eq!(labels(false)["__param_pid"], std::process::id().to_string());
        assert_eq!((&labels(false)["service_name"], &labels(false)["__meta_rprof_name"]), (&name, &name));
        assert_eq!(
            (labels(false)["__scheme__"].as_str(), labels(true)["__scheme__"].as_str()),
            ("http", "https")
        );
        assert_eq!(labels(false)["__meta_rprof_go"], "false", "this is a Rust program");
        let pattern = regex::Regex::new("^[a-zA-Z_][a-zA-Z0-9_]*$").expect("a pattern");
        assert!(labels(false).keys().all(|name| pattern.is_match(name)), "names that Prometheus takes");
    }

    #[test]
    fn with_redaction_labels_have_no_arguments() {
        let me = || vec![identify(std::process::id()).expect("me")];
        let arguments = select::arguments(std::process::id());
        let program = std::env::current_exe().expect("a program").display().to_string();
        assert_eq!(inspect(me(), true)[0].command_line, program);
        assert_eq!(inspect(me(), false)[0].command_line, arguments.join(" "));
    }
}
