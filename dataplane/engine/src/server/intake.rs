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
use tokio::sync::{Semaphore, SemaphorePermit, watch};
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
/// Longest time that a request waits for others with policies.
const TURN_LIMIT: Duration = Duration::from_secs(10);

/// Part of its life that a connection is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The request comes in: the peer's time runs.
    Reading,
    /// Waits until others of its kind are done, for a time of its own: the peer's does not run.
    Waiting,
    /// The engine works on it, and finishes what it began.
    Working,
    /// The answer goes out: the peer's time runs.
    Writing,
}

impl Phase {
    /// Whether the engine has not begun to work on the request: nothing is lost with the connection.
    pub(super) fn is_before_work(self) -> bool {
        matches!(self, Phase::Reading | Phase::Waiting)
    }
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
    let (limit, permit) = if policies {
        let permit = turn(&intake.policies, &phase, TURN_LIMIT).await;
        (MAX_POLICY_BYTES, permit.map(Some))
    } else {
        (MAX_BYTES, Ok(None))
    };
    let read = match permit {
        Ok(permit) => read(body, limit).await.map(|body| (body, permit)),
        Err(error) => Err(error),
    };
    let response = match read {
        Ok((body, _permit)) => {
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

/// Waits until fewer requests with policies are held, for `limit` at most. The peer's time begins anew then.
async fn turn<'s>(
    policies: &'s Semaphore,
    phase: &watch::Sender<Phase>,
    limit: Duration,
) -> Result<SemaphorePermit<'s>, ApiError> {
    if let Ok(permit) = policies.try_acquire() {
        return Ok(permit);
    }
    phase.send_replace(Phase::Waiting);
    let permit = timeout(limit, policies.acquire()).await;
    phase.send_replace(Phase::Reading);
    match permit {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(refusal::unavailable(format!(
            "{POLICIES_AT_ONCE} other requests with policies are in work: retry when they are done"
        ))),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn who_waits_for_others_is_not_slow() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let policies = Semaphore::new(1);
        let (phase, watched) = watch::channel(Phase::Reading);
        runtime.block_on(async {
            let first = turn(&policies, &phase, TURN_LIMIT).await.unwrap();
            let give_back = async {
                tokio::task::yield_now().await;
                assert_eq!(*watched.borrow(), Phase::Waiting);
                drop(first);
            };
            let (second, ()) = tokio::join!(turn(&policies, &phase, TURN_LIMIT), give_back);
            let _second = second.unwrap();
            assert_eq!(*watched.borrow(), Phase::Reading);
            let refused = turn(&policies, &phase, Duration::from_millis(1)).await;
            assert_eq!(refused.unwrap_err().code, ErrorCode::Unavailable);
        });
    }
}
