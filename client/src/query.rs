//! Reads back what is stored.

use std::time::Duration;

use futures::{Stream, stream};
use herdstream_proto::v1::{
    self, ingest_service_client::IngestServiceClient, query_service_client::QueryServiceClient,
};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    config::{Token, check_endpoint, check_token},
    error::Error,
};

/// Largest answer that is accepted. Pages stay below 3 MiB.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Configuration of a [`QueryClient`].
#[derive(Clone, Debug)]
pub struct QueryConfig {
    /// The server as a URL, `http://host:port`.
    pub endpoint: String,
    /// Sent as `authorization: Bearer …`; never logged. Default: none.
    pub token: Option<Token>,
    /// Bound on establishing a connection. Default 10 s.
    pub connect_timeout: Duration,
    /// Bound on every call. Default 30 s.
    pub timeout: Duration,
}

impl QueryConfig {
    /// Defaults for a server.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            token: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }

    /// Sends this bearer token.
    #[must_use]
    pub fn token(mut self, token: impl Into<Token>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets the bound on every call.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<T: Into<String>> From<T> for QueryConfig {
    fn from(endpoint: T) -> Self {
        Self::new(endpoint)
    }
}

/// Asks a server what it holds. Cheap to clone; clones share one connection.
///
/// Every call is bounded by [`QueryConfig::timeout`] and fails with an [`Error`] that says whether
/// it [is retryable](Error::is_retryable).
#[derive(Clone, Debug)]
pub struct QueryClient {
    channel: Channel,
    endpoint: String,
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

impl QueryClient {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a wrong URL or token, [`Error::Connect`] and [`Error::Timeout`] when the
    /// server cannot be reached.
    pub async fn connect(config: impl Into<QueryConfig>) -> Result<Self, Error> {
        let QueryConfig { endpoint, token, connect_timeout, timeout } = config.into();
        check_endpoint(&endpoint)?;
        check_token(token.as_ref())?;
        let refused = |source| Error::Connect { endpoint: endpoint.clone(), source };
        let server = Endpoint::from_shared(endpoint.clone())
            .map_err(refused)?
            .connect_timeout(connect_timeout)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .tcp_nodelay(true);
        let channel = tokio::time::timeout(connect_timeout, server.connect())
            .await
            .map_err(|_| Error::Timeout { endpoint: endpoint.clone(), timeout: connect_timeout })?
            .map_err(refused)?;
        Ok(Self { channel, token: token.as_ref().map(bearer).transpose()?, endpoint, timeout })
    }

    /// The newest reading of each series of a device.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for an unknown device; see [`Error`] for the rest.
    pub async fn get_latest(&self, request: v1::GetLatestRequest) -> Result<Vec<v1::SeriesReadings>, Error> {
        let answer = self.call(self.queries().get_latest(self.request(request))).await?;
        Ok(answer.latest)
    }

    /// One page of readings of one metric of a device in a range of time.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn query_range(&self, request: v1::QueryRangeRequest) -> Result<v1::QueryRangeResponse, Error> {
        self.call(self.queries().query_range(self.request(request))).await
    }

    /// All readings of one metric of a device in a range of time: asks for page after page.
    ///
    /// Yields the readings of one series of one page at a time; ends after the first error.
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
        self.call(self.queries().query_milkings(self.request(request))).await
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
        self.call(self.queries().list_devices(self.request(request))).await
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
        let request = self.request(v1::GetIngestionStatsRequest {});
        self.call(self.queries().get_ingestion_stats(request)).await
    }

    /// What answers: version, profile of the store and what that profile has.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get_server_info(&self) -> Result<v1::GetServerInfoResponse, Error> {
        let request = self.request(v1::GetServerInfoRequest {});
        self.call(self.queries().get_server_info(request)).await
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
        self.call(self.ingest().get_producer(self.request(request))).await
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
        self.call(self.ingest().list_rejections(self.request(request))).await
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
        Self { channel, endpoint, token, timeout }
    }

    fn queries(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        authorize(&mut request, self.token.as_ref());
        request.set_timeout(self.timeout);
        request
    }

    async fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
        let answer = tokio::time::timeout(self.timeout, call)
            .await
            .map_err(|_| Error::Timeout { endpoint: self.endpoint.clone(), timeout: self.timeout })?;
        Ok(answer?.into_inner())
    }
}

/// The header value that carries a token.
pub(crate) fn bearer(token: &Token) -> Result<MetadataValue<Ascii>, Error> {
    check_token(Some(token))?;
    let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| Error::Config("token: no header can carry it".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Adds a token to a request.
pub(crate) fn authorize<T>(request: &mut Request<T>, token: Option<&MetadataValue<Ascii>>) {
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", token.clone());
    }
}

/// Follows page tokens until the last page or the first error.
fn pages<T, F, Fut>(first: String, page: F) -> impl Stream<Item = Result<T, Error>> + Send
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
