// SPDX-License-Identifier: Apache-2.0
//! Exchange of one request and its answer over one connection, under one deadline.

use std::error::Error as _;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::fd_stream::FdStream;
use super::{Client, ClientError, DownReason};
use crate::{ApiError, ErrorCode};

/// More than any answer needs: counters of 10,000 rules take about 2 MiB.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Delay before a connect is retried while the engine's queue of connections is full.
const BACKLOG_RETRY: Duration = Duration::from_millis(20);

/// Sends one request, `fd` with its first byte, and reads its whole answer.
pub(super) fn exchange(
    client: &Client,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
    fd: Option<OwnedFd>,
) -> Result<(StatusCode, Bytes), ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| client.protocol(format!("no runtime for the request: {error}")))?;
    runtime.block_on(async {
        match timeout(client.timeout, converse(client, method, path, body, fd)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut {
                socket: client.socket.clone(),
                limit: client.timeout,
            }),
        }
    })
}

async fn converse(
    client: &Client,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
    fd: Option<OwnedFd>,
) -> Result<(StatusCode, Bytes), ClientError> {
    let stream = FdStream::new(connect(client).await?, fd);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(client, &error))?;
    // Ends with the runtime, at the latest.
    tokio::spawn(connection);

    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "sluiced")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| client.protocol(format!("{method} {path} cannot be asked: {error}")))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| broken(client, &error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => broken(client, &error),
            Err(error) => client.protocol(format!("{method} {path}: {error}")),
        })?;
    Ok((status, body.to_bytes()))
}

async fn connect(client: &Client) -> Result<UnixStream, ClientError> {
    let down = |reason| ClientError::Down {
        socket: client.socket.clone(),
        reason,
    };
    loop {
        let error = match UnixStream::connect(&client.socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        return Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => down(DownReason::NoSocket),
            io::ErrorKind::ConnectionRefused => down(DownReason::NobodyListens),
            io::ErrorKind::InvalidInput if client.socket.as_os_str().len() > 107 => {
                down(DownReason::PathTooLong(client.socket.as_os_str().len()))
            }
            // A full backlog: an engine that is there and does not accept.
            io::ErrorKind::WouldBlock => {
                tokio::time::sleep(BACKLOG_RETRY).await;
                continue;
            }
            io::ErrorKind::PermissionDenied => ClientError::Refused(ApiError::new(
                ErrorCode::Forbidden,
                format!(
                    "{} may not be opened by this user: only root may ask the engine",
                    client.socket.display()
                ),
            )),
            _ => client.protocol(format!("it cannot be connected to: {error}")),
        });
    }
}

/// An error of the connection: a peer that went away, or one that speaks something else.
fn broken(client: &Client, error: &hyper::Error) -> ClientError {
    let io_kind = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    let gone = error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || io_kind.is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            )
        });
    if gone {
        return ClientError::Down {
            socket: client.socket.clone(),
            reason: DownReason::HungUp,
        };
    }
    client.protocol(error.to_string())
}
