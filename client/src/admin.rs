use herdstream_proto::v1::{self, admin_service_client::AdminServiceClient};
use tonic::transport::Channel;

use crate::{
    connection::{Connection, MAX_ANSWER_BYTES, QueryConfig},
    error::Error,
};

/// Looks after what a server stores, over its administration port. Cheap to clone; clones share one connection.
///
/// Retention and refreshes may take long: give the [`QueryConfig`] a timeout that suits them.
#[derive(Clone, Debug)]
pub struct AdminClient(Connection);

impl AdminClient {
    /// Connects to a server's administration port.
    ///
    /// # Errors
    ///
    /// As [`QueryClient::connect`](crate::QueryClient::connect).
    pub async fn connect(config: impl Into<QueryConfig>) -> Result<Self, Error> {
        Connection::connect(config).await.map(Self)
    }

    /// How far aggregates are kept, what is late, what was dropped.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get_lifecycle(&self) -> Result<v1::GetLifecycleResponse, Error> {
        self.0.call(self.admin().get_lifecycle(self.0.request(v1::GetLifecycleRequest {}))).await
    }

    /// Brings the aggregates of a range up to date now, or with `rebuild` computes all of them again.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn refresh_rollups(
        &self,
        request: v1::RefreshRollupsRequest,
    ) -> Result<v1::RefreshRollupsResponse, Error> {
        self.0.call(self.admin().refresh_rollups(self.0.request(request))).await
    }

    /// Drops what is too old, or only tells what that is.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn run_retention(&self, dry_run: bool) -> Result<Vec<v1::Dropped>, Error> {
        let request = self.0.request(v1::RunRetentionRequest { dry_run });
        Ok(self.0.call(self.admin().run_retention(request)).await?.dropped)
    }

    /// Compresses chunks, or only tells which.
    ///
    /// # Errors
    ///
    /// `FAILED_PRECONDITION` where the store does not compress by chunks; see [`Error`] for the rest.
    pub async fn compress_chunks(&self, request: v1::CompressChunksRequest) -> Result<Vec<v1::Chunk>, Error> {
        Ok(self.0.call(self.admin().compress_chunks(self.0.request(request))).await?.chunks)
    }

    /// Chunks of a table, `reading` or `milking`; of an empty name, of both.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn list_chunks(&self, table: impl Into<String>) -> Result<Vec<v1::Chunk>, Error> {
        let request = self.0.request(v1::ListChunksRequest { table: table.into() });
        Ok(self.0.call(self.admin().list_chunks(request)).await?.chunks)
    }

    /// Runs a query and tells what the store did and how long each step took.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn explain_query(
        &self,
        query: v1::explain_query_request::Query,
    ) -> Result<v1::ExplainQueryResponse, Error> {
        let request = self.0.request(v1::ExplainQueryRequest { query: Some(query) });
        self.0.call(self.admin().explain_query(request)).await
    }

    fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.0.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}
