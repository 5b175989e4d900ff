//! One connection to a server, and what every call over it carries.

use std::time::Duration;

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
pub(crate) const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Configuration of a [`QueryClient`](crate::QueryClient), a [`WriteClient`](crate::WriteClient) or an
/// [`AdminClient`](crate::AdminClient).
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

/// A connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    pub(crate) endpoint: String,
    pub(crate) token: Option<MetadataValue<Ascii>>,
    pub(crate) timeout: Duration,
}

impl Connection {
    pub(crate) async fn connect(config: impl Into<QueryConfig>) -> Result<Self, Error> {
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

    /// A request with what every one carries.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.stream_request(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Likewise, of a stream that may last.
    pub(crate) fn stream_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        authorize(&mut request, self.token.as_ref());
        request
    }

    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
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
