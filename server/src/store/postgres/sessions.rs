//! Sessions in which the database is read.
//!
//! They are kept apart from the connections of commits, which always have half of the pool to themselves. The one that
//! was used last is used next: what it knows of tables and statements is still near.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Row as _, pool::PoolConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{connect::IDLE, error::is_cancelled};

/// Time in which a statement must end once it was cancelled, and the connection for cancelling it be open.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session ends after so long: the database never gives back what one has learnt.
const OLD: Duration = Duration::from_mins(30);

/// Sessions for reading.
pub(super) struct Sessions {
    pool: PgPool,
    /// As many may read at once.
    permits: Arc<Semaphore>,
    /// Time in which one must become free.
    acquire_timeout: Duration,
    /// Idle ones, the last used last; None: the pool's only connection is not kept from commits.
    idle: Option<Mutex<Vec<Kept>>>,
}

struct Kept {
    connection: PoolConnection<Postgres>,
    backend: i32,
    since: Instant,
    used: Instant,
}

/// A session that somebody reads in, and its place among those who read.
pub(super) struct Session {
    sessions: Arc<Sessions>,
    kept: Kept,
    _permit: OwnedSemaphorePermit,
}

impl Sessions {
    /// Half of the connections of a pool.
    pub(super) fn new(pool: &PgPool) -> Self {
        let options = pool.options();
        let most = options.get_max_connections();
        Self {
            pool: pool.clone(),
            permits: Arc::new(Semaphore::new((most as usize / 2).max(1))),
            acquire_timeout: options.get_acquire_timeout(),
            idle: (most > 1).then(Mutex::default),
        }
    }

    /// The session used last of those that are idle, or one more.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Session, sqlx::Error> {
        let taken = tokio::time::timeout(self.acquire_timeout, self.wait()).await;
        taken.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn wait(self: &Arc<Self>) -> Result<Session, sqlx::Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        let kept = loop {
            let idle = self.idle.as_ref().and_then(|idle| idle.lock().pop());
            let Some(mut kept) = idle else { break self.open().await? };
            if kept.used.elapsed() < IDLE || kept.connection.ping().await.is_ok() {
                break kept;
            }
        };
        Ok(Session { sessions: Arc::clone(self), kept, _permit: permit })
    }

    async fn open(&self) -> Result<Kept, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let mut begin = "SELECT pg_backend_pid() AS backend";
        if self.idle.is_some() {
            connection.close_on_drop();
            // Planned anew, a statement knows its times and looks at the chunks of those only.
            begin = "SET plan_cache_mode = force_custom_plan; SELECT pg_backend_pid() AS backend";
        }
        let row = sqlx::raw_sql(begin).fetch_one(&mut *connection).await?;
        let now = Instant::now();
        Ok(Kept { connection, backend: row.try_get("backend")?, since: now, used: now })
    }

    fn keep(&self, mut kept: Kept) {
        kept.used = Instant::now();
        if let Some(idle) = &self.idle
            && kept.since.elapsed() < OLD
            && !self.permits.is_closed()
        {
            idle.lock().push(kept);
        }
    }

    fn close_idle(&self) {
        if let Some(idle) = &self.idle {
            idle.lock().clear();
        }
    }

    /// Nobody begins to read any more.
    pub(super) fn close(&self) {
        self.permits.close();
        self.close_idle();
    }
}

impl Session {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.kept.connection
    }

    /// Leaves it to others as it is.
    pub(super) fn keep(self) {
        self.sessions.keep(self.kept);
    }

    /// Closes it, and those that are idle: they are lost, too, if the database was started again.
    pub(super) fn lose(mut self) {
        self.kept.connection.close_on_drop();
        self.sessions.close_idle();
    }

    /// Ends the statement and the transaction it is in, and leaves it to others; loses it where that does not work.
    pub(super) fn end(mut self, is_running: bool, in_transaction: bool) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            self.kept.connection.close_on_drop();
            return;
        };
        runtime.spawn(async move {
            match tokio::time::timeout(PATIENCE, self.clean(is_running, in_transaction)).await {
                Ok(Ok(())) => self.keep(),
                _ => self.lose(),
            }
        });
    }

    async fn clean(&mut self, is_running: bool, in_transaction: bool) -> Result<(), sqlx::Error> {
        let Kept { connection, backend, .. } = &mut self.kept;
        if is_running {
            cancel(&self.sessions.pool, *backend).await?;
            // What is left of the statement is read before the next one is sent: that it was cancelled, too.
            match connection.ping().await {
                Err(error) if is_cancelled(&error) => connection.ping().await?,
                pinged => pinged?,
            }
        }
        if in_transaction {
            sqlx::raw_sql("ROLLBACK").execute(&mut **connection).await?;
        }
        Ok(())
    }
}

/// Stops what a connection is in the middle of, and closes it.
pub(super) fn stop(pool: &PgPool, mut connection: PoolConnection<Postgres>, cancelled: Option<i32>) {
    let runtime = tokio::runtime::Handle::try_current();
    let (Ok(runtime), Some(backend)) = (runtime, cancelled.filter(|backend| *backend != 0)) else {
        connection.close_on_drop();
        return;
    };
    let pool = pool.clone();
    runtime.spawn(async move {
        let stopped = async {
            cancel(&pool, backend).await?;
            connection.ping().await
        };
        drop(tokio::time::timeout(PATIENCE, stopped).await);
        connection.close_on_drop();
    });
}

/// Stops the statement of a backend, over a connection that does not wait for one of the pool's.
async fn cancel(pool: &PgPool, backend: i32) -> Result<(), sqlx::Error> {
    let mut other = PgConnection::connect_with(&pool.connect_options()).await?;
    sqlx::query(sql!("cancel")).bind(backend).execute(&mut other).await?;
    other.close().await
}
