// SPDX-License-Identifier: Apache-2.0
//! [`Proxy`]: the proxy on the way to the API server, chosen as Go's programs choose one
//! (golang.org/x/net/http/httpproxy), for whom the environment of a container runtime is written:
//! `HTTPS_PROXY`, `HTTP_PROXY`, and `NO_PROXY` with names, addresses and prefixes; never for this machine.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use tonic::codegen::http::Uri;

/// Proxy that is asked for a tunnel (HTTP CONNECT, RFC 9110, section 9.3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// Address, `http://host:port`.
    pub(super) uri: Uri,
    /// Value of `Proxy-Authorization`, if the address had a user in it.
    pub(super) authorization: Option<String>,
    /// Source of the address, for people: `HTTPS_PROXY`, `proxy-url of the kubeconfig`.
    pub(super) from: &'static str,
}

impl Proxy {
    /// The proxy for a server, if there is one: the kubeconfig's `proxy-url`, else the environment's, which
    /// is read through `variable`.
    ///
    /// # Errors
    /// What is wrong with the address, and where it comes from.
    pub(super) fn choose(
        server: &Uri,
        of_kubeconfig: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Proxy>, String> {
        if let Some(text) = of_kubeconfig.filter(|text| !text.is_empty()) {
            return Proxy::parse(text, "proxy-url of the kubeconfig").map(Some);
        }
        let either = |upper: &str| {
            let set = |name: &str| variable(name).filter(|text| !text.is_empty());
            set(upper).or_else(|| set(&upper.to_ascii_lowercase()))
        };
        let from = match server.scheme_str() {
            Some("https") => "HTTPS_PROXY",
            _ => "HTTP_PROXY",
        };
        let Some(text) = either(from) else {
            return Ok(None);
        };
        if is_excepted(server, &either("NO_PROXY").unwrap_or_default()) {
            return Ok(None);
        }
        Proxy::parse(&text, from).map(Some)
    }

    fn parse(text: &str, from: &'static str) -> Result<Proxy, String> {
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        // A password is in it, so the text itself is never told.
        let uri: Uri = whole
            .parse()
            .map_err(|error| format!("{from} is not an address: {error}"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let (Some(host), true) = (uri.host(), scheme == "http") else {
            return Err(format!(
                "{from} names a proxy of scheme {scheme:?}: the API server is reached directly or through \
                 an HTTP proxy (http://host:port); except it by NO_PROXY if it needs none"
            ));
        };
        let user = uri
            .authority()
            .and_then(|authority| authority.as_str().rsplit_once('@'))
            .map(|(user, _)| user.to_owned());
        let port = uri.port_u16().unwrap_or(80);
        let plain = format!("http://{host}:{port}");
        Ok(Proxy {
            uri: plain
                .parse()
                .map_err(|error| format!("{from} is not an address: {error}"))?,
            authorization: user.map(|user| {
                let user = decode(&user);
                format!("Basic {}", STANDARD.encode(user))
            }),
            from,
        })
    }
}

/// The bytes that a user's part of an address stands for (percent-encoding, RFC 3986).
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let decoded = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, decoded) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// Whether a server is reached without a proxy by the list in `NO_PROXY`.
fn is_excepted(server: &Uri, list: &str) -> bool {
    let host = server.host().unwrap_or_default().to_ascii_lowercase();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let of_scheme = if server.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let port = server.port_u16().unwrap_or(of_scheme).to_string();
    let ip: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    list.split(',').any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let Ok(net) = entry.parse::<IpNet>() {
            return ip.is_some_and(|ip| net.contains(&ip));
        }
        let (name, only) = split_port(&entry);
        if name.is_empty() || only.is_some_and(|only| only != port) {
            return false;
        }
        if let Ok(address) = name.parse::<IpAddr>() {
            return ip == Some(address);
        }
        let name = name.strip_prefix('*').unwrap_or(name);
        match name.strip_prefix('.') {
            // Names below it alone.
            Some(_) => host.ends_with(name),
            None => host == name || host.ends_with(&format!(".{name}")),
        }
    })
}

/// Host and port of `host`, `host:port`, `[address]:port`, or an IPv6 address as it is.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    if let Some(rest) = entry.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => ("", None),
        };
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (entry, None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn proxy(server: &str, pairs: &[(&str, &str)]) -> Result<Option<Proxy>, String> {
        let get = |name: &str| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| (*value).to_owned())
        };
        Proxy::choose(&server.parse().unwrap(), None, get)
    }

    #[test]
    fn the_list_of_exceptions_is_gos() {
        for (server, list, direct) in [
            ("https://10.96.0.1:443", "10.96.0.0/12", true),
            ("https://10.96.0.1:443", "10.96.0.1", true),
            ("https://10.96.0.1:443", "10.96.0.1:443", true),
            ("https://10.96.0.1:6443", "10.96.0.1:443", false),
            ("https://10.1.0.1:6443", "10.96.0.0/12, .svc", false),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
            ("https://api.example.com:6443", "example.com", true),
            ("https://api.example.com:6443", ".example.com", true),
            ("https://api.example.com:6443", "*.example.com:6443", true),
            ("https://example.com:6443", ".example.com", false),
            ("https://myexample.com", "example.com", false),
            ("https://API.Example.com", " a ,,Example.COM ", true),
            ("https://api.example.com", "*", true),
            ("https://api.example.com", "", false),
            ("https://127.0.0.1:6443", "", true),
            ("https://localhost:6443", "", true),
            ("https://[::1]:6443", "", true),
        ] {
            let env = [("HTTPS_PROXY", "http://proxy:3128"), ("no_proxy", list)];
            let chosen = proxy(server, &env).unwrap();
            assert_eq!(chosen.is_none(), direct, "{server} with {list:?}");
        }
    }

    #[test]
    fn addresses_with_and_without_scheme_port_and_user() {
        let of = |text: &str| proxy("https://api:6443", &[("https_proxy", text)]);
        assert_eq!(of("proxy:3128").unwrap().unwrap().uri, "http://proxy:3128/");
        let with = of("http://me:p%40ss@proxy").unwrap().unwrap();
        assert_eq!(with.uri, "http://proxy:80/");
        let basic = format!("Basic {}", STANDARD.encode("me:p@ss"));
        assert_eq!(with.authorization, Some(basic));
        let error = of("socks5://me:secret@proxy:1080").unwrap_err();
        assert!(
            error.contains("HTTPS_PROXY") && !error.contains("secret"),
            "{error}"
        );
        // Each scheme has its own variable, and the kubeconfig goes first.
        assert!(
            proxy("http://api", &[("HTTPS_PROXY", "p:1")])
                .unwrap()
                .is_none()
        );
        let server = "https://127.0.0.1:6443".parse().unwrap();
        let own = Proxy::choose(&server, Some("http://own:8080"), |_| None).unwrap();
        assert_eq!(own.unwrap().uri, "http://own:8080/");
    }
}
