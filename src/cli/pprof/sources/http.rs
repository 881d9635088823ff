//! Profiles from servers: `http`, `https`, `https+insecure`.
//!
//! Not here: what is done with the bytes.

use std::{fs, io::Read, time::Duration};

use crate::{
    cli::pprof::Flags,
    profile::{columns::decode::MAX_BYTES, go_text},
};

/// What is asked of a server.
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
    /// The request for `source`; `None` if it is no address. Where the path is missing, a CPU profile
    /// is asked for.
    pub fn new(source: &str, flags: &Flags) -> Option<Request> {
        let (scheme, rest) = match source.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if source.contains(':') => ("http", source),
            None => return None,
        };
        let (rest, fragment) = rest.split_once('#').map_or((rest, ""), |(rest, part)| (rest, part));
        let (place, query) = rest.split_once('?').map_or((rest, ""), |(place, query)| (place, query));
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        if host.is_empty() || scheme == "file" {
            return None;
        }
        let path = if path.is_empty() { "debug/pprof/profile" } else { path };
        let mut parameters: Vec<(String, String)> = query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.split_once('=').map_or((part.into(), String::new()), |(k, v)| (k.into(), v.into()))
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
        let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
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
        let [cert, key, ca] = [&flags.tls_cert, &flags.tls_key, &flags.tls_ca].map(String::clone);
        Some(Request { url, timeout, seconds: flags.seconds, tls: Tls { cert, key, ca } })
    }

    /// The profile's bytes.
    pub fn fetch(&self, messages: &mut Vec<String>) -> Result<Vec<u8>, String> {
        messages.push(format!("Fetching profile over HTTP from {}", self.url));
        if self.seconds > 0 {
            let length = go_text::duration(self.seconds.saturating_mul(1_000_000_000));
            messages.push(format!("Please wait... ({length})"));
        }
        let (url, insecure) = match self.url.strip_prefix("https+insecure://") {
            Some(rest) => (format!("https://{rest}"), true),
            None => (self.url.clone(), false),
        };
        let failed = |error: ureq::Error| format!("Get {}: {error}", go_text::quote(&url));
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_recv_response(Some(self.timeout + Duration::from_secs(5)))
            .http_status_as_error(false)
            .tls_config(self.tls.config(insecure)?)
            .build()
            .into();
        let mut response = agent.get(&url).call().map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let header =
                |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
            let says_why = !header("X-Go-Pprof").is_empty() && header("Content-Type").contains("text/plain");
            let reason = status.canonical_reason().unwrap_or("");
            let line = format!("server response: {} {reason}", status.as_u16());
            let body = if says_why { response.body_mut().read_to_string().ok() } else { None };
            return Err(body.map_or(line.clone(), |body| format!("{line} - {body}")));
        }
        let mut bytes = Vec::new();
        let reader = response.body_mut().with_config().limit(MAX_BYTES as u64).reader();
        reader.take(MAX_BYTES as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

impl Tls {
    fn config(&self, insecure: bool) -> Result<ureq::tls::TlsConfig, String> {
        use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};
        let read = |path: &str| {
            fs::read(path).map_err(|error| format!("could not read {path}: {}", super::system_words(&error)))
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
