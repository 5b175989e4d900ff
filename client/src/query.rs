//! Reads back what is stored.

mod aggregates;

use std::time::Duration;

use futures::{Stream, stream};
use herdstream_proto::v1::{
    self, ingest_service_client::IngestServiceClient, query_service_client::QueryServiceClient,
};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    connection::{Connection, MAX_ANSWER_BYTES, QueryConfig},
    error::Error,
};

/// Asks a server what it holds. Cheap to clone; clones share one connection.
///
/// Every call is bounded by [`QueryConfig::timeout`] and fails with an [`Error`] that says whether
/// it [is retryable](Error::is_retryable).
#[derive(Clone, Debug)]
pub struct QueryClient(Connection);

impl QueryClient {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a wrong URL or token, [`Error::Connect`] and [`Error::Timeout`] when the
    /// server cannot be reached.
    pub async fn connect(config: impl Into<QueryConfig>) -> Result<Self, Error> {
        Connection::connect(config).await.map(Self)
    }

    /// The newest reading of each series of a device.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for an unknown device; see [`Error`] for the rest.
    pub async fn get_latest(&self, request: v1::GetLatestRequest) -> Result<Vec<v1::SeriesReadings>, Error> {
        let answer = self.0.call(self.queries().get_latest(self.0.request(request))).await?;
        Ok(answer.latest)
    }

    /// One page of one metric in a range of time: readings, or their statistics by 15 minutes, hour or day; of a
    /// device, an animal, a zone or a farm.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn query_range(&self, request: v1::QueryRangeRequest) -> Result<v1::QueryRangeResponse, Error> {
        self.0.call(self.queries().query_range(self.0.request(request))).await
    }

    /// All readings of one metric in a range of time: asks for page after page.
    ///
    /// Yields the readings of one series of one page at a time; ends after the first error. Buckets are not
    /// among them: see [`QueryClient::query_buckets_all`].
    pub fn query_range_all(
        &self,
        request: v1::QueryRangeRequest,
    ) -> impl Stream<Item = Result<v1::SeriesReadings, Error>> + Send + use<> {
        let client = self.clone();
        pages(request.page_token.clone(), move |page_token| {
            let (client, request) = (client.clone(), v1::QueryRangeRequest { page_token, ..request.clone() });
            async move {
                let page = client.query_range(request).await?;
                Ok((page.series, page.next_page_token))
            }
        })
    }

    /// One page of milkings of a farm or of one animal in a range of time, by time.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn query_milkings(
        &self,
        request: v1::QueryMilkingsRequest,
    ) -> Result<v1::QueryMilkingsResponse, Error> {
        self.0.call(self.queries().query_milkings(self.0.request(request))).await
    }

    /// All milkings of a farm or of one animal in a range of time: asks for page after page.
    ///
    /// Ends after the first error.
    pub fn query_milkings_all(
        &self,
        request: v1::QueryMilkingsRequest,
    ) -> impl Stream<Item = Result<v1::Milking, Error>> + Send + use<> {
        let client = self.clone();
        pages(request.page_token.clone(), move |page_token| {
            let (client, request) =
                (client.clone(), v1::QueryMilkingsRequest { page_token, ..request.clone() });
            async move {
                let page = client.query_milkings(request).await?;
                Ok((page.milkings, page.next_page_token))
            }
        })
    }

    /// One page of devices with their state, by farm and identifier.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn list_devices(
        &self,
        request: v1::ListDevicesRequest,
    ) -> Result<v1::ListDevicesResponse, Error> {
        self.0.call(self.queries().list_devices(self.0.request(request))).await
    }

    /// All devices with their state: asks for page after page.
    ///
    /// Ends after the first error.
    pub fn list_devices_all(
        &self,
        request: v1::ListDevicesRequest,
    ) -> impl Stream<Item = Result<v1::Device, Error>> + Send + use<> {
        let client = self.clone();
        pages(request.page_token.clone(), move |page_token| {
            let (client, request) =
                (client.clone(), v1::ListDevicesRequest { page_token, ..request.clone() });
            async move {
                let page = client.list_devices(request).await?;
                Ok((page.devices, page.next_page_token))
            }
        })
    }

    /// How much arrived lately.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get_ingestion_stats(&self) -> Result<v1::GetIngestionStatsResponse, Error> {
        let request = self.0.request(v1::GetIngestionStatsRequest {});
        self.0.call(self.queries().get_ingestion_stats(request)).await
    }

    /// What answers: version, profile of the store and what that profile has.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get_server_info(&self) -> Result<v1::GetServerInfoResponse, Error> {
        let request = self.0.request(v1::GetServerInfoRequest {});
        self.0.call(self.queries().get_server_info(request)).await
    }

    /// What the ledger knows about a producer.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for an unknown producer; see [`Error`] for the rest.
    pub async fn get_producer(
        &self,
        producer_id: impl Into<String>,
    ) -> Result<v1::GetProducerResponse, Error> {
        let request = v1::GetProducerRequest { producer_id: producer_id.into() };
        self.0.call(self.ingest().get_producer(self.0.request(request))).await
    }

    /// One page of what was refused of a producer, with the reasons.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn list_rejections(
        &self,
        request: v1::ListRejectionsRequest,
    ) -> Result<v1::ListRejectionsResponse, Error> {
        self.0.call(self.ingest().list_rejections(self.0.request(request))).await
    }

    /// All that was refused of a producer, with the reasons: asks for page after page.
    ///
    /// Ends after the first error.
    pub fn list_rejections_all(
        &self,
        request: v1::ListRejectionsRequest,
    ) -> impl Stream<Item = Result<v1::QuarantineRecord, Error>> + Send + use<> {
        let client = self.clone();
        pages(request.page_token.clone(), move |page_token| {
            let (client, request) =
                (client.clone(), v1::ListRejectionsRequest { page_token, ..request.clone() });
            async move {
                let page = client.list_rejections(request).await?;
                Ok((page.records, page.next_page_token))
            }
        })
    }

    /// Uses a connection that is already there.
    pub(crate) fn over(
        channel: Channel,
        endpoint: String,
        token: Option<MetadataValue<Ascii>>,
        timeout: Duration,
    ) -> Self {
        Self(Connection { channel, endpoint, token, timeout })
    }

    fn queries(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.0.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.0.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

/// Follows page tokens until the last page or the first error.
pub(crate) fn pages<T, F, Fut>(first: String, page: F) -> impl Stream<Item = Result<T, Error>> + Send
where
    T: Send + 'static,
    F: Fn(String) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(Vec<T>, String), Error>> + Send,
{
    struct State<T, F> {
        items: std::vec::IntoIter<T>,
        token: Option<String>,
        page: F,
    }
    stream::unfold(
        State { items: Vec::new().into_iter(), token: Some(first), page },
        |mut state| async move {
            loop {
                if let Some(item) = state.items.next() {
                    return Some((Ok(item), state));
                }
                match (state.page)(state.token.take()?).await {
                    Ok((items, next)) => {
                        state.items = items.into_iter();
                        state.token = Some(next).filter(|token| !token.is_empty());
                    }
                    Err(error) => return Some((Err(error), state)),
                }
            }
        },
    )
}
