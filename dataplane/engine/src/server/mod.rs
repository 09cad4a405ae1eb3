// SPDX-License-Identifier: Apache-2.0
//! Control socket: HTTP and JSON, the routes of [`sluice_api`], for peers that may ask.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the routes |
//! | `socket.rs` | the socket's file |
//! | `connections.rs` | who may have how many connections, and for how long |
//! | `fd_intake.rs` | the file descriptor that may come with a request |
//! | `intake.rs` | the reading of one request: who asks, how much, how slowly |
//! | `counts.rs` | what was refused, turned away or given up |

mod connections;
mod counts;
mod fd_intake;
mod intake;
mod socket;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Extension, Path as Segments, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sluice_api::{ApiError, AttachRequest, PolicyFiles};

pub use self::connections::serve;
pub use self::counts::RequestCounts;
pub use self::socket::{SocketError, bind};

use self::fd_intake::SentFd;
use self::intake::{Intake, one_request};
use crate::control::Control;
use crate::refusal;

fn routes(control: Arc<Control>) -> Router {
    let intake = Arc::new(Intake::new(Arc::clone(&control)));
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/status", get(status))
        .route("/v1/attachments", get(attachments).post(attach))
        .route(
            "/v1/attachments/{container_id}/{ifname}",
            get(attachment).delete(detach),
        )
        .route("/v1/drain", post(drain).delete(undo_drain))
        .route("/v1/reload", post(reload))
        .route("/v1/counters", get(counters))
        .route("/v1/balance", get(balance))
        .route("/v1/policies", get(policies).put(apply_policies))
        .route("/v1/policies/check", post(check_policies))
        .route("/v1/policies/{name}", delete(remove_policy))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        // The body is read, and limited, before.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(intake, one_request))
        .with_state(control)
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

async fn attach(
    State(control): Shared,
    Extension(sent): Extension<SentFd>,
    body: Bytes,
) -> Response {
    answer_to(control, &body, move |control, request: AttachRequest| {
        control.attach_in(&request, sent.take())
    })
    .await
}

async fn detach(State(control): Shared, Segments((id, ifname)): Name) -> Response {
    answer(control, move |control| control.detach(&id, &ifname)).await
}

async fn drain(State(control): Shared) -> Response {
    answer(control, Control::drain).await
}

async fn undo_drain(State(control): Shared) -> Response {
    answer(control, Control::undo_drain).await
}

async fn reload(State(control): Shared) -> Response {
    answer(control, Control::reload).await
}

async fn counters(State(control): Shared) -> Response {
    answer(control, Control::counters).await
}

async fn balance(State(control): Shared) -> Response {
    answer(control, Control::balance).await
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

async fn remove_policy(
    State(control): Shared,
    Segments(name): Segments<String>,
    Query(how): Query<Removal>,
) -> Response {
    answer(control, move |control| {
        control.remove_policy(&name, how.force)
    })
    .await
}

/// Query of a removal.
#[derive(Debug, Deserialize)]
struct Removal {
    #[serde(default)]
    force: bool,
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
