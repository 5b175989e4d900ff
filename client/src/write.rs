use std::time::Duration;

use herdstream_proto::v1::{self, ingest_service_client::IngestServiceClient};
use rand::Rng as _;
use tonic::transport::Channel;

use crate::{
    connection::{Connection, MAX_ANSWER_BYTES, QueryConfig},
    error::Error,
};

/// Longest wait before a write is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Stores batches one by one: for imports, and for programs that send now and then. Gateways use a
/// [`Producer`](crate::Producer). Cheap to clone; clones share one connection.
#[derive(Clone, Debug)]
pub struct WriteClient(Connection);

impl WriteClient {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// As [`QueryClient::connect`](crate::QueryClient::connect).
    pub async fn connect(config: impl Into<QueryConfig>) -> Result<Self, Error> {
        Connection::connect(config).await.map(Self)
    }

    /// Stores one batch, which is durable when this returns.
    ///
    /// With a producer and an offset exactly once, however often it is called; without, at least once.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn write(&self, request: v1::WriteRequest) -> Result<v1::WriteResponse, Error> {
        self.0.call(self.ingest().write(self.0.request(request))).await
    }

    /// As [`WriteClient::write`], tried again for `patience` while the server cannot be reached or is busy: only for a
    /// batch with a producer and an offset, which no repeat doubles. `wait` hears of each failure.
    ///
    /// # Errors
    ///
    /// The last [`Error`], once it [is not retryable](Error::is_retryable) or patience has run out.
    pub async fn write_patiently(
        &self,
        request: &v1::WriteRequest,
        patience: Duration,
        mut wait: impl FnMut(&Error) + Send,
    ) -> Result<v1::WriteResponse, Error> {
        let until = tokio::time::Instant::now() + patience;
        let mut pause = Duration::from_millis(100);
        loop {
            match self.write(request.clone()).await {
                Err(error) if error.is_retryable() && tokio::time::Instant::now() + pause < until => {
                    wait(&error);
                    // Full jitter: many that wait for one server do not come back at once.
                    let part = rand::rng().random_range(0.1..=1.0);
                    tokio::time::sleep(pause.mul_f64(part)).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                done => return done,
            }
        }
    }

    /// What the ledger knows about a producer; None: it never wrote.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn producer(
        &self,
        producer_id: impl Into<String>,
    ) -> Result<Option<v1::GetProducerResponse>, Error> {
        let request = self.0.request(v1::GetProducerRequest { producer_id: producer_id.into() });
        match self.0.call(self.ingest().get_producer(request)).await {
            Ok(producer) => Ok(Some(producer)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.0.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}
