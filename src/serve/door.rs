//! Accepts connections, refuses requests that are not allowed, and passes the others to a [`Host`]:
//! profiles of processes ([`super::listen`]) or pages of profile files ([`super::pages_of`]).
//!
//! Not here: which requests are allowed (`guard`), responses.

use std::{
    convert::Infallible, fs, future::Future, io, net::IpAddr, os::unix::fs::PermissionsExt, sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request as HttpRequest, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Access, Address, ServeError,
    guard::{self, Refused},
    pages::{self, HttpResponse},
    pending::{Expulsion, MAX_PENDING, MIN_TIME, Pending, PendingSlot},
};
use crate::capture::Stop;

/// The largest body of a request.
const MOST_BODY_BYTES: usize = 1 << 20;
/// How long, and how much, is read from a client after the last response, so that it gets that.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER_BYTES: usize = 64 << 20;
/// How often the stop flag is checked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// Removes the socket's file when it is dropped.
struct SocketFile(std::path::PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Where to listen, and which connections and requests are accepted.
pub struct Door {
    /// The address to listen on.
    pub listen: Address,
    /// How clients authenticate.
    pub access: Access,
    /// The number of concurrent connections that have sent an accepted request. Others have a few
    /// slots of their own.
    pub connections: usize,
    /// How long a request's head, and then its body, may take to arrive.
    pub request_timeout: Duration,
}

/// Responds to the requests that are allowed.
pub trait Host: Send + Sync + 'static {
    /// Where to listen and which clients are accepted.
    fn door(&self) -> &Door;

    /// Responds to a request; `body` is the body of a POST, else empty.
    fn respond(&self, head: Parts, body: String) -> impl Future<Output = HttpResponse> + Send;
}

/// Accepts connections until `stop` is set.
pub(super) async fn serve<H: Host>(
    host: Arc<H>,
    stop: &Stop,
    listening: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let door = host.door();
    let address = &door.listen;
    if !address.is_local() && !door.access.requires_authentication() {
        return Err(ServeError::Unprotected { address: address.clone() });
    }
    let tls = door.access.tls()?;
    let refused = |source| ServeError::Listen { address: address.clone(), source };
    let listener = bind(address).await.map_err(refused)?;
    listening(&match &listener {
        Listener::Tcp(tcp) => Address::Tcp(tcp.local_addr().map_err(refused)?),
        Listener::Unix { .. } => address.clone(),
    });
    let slots = Arc::new(Semaphore::new(door.connections));
    let pending = Pending::new(MAX_PENDING, MIN_TIME);
    while !stop.is_set() {
        let Ok(accepted) = timeout(LOOK_EVERY, accept(&listener)).await else { continue };
        let peer = match &accepted {
            Ok(Stream::Tcp(_, peer)) => Some(*peer),
            Ok(Stream::Unix(_)) => None,
            // Too many open files, or the client is already gone: try again later.
            Err(_) => {
                sleep(LOOK_EVERY).await;
                continue;
            }
        };
        let (pending, expulsion) = pending.enter(peer).await;
        let slot = Slot { pending, slots: Arc::clone(&slots), taken: OnceCell::new() };
        let host = Arc::clone(&host);
        match accepted {
            Ok(Stream::Tcp(stream, _)) => {
                drop(tokio::spawn(connection(host, stream, tls.clone(), slot, expulsion)));
            }
            Ok(Stream::Unix(stream)) => {
                drop(tokio::spawn(connection(host, stream, None, slot, expulsion)));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

enum Stream {
    Tcp(tokio::net::TcpStream, IpAddr),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<Stream> {
    match listener {
        Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, peer)| Stream::Tcp(stream, peer.ip())),
        Listener::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
    }
}

/// The slot of a connection: one of the pending ones, and from the first accepted request on one of
/// the [`Door::connections`].
struct Slot {
    pending: PendingSlot,
    slots: Arc<Semaphore>,
    taken: OnceCell<OwnedSemaphorePermit>,
}

impl Slot {
    /// Moves the connection to the slots of accepted connections; false if none becomes free in
    /// time.
    async fn accept(&self, patience: Duration) -> bool {
        // First: a client that is allowed to send requests must not be expelled.
        self.pending.accept();
        let permit = || Arc::clone(&self.slots).acquire_owned();
        timeout(patience, self.taken.get_or_try_init(permit)).await.is_ok_and(|taken| taken.is_ok())
    }
}

async fn bind(address: &Address) -> io::Result<Listener> {
    match address {
        Address::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
        Address::Unix(path) => {
            // A server that was killed leaves its socket behind.
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

async fn connection<H, S>(host: Arc<H>, stream: S, tls: Option<TlsAcceptor>, slot: Slot, expulsion: Expulsion)
where
    H: Host,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let deadline = host.door().request_timeout;
    let slot = Arc::new(slot);
    let serve = async {
        match tls {
            None => requests(host, stream, slot).await,
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    requests(host, stream, slot).await;
                }
            }
        }
    };
    tokio::select! {
        () = serve => {}
        () = expulsion.due(deadline) => {}
    }
}

async fn requests<H, S>(host: Arc<H>, stream: S, slot: Arc<Slot>)
where
    H: Host,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request_timeout = host.door().request_timeout;
    let service = service_fn(move |request| {
        let (host, slot) = (Arc::clone(&host), Arc::clone(&slot));
        async move { Ok::<_, Infallible>(respond(&*host, request, &slot).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(request_timeout).max_buf_size(64 << 10);
    // An error ends this connection only, and its client is gone: there is nobody to report to.
    if let Ok(parts) = http.serve_connection(TokioIo::new(stream), service).without_shutdown().await {
        linger(parts.io.into_inner()).await;
    }
}

/// Closes a connection so that its client gets the response: closing while the client still sends a
/// body, as that of a refused request, would reset the connection, and the response would be lost.
async fn linger<S>(mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let drain = async {
        stream.shutdown().await?;
        let mut buffer = vec![0; 16 << 10];
        let mut left = MAX_LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(LINGER, drain).await;
}

async fn respond<H: Host>(host: &H, request: HttpRequest<Incoming>, slot: &Slot) -> HttpResponse {
    let (head, body) = request.into_parts();
    let door = host.door();
    if let Err(refused) = guard::check(&head, &door.access, &door.listen) {
        return closing(refusal(refused));
    }
    if !slot.accept(door.request_timeout).await {
        let why = "too many connections are open: retry later";
        return closing(pages::failure(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    match timeout(door.request_timeout, read(&head, body)).await {
        Ok(Ok(body)) => host.respond(head, body).await,
        _ => closing(pages::failure(
            StatusCode::BAD_REQUEST,
            "the request's body is too long or did not arrive in time",
        )),
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

/// The response with the request to close the connection, which hyper then closes.
fn closing(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refusal(refused: Refused) -> HttpResponse {
    let (status, why) = match refused {
        Refused::Method => (StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and POST are allowed"),
        Refused::Host => (
            StatusCode::FORBIDDEN,
            "the request's Host is not a name of this machine; --allow-host NAME allows another name",
        ),
        Refused::Origin => (StatusCode::FORBIDDEN, "requests from pages of other sites are refused"),
        Refused::Token => (
            StatusCode::UNAUTHORIZED,
            "a token is required: send Authorization: Bearer TOKEN, or use http://any:TOKEN@HOST/…",
        ),
    };
    pages::failure(status, why)
}
