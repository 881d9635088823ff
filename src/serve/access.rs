//! Where the server listens and how clients authenticate: addresses, the bearer token, TLS.
//!
//! Not here: the checks of each request (`guard`).

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

use super::ServeError;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 lets the kernel choose one.
    Tcp(SocketAddr),
    /// A socket in the file system. Its mode (0600) and its folder's mode decide who can connect.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    /// Parses `127.0.0.1:6060`, `[::1]:6060`, `localhost:6060`, `:6060` (loopback) or `unix:PATH`.
    fn from_str(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: must be followed by a path".to_owned()),
                path => Ok(Address::Unix(PathBuf::from(path))),
            };
        }
        let local = |rest: &str| format!("127.0.0.1{rest}");
        let text = match text.strip_prefix("localhost") {
            Some(rest) if rest.starts_with(':') => local(rest),
            _ if text.starts_with(':') => local(text),
            _ => text.to_owned(),
        };
        text.parse().map(Address::Tcp).map_err(|_| {
            "expected an IP address and a port, such as 127.0.0.1:6060 or [::1]:6060, or unix:PATH".to_owned()
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Whether only this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp(address) => is_loopback(address.ip()),
            Address::Unix(_) => true,
        }
    }
}

/// Whether this is a loopback address, also in its IPv4-mapped form (`::ffff:127.0.0.1`).
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The files of TLS, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Clients must present a certificate that one of these authorities signed.
    pub client_ca: Option<PathBuf>,
}

/// How clients authenticate, and which host names they may use.
#[derive(Clone, Default)]
pub struct Access {
    /// Clients send `Authorization: Bearer TOKEN`, or TOKEN as the password of `Basic`.
    pub token: Option<String>,
    /// Serve TLS with these files.
    pub tls: Option<TlsFiles>,
    /// Additional host names that clients may use for this machine.
    pub hosts: Vec<String>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("has_token", &self.token.is_some()).field("tls", &self.tls).finish()
    }
}

impl Access {
    /// Reads the token: the first line of a file.
    ///
    /// # Errors [`ServeError::File`] when the file is not readable or the token has fewer than 16
    /// characters.
    pub fn read_token(path: &Path) -> Result<String, ServeError> {
        let what = "cannot read the token file";
        let text = fs::read_to_string(path).map_err(|source| file(what, path, source))?;
        match text.lines().next().map(str::trim) {
            Some(token) if token.len() >= 16 => Ok(token.to_owned()),
            _ => Err(file(
                what,
                path,
                io::Error::other("the first line must be a token of at least 16 characters"),
            )),
        }
    }

    /// Whether clients must authenticate, by token or by certificate.
    pub fn requires_authentication(&self) -> bool {
        self.token.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }

    /// The acceptor of TLS connections; `None` when TLS is off.
    ///
    /// # Errors
    /// [`ServeError::File`] and [`ServeError::Tls`] when the files cannot be used.
    pub fn tls(&self) -> Result<Option<TlsAcceptor>, ServeError> {
        let Some(files) = &self.tls else { return Ok(None) };
        let certificates = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| file("cannot read the key", &files.key, io::Error::other(error)))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(tls_error)?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(path)? {
                    roots.add(certificate).map_err(tls_error)?;
                }
                let provider = Arc::new(ring::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(tls_error)?)
            }
        };
        let config = builder.with_single_cert(certificates, key).map_err(tls_error)?;
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let read = |source| file("cannot read the certificate", path, source);
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| read(io::Error::other(error)))?;
    if found.is_empty() { Err(read(io::Error::other("the file contains no certificate"))) } else { Ok(found) }
}

fn tls_error(error: impl fmt::Display) -> ServeError {
    ServeError::Tls(error.to_string())
}

fn file(what: &'static str, path: &Path, source: io::Error) -> ServeError {
    ServeError::File { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_host_is_loopback() {
        let parse = |text: &str| text.parse::<Address>();
        for text in
            ["127.0.0.1:6060", "[::1]:6060", "localhost:6060", ":6060", "unix:/run/rprof", "127.1.2.3:1"]
        {
            assert!(parse(text).expect(text).is_local(), "{text}");
        }
        for text in ["0.0.0.0:6060", "[::]:6060", "10.0.0.1:80"] {
            assert!(!parse(text).expect(text).is_local(), "{text}");
        }
        for text in ["", "6060", "unix:", "localhost", "example.org:80", "127.0.0.1:99999"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse(":6060").expect("address").to_string(), "127.0.0.1:6060");
        assert!(parse("[::ffff:127.0.0.1]:1").expect("address").is_local());
    }

    #[test]
    fn a_token_is_the_first_line_of_its_file_and_has_at_least_sixteen_characters() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::write(&path, "0123456789abcdef \nmore\n").expect("own folder");
        assert_eq!(Access::read_token(&path).expect("token"), "0123456789abcdef");
        fs::write(&path, "short\n").expect("own folder");
        assert!(Access::read_token(&path).is_err());
        assert!(Access::read_token(&folder.path().join("none")).is_err());
    }
}
