// SPDX-License-Identifier: Apache-2.0
//! Control socket: HTTP and JSON, the routes of [`sluice_api`], for peers that may ask.

use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, Path as Segments, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_api::{ApiError, AttachRequest, PolicyFiles};
use tokio::net::UnixListener;

use crate::control::Control;
use crate::peer::Peer;
use crate::refusal;

/// Largest request body: 10,000 rules are about 2 MiB of YAML.
const MAX_REQUEST_BYTES: usize = 32 << 20;

/// Failure to open the control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Folder of the socket is accessible to others than its owner.
    #[error(
        "{} is open to others than root (mode {mode:o}, uid {uid}): the control socket needs a \
         folder of its own with mode 0700; name another `socket`, or set its mode", path.display()
    )]
    Open {
        /// Path of the folder.
        path: PathBuf,
        /// Mode of the folder.
        mode: u32,
        /// User id of its owner.
        uid: u32,
    },
    /// Process that does not hold the engine's lock listens there.
    #[error("somebody listens on {} already: end that process, or name another `socket`", path.display())]
    InUse {
        /// Path of the socket.
        path: PathBuf,
    },
    /// File that is not a socket is in the way.
    #[error("{} is there and is no socket: remove it, or name another `socket`", path.display())]
    NotASocket {
        /// Path of the file.
        path: PathBuf,
    },
    /// Error of the file system.
    #[error("cannot {what} {}: {source}", path.display())]
    System {
        /// Step that failed.
        what: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the file system.
        source: io::Error,
    },
}

/// Listens on `path`, in a folder that is root's alone. What a dead engine left there is replaced;
/// the engine's lock must be held.
///
/// # Errors
/// The folder is not private, somebody listens already, or the file system says no.
pub fn bind(path: &Path) -> Result<std::os::unix::net::UnixListener, SocketError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_private(folder)?;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system("look at", path)(error)),
        Ok(found) => {
            use std::os::unix::fs::FileTypeExt;

            if !found.file_type().is_socket() {
                return Err(SocketError::NotASocket {
                    path: path.to_owned(),
                });
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(SocketError::InUse {
                    path: path.to_owned(),
                });
            }
            tracing::info!("replacing {}, which a dead engine left", path.display());
            std::fs::remove_file(path).map_err(system("remove", path))?;
        }
    }
    let listener =
        std::os::unix::net::UnixListener::bind(path).map_err(system("listen on", path))?;
    listener
        .set_nonblocking(true)
        .map_err(system("listen on", path))?;
    Ok(listener)
}

fn make_private(folder: &Path) -> Result<(), SocketError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(system("make the folder", folder))?;
    let found = std::fs::symlink_metadata(folder).map_err(system("look at", folder))?;
    let (mode, uid) = (found.mode() & 0o7777, found.uid());
    let ours = rustix::process::geteuid().as_raw();
    if !found.is_dir() || mode & 0o077 != 0 || uid != ours {
        return Err(SocketError::Open {
            path: folder.to_owned(),
            mode,
            uid,
        });
    }
    Ok(())
}

fn system(what: &'static str, path: &Path) -> impl Fn(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::System {
        what,
        path: path.clone(),
        source,
    }
}

/// Answers requests until `stop` is over, then finishes those that were begun.
///
/// # Errors
/// The socket failed.
pub async fn serve(
    listener: UnixListener,
    control: Arc<Control>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = routes(control).into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop)
        .await
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Peer {
        Peer::of(stream.io())
    }
}

fn routes(control: Arc<Control>) -> Router {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/status", get(status))
        .route("/v1/attachments", get(attachments).post(attach))
        .route(
            "/v1/attachments/{container_id}/{ifname}",
            get(attachment).delete(detach),
        )
        .route("/v1/counters", get(counters))
        .route("/v1/policies", get(policies).put(apply_policies))
        .route("/v1/policies/check", post(check_policies))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(middleware::from_fn(only_allowed))
        .with_state(control)
}

/// Refuses peers that may not ask, whatever they ask.
async fn only_allowed(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match peer {
        Peer::Allowed => next.run(request).await,
        Peer::Refused(why) => {
            tracing::warn!("a control request was refused: {why}");
            refused(&ApiError::new(
                sluice_api::ErrorCode::Forbidden,
                why.to_string(),
            ))
        }
    }
}

type Shared = State<Arc<Control>>;

async fn health(State(control): Shared) -> Response {
    answer(control, |control| Ok(control.health())).await
}

async fn status(State(control): Shared) -> Response {
    answer(control, Control::status).await
}

async fn attachments(State(control): Shared) -> Response {
    answer(control, Control::attachments).await
}

async fn attachment(State(control): Shared, Segments((id, ifname)): Name) -> Response {
    answer(control, move |control| control.attachment(&id, &ifname)).await
}

async fn attach(State(control): Shared, body: Bytes) -> Response {
    answer_to(control, &body, |control, request: AttachRequest| {
        control.attach(&request)
    })
    .await
}

async fn detach(State(control): Shared, Segments((id, ifname)): Name) -> Response {
    answer(control, move |control| control.detach(&id, &ifname)).await
}

async fn counters(State(control): Shared) -> Response {
    answer(control, Control::counters).await
}

async fn policies(State(control): Shared) -> Response {
    answer(control, Control::policies).await
}

async fn check_policies(State(control): Shared, body: Bytes) -> Response {
    answer_to(control, &body, |control, files: PolicyFiles| {
        control.check_policies(&files)
    })
    .await
}

async fn apply_policies(State(control): Shared, body: Bytes) -> Response {
    answer_to(control, &body, |control, files: PolicyFiles| {
        control.apply_policies(&files)
    })
    .await
}

async fn no_route(request: Request) -> Response {
    refused(&refusal::not_found(format!(
        "there is no {} {}: see the routes of this version of the engine's API",
        request.method(),
        request.uri().path()
    )))
}

/// Container id and interface, from the path.
type Name = Segments<(String, String)>;

/// Runs `work` on a thread that may block, and answers with its result. Once begun it is finished, even
/// if the peer disconnects.
async fn answer<T: Serialize + Send + 'static>(
    control: Arc<Control>,
    work: impl FnOnce(&Control) -> Result<T, ApiError> + Send + 'static,
) -> Response {
    let done = tokio::task::spawn_blocking(move || {
        work(&control).and_then(|answer| {
            serde_json::to_vec(&answer).map_err(|error| refusal::internal(error.to_string()))
        })
    });
    match done.await {
        Ok(Ok(json)) => respond(StatusCode::OK, json),
        Ok(Err(error)) => refused(&error),
        Err(error) => {
            tracing::error!("internal error in a request: {error}");
            refused(&refusal::internal(
                "internal error of the engine: see its log, and report it",
            ))
        }
    }
}

/// Parses the body and answers as [`answer`] does.
async fn answer_to<B, T>(
    control: Arc<Control>,
    body: &[u8],
    work: impl FnOnce(&Control, B) -> Result<T, ApiError> + Send + 'static,
) -> Response
where
    B: DeserializeOwned + Send + 'static,
    T: Serialize + Send + 'static,
{
    match serde_json::from_slice::<B>(body) {
        Ok(request) => answer(control, move |control| work(control, request)).await,
        Err(error) => refused(&refusal::invalid(format!(
            "the request is not of this API's form: {error}"
        ))),
    }
}

fn refused(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.code.http_status());
    // An ApiError is two plain fields: it can always be written.
    let json = serde_json::to_vec(error).unwrap_or_default();
    respond(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), json)
}

fn respond(status: StatusCode, json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_socket_lies_in_a_private_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control/s");
        drop(bind(&path).unwrap());
        assert_eq!(
            dir.path().join("control").metadata().unwrap().mode() & 0o777,
            0o700
        );
        // Left by a listener that died: replaced.
        let listener = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse { .. })));
        drop(listener);

        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("control"), open).unwrap();
        assert!(matches!(
            bind(&path),
            Err(SocketError::Open { mode: 0o755, .. })
        ));
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(dir.path().join("control"), private).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NotASocket { .. })));
    }
}
