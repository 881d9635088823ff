//! Answers what is asked of processes.
//!
//! Not here: connections (`door`), each step of an answer (`route`, `targets`, `captures`, `kinds`, `pages`).

use hyper::{StatusCode, http::request::Parts};

use super::{
    Server,
    captures::{Busy, Length},
    discovery,
    door::{Door, Host},
    guard,
    kinds::{self, Failed, Job, KindError},
    pages::{self, Answer},
    route::{self, Parameters, ProfileRequest, RequestError, Route},
    symbol,
    targets::{NoTarget, choose_among},
    ui,
};
use crate::{
    capture::{
        self, CaptureError, Stop,
        goroutines::{BucketError, GoError},
    },
    process::{Identity, ProcessError},
};

impl Host for Server {
    fn door(&self) -> &Door {
        &self.options.door
    }

    async fn answer(&self, head: Parts, body: String) -> Answer {
        if let Some(path) = ui::path(&head) {
            return ui::answer(self, &head, path).await.unwrap_or_else(|answer| *answer);
        }
        let query = head.uri.query().unwrap_or_default();
        let is_form =
            head.headers.get("content-type").is_some_and(|kind| kind == "application/x-www-form-urlencoded");
        // As Go's FormValue: what the body says comes before what the query says.
        let parameters =
            Parameters::parse(&if is_form { format!("{body}&{query}") } else { query.to_owned() });
        let ask = match route::parse(head.uri.path(), &parameters, self.options.limits.most_seconds) {
            Ok(ask) => ask,
            Err(bad) => return bad_ask(&bad),
        };
        match answer(self, &ask, &parameters, &head, &body).await {
            Ok(answer) => answer,
            Err(answer) => *answer,
        }
    }
}

/// Errors are answers too.
async fn answer(
    server: &Server,
    ask: &Route,
    parameters: &Parameters,
    head: &Parts,
    body: &str,
) -> Result<Answer, Box<Answer>> {
    let redact = server.options.redact_cmdline;
    let chosen =
        || server.options.targets.choose(parameters.get("pid")).map_err(|why| Box::new(no_target(&why)));
    Ok(match ask {
        Route::Redirect(to) => pages::redirect(to),
        Route::Style => pages::style(),
        Route::Pids => pages::pids(&server.options.targets.living(), redact),
        Route::Index => {
            let living = server.options.targets.living();
            let pid = parameters.get("pid");
            let is_asked_for = !pid.is_empty() || living.len() == 1;
            let chosen = is_asked_for.then(|| choose_among(&living, pid)).transpose();
            let chosen = chosen.map_err(|why| Box::new(no_target(&why)))?;
            pages::index(&living, chosen, redact)
        }
        Route::Cmdline => pages::cmdline(&chosen()?, redact),
        Route::Discovery => discovery::answer(server, guard::host_of(head)).await,
        Route::Symbol => {
            let query = head.uri.query().unwrap_or_default();
            names(server, &chosen()?, if body.is_empty() { query } else { body }).await?
        }
        Route::Profile(ask) => profile(server, &chosen()?, ask).await?,
    })
}

async fn names(server: &Server, identity: &Identity, question: &str) -> Result<Answer, Box<Answer>> {
    let addresses = symbol::addresses(question);
    if addresses.is_empty() {
        return Ok(pages::text(StatusCode::OK, symbol::answer(&[], &[])));
    }
    let (pid, options) = (identity.pid, server.options.request.symbolize.clone());
    let work = move |_: &Stop| {
        let names = capture::names(pid, &addresses, &options);
        symbol::answer(&addresses, &names)
    };
    let text = server
        .captures
        .run((pid, "symbol"), Length::Moment, work)
        .await
        .map_err(|why| Box::new(busy(why)))?;
    Ok(pages::text(StatusCode::OK, text))
}

async fn profile(server: &Server, identity: &Identity, ask: &ProfileRequest) -> Result<Answer, Box<Answer>> {
    let bytes = captured(server, identity, ask).await?;
    Ok(match ask.debug {
        debug if debug != 0 && ask.kind.default_seconds.is_none() => pages::text(StatusCode::OK, bytes),
        _ => pages::download(ask.kind.name, bytes),
    })
}

/// What the asker wants of the process, made now; or the answer that says why not.
pub(super) async fn captured(
    server: &Server,
    identity: &Identity,
    ask: &ProfileRequest,
) -> Result<Vec<u8>, Box<Answer>> {
    let (pid, request) = (identity.pid, server.options.request.clone());
    let asked = ask.clone();
    let work = move |stop: &Stop| kinds::make(&Job { pid, ask: &asked, request: &request, stop });
    let length = if ask.seconds.is_some() { Length::Lasting } else { Length::Moment };
    let made =
        server.captures.run((pid, ask.kind.name), length, work).await.map_err(|why| Box::new(busy(why)))?;
    let bytes = made.map_err(|error| Box::new(unmade(server, error)))?;
    if bytes.len() > server.options.limits.answer_bytes {
        let why = format!("the profile has {} bytes, more than is served (--max-bytes)", bytes.len());
        return Err(Box::new(pages::failure(StatusCode::INTERNAL_SERVER_ERROR, &why)));
    }
    Ok(bytes)
}

pub(super) fn bad_ask(bad: &RequestError) -> Answer {
    pages::failure(status_of(bad.status), &bad.why)
}

fn status_of(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub(super) fn no_target(why: &NoTarget) -> Answer {
    match why {
        NoTarget::Nobody => pages::failure(StatusCode::NOT_FOUND, "none of the processes served lives now"),
        NoTarget::NotServed(pid) => {
            let shown: String = pid.chars().filter(char::is_ascii_graphic).take(20).collect();
            pages::failure(
                StatusCode::NOT_FOUND,
                &format!("process {shown} is not served; /pids lists those that are"),
            )
        }
        NoTarget::Which(count) => pages::failure(
            StatusCode::BAD_REQUEST,
            &format!("{count} processes are served: choose one with ?pid=; /pids lists them"),
        ),
    }
}

fn busy(why: Busy) -> Answer {
    match why {
        Busy::Same => pages::failure(
            StatusCode::CONFLICT,
            "the same is being made of this process for somebody else: ask again when that is done",
        ),
        Busy::TooMany => pages::failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many captures run as may at one time (--max-captures): ask again later",
        ),
        Busy::Broken => {
            pages::failure(StatusCode::INTERNAL_SERVER_ERROR, "the capture failed: a mistake in rprof")
        }
    }
}

fn unmade(server: &Server, error: KindError) -> Answer {
    match error {
        KindError::NotOffered(why) => pages::failure(StatusCode::NOT_IMPLEMENTED, &why),
        KindError::Broken(why) => pages::failure(StatusCode::INTERNAL_SERVER_ERROR, &why),
        KindError::Failed(error) => {
            pages::failure(status_of_failure(&error), &(server.options.explain)(error))
        }
    }
}

fn status_of_failure(error: &Failed) -> StatusCode {
    match error {
        Failed::Go(BucketError::NotCollected(_) | BucketError::Go(GoError::NotGo(_))) => {
            StatusCode::NOT_IMPLEMENTED
        }
        Failed::Go(BucketError::Go(GoError::Process(error)))
        | Failed::Capture(CaptureError::Process(error)) => match error {
            ProcessError::NoSuchProcess(_) | ProcessError::Zombie(_) => StatusCode::NOT_FOUND,
            ProcessError::NotPermitted { .. } => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
        Failed::Go(BucketError::Go(GoError::Memory(_))) | Failed::Capture(CaptureError::Sampler { .. }) => {
            StatusCode::FORBIDDEN
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
