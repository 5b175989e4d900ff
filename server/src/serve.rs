use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::{
    config::Config,
    ingest::Ingest,
    lifecycle::Keeper,
    ops::{Board, Facts, Pulse, health::Health, http},
    store::{
        Description, Store,
        embedded::{EmbeddedStore, OpenError},
        postgres::{self, PostgresStore},
    },
    wire::{self, Gateways, Incoming, MeterLayer},
};

/// Bytes of one stream that may wait in HTTP/2 before the server takes them in: enough for 1 MB/s over a
/// link with 120 ms of round trip, and little enough for a thousand streams.
const STREAM_WINDOW: u32 = 128 << 10;

/// Likewise for all streams of one connection.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Time that the store has to close.
const CLOSE: Duration = Duration::from_secs(10);

/// Time that connections have to close once every stream has ended.
const LINGER: Duration = Duration::from_secs(1);

/// A server that has its store and its sockets and waits for [`Server::run`].
#[derive(Debug)]
pub struct Server {
    config: Config,
    grpc: TcpListener,
    grpc_addr: SocketAddr,
    http: Option<TcpListener>,
    http_addr: Option<SocketAddr>,
    admin: Option<TcpListener>,
    admin_addr: Option<SocketAddr>,
    store: Arc<dyn Store>,
    ingest: Ingest,
}

/// The server could not start, or stopped for another reason than being told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database could not be used.
    #[error(transparent)]
    Database(#[from] postgres::OpenError),
    /// An address could not be bound.
    #[error("cannot listen on {address}: {source}; choose another with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The gRPC server failed.
    #[error("the gRPC server failed")]
    Grpc(#[from] tonic::transport::Error),
    /// The drain's deadline passed before the store had taken everything: clients send it again.
    #[error(
        "the drain did not end within {deadline:?}: {streams} streams were cut before all they had sent was \
         committed; their clients send it again"
    )]
    Undrained {
        /// Streams that were cut.
        streams: usize,
        /// The deadline.
        deadline: Duration,
    },
    /// Server reflection could not be built from the compiled definitions.
    #[error("the compiled definitions cannot be served by reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves `config` until `shutdown`, then drains.
///
/// # Errors
///
/// [`ServeError`].
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), ServeError> {
    Server::bind(config).await?.run(shutdown).await
}

impl Server {
    /// Opens the store that `config` names and binds the sockets.
    ///
    /// # Errors
    ///
    /// [`ServeError::Open`], [`ServeError::Listen`].
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        let store: Arc<dyn Store> = match config.database.postgres() {
            Some(database) => Arc::new(PostgresStore::open(database).await?),
            None => Arc::new(EmbeddedStore::open((&config).into())?),
        };
        Self::bind_over(config, store).await
    }

    /// As [`Server::bind`], over a store that is open.
    pub(crate) async fn bind_over(config: Config, store: Arc<dyn Store>) -> Result<Self, ServeError> {
        let (grpc, grpc_addr) = listen(config.listen, "--listen").await?;
        let (http, http_addr) = listen_unless_off(config.http_listen, "--http-listen").await?;
        let (admin, admin_addr) = listen_unless_off(config.admin_listen, "--admin-listen").await?;
        // The embedded engine commits one batch at a time anyway.
        let lanes = if config.database.url.is_some() { config.database.lanes } else { 1 };
        let endpoints = config.drain.endpoints.clone();
        let ingest = Ingest::start(config.ingest.clone(), endpoints, Arc::clone(&store), lanes);
        Ok(Self { config, grpc, grpc_addr, http, http_addr, admin, admin_addr, store, ingest })
    }

    /// Where gRPC is served.
    pub fn local_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where metrics, probes and the status page are served.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Where administration is served.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// What the store is.
    pub fn store(&self) -> Description {
        self.store.describe()
    }

    pub(crate) fn ingest(&self) -> &Ingest {
        &self.ingest
    }

    /// Serves until `shutdown`; then tells clients to go elsewhere, commits and acknowledges what was
    /// received, and closes the store.
    ///
    /// # Errors
    ///
    /// [`ServeError::Grpc`], [`ServeError::Reflection`], [`ServeError::Undrained`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { config, grpc, grpc_addr, http, http_addr, admin, admin_addr: _, store, ingest } = self;
        let board = Board::new(Facts {
            grpc: grpc_addr,
            http: http_addr,
            store: store.describe(),
            buffer: config.ingest.buffer.as_u64(),
            started: Instant::now(),
        });
        let (health, health_service) = Health::new().await;
        let pulse = tokio::spawn(Pulse::new(ingest.clone(), health, board.clone()).run());
        let stop = CancellationToken::new();
        let http = http.map(|listener| tokio::spawn(http::serve(listener, board, stop.clone())));
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(herdstream_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // So that clients can show the details of an error.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let keeper = Keeper::new(Arc::clone(&store), &config);
        let keeping = tokio::spawn(keeper.clone().run(stop.clone()));
        let admin = match admin {
            Some(listener) => {
                let admin = tonic::transport::Server::builder()
                    .http2_keepalive_interval(Some(config.ingest.keepalive))
                    .http2_keepalive_timeout(Some(config.ingest.keepalive))
                    .add_service(reflection().build_v1()?)
                    .add_service(reflection().build_v1alpha()?)
                    .add_service(wire::admin_service(keeper))
                    .serve_with_incoming_shutdown(
                        Incoming::new("admin", TcpIncoming::from(listener), config.ingest.open_timeout),
                        stop.clone().cancelled_owned(),
                    );
                Some(tokio::spawn(admin))
            }
            None => None,
        };

        let gateways = Arc::new(Gateways::new(&config.auth));
        let grpc = tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(config.ingest.keepalive))
            .http2_keepalive_timeout(Some(config.ingest.keepalive))
            .layer(MeterLayer::new(
                ingest.pool().clone(),
                config.ingest.message_timeout,
                Arc::clone(&gateways),
            ))
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(wire::ingest_service(ingest.clone(), Arc::clone(&gateways)))
            .add_service(wire::query_service(
                Arc::clone(&store),
                ingest.clone(),
                gateways,
                &config,
                stop.clone(),
            ))
            .serve_with_incoming_shutdown(
                Incoming::new(
                    "gRPC",
                    TcpIncoming::from(grpc)
                        .with_nodelay(Some(true))
                        .with_keepalive(Some(config.ingest.keepalive)),
                    config.ingest.open_timeout,
                ),
                stop.clone().cancelled_owned(),
            );
        let mut grpc = tokio::spawn(grpc);

        let ended = tokio::select! {
            ended = &mut grpc => Some(ended),
            () = shutdown.cancelled() => None,
        };
        tracing::info!(deadline = ?config.drain.deadline, "draining");
        let cut = ingest.drain(config.drain.deadline).await;
        stop.cancel();
        let ended = match ended {
            Some(ended) => Some(ended),
            None => tokio::time::timeout(LINGER, &mut grpc).await.ok(),
        };
        grpc.abort();
        pulse.abort();
        keeping.abort();
        if let Some(http) = http {
            http.abort();
        }
        if let Some(admin) = admin {
            admin.abort();
        }
        if tokio::time::timeout(CLOSE, store.close()).await.is_err() {
            tracing::warn!(after = ?CLOSE, "the store did not close: what was acknowledged is on disk all the same");
        }
        tracing::info!("stopped");
        match ended {
            Some(Ok(Err(error))) => Err(error.into()),
            _ if cut > 0 => Err(ServeError::Undrained { streams: cut, deadline: config.drain.deadline }),
            // Ended, aborted after its time, or panicked, which the runtime has reported.
            Some(Ok(Ok(())) | Err(_)) | None => Ok(()),
        }
    }
}

async fn listen_unless_off(
    address: Option<SocketAddr>,
    flag: &'static str,
) -> Result<(Option<TcpListener>, Option<SocketAddr>), ServeError> {
    let Some(address) = address else { return Ok((None, None)) };
    let (listener, bound) = listen(address, flag).await?;
    Ok((Some(listener), Some(bound)))
}

async fn listen(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bind = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bind.await.map_err(|source| ServeError::Listen { address, flag, source })
}
