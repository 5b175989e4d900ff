use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{
    Board,
    health::{Health, Readiness},
    metrics,
};
use crate::ingest::Ingest;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// A store that takes longer to say that it is well, is not.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks after a server once a second: asks the store, tells health checks, probes and the status
/// page, and keeps the figures that nobody reports.
#[derive(Debug)]
pub struct Pulse {
    ingest: Ingest,
    health: Health,
    board: Board,
}

impl Pulse {
    /// Looks after the server that `ingest` belongs to.
    pub fn new(ingest: Ingest, health: Health, board: Board) -> Self {
        Self { ingest, health, board }
    }

    /// Runs until it is dropped; "not ready" follows the beginning of a drain at once.
    pub async fn run(self) {
        let mut drain = self.ingest.drain_signal();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let draining = tokio::select! {
                _ = ticks.tick() => drain.borrow().is_some(),
                () = began(&mut drain), if drain.borrow().is_none() => true,
            };
            let readiness = if draining { Readiness::Draining } else { self.ask().await };
            self.tell(&readiness).await;
            self.observe();
        }
    }

    async fn ask(&self) -> Readiness {
        match timeout(PATIENCE, self.ingest.store().ready()).await {
            Err(_) => Readiness::StoreDown(format!("the store did not answer within {PATIENCE:?}")),
            Ok(Err(error)) => Readiness::StoreDown(error.to_string()),
            Ok(Ok(())) if !self.ingest.store_up() => {
                Readiness::StoreDown("the last commit failed".to_owned())
            }
            Ok(Ok(())) => Readiness::Ready,
        }
    }

    async fn tell(&self, readiness: &Readiness) {
        if !self.board.set_readiness(readiness) {
            return;
        }
        self.health.set(readiness).await;
        match readiness {
            Readiness::StoreDown(reason) => tracing::warn!(reason, "not ready: the store is down"),
            other => tracing::info!(readiness = ?other, "readiness changed"),
        }
        metrics::store_up(!matches!(readiness, Readiness::StoreDown(_)));
    }

    fn observe(&self) {
        metrics::queue(self.ingest.pool().held() as u64, self.ingest.pending());
        if let Some(dir) = &self.board.facts().store.data_dir
            && let Ok(disk) = rustix::fs::statvfs(dir)
        {
            metrics::disk_free(disk.f_bavail.saturating_mul(disk.f_frsize));
        }
        self.board.sample();
    }
}

/// Waits for the beginning of a drain, for ever if there will be none.
async fn began(drain: &mut tokio::sync::watch::Receiver<Option<Instant>>) {
    if drain.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc, time::Instant as Clock};

    use super::*;
    use crate::{
        config::IngestConfig,
        ops::Facts,
        store::{
            Description,
            embedded::{EmbeddedConfig, EmbeddedStore},
        },
    };

    #[tokio::test]
    async fn a_server_is_not_ready_from_the_beginning_of_a_drain() {
        let dir = tempfile::tempdir().unwrap();
        let config = EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(dir.path()) };
        let store = Arc::new(EmbeddedStore::open(config).unwrap());
        let ingest = Ingest::start(IngestConfig::default(), Vec::new(), store, 1);
        let board = Board::new(Facts {
            grpc: SocketAddr::from(([127, 0, 0, 1], 7171)),
            http: None,
            store: Description { data_dir: Some(dir.path().to_owned()), ..Description::default() },
            buffer: 0,
            started: Clock::now(),
        });
        let (health, _service) = Health::new().await;
        let mut readiness = board.follow();
        assert_eq!(*readiness.borrow(), Readiness::Starting);
        let pulse = tokio::spawn(Pulse::new(ingest.clone(), health, board.clone()).run());
        readiness.wait_for(|readiness| *readiness == Readiness::Ready).await.unwrap();
        ingest.drain(Duration::from_secs(20)).await;
        readiness.wait_for(|readiness| *readiness == Readiness::Draining).await.unwrap();
        pulse.abort();
    }
}
