// SPDX-License-Identifier: Apache-2.0
//! Parts of the agent: started together, each started again when it fails, ended together.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::context::Context;

/// First pause before a part that failed is started again; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Failure of a part; its text names the object and what to do.
pub type PartError = anyhow::Error;

/// Running part.
pub type Running = Pin<Box<dyn Future<Output = Result<(), PartError>> + Send>>;

/// Part of the agent.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Name in logs, health and metrics.
    pub name: &'static str,
    /// Whether the configuration asks for it.
    pub is_wanted: fn(&Context) -> bool,
    /// Starts it. It runs until it fails; one that returns `Ok` has nothing more to do.
    pub start: fn(Arc<Context>) -> Running,
}

/// Every part there is.
pub const PARTS: [Part; 5] = [
    crate::install::PART,
    crate::devices::PART,
    crate::reaper::PART,
    crate::metrics::PART,
    crate::page::PART,
];

/// State of one part, for health and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PartHealth {
    /// Whether it does what it is for, at this moment.
    pub ready: bool,
    /// Reason why not, or what an operator should look at; empty if nothing is wrong.
    pub problem: String,
    /// Times that it was started again.
    pub restarts: u64,
}

/// Health of all parts that run, by name.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<&'static str, PartHealth>>);

impl Health {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, PartHealth>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a part does what it is for.
    pub fn good(&self, part: &'static str) {
        let mut all = self.lock();
        let health = all.entry(part).or_default();
        health.ready = true;
        health.problem.clear();
    }

    /// Says what keeps a part from doing what it is for. A new problem is logged once.
    pub fn bad(&self, part: &'static str, problem: impl Into<String>) {
        let problem = problem.into();
        let mut all = self.lock();
        let health = all.entry(part).or_default();
        health.ready = false;
        if health.problem != problem {
            tracing::warn!("{part}: {problem}");
            health.problem = problem;
        }
    }

    /// Returns the health of all parts.
    pub fn all(&self) -> BTreeMap<&'static str, PartHealth> {
        self.lock().clone()
    }

    fn restarted(&self, part: &'static str) {
        self.lock().entry(part).or_default().restarts += 1;
    }
}

/// Runs the parts that are wanted until `stop` is over.
pub async fn run(context: &Arc<Context>, parts: &[Part], stop: impl Future<Output = ()>) {
    let mut tasks = JoinSet::new();
    for part in parts.iter().filter(|part| (part.is_wanted)(context)) {
        tasks.spawn(supervise(Arc::clone(context), *part));
    }
    stop.await;
    tasks.shutdown().await;
}

async fn supervise(context: Arc<Context>, part: Part) {
    let mut pause = PAUSE;
    loop {
        let begun = tokio::time::Instant::now();
        // In a task of its own, so that a panic ends one part only.
        let ended = tokio::spawn((part.start)(Arc::clone(&context))).await;
        let problem = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => format!("internal error: {error}"),
        };
        context.health.bad(part.name, problem);
        if begun.elapsed() > LONGEST_PAUSE {
            pause = PAUSE;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        context.health.restarted(part.name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::config::AgentConfig;

    const FAILS: Part = Part {
        name: "fails",
        is_wanted: |_| true,
        start: |context| {
            Box::pin(async move {
                if context.health.all()["fails"].restarts == 2 {
                    context.health.good("fails");
                    return std::future::pending().await;
                }
                anyhow::bail!("no luck")
            })
        },
    };
    const UNWANTED: Part = Part {
        name: "unwanted",
        is_wanted: |_| false,
        start: |_| Box::pin(async { panic!("it is not wanted") }),
    };

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_is_started_again() {
        let context = Arc::new(Context::new(AgentConfig::default()));
        context.health.bad("fails", "not started");
        let watched = Arc::clone(&context);
        let stop = async move {
            while !watched.health.all()["fails"].ready {
                sleep(Duration::from_millis(100)).await;
            }
        };
        run(&context, &[FAILS, UNWANTED], stop).await;
        let health = context.health.all();
        assert_eq!(health["fails"].restarts, 2);
        assert_eq!(health.len(), 1);
    }
}
