// SPDX-License-Identifier: Apache-2.0
//! HTTP server of the agent's parts: bounded in connections, and in the time that a peer may take to ask.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::{HeaderMap, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Largest number of connections of one server; further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 64;
/// Time in which a peer must have sent a request, also the next one of a connection that is kept.
const PATIENCE: Duration = Duration::from_secs(15);
/// Time after which a connection takes no further request, so that one that reads nothing gives its place back.
const LIFETIME: Duration = Duration::from_secs(120);
/// Pause after a failure to accept: the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the listening socket of key `key` in the configuration.
///
/// # Errors
/// The address is taken or not the machine's; the error names the key.
pub(crate) async fn listen(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen at {address}: choose another address in `{key}` of the agent's configuration")
    })
}

/// Serves until the caller drops it.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("a connection was not accepted: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            // A peer that breaks off is its own affair.
            if timeout(LIFETIME, connection.as_mut()).await.is_err() {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(PATIENCE, connection).await;
            }
            drop(place);
        });
    }
}

/// Whether a request names the server by an address or as `localhost`. A web page elsewhere that points a name of its
/// own at this server, so that a browser lets it read the answers, cannot do that.
pub(crate) fn is_asked_by_address(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_this_machines_is_told_from_its_addresses() {
        let asked = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_asked_by_address(&headers)
        };
        for host in [
            "localhost:10472",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]:1",
            "[::1]",
            "Localhost",
        ] {
            assert!(asked(host), "{host}");
        }
        for host in [
            "evil.example:10472",
            "localhost.evil.example",
            "",
            "127.0.0.1.nip.io:1",
        ] {
            assert!(!asked(host), "{host}");
        }
        assert!(!is_asked_by_address(&HeaderMap::new()));
    }
}
