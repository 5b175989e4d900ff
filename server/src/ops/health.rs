//! gRPC health: for the server as a whole (`""`) and for each of its services.

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthApi, HealthServer},
    server::HealthReporter,
};

/// Names that are asked about. The empty one is the server as a whole.
const SERVICES: [&str; 3] = ["", "herdstream.v1.IngestService", "herdstream.v1.QueryService"];

/// Whether the server should be sent work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has not asked the store yet.
    Starting,
    /// Yes.
    Ready,
    /// No: the store cannot be used, for this reason.
    StoreDown(String),
    /// No: it is stopping.
    Draining,
}

/// Tells gRPC health checks what [`super::Pulse`] finds out.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// Reports "not serving" at first. The service is to be added to the gRPC server.
    pub async fn new() -> (Self, HealthServer<impl HealthApi>) {
        let (reporter, service) = tonic_health::server::health_reporter();
        let health = Self(reporter);
        health.set(&Readiness::Starting).await;
        (health, service)
    }

    /// Reports `readiness` for every service.
    pub async fn set(&self, readiness: &Readiness) {
        let status = match readiness {
            Readiness::Ready => ServingStatus::Serving,
            Readiness::Starting | Readiness::StoreDown(_) | Readiness::Draining => ServingStatus::NotServing,
        };
        for service in SERVICES {
            self.0.set_service_status(service, status).await;
        }
    }
}
