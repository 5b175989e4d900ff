//! HTTP for operators: `/metrics`, `/healthz`, `/readyz`, and `/`, a status page.

use std::io;

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Board, health::Readiness, metrics, page};

/// Serves until `stop`.
///
/// # Errors
///
/// The listener failed.
pub async fn serve(listener: TcpListener, board: Board, stop: CancellationToken) -> io::Result<()> {
    axum::serve(listener, router(board)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(board: Board) -> Router {
    Router::new()
        .route("/", get(status))
        .route("/metrics", get(scrape))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(board)
}

async fn status(State(board): State<Board>) -> impl IntoResponse {
    // The page needs nothing from elsewhere, so nothing from elsewhere is allowed.
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                          connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                          frame-ancestors 'none'";
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")];
    (headers, Html(page::render(&board)))
}

async fn scrape() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render())
}

/// The process answers; whether it should get work is another question.
async fn alive() -> &'static str {
    "ok\n"
}

async fn ready(State(board): State<Board>) -> (StatusCode, String) {
    match board.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
        Readiness::StoreDown(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("store down: {reason}\n")),
    }
}

#[cfg(test)]
mod tests;
