use std::{net::SocketAddr, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{super::Facts, *};
use crate::store::Description;

struct Served {
    address: SocketAddr,
    board: Board,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

async fn start() -> Served {
    start_with(PATIENCE).await
}

async fn start_with(patience: Duration) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let board = Board::new(Facts {
        grpc: SocketAddr::from(([127, 0, 0, 1], 7171)),
        http: Some(address),
        store: Description {
            profile: "embedded",
            place: "in /barn/<data>".to_owned(),
            ..Description::default()
        },
        buffer: 32 << 20,
        started: Instant::now(),
    });
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve_patiently(listener, board.clone(), stop.clone(), patience));
    Served { address, board, stop, server }
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: barn\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (status, answer)
}

#[tokio::test]
async fn probes_follow_readiness_and_liveness_does_not() {
    let served = start().await;
    for (readiness, code, word) in [
        (Readiness::Starting, 503, "starting"),
        (Readiness::Ready, 200, "ready"),
        (Readiness::StoreDown("disk full".to_owned()), 503, "store down: disk full"),
        (Readiness::Draining, 503, "draining"),
    ] {
        served.board.set_readiness(&readiness);
        let (status, answer) = get(served.address, "/readyz").await;
        assert_eq!(status, code, "{readiness:?}");
        assert!(answer.ends_with(&format!("{word}\n")), "{answer}");
        assert_eq!(get(served.address, "/healthz").await.0, 200);
    }
    served.stop.cancel();
    served.server.await.unwrap();
}

#[tokio::test]
async fn the_status_page_says_how_the_server_is_and_escapes_texts() {
    let served = start().await;
    served.board.set_readiness(&Readiness::StoreDown("no space on <disk>".to_owned()));
    metrics::quarantined(crate::model::RejectionCode::NotFinite);
    served.board.sample();
    let (status, page) = get(served.address, "/").await;
    assert_eq!(status, 200);
    for part in [
        "content-security-policy: default-src 'none'",
        "store down",
        "no space on &lt;disk&gt;",
        "/barn/&lt;data&gt;",
        "127.0.0.1:7171",
        "<path class=\"curve\"",
        "not_finite",
        "</html>",
    ] {
        assert!(page.contains(part), "{part:?} is missing in:\n{page}");
    }
    assert!(!page.contains("<disk>") && !page.contains("<data>"));
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_reads_them() {
    let served = start().await;
    let (status, answer) = get(served.address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("# TYPE herdstream_readings_stored_total counter"), "{answer}");
    assert_eq!(get(served.address, "/nowhere").await.0, 404);
}

#[tokio::test]
async fn who_does_not_finish_a_request_makes_room_for_others() {
    let served = start_with(Duration::from_millis(200)).await;
    let mut slow = Vec::new();
    // All the places, twice: no word, half a request, and a whole one after which nothing comes.
    for said in ["", "GET /metrics HTTP/1.1\r\nhost: barn\r\n", "GET /healthz HTTP/1.1\r\nhost: barn\r\n\r\n"]
    {
        for _ in 0..CONNECTIONS * 2 / 3 {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            slow.push(stream);
        }
    }
    assert_eq!(get(served.address, "/healthz").await.0, 200);
    for mut stream in slow {
        // Ends; with a reset where what was said had not been read.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    served.stop.cancel();
    served.server.await.unwrap();
}
