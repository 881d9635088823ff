//! The processes served, in the form that Prometheus's HTTP service discovery reads
//! (prometheus.io/docs/prometheus/latest/http_sd): scrapers of profiles find them by it, with the label
//! that makes them ask for each by its `pid`.
//!
//! Not here: which processes they are (`targets`), what is scraped of them (`kinds`).

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::json;

use super::{
    Server,
    pages::{self, Answer},
};
use crate::{capture::goroutines::is_go, process::Identity};

/// A process and what the labels say of it.
struct Found {
    identity: Identity,
    /// Its runtime counts allocations and waits: `allocs`, `heap`, `block`, `mutex` may be had.
    is_go: bool,
    command_line: String,
}

/// The list. `host`: the name and port by which the asker has reached us, and will again.
pub async fn answer(server: &Server, host: Option<&str>) -> Answer {
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return pages::failure(StatusCode::BAD_REQUEST, "the request does not say by which name (Host)");
    };
    let (targets, redact) = (server.options.targets.clone(), server.options.redact_cmdline);
    // Files of all processes are looked at.
    let found = tokio::task::spawn_blocking(move || look(targets.living(), redact)).await;
    let Ok(found) = found else {
        return pages::failure(StatusCode::INTERNAL_SERVER_ERROR, "the list failed: a mistake in rprof");
    };
    let is_tls = server.options.door.access.tls.is_some();
    let groups: Vec<_> =
        found.iter().map(|found| json!({ "targets": [host], "labels": labels(found, is_tls) })).collect();
    pages::answer(StatusCode::OK, "application/json", format!("{:#}\n", json!(groups)))
}

fn look(living: Vec<Identity>, redact: bool) -> Vec<Found> {
    let found = |identity: Identity| Found {
        is_go: is_go(identity.pid),
        command_line: pages::command_line(&identity, redact),
        identity,
    };
    living.into_iter().map(found).collect()
}

/// `__param_` and `__scheme__` make the request; `__meta_` are for rules of the scraper, which then drops
/// them; the others are stored with each profile.
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
        // Two processes of one program must not be taken for one.
        ("pid", pid),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{identify, select};

    #[test]
    fn a_scraper_is_told_what_to_ask_for_and_what_it_is() {
        let identity = identify(std::process::id()).expect("me");
        let name = identity.display_name();
        let found = look(vec![identity], false);
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
    fn arguments_stay_out_of_labels_where_they_are_secret() {
        let me = || vec![identify(std::process::id()).expect("me")];
        let arguments = select::arguments(std::process::id());
        assert_eq!(look(me(), true)[0].command_line, arguments[0]);
        assert_eq!(look(me(), false)[0].command_line, arguments.join(" "));
    }
}
