// SPDX-License-Identifier: Apache-2.0
//! State of the node's engine at one moment, for metrics and the page: never kept for a later question.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_api::{AttachmentStatus, Balance, RuleCounter, Status};
use tokio::sync::Mutex;

use crate::engine::Engine;

/// Answers of the engine to one set of questions.
#[derive(Debug, Clone)]
pub(crate) struct EngineState {
    /// Status.
    pub(crate) status: Status,
    /// Attachments, in order of their numbers.
    pub(crate) attachments: Vec<AttachmentStatus>,
    /// Counters of rules.
    pub(crate) rules: Vec<RuleCounter>,
    /// Balance of the counters.
    pub(crate) balance: Balance,
    /// Time that the answers took.
    pub(crate) took: Duration,
}

/// Reader of the engine's state. Those who ask while it reads share what is read next.
#[derive(Debug)]
pub(crate) struct Reader {
    engine: Engine,
    /// Last state, and the moment at which its reading began.
    last: Mutex<Option<(Instant, Shared)>>,
}

/// State, or the reason why there is none.
pub(crate) type Shared = Arc<Result<EngineState, String>>;

impl Reader {
    /// Creates a reader; nothing is asked.
    pub(crate) fn new(engine: Engine) -> Reader {
        Reader {
            engine,
            last: Mutex::new(None),
        }
    }

    /// Returns the state at a moment after the call.
    pub(crate) async fn read(&self) -> Shared {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((begun, state)) = last.as_ref()
            && *begun >= asked
        {
            return Arc::clone(state);
        }
        let begun = Instant::now();
        let answers = self.engine.ask(move |client| {
            let status = client.status()?;
            let mut attachments = client.attachments()?;
            attachments.sort_by_key(|attachment| attachment.id);
            Ok(EngineState {
                status,
                attachments,
                rules: client.counters()?.rules,
                balance: client.balance()?,
                took: begun.elapsed(),
            })
        });
        let state = Arc::new(answers.await.map_err(|error| error.to_string()));
        *last = Some((begun, Arc::clone(&state)));
        state
    }
}

/// Names of an attachment's pod, and of its interface: those of Kubernetes, or the container's where nobody told them.
pub(crate) fn names(attachment: &AttachmentStatus) -> (&str, &str, &str) {
    let request = &attachment.request;
    let (namespace, pod) = match &request.pod {
        Some(pod) => (pod.namespace.as_str(), pod.name.as_str()),
        None => ("", request.container_id.as_str()),
    };
    (namespace, pod, &request.ifname)
}
