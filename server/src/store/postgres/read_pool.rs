//! Connections for reading.
//!
//! They are kept apart from those of commits, so that questions leave commits half of the pool. The one that was used
//! last is used next: what its backend knows of tables and statements is still near.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Row as _, pool::PoolConnection};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    cancel::{PATIENCE, cancel},
    connect::IDLE,
    error::{is_cancelled, is_lost},
};

/// Of a smaller pool none is kept for reading: commits, a refresh and the flushing of devices each need one.
const LEAST_POOL: u32 = 4;

/// One that nobody used for so long is closed.
const UNUSED: Duration = Duration::from_mins(10);

/// One is closed after so long: a backend never gives back what it has learnt of tables.
const OLD: Duration = Duration::from_mins(30);

/// Time in which one that was idle must show that it is there.
const PING: Duration = Duration::from_secs(1);

/// What a connection sets that is kept. Planned anew, a statement knows its times and looks at the chunks of those only;
/// with one snapshot for plan and rows, no chunk appears in between.
const SET: &str = "SET plan_cache_mode = force_custom_plan; \
                   SET default_transaction_isolation = 'repeatable read'; ";

/// Connections for reading, of a pool.
pub(super) struct ReadPool {
    pool: PgPool,
    /// So many questions may be asked at once.
    places: Arc<Semaphore>,
    /// Time in which one must become free.
    acquire_timeout: Duration,
    idle: Mutex<Vec<Kept>>,
    keeps: bool,
}

struct Kept {
    connection: PoolConnection<Postgres>,
    backend: i32,
    since: Instant,
    used: Instant,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// A question, which waits until there is a place for it.
    Question,
    /// A write, which waits for no question.
    Write,
}

/// A connection while somebody reads over it.
pub(super) struct Lease {
    pool: Arc<ReadPool>,
    kept: Kept,
    _place: Option<OwnedSemaphorePermit>,
}

impl ReadPool {
    /// Half of the connections of a pool, for questions.
    pub(super) fn new(pool: &PgPool) -> Self {
        let options = pool.options();
        let most = options.get_max_connections();
        Self {
            pool: pool.clone(),
            places: Arc::new(Semaphore::new((most as usize / 2).max(1))),
            acquire_timeout: options.get_acquire_timeout(),
            idle: Mutex::default(),
            keeps: most >= LEAST_POOL,
        }
    }

    /// The connection used last of those that are idle, or one more.
    pub(super) async fn take(self: &Arc<Self>, reads: Reads) -> Result<Lease, sqlx::Error> {
        timeout(self.acquire_timeout, self.wait(reads)).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn wait(self: &Arc<Self>, reads: Reads) -> Result<Lease, sqlx::Error> {
        let place = match reads {
            Reads::Write => None,
            Reads::Question => {
                let place = Arc::clone(&self.places).acquire_owned().await;
                Some(place.map_err(|_| sqlx::Error::PoolClosed)?)
            }
        };
        let kept = loop {
            let idle = self.idle.lock().pop();
            match idle {
                None => break self.open().await?,
                Some(kept) if kept.used.elapsed() < IDLE => break kept,
                Some(mut kept) => match timeout(PING, kept.connection.ping()).await {
                    Ok(Ok(())) => break kept,
                    _ => self.close_idle(),
                },
            }
        };
        Ok(Lease { pool: Arc::clone(self), kept, _place: place })
    }

    async fn open(&self) -> Result<Kept, sqlx::Error> {
        loop {
            let mut connection = self.pool.acquire().await?;
            let set = if self.keeps { SET } else { "" };
            if self.keeps {
                connection.close_on_drop();
            }
            let begin = sqlx::AssertSqlSafe(format!("{set}SELECT pg_backend_pid() AS backend"));
            match sqlx::raw_sql(begin).fetch_one(&mut *connection).await {
                Ok(row) => {
                    let now = Instant::now();
                    return Ok(Kept { connection, backend: row.try_get("backend")?, since: now, used: now });
                }
                // It was lost while it was idle in the pool.
                Err(error) if is_lost(&error) => connection.close_on_drop(),
                Err(error) => return Err(error),
            }
        }
    }

    fn keep(&self, mut kept: Kept) {
        if !self.keeps || kept.since.elapsed() >= OLD {
            return;
        }
        kept.used = Instant::now();
        let mut idle = self.idle.lock();
        // By when they were used: what has been there for longest comes first.
        let unused = idle.partition_point(|kept| kept.used.elapsed() >= UNUSED);
        idle.drain(..unused);
        if !self.places.is_closed() {
            idle.push(kept);
        }
    }

    fn close_idle(&self) {
        self.idle.lock().clear();
    }

    /// No question is asked any more.
    pub(super) fn close(&self) {
        self.places.close();
        self.close_idle();
    }
}

impl Drop for ReadPool {
    fn drop(&mut self) {
        // Without a runtime a connection cannot be dropped; the process ends, most likely.
        if Handle::try_current().is_err() {
            std::mem::take(self.idle.get_mut()).into_iter().for_each(std::mem::forget);
        }
    }
}

impl Lease {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.kept.connection
    }

    /// Leaves it to others as it is.
    pub(super) fn keep(self) {
        self.pool.keep(self.kept);
    }

    /// Closes it, and those that are idle: they are lost, too, if the database was started again.
    pub(super) fn lose(mut self) {
        self.kept.connection.close_on_drop();
        self.pool.close_idle();
    }

    /// Ends the statement and the transaction it is in, and leaves it to others; closes it where that does not work.
    pub(super) fn end(mut self, is_running: bool, in_transaction: bool) {
        let Ok(runtime) = Handle::try_current() else {
            std::mem::forget(self);
            return;
        };
        runtime.spawn(async move {
            match timeout(PATIENCE, self.clean(is_running, in_transaction)).await {
                Ok(Ok(())) => self.keep(),
                Ok(Err(error)) if is_lost(&error) => self.lose(),
                _ => self.kept.connection.close_on_drop(),
            }
        });
    }

    async fn clean(&mut self, is_running: bool, in_transaction: bool) -> Result<(), sqlx::Error> {
        let Kept { connection, backend, .. } = &mut self.kept;
        if is_running {
            cancel(&self.pool.pool, *backend).await?;
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
