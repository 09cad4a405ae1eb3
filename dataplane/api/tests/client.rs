// SPDX-License-Identifier: Apache-2.0
//! The client against servers that misbehave in every way it has a name for.
#![cfg(feature = "client")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use sluice_api::ErrorCode;
use sluice_api::client::{Client, ClientError, DownReason};

/// A server for one connection that reads the request and then does `answer`.
fn server(socket: &Path, answer: impl FnOnce(UnixStream, String) + Send + 'static) -> Client {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        while !request.windows(4).any(|four| four == b"\r\n\r\n") {
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(read) => request.extend_from_slice(&chunk[..read]),
            }
        }
        answer(stream, String::from_utf8_lossy(&request).into_owned());
    });
    Client::new(socket).timeout(Duration::from_secs(5))
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A client whose request is answered with `text`.
fn answered(dir: &Path, text: String) -> Client {
    server(&dir.join("s"), move |mut stream, _| {
        let _ = stream.write_all(text.as_bytes());
    })
}

const HEALTH: &str = r#"{"ready": true, "problems": [], "version": "1", "pid": 7}"#;

#[test]
fn a_good_answer() {
    let dir = tempfile::tempdir().unwrap();
    let health = answered(dir.path(), http("200 OK", HEALTH))
        .health()
        .unwrap();
    assert!(health.ready && health.pid == 7);
}

#[test]
fn names_are_escaped_in_paths() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let client = server(&dir.path().join("s"), move |mut stream, request| {
        sender.send(request).unwrap();
        let _ = stream.write_all(http("200 OK", r#"{"existed": false}"#).as_bytes());
    });
    assert!(!client.detach("../x", "a b").unwrap().existed);
    let request = receiver.recv().unwrap();
    assert!(
        request.starts_with("DELETE /v1/attachments/..%2Fx/a%20b HTTP/1.1\r\n"),
        "{request}"
    );
}

#[test]
fn no_socket_and_nobody_listening_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let reason = |client: &Client| match client.health() {
        Err(ClientError::Down { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let client = Client::new(&socket);
    assert_eq!(reason(&client), DownReason::NoSocket);
    drop(UnixListener::bind(&socket).unwrap());
    assert_eq!(reason(&client), DownReason::NobodyListens);
    let text = client.health().unwrap_err().to_string();
    assert!(
        text.contains("nobody listens") && text.contains("sluiced --config"),
        "{text}"
    );
}

#[test]
fn hanging_up_is_being_down() {
    let dir = tempfile::tempdir().unwrap();
    let client = server(&dir.path().join("s"), |stream, _| drop(stream));
    let error = client.health().unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Down {
                reason: DownReason::HungUp,
                ..
            }
        ),
        "{error:?}"
    );
    // In the middle of an answer, too.
    let dir = tempfile::tempdir().unwrap();
    let client = answered(
        dir.path(),
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".into(),
    );
    let error = client.health().unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Down { .. } | ClientError::Protocol { .. }
        ),
        "{error:?}"
    );
}

#[test]
fn the_deadline_covers_all_of_it() {
    let within = |client: &Client| {
        let start = Instant::now();
        let error = client.health().unwrap_err();
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{:?}",
            start.elapsed()
        );
    };
    // No answer at all.
    let dir = tempfile::tempdir().unwrap();
    let silent = server(&dir.path().join("s"), |stream, _| {
        std::thread::sleep(Duration::from_secs(10));
        drop(stream);
    });
    within(&silent.timeout(Duration::from_millis(200)));
    // An answer that trickles.
    let dir = tempfile::tempdir().unwrap();
    let slow = server(&dir.path().join("s"), |mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    within(&slow.timeout(Duration::from_millis(300)));
    // A listener that never accepts, as of a stopped process, its backlog full.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut waiting = Vec::new();
    let limit = Instant::now();
    while waiting.len() < 5000 && limit.elapsed() < Duration::from_secs(1) {
        let fd = connect_or_none(&socket);
        match fd {
            Some(stream) => waiting.push(stream),
            None => break,
        }
    }
    within(&Client::new(&socket).timeout(Duration::from_millis(200)));
    drop(listener);
}

/// Connects without waiting; `None` if that would block.
fn connect_or_none(socket: &Path) -> Option<UnixStream> {
    // A blocking connect on a full backlog would hang: it is tried on a thread that is left behind.
    let (sender, receiver) = std::sync::mpsc::channel();
    let socket = socket.to_owned();
    std::thread::spawn(move || sender.send(UnixStream::connect(socket)));
    receiver.recv_timeout(Duration::from_millis(100)).ok()?.ok()
}

#[test]
fn refusals_come_through() {
    let dir = tempfile::tempdir().unwrap();
    let body = r#"{"code": "conflict", "message": "no"}"#;
    let error = answered(dir.path(), http("409 Conflict", body))
        .status()
        .unwrap_err();
    let ClientError::Refused(refused) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (ErrorCode::Conflict, "no")
    );
}

#[test]
fn what_is_not_the_protocol_is_named() {
    for text in [
        http("200 OK", "<html>"),
        http("200 OK", "{}"),
        http("500 Internal Server Error", "oops"),
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = answered(dir.path(), text.clone()).health().unwrap_err();
        assert!(
            matches!(error, ClientError::Protocol { .. }),
            "{text}: {error:?}"
        );
        assert!(error.to_string().contains("is it sluiced"), "{error}");
    }
}
