//! Readiness as load balancers see it: it follows the store.

use std::time::Duration;

use herdstream_server::testing::TestServer;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

/// A generous bound on what takes a second or two.
const PATIENCE: Duration = Duration::from_mins(1);

async fn client(server: &TestServer) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(server.endpoint()).expect("a URL");
    HealthClient::new(endpoint.connect().await.expect("the server is there"))
}

async fn follow(server: &TestServer, service: &str) -> tonic::Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: service.to_owned() };
    client(server).await.watch(request).await.expect("health can be watched").into_inner()
}

async fn until(changes: &mut tonic::Streaming<HealthCheckResponse>, wanted: ServingStatus) {
    let wait = async {
        while let Some(change) = changes.message().await.expect("the watch goes on") {
            if change.status() == wanted {
                return;
            }
        }
        panic!("the watch ended before {wanted:?}");
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never {wanted:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_store_for_the_server_and_each_service() {
    let server = TestServer::start().await;
    for service in ["", "herdstream.v1.IngestService", "herdstream.v1.QueryService"] {
        let mut changes = follow(&server, service).await;
        until(&mut changes, ServingStatus::Serving).await;
        server.faults().store_down(true);
        until(&mut changes, ServingStatus::NotServing).await;
        server.faults().store_down(false);
        until(&mut changes, ServingStatus::Serving).await;
    }
    let unknown = HealthCheckRequest { service: "herdstream.v1.Unheard".to_owned() };
    let status = client(&server).await.check(unknown).await.expect_err("no such service");
    assert_eq!(status.code(), tonic::Code::NotFound);
    server.stop().await;
}
