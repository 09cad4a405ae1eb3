// SPDX-License-Identifier: Apache-2.0
//! Answers of the page's server.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;

use super::node::Picture;
use crate::context::Context;
use crate::http::is_asked_by_address;
use crate::node::Reader;

/// The page may load its own two files and ask its own server; nothing else, from nowhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every answer.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// State of the server.
#[derive(Debug)]
struct Server {
    context: Arc<Context>,
    reader: Reader,
    begun: std::time::Instant,
}

pub(super) fn router(context: Arc<Context>) -> Router {
    let server = Server {
        reader: Reader::new(context.engine.clone()),
        context,
        begun: std::time::Instant::now(),
    };
    let asset = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
    };
    let html = include_str!("assets/index.html");
    Router::new()
        .route("/", asset("text/html; charset=utf-8", html))
        .route(
            "/page.css",
            asset("text/css; charset=utf-8", include_str!("assets/page.css")),
        )
        .route(
            "/page.js",
            asset(
                "text/javascript; charset=utf-8",
                include_str!("assets/page.js"),
            ),
        )
        .route("/api/node", get(node))
        .with_state(Arc::new(server))
        .layer(from_fn(guard))
}

async fn node(State(server): State<Arc<Server>>) -> Response {
    let engine = server.reader.read().await;
    let at = server.begun.elapsed();
    let picture = Picture::new(&server.context, at, engine.as_ref().as_ref());
    Json(picture).into_response()
}

/// Refuses requests by a foreign name, and adds the headers.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = if is_asked_by_address(request.headers()) {
        next.run(request).await
    } else {
        let why = "ask by an address or as localhost: other names could be those of a page that a browser shows\n";
        (StatusCode::MISDIRECTED_REQUEST, why).into_response()
    };
    response.headers_mut().extend(HEADERS);
    response
}
