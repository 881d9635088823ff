//! Responds to requests for profiles of processes and for the list of processes.
//!
//! Not here: connections (`door`), the steps (`route`, `targets`, `capture_response`, `pages`).

use hyper::{StatusCode, http::request::Parts};

use super::{
    Server,
    capture_response::{available_kinds, bad_request, captured, names, no_target},
    discovery,
    door::{Door, Host},
    guard,
    pages::{self, HttpResponse},
    route::{self, Parameters, ProfileRequest, Route},
    targets::choose_among,
    ui,
};
use crate::{capture::kinds::Span, process::Identity};

impl Host for Server {
    fn door(&self) -> &Door {
        &self.options.door
    }

    async fn respond(&self, head: Parts, body: String) -> HttpResponse {
        if let Some(path) = ui::path(&head) {
            return ui::respond(self, &head, path).await.unwrap_or_else(|response| *response);
        }
        let query = head.uri.query().unwrap_or_default();
        let is_form =
            head.headers.get("content-type").is_some_and(|kind| kind == "application/x-www-form-urlencoded");
        // As in Go's FormValue, parameters of the body take precedence over those of the query.
        let parameters =
            Parameters::parse(&if is_form { format!("{body}&{query}") } else { query.to_owned() });
        let route = match route::parse(head.uri.path(), &parameters, self.options.limits.max_seconds) {
            Ok(route) => route,
            Err(bad) => return bad_request(&bad),
        };
        match respond(self, &route, &parameters, &head, &body).await {
            Ok(response) => response,
            Err(response) => *response,
        }
    }
}

/// Responds to a request; the error is a response too.
async fn respond(
    server: &Server,
    route: &Route,
    parameters: &Parameters,
    head: &Parts,
    body: &str,
) -> Result<HttpResponse, Box<HttpResponse>> {
    let redact = !server.options.show_arguments;
    let chosen =
        || server.options.targets.choose(parameters.get("pid")).map_err(|why| Box::new(no_target(&why)));
    Ok(match route {
        Route::Redirect(to) => pages::redirect(to),
        Route::Style => pages::style(),
        Route::Pids => pages::pids(&server.options.targets.running(), redact),
        Route::Index => {
            let running = server.options.targets.running();
            let pid = parameters.get("pid");
            let is_requested = !pid.is_empty() || running.len() == 1;
            let chosen = is_requested.then(|| choose_among(&running, pid)).transpose();
            let chosen = chosen.map_err(|why| Box::new(no_target(&why)))?;
            let kinds = available_kinds(chosen).await;
            pages::index(&running, chosen.map(|identity| (identity, &kinds[..])), redact)
        }
        Route::Cmdline => pages::cmdline(&chosen()?, redact),
        Route::Discovery => discovery::respond(server, guard::host_of(head)).await,
        Route::Symbol => {
            let query = head.uri.query().unwrap_or_default();
            names(server, &chosen()?, if body.is_empty() { query } else { body }).await?
        }
        Route::Profile(request) => profile(server, &chosen()?, request).await?,
    })
}

async fn profile(
    server: &Server,
    identity: &Identity,
    request: &ProfileRequest,
) -> Result<HttpResponse, Box<HttpResponse>> {
    let bytes = captured(server, identity, request).await?;
    Ok(match request.debug {
        debug if debug != 0 && request.kind.span == Span::Instant => pages::text(StatusCode::OK, bytes),
        _ => pages::download(request.kind.path(), bytes),
    })
}
