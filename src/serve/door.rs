//! Takes connections and requests, refuses those that may not ask, and gives the others to whoever
//! answers: the same door for profiles of processes ([`super::listen`]) and for pages ([`super::pages_of`]).
//!
//! Not here: who may ask (`guard`), answers.

use std::{
    convert::Infallible, fs, future::Future, io, os::unix::fs::PermissionsExt, sync::Arc, time::Duration,
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request as HttpRequest, StatusCode,
    body::{Body, Incoming},
    http::request::Parts,
    server::conn::http1,
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
    Access, Address, ServeError,
    guard::{self, Refused},
    pages::{self, Answer},
};
use crate::capture::Stop;

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

/// Where to listen, and whom to hear.
pub struct Door {
    pub listen: Address,
    pub access: Access,
    /// Connections at one time.
    pub connections: usize,
    /// How long a request may take to arrive.
    pub request_timeout: Duration,
}

/// Whoever answers what comes through the door.
pub trait Host: Send + Sync + 'static {
    fn door(&self) -> &Door;

    /// Answers a request that may be made; `body` is that of a POST.
    fn answer(&self, head: Parts, body: String) -> impl Future<Output = Answer> + Send;
}

/// Takes connections until told to stop.
pub(super) async fn serve<H: Host>(
    host: Arc<H>,
    stop: &Stop,
    listening: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let door = host.door();
    let address = &door.listen;
    if !address.is_local() && !door.access.is_proven() {
        return Err(ServeError::Unprotected { address: address.clone() });
    }
    let tls = door.access.tls()?;
    let refused = |source| ServeError::Listen { address: address.clone(), source };
    let listener = bind(address).await.map_err(refused)?;
    listening(&match &listener {
        Listener::Tcp(tcp) => Address::Tcp(tcp.local_addr().map_err(refused)?),
        Listener::Unix { .. } => address.clone(),
    });
    let places = Arc::new(Semaphore::new(door.connections));
    while !stop.is_set() {
        let accepted = timeout(LOOK_EVERY, accept(&listener, &places)).await;
        let Ok((accepted, place)) = accepted else { continue };
        let host = Arc::clone(&host);
        match accepted {
            Ok(Stream::Tcp(stream)) => drop(tokio::spawn(connection(host, stream, tls.clone(), place))),
            Ok(Stream::Unix(stream)) => drop(tokio::spawn(connection(host, stream, None, place))),
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

async fn connection<H, S>(host: Arc<H>, stream: S, tls: Option<TlsAcceptor>, _place: OwnedSemaphorePermit)
where
    H: Host,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = tls else { return requests(host, stream).await };
    // One who only opens a connection must not hold its place for ever.
    if let Ok(Ok(stream)) = timeout(host.door().request_timeout, tls.accept(stream)).await {
        requests(host, stream).await;
    }
}

async fn requests<H, S>(host: Arc<H>, stream: S)
where
    H: Host,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request_timeout = host.door().request_timeout;
    let service = service_fn(move |request| {
        let host = Arc::clone(&host);
        async move { Ok::<_, Infallible>(respond(&*host, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(request_timeout).max_buf_size(64 << 10);
    // An asker that misbehaves or hangs up ends its own connection: nobody is there to be told.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond<H: Host>(host: &H, request: HttpRequest<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let door = host.door();
    if let Err(refused) = guard::check(&head, &door.access, &door.listen) {
        return refusal(refused);
    }
    match timeout(door.request_timeout, read(&head, body)).await {
        Ok(Ok(body)) => host.answer(head, body).await,
        _ => pages::failure(StatusCode::BAD_REQUEST, "the request's body is too long or did not arrive"),
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
