// SPDX-License-Identifier: Apache-2.0
//! Answers of the metrics server.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;
use serde::Serialize;
use sluice_sriov::sysfs::Sysfs;

use super::collect::collect;
use super::operations::Operations;
use super::vfs;
use crate::config::MetricsConfig;
use crate::context::Context;
use crate::node::Reader;
use crate::parts::PartHealth;

/// Content type of the OpenMetrics text format, version 1.0.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// State of the server.
#[derive(Debug)]
pub(super) struct Server {
    context: Arc<Context>,
    config: MetricsConfig,
    reader: Reader,
    operations: Operations,
}

impl Server {
    pub(super) fn new(context: Arc<Context>, config: MetricsConfig) -> Server {
        Server {
            reader: Reader::new(context.engine.clone()),
            context,
            config,
            operations: Operations::default(),
        }
    }

    pub(super) fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Reads the node and returns its metrics as a registry of this scrape alone.
    async fn registry(&self) -> Registry {
        let listed = tokio::task::spawn_blocking(|| vfs::list(&Sysfs::default()));
        let (engine, listed) = tokio::join!(self.reader.read(), listed);
        let engine = engine.as_ref().as_ref();
        if let Err(error) = engine {
            tracing::debug!("a scrape without the engine: {error}");
        }
        let vfs = listed.unwrap_or_default();
        let samples = collect(&self.context, &self.config, &self.operations, engine, &vfs);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(samples));
        registry
    }
}

pub(super) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(server)
}

/// Whether a scraper takes OpenMetrics; others get the Prometheus text format. Weights are not compared: every scraper
/// that names OpenMetrics prefers it.
fn takes_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .any(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/openmetrics-text")
        })
}

async fn metrics(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let registry = server.registry().await;
    let mut body = String::new();
    let (kind, written) = if takes_open_metrics(&headers) {
        (OPEN_METRICS, text::encode(&mut body, &registry))
    } else {
        let kind = prometheus_text::CONTENT_TYPE;
        (kind, prometheus_text::encode(&mut body, &registry))
    };
    if written.is_err() {
        tracing::error!("internal error: metrics cannot be written");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = HeaderValue::from_static(kind);
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// Answer of `/healthz` and `/readyz`.
#[derive(Debug, Serialize)]
struct Answer {
    /// Whether the agent is alive, or ready.
    ok: bool,
    /// Health of every part that runs.
    parts: std::collections::BTreeMap<&'static str, PartHealth>,
}

/// Answers that the agent lives: a part that fails is started again, and a restart of the agent would mend nothing.
async fn health(State(server): State<Arc<Server>>) -> Response {
    let parts = server.context.health.all();
    Json(Answer { ok: true, parts }).into_response()
}

/// Answers whether every part that is configured does what it is for.
async fn ready(State(server): State<Arc<Server>>) -> Response {
    let context = &server.context;
    let parts = context.health.all();
    let wanted = crate::parts::PARTS
        .iter()
        .filter(|part| (part.is_wanted)(context));
    let is_ready =
        |part: &crate::parts::Part| parts.get(part.name).is_some_and(|health| health.ready);
    let ok = wanted.into_iter().all(is_ready);
    let status = if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Answer { ok, parts })).into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_scraper_chooses_the_format() {
        let takes = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            takes_open_metrics(&headers)
        };
        assert!(takes(
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        ));
        assert!(takes("text/plain;q=0.5, Application/OpenMetrics-Text"));
        assert!(!takes("text/plain;version=0.0.4"));
        assert!(!takes("*/*"));
        assert!(!takes_open_metrics(&HeaderMap::new()));
    }
}
