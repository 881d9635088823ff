//! Takes connections and answers what is asked on them.
//!
//! Not here: each step of an answer (`guard`, `route`, `targets`, `captures`, `kinds`, `pages`).

use std::{convert::Infallible, fs, io, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request as HttpRequest, StatusCode, body::Body, http::request::Parts, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Address, ServeError, Server,
    captures::Busy,
    guard::{self, Refused},
    kinds::{self, Failed, Job, KindError},
    pages::{self, Answer},
    route::{self, Ask, BadAsk, Parameters, ProfileAsk},
    symbol,
    targets::{NoTarget, choose_among},
};
use crate::{
    capture::{
        self, CaptureError, Stop,
        goroutines::{BucketError, GoError},
    },
    process::{Identity, ProcessError},
};

/// The most of a question's body.
const MOST_BODY_BYTES: usize = 1 << 20;
/// How often it is looked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// Removes the socket's file in the end.
struct SocketFile(std::path::PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) async fn serve(
    server: Arc<Server>,
    stop: &Stop,
    listening: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let address = &server.options.listen;
    if !address.is_local() && !server.options.access.is_proven() {
        return Err(ServeError::Unprotected { address: address.clone() });
    }
    let tls = server.options.access.tls()?;
    let refused = |source| ServeError::Listen { address: address.clone(), source };
    let listener = bind(address).await.map_err(refused)?;
    listening(&match &listener {
        Listener::Tcp(tcp) => Address::Tcp(tcp.local_addr().map_err(refused)?),
        Listener::Unix { .. } => address.clone(),
    });
    let places = Arc::new(Semaphore::new(server.options.limits.connections));
    while !stop.is_set() {
        let accepted = timeout(LOOK_EVERY, accept(&listener, &places)).await;
        let Ok((accepted, place)) = accepted else { continue };
        let server = Arc::clone(&server);
        match accepted {
            Ok(Stream::Tcp(stream)) => drop(tokio::spawn(connection(server, stream, tls.clone(), place))),
            Ok(Stream::Unix(stream)) => drop(tokio::spawn(connection(server, stream, None, place))),
            // Too many open files, or the asker has gone already: later.
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
    Ok(())
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener, places: &Arc<Semaphore>) -> (io::Result<Stream>, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("never closed");
    let accepted = match listener {
        Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
        Listener::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
    };
    (accepted, place)
}

async fn bind(address: &Address) -> io::Result<Listener> {
    match address {
        Address::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
        Address::Unix(path) => {
            // Of one that was killed: nobody listens any more.
            let is_socket = fs::symlink_metadata(path)
                .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()));
            if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
                fs::remove_file(path)?;
            }
            let listener = UnixListener::bind(path)?;
            let _file = SocketFile(path.clone());
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(Listener::Unix { listener, _file })
        }
    }
}

async fn connection<S>(server: Arc<Server>, stream: S, tls: Option<TlsAcceptor>, _place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = tls else { return requests(server, stream).await };
    // One who only opens a connection must not hold its place for ever.
    if let Ok(Ok(stream)) = timeout(server.options.limits.request_timeout, tls.accept(stream)).await {
        requests(server, stream).await;
    }
}

async fn requests<S>(server: Arc<Server>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = server.options.limits;
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(respond(&server, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.request_timeout).max_buf_size(64 << 10);
    // An asker that misbehaves or hangs up ends its own connection: nobody is there to be told.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond<B>(server: &Server, request: HttpRequest<B>) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if let Err(refused) = guard::check(&head, &server.options.access, &server.options.listen) {
        return refusal(refused);
    }
    let body = match timeout(server.options.limits.request_timeout, read(&head, body)).await {
        Ok(Ok(body)) => body,
        _ => {
            return pages::failure(
                StatusCode::BAD_REQUEST,
                "the request's body is too long or did not arrive",
            );
        }
    };
    let query = head.uri.query().unwrap_or_default();
    let is_form =
        head.headers.get("content-type").is_some_and(|kind| kind == "application/x-www-form-urlencoded");
    // As Go's FormValue: what the body says comes before what the query says.
    let parameters = Parameters::parse(&if is_form { format!("{body}&{query}") } else { query.to_owned() });
    let ask = match route::parse(head.uri.path(), &parameters, server.options.limits.most_seconds) {
        Ok(ask) => ask,
        Err(BadAsk { status, why }) => return pages::failure(status_of(status), &why),
    };
    match answer(server, &ask, &parameters, query, &body).await {
        Ok(answer) => answer,
        Err(answer) => *answer,
    }
}

async fn read<B>(head: &Parts, body: B) -> Result<String, ()>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if head.method != Method::POST {
        return Ok(String::new());
    }
    let collected = Limited::new(body, MOST_BODY_BYTES).collect().await.map_err(drop)?;
    Ok(String::from_utf8_lossy(&collected.to_bytes()).into_owned())
}

/// Errors are answers too.
async fn answer(
    server: &Server,
    ask: &Ask,
    parameters: &Parameters,
    query: &str,
    body: &str,
) -> Result<Answer, Box<Answer>> {
    let options = &server.options;
    let redact = options.redact_cmdline;
    let chosen = || options.targets.choose(parameters.get("pid")).map_err(|why| Box::new(no_target(&why)));
    Ok(match ask {
        Ask::Redirect(to) => pages::redirect(to),
        Ask::Style => pages::style(),
        Ask::Pids => pages::pids(&options.targets.living(), redact),
        Ask::Index => {
            let living = options.targets.living();
            let pid = parameters.get("pid");
            let is_asked_for = !pid.is_empty() || living.len() == 1;
            let chosen = is_asked_for.then(|| choose_among(&living, pid)).transpose();
            let chosen = chosen.map_err(|why| Box::new(no_target(&why)))?;
            pages::index(&living, chosen, redact)
        }
        Ask::Cmdline => pages::cmdline(&chosen()?, redact),
        Ask::Symbol => names(server, &chosen()?, if body.is_empty() { query } else { body }).await?,
        Ask::Profile(ask) => profile(server, &chosen()?, ask).await?,
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
    let text = server.captures.run((pid, "symbol"), work).await.map_err(|why| Box::new(busy(why)))?;
    Ok(pages::text(StatusCode::OK, text))
}

async fn profile(server: &Server, identity: &Identity, ask: &ProfileAsk) -> Result<Answer, Box<Answer>> {
    let (pid, request) = (identity.pid, server.options.request.clone());
    let asked = ask.clone();
    let work = move |stop: &Stop| kinds::make(&Job { pid, ask: &asked, request: &request, stop });
    let made = server.captures.run((pid, ask.kind.name), work).await.map_err(|why| Box::new(busy(why)))?;
    let bytes = made.map_err(|error| Box::new(unmade(server, error)))?;
    if bytes.len() > server.options.limits.answer_bytes {
        let why = format!("the profile has {} bytes, more than is served (--max-bytes)", bytes.len());
        return Err(Box::new(pages::failure(StatusCode::INTERNAL_SERVER_ERROR, &why)));
    }
    Ok(match ask.debug {
        debug if debug != 0 && ask.kind.default_seconds.is_none() => pages::text(StatusCode::OK, bytes),
        _ => pages::download(ask.kind.name, bytes),
    })
}

fn status_of(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn refusal(refused: Refused) -> Answer {
    let (status, why) = match refused {
        Refused::Method => (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD and POST are answered"),
        Refused::Host => (
            StatusCode::FORBIDDEN,
            "this machine is not called by a name of its own; --allow-host NAME adds one",
        ),
        Refused::Origin => (StatusCode::FORBIDDEN, "pages of other sites are not answered"),
        Refused::Token => (
            StatusCode::UNAUTHORIZED,
            "a token is needed: Authorization: Bearer TOKEN, or http://any:TOKEN@HOST/…",
        ),
    };
    pages::failure(status, why)
}

fn no_target(why: &NoTarget) -> Answer {
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
