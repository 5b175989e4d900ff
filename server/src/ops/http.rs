//! HTTP for operators: `/metrics`, `/healthz`, `/readyz`, and `/`, a status page.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use super::{Board, accept::Refusals, health::Readiness, metrics, page};

/// Time that a client has for the head of a request, the pause before it included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections at once; more wait. Operators and scrapers are few.
const CONNECTIONS: usize = 64;

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, board: Board, stop: CancellationToken) {
    serve_patiently(listener, board, stop, PATIENCE).await;
}

async fn serve_patiently(listener: TcpListener, board: Board, stop: CancellationToken, patience: Duration) {
    let router = router(board);
    let mut connections = http1::Builder::new();
    connections.timer(TokioTimer::new()).header_read_timeout(patience);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut refusals = Refusals::new("HTTP");
    let open = GracefulShutdown::new();
    while let Some((place, accepted)) = stop.run_until_cancelled(next(&listener, &places)).await {
        match accepted {
            Ok((tcp, _)) => {
                let service = TowerToHyperService::new(router.clone());
                let connection = open.watch(connections.serve_connection(TokioIo::new(tcp), service));
                tokio::spawn(async move {
                    // Whoever breaks off or is too slow has no answer to expect.
                    let _ = connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                if let Some(pause) = refusals.pause(&error) {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
    open.shutdown().await;
}

type Accepted = io::Result<(TcpStream, SocketAddr)>;

/// The next connection, once there is a place for it.
async fn next(listener: &TcpListener, places: &Arc<Semaphore>) -> (Option<OwnedSemaphorePermit>, Accepted) {
    // Never closed, so there is a place in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    (place, listener.accept().await)
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
