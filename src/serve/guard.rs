//! Decides from a request's head whether the request is allowed.
//!
//! Every page that a browser on this machine shows can send requests to a server on loopback. A
//! page whose host name resolves to 127.0.0.1 (DNS rebinding) can also read the responses. So a
//! request must use a host name of this machine, and must not come from a page of another site.

use hyper::{HeaderMap, Method, header, http::request::Parts};

use super::access::{Access, Address, is_loopback};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Neither GET, HEAD nor POST.
    Method,
    /// The host name is not a name of this machine.
    Host,
    /// A page of another site sent the request.
    Origin,
    /// The token is missing or wrong.
    Token,
}

/// Checks a request.
///
/// # Errors
/// [`Refused`]: the reason why the request is not allowed.
pub fn check(head: &Parts, access: &Access, listen: &Address) -> Result<(), Refused> {
    if ![Method::GET, Method::HEAD, Method::POST].contains(&head.method) {
        return Err(Refused::Method);
    }
    let host = host_of(head);
    // A client that authenticates is not a page of another site, so any host name is accepted.
    if !access.requires_authentication()
        && matches!(listen, Address::Tcp(_))
        && !host.is_some_and(|host| is_own(host, access, listen))
    {
        return Err(Refused::Host);
    }
    if is_of_another_site(&head.headers, host) {
        return Err(Refused::Origin);
    }
    match &access.token {
        Some(token) if !shows(&head.headers, token) => Err(Refused::Token),
        _ => Ok(()),
    }
}

/// The host name and port that the client used: from the URL, or from the `Host` header, which must
/// occur exactly once.
pub fn host_of(head: &Parts) -> Option<&str> {
    if let Some(authority) = head.uri.authority() {
        return Some(authority.as_str());
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

fn is_own(host: &str, access: &Access, listen: &Address) -> bool {
    let name = without_port(host);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let listens_there = |ip| matches!(listen, Address::Tcp(own) if own.ip() == ip);
    name.eq_ignore_ascii_case("localhost")
        || address.is_some_and(|ip| is_loopback(ip) || listens_there(ip))
        || access.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Judges by `Origin` and by `Sec-Fetch-Site` (W3C Fetch Metadata Request Headers).
fn is_of_another_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let foreign_origin = text("origin").is_some_and(|origin| {
        let own = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
        own.is_none() || own != host
    });
    foreign_origin || text("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site))
}

fn shows(headers: &HeaderMap, token: &str) -> bool {
    let Some(shown) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let Some((scheme, rest)) = shown.split_once(' ') else { return false };
    if scheme.eq_ignore_ascii_case("bearer") {
        return is_equal(rest.trim().as_bytes(), token.as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return false;
    }
    use base64::Engine;
    let Ok(pair) = base64::engine::general_purpose::STANDARD.decode(rest.trim()) else { return false };
    let password = pair.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default();
    is_equal(password, token.as_bytes())
}

/// Compares in constant time, so that timing reveals nothing about the token but its length.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use proptest::prelude::*;

    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn local() -> Address {
        "127.0.0.1:6060".parse().expect("an address")
    }

    fn checked(headers: &[(&str, &str)]) -> Result<(), Refused> {
        check(&head("/debug/pprof/", headers), &Access::default(), &local())
    }

    #[test]
    fn only_host_names_of_this_machine_are_accepted() {
        for host in ["localhost", "LOCALHOST:6060", "127.0.0.1:6060", "[::1]:6060", "127.9.9.9"] {
            assert_eq!(checked(&[("host", host)]), Ok(()), "{host}");
        }
        for host in
            ["evil.example:6060", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", "", "::1:80:"]
        {
            assert_eq!(checked(&[("host", host)]), Err(Refused::Host), "{host}");
        }
        assert_eq!(checked(&[]), Err(Refused::Host));
        assert_eq!(checked(&[("host", "localhost"), ("host", "evil.example")]), Err(Refused::Host));
        let absolute = head("http://evil.example/debug/pprof/", &[("host", "localhost")]);
        assert_eq!(check(&absolute, &Access::default(), &local()), Err(Refused::Host));
        let named = Access { hosts: vec!["box.lan".into()], ..Access::default() };
        assert_eq!(check(&head("/", &[("host", "BOX.lan:6060")]), &named, &local()), Ok(()));
    }

    #[test]
    fn requests_from_pages_of_other_sites_are_refused() {
        let from = |name, value| checked(&[("host", "localhost:6060"), (name, value)]);
        assert_eq!(from("origin", "http://localhost:6060"), Ok(()));
        assert_eq!(from("origin", "http://evil.example"), Err(Refused::Origin));
        assert_eq!(from("origin", "null"), Err(Refused::Origin));
        assert_eq!(from("origin", "http://localhost:7070"), Err(Refused::Origin));
        assert_eq!(from("sec-fetch-site", "none"), Ok(()));
        assert_eq!(from("sec-fetch-site", "cross-site"), Err(Refused::Origin));
        assert_eq!(from("sec-fetch-site", "same-site"), Err(Refused::Origin));
    }

    #[test]
    fn with_a_token_configured_every_request_must_have_it() {
        let access = Access { token: Some("0123456789abcdef".into()), ..Access::default() };
        let with = |headers: &[(&str, &str)]| check(&head("/", headers), &access, &local());
        assert_eq!(with(&[("host", "any.name"), ("authorization", "Bearer 0123456789abcdef")]), Ok(()));
        // `user:0123456789abcdef`
        assert_eq!(with(&[("authorization", "Basic dXNlcjowMTIzNDU2Nzg5YWJjZGVm")]), Ok(()));
        for shown in [
            "Bearer 0123456789abcdeg",
            "Bearer",
            "Bearer 0",
            "Basic !!",
            "Basic dXNlcg==",
            "0123456789abcdef",
        ] {
            assert_eq!(with(&[("authorization", shown)]), Err(Refused::Token), "{shown}");
        }
        assert_eq!(with(&[("host", "localhost")]), Err(Refused::Token));
    }

    #[test]
    fn only_get_head_and_post_are_allowed() {
        let mut delete = head("/", &[("host", "localhost")]);
        delete.method = Method::DELETE;
        assert_eq!(check(&delete, &Access::default(), &local()), Err(Refused::Method));
    }

    proptest! {
        #[test]
        fn no_other_host_name_passes(host in "[ -~]{0,40}") {
            let ours = host.to_ascii_lowercase().starts_with("localhost") || host.starts_with("127.") || host.starts_with('[') || host.starts_with("::");
            if !ours && let Ok(value) = hyper::header::HeaderValue::from_str(&host) {
                let mut head = head("/", &[]);
                head.headers.insert("host", value);
                prop_assert_eq!(check(&head, &Access::default(), &local()), Err(Refused::Host));
            }
        }
    }
}
