//! A server for the tests of those who use the SDK: the real state machine and the real embedded store,
//! in the test's own process, with faults on demand.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use herdstream_server::testing::TestServer;
//!
//! let server = TestServer::start().await;
//! server.faults().drop_after_commit(); // the next commit is durable, and its ack never arrives
//! let endpoint = server.endpoint(); // give it to the producer under test
//! # assert!(endpoint.starts_with("http://127.0.0.1:"));
//! server.stop().await;
//! # });
//! ```

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::Config,
    ingest::{Caller, Ingest, Open, Session},
    model::ProducerId,
    serve::{ServeError, Server},
    store::embedded::EmbeddedStore,
};

mod faults;

pub use faults::Faults;
use faults::FaultyStore;

/// A server on a free port of the loopback address and, unless told otherwise, a temporary directory.
#[derive(Debug)]
pub struct TestServer {
    config: Config,
    _directory: Option<TemporaryDirectory>,
    faults: Arc<Faults>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    ingest: Ingest,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// Removed with what is in it when dropped.
#[derive(Debug)]
struct TemporaryDirectory(PathBuf);

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Left behind in the system's directory for such things if it cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl TestServer {
    /// Starts a server with the default configuration.
    ///
    /// # Panics
    ///
    /// When it cannot start.
    pub async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    /// Starts a server; `config`'s addresses are replaced by free ones, and the default data directory
    /// by a temporary one.
    ///
    /// # Panics
    ///
    /// When it cannot start.
    pub async fn start_with(mut config: Config) -> Self {
        let mut directory = None;
        if config.store.data_dir == Config::default().store.data_dir {
            let path = std::env::temp_dir().join(format!("herdstream-test-{}", Uuid::new_v4()));
            config.store.data_dir.clone_from(&path);
            directory = Some(TemporaryDirectory(path));
        }
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.http_listen = config.http_listen.map(|_| config.listen);
        config.admin_listen = config.admin_listen.map(|_| config.listen);
        let mut server =
            Self { config, _directory: directory, faults: Arc::new(Faults::default()), running: None };
        server.resume().await;
        server
    }

    /// Where to connect, as a URL. The same before and after a restart.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.config.listen)
    }

    /// Where to connect for administration, as a URL; None without that service.
    pub fn admin_endpoint(&self) -> Option<String> {
        self.config.admin_listen.map(|address| format!("http://{address}"))
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &Path {
        &self.config.store.data_dir
    }

    /// What to make go wrong.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// The ingestion side of the running server.
    ///
    /// # Panics
    ///
    /// While the server is stopped.
    pub fn ingest(&self) -> &Ingest {
        &self.running.as_ref().expect("the server runs").ingest
    }

    /// Opens a session of `producer` as another client process would, which fences the one there is.
    ///
    /// # Panics
    ///
    /// When the session cannot be opened, or while the server is stopped.
    pub async fn fence(&self, producer: ProducerId) {
        let open = Open {
            producer,
            instance_id: Uuid::new_v4().to_string(),
            gateway_id: "another".to_owned(),
            first_retained_offset: 1,
            next_offset: i64::MAX as u64,
        };
        Session::open(self.ingest(), Caller::default(), open).await.expect("a running server opens sessions");
    }

    /// Cuts every stream without a word.
    ///
    /// # Panics
    ///
    /// While the server is stopped.
    pub fn cut_streams(&self) {
        self.ingest().cut_streams();
    }

    /// Stops as on SIGTERM: drains, then closes the store. The directory stays until the server is dropped.
    ///
    /// # Panics
    ///
    /// When the server did.
    pub async fn pause(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown.cancel();
            running.task.await.expect("the server does not panic");
            self.faults.detach();
        }
    }

    /// Starts again on the same address and directory after [`TestServer::pause`].
    ///
    /// # Panics
    ///
    /// When it cannot start.
    pub async fn resume(&mut self) {
        assert!(self.running.is_none(), "the server runs already");
        let store = EmbeddedStore::open((&self.config).into()).expect("the store opens");
        let store = FaultyStore::new(Arc::new(store), Arc::clone(&self.faults));
        let server = Server::bind_over(self.config.clone(), Arc::new(store)).await.expect("the server binds");
        self.config.listen = server.local_addr();
        self.config.admin_listen = server.admin_addr();
        self.faults.attach(server.ingest().clone());
        let shutdown = CancellationToken::new();
        self.running = Some(Running {
            ingest: server.ingest().clone(),
            shutdown: shutdown.clone(),
            task: tokio::spawn(async move {
                match server.run(shutdown).await {
                    // What a stalled store is there for.
                    Ok(()) | Err(ServeError::Undrained { .. }) => {}
                    Err(error) => panic!("the server runs: {error}"),
                }
            }),
        });
    }

    /// Stops, and removes the temporary directory.
    ///
    /// # Panics
    ///
    /// As [`TestServer::pause`].
    pub async fn stop(mut self) {
        self.pause().await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.shutdown.cancel();
        }
    }
}
