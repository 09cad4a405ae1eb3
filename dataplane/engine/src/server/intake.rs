// SPDX-License-Identifier: Apache-2.0
//! Reading of one request: who asks, how much they send, and how slowly.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Extension, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use sluice_api::{ApiError, ErrorCode};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::refused;
use crate::control::Control;
use crate::peer::Peer;
use crate::refusal;

/// Longest time that a peer may take to send a request, and then to read its answer.
pub(super) const PEER_LIMIT: Duration = Duration::from_secs(10);
/// Largest body of a request with policies: 10,000 rules are about 2 MiB of YAML.
const MAX_POLICY_BYTES: usize = 32 << 20;
/// Largest body of any other: an attachment of every VLAN is about 20 KiB.
const MAX_BYTES: usize = 256 << 10;
/// Requests with policies whose bodies are held at once.
const POLICIES_AT_ONCE: usize = 2;

/// Part of its life that a connection is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The request comes in: the peer's time runs.
    Reading,
    /// The engine works on it, and finishes what it began.
    Working,
    /// The answer goes out: the peer's time runs.
    Writing,
}

/// State of the intake, shared by all requests.
pub(super) struct Intake {
    control: Arc<Control>,
    policies: Semaphore,
}

impl Intake {
    pub(super) fn new(control: Arc<Control>) -> Intake {
        Intake {
            control,
            policies: Semaphore::new(POLICIES_AT_ONCE),
        }
    }
}

/// Reads a request of a peer that may ask, and has it answered.
pub(super) async fn one_request(
    State(intake): State<Arc<Intake>>,
    Extension(peer): Extension<Peer>,
    Extension(phase): Extension<watch::Sender<Phase>>,
    request: Request,
    next: Next,
) -> Response {
    let counts = intake.control.requests();
    if let Peer::Refused(why) = peer {
        counts.refused(&why);
        phase.send_replace(Phase::Writing);
        return refused(&ApiError::new(ErrorCode::Forbidden, why.to_string()));
    }
    let (parts, body) = request.into_parts();
    let policies = parts.uri.path().starts_with("/v1/policies") && parts.method != Method::GET;
    // Held until the answer is made: a body of this size is held twice meanwhile.
    let (limit, _permit) = if policies {
        (MAX_POLICY_BYTES, intake.policies.acquire().await.ok())
    } else {
        (MAX_BYTES, None)
    };
    let response = match read(body, limit).await {
        Ok(body) => {
            phase.send_replace(Phase::Working);
            let request = Request::from_parts(parts, Body::from(body));
            next.run(request).await
        }
        Err(error) => refused(&error),
    };
    counts.answered();
    phase.send_replace(Phase::Writing);
    response
}

async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_long = || {
        refusal::invalid(format!(
            "the request's body is longer than {limit} bytes, the most for a request of this kind"
        ))
    };
    // Said before it was sent.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    match timeout(PEER_LIMIT, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => {
            let source = std::error::Error::source(&error);
            if source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
                return Err(too_long());
            }
            Err(refusal::invalid(format!(
                "the request's body cannot be read: {error}"
            )))
        }
        Err(_) => Err(refusal::unavailable(format!(
            "the request's body did not come within {PEER_LIMIT:?}"
        ))),
    }
}
