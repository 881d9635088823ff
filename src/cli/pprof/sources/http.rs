//! Fetches profiles from servers: `http`, `https`, `https+insecure`.

use std::{fs, io::Read, net::ToSocketAddrs, time::Duration};

use crate::{
    cli::pprof::Flags,
    profile::columns::error::MAX_BYTES,
    text::{
        go::{self, query_escape, query_unescape},
        path,
    },
};

/// A request for a profile.
pub(in crate::cli::pprof) struct Request {
    url: String,
    timeout: Duration,
    seconds: i64,
    tls: Tls,
}

#[derive(Clone, Default)]
struct Tls {
    cert: String,
    key: String,
    ca: String,
}

impl Request {
    /// The request for `source`; `None` if it is not a URL. The default path requests a CPU
    /// profile.
    pub fn new(source: &str, flags: &Flags) -> Option<Request> {
        let (scheme, rest) = match source.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if source.contains(':') => ("http", source),
            None => return None,
        };
        let (rest, fragment) = rest.split_once('#').map_or((rest, ""), |(rest, part)| (rest, part));
        let (place, query) = rest.split_once('?').map_or((rest, ""), |(place, query)| (place, query));
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        if host.is_empty() || scheme == "file" || !has_fitting_port(host) {
            return None;
        }
        let path = if path.is_empty() { "debug/pprof/profile" } else { path };
        let mut parameters: Vec<(String, String)> = query
            .split('&')
            .filter(|part| !part.is_empty() && !part.contains(';'))
            .filter_map(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                Some((query_unescape(name)?, query_unescape(value)?))
            })
            .collect();
        let mut seconds = flags.seconds;
        if seconds > 0 {
            parameters.retain(|(name, _)| name != "seconds");
            parameters.push(("seconds".into(), seconds.to_string()));
        } else if let Some((_, given)) = parameters.iter().find(|(name, _)| name == "seconds") {
            seconds = given.parse().unwrap_or(0);
        }
        parameters.sort_by(|a, b| a.0.cmp(&b.0));
        let query: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{}={}", query_escape(name), query_escape(value)))
            .collect();
        let mut url = format!("{scheme}://{host}/{path}");
        for (mark, part) in [('?', query.join("&")), ('#', fragment.to_string())] {
            if !part.is_empty() {
                url.push(mark);
                url.push_str(&part);
            }
        }
        let timeout = match (flags.timeout_s, seconds) {
            (timeout @ 1.., _) => Duration::from_secs(timeout as u64),
            (_, seconds @ 1..) => Duration::from_secs(seconds as u64 * 3 / 2),
            _ => Duration::from_secs(60),
        };
        Some(Request { url, timeout, seconds: flags.seconds, tls: Tls::of(flags) })
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Fetches the profile's bytes. Error messages are those of `go tool pprof`.
    pub fn fetch(&self, messages: &mut Vec<String>) -> Result<Vec<u8>, String> {
        messages.push(format!("Fetching profile over HTTP from {}", self.url));
        if self.seconds > 0 {
            let length = go::duration(self.seconds.saturating_mul(1_000_000_000));
            messages.push(format!("Please wait... ({length})"));
        }
        let (url, insecure) = without_insecure(&self.url);
        let failed = |error: ureq::Error| format!("Get {}: {}", go::quote(&url), go_words(&url, &error));
        let wait = self.timeout + Duration::from_secs(5);
        let agent = agent(&self.tls, insecure, wait)?;
        let mut response = agent.get(&url).call().map_err(failed)?;
        check_status(&mut response)?;
        let mut bytes = Vec::new();
        let reader = response.body_mut().with_config().limit(MAX_BYTES as u64).reader();
        reader.take(MAX_BYTES as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// Whether the text after the host's last colon can be a port.
fn has_fitting_port(host: &str) -> bool {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.bytes().all(|digit| digit.is_ascii_digit()),
        _ => true,
    }
}

/// The scheme of an absolute URL.
pub(in crate::cli::pprof) fn scheme(address: &str) -> Option<&str> {
    let (scheme, _) = address.split_once(':')?;
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    (scheme.starts_with(|letter: char| letter.is_ascii_alphabetic()) && scheme.chars().all(is_plain))
        .then_some(scheme)
}

/// The URL for names of addresses at the server that a profile came from.
pub(in crate::cli::pprof) fn symbol_address(source: &str) -> Option<String> {
    const GPERFTOOLS: [&str; 5] =
        ["/pprof/heap", "/pprof/growth", "/pprof/profile", "/pprof/pmuprofile", "/pprof/contention"];
    let (scheme, rest) = source.split_once("://")?;
    let place = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let is_short = path.contains("/debug/pprof/") || GPERFTOOLS.iter().any(|end| path.ends_with(end));
    let path = path::clean_path(&format!("{path}/../{}", if is_short { "symbol" } else { "symbolz" }));
    let slash = if path.starts_with('/') { "" } else { "/" };
    (!host.is_empty()).then(|| format!("{scheme}://{host}{slash}{path}"))
}

/// Posts a text and returns the text of the response.
pub(in crate::cli::pprof) fn post(address: &str, question: String, flags: &Flags) -> Result<String, String> {
    const WAIT: Duration = Duration::from_secs(60);
    let failed = |why: String| format!("http post {address}: {why}");
    let (url, insecure) = without_insecure(address);
    let agent = agent(&Tls::of(flags), insecure, WAIT)?;
    let request = agent.post(&url).header("Content-Type", "application/octet-stream");
    let mut response = request
        .send(question)
        .map_err(|error| failed(format!("Post {}: {}", go::quote(&url), go_words(&url, &error))))?;
    check_status(&mut response).map_err(failed)?;
    let reader = response.body_mut().with_config().limit(MAX_BYTES as u64).reader();
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The URL without `+insecure`, and whether certificates are not checked.
fn without_insecure(url: &str) -> (String, bool) {
    match url.strip_prefix("https+insecure://") {
        Some(rest) => (format!("https://{rest}"), true),
        None => (url.to_string(), false),
    }
}

fn agent(tls: &Tls, insecure: bool, wait: Duration) -> Result<ureq::Agent, String> {
    let config = ureq::Agent::config_builder()
        .timeout_recv_response(Some(wait))
        .http_status_as_error(false)
        .tls_config(tls.config(insecure)?);
    Ok(config.build().into())
}

fn check_status(response: &mut ureq::http::Response<ureq::Body>) -> Result<(), String> {
    let status = response.status();
    if status.as_u16() == 200 {
        return Ok(());
    }
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let says_why = !header("X-Go-Pprof").is_empty() && header("Content-Type").contains("text/plain");
    let reason = status.canonical_reason().unwrap_or("");
    let line = format!("server response: {} {reason}", status.as_u16());
    let body = if says_why { response.body_mut().read_to_string().ok() } else { None };
    Err(body.map_or(line.clone(), |body| format!("{line} - {body}")))
}

/// Go's text for a network error, as far as it is known.
fn go_words(url: &str, error: &ureq::Error) -> String {
    let place = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next();
    let place = place.unwrap_or_default();
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    match error {
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            let default_port = if url.starts_with("https") { 443 } else { 80 };
            let addressed = if place == host { format!("{host}:{default_port}") } else { place.to_string() };
            let address = addressed.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
            let address = address.map_or(addressed, |address| address.to_string());
            format!("dial tcp {address}: connect: connection refused")
        }
        ureq::Error::HostNotFound => format!("dial tcp: lookup {host}: no such host"),
        ureq::Error::Io(error) if error.to_string().contains("failed to lookup address") => {
            format!("dial tcp: lookup {host}: no such host")
        }
        other if other.to_string().contains("UnknownIssuer") => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".into()
        }
        other if other.to_string().contains("InvalidContentType") => {
            "http: server gave HTTP response to HTTPS client".into()
        }
        ureq::Error::BadUri(_) => {
            let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("unsupported protocol scheme {}", go::quote(scheme))
        }
        ureq::Error::Timeout(_) => "net/http: timeout awaiting response headers".into(),
        other => other.to_string(),
    }
}

impl Tls {
    fn of(flags: &Flags) -> Tls {
        let [cert, key, ca] = [&flags.tls_cert, &flags.tls_key, &flags.tls_ca].map(String::clone);
        Tls { cert, key, ca }
    }

    fn config(&self, insecure: bool) -> Result<ureq::tls::TlsConfig, String> {
        use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};
        let read = |path: &str| {
            fs::read(path).map_err(|error| {
                format!("could not read {path}: {}", super::super::words::system_words(&error))
            })
        };
        let mut config = TlsConfig::builder().disable_verification(insecure);
        if !self.ca.is_empty() {
            let bytes = read(&self.ca)?;
            let certificates: Vec<Certificate> = ureq::tls::parse_pem(&bytes)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            config = config.root_certs(RootCerts::new_with_certs(&certificates));
        }
        if self.cert.is_empty() != self.key.is_empty() {
            return Err("-tls_cert and -tls_key must be specified together".into());
        }
        if !self.cert.is_empty() {
            let certificate = Certificate::from_pem(&read(&self.cert)?).map_err(|error| error.to_string())?;
            let key = PrivateKey::from_pem(&read(&self.key)?).map_err(|error| error.to_string())?;
            config = config.client_cert(Some(ClientCert::new_with_certs(&[certificate], key)));
        }
        Ok(config.build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_symbol_url_next_to_its_profiles() {
        let at = |source: &str| symbol_address(source).unwrap_or_default();
        assert_eq!(at("http://h:1/debug/pprof/profile?seconds=3"), "http://h:1/debug/pprof/symbol");
        assert_eq!(at("http://h/pprof/heap"), "http://h/pprof/symbol");
        assert_eq!(at("https://h/a/profilez"), "https://h/a/symbolz");
        assert_eq!(at("/a/file"), "");
        assert!(has_fitting_port("[::1]") && has_fitting_port("h:80") && !has_fitting_port("h:file"));
        assert_eq!((scheme("http://h"), scheme("/a:b"), scheme("a_b:c")), (Some("http"), None, None));
    }
}
