//! How the database is read: until the caller's deadline, and no longer than anybody waits.
//!
//! A statement whose future is dropped would go on in the database, and its connection could not be used until it
//! is done. So a [`Reader`] knows its backend: it cancels the statement while it still owns the connection, waits
//! for the end, and only then gives the connection back.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, Row as _,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    error::{is_cancelled, unanswered, unavailable},
    watermark::Watermark,
};
use crate::store::{Call, Step, StoreError};

/// A statement with its arguments.
pub(super) type Statement = Query<'static, Postgres, PgArguments>;

/// Time in which a statement must end once it was cancelled, and the connection for cancelling it be open.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads on one connection, in one transaction. Dropped, it stops what runs and ends the transaction, which nobody has
/// to wait for.
pub(super) struct Reader {
    pool: PgPool,
    /// Always there until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    call: Call,
    backend: i32,
    watermark: Watermark,
    /// A statement was sent and its end was not seen.
    running: bool,
}

impl Reader {
    /// All its statements see the same; `most` is what one may take where no deadline is nearer.
    pub(super) async fn begin(pool: &PgPool, most: Duration) -> Result<Self, StoreError> {
        let call = Call::current();
        let connection = match call.time_left() {
            None => pool.acquire().await,
            Some(left) => match tokio::time::timeout(left, pool.acquire()).await {
                Ok(connection) => connection,
                Err(_) => return Err(StoreError::Deadline),
            },
        };
        let connection = Some(connection.map_err(unavailable)?);
        let timeout = call.time_left().map_or(most, |left| left.min(most));
        let mut reader = Self {
            pool: pool.clone(),
            connection,
            call,
            backend: 0,
            watermark: Watermark::default(),
            running: true,
        };
        // One round trip. A millisecond more: who is cancelled for the time finds the deadline passed. Planned anew,
        // a statement knows its times and looks at the chunks of those only.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {}; \
             SET LOCAL plan_cache_mode = force_custom_plan; \
             SELECT pg_backend_pid() AS backend, w.* FROM ({}) AS w",
            timeout.as_millis() + 1,
            sql!("watermark"),
        );
        let begun = sqlx::raw_sql(AssertSqlSafe(begin)).fetch_optional(reader.connection()).await;
        let Some(row) = reader.seen(begun)? else {
            return Err(StoreError::Damaged("iot.watermark has lost its row".into()));
        };
        reader.backend = row.try_get("backend").map_err(unavailable)?;
        reader.watermark = Watermark::of(&row).map_err(unavailable)?;
        Ok(reader)
    }

    /// Where everything stands, as all statements see it: the planner may know it.
    pub(super) fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// All rows.
    pub(super) async fn all(
        &mut self,
        sql: &'static str,
        bind: impl Fn(Statement) -> Statement,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut rows = Vec::new();
        let keep = |row| {
            rows.push(row);
            Ok(true)
        };
        self.each(sql, bind, keep).await?;
        Ok(rows)
    }

    /// One row after the other, until `take` wants no more.
    pub(super) async fn each(
        &mut self,
        sql: &'static str,
        bind: impl Fn(Statement) -> Statement,
        mut take: impl FnMut(PgRow) -> Result<bool, sqlx::Error>,
    ) -> Result<(), StoreError> {
        self.explain(sql, &bind).await?;
        self.running = true;
        let mut rows = bind(sqlx::query(sql)).fetch(self.connection());
        let mut done = Ok(());
        loop {
            match rows.try_next().await {
                Ok(Some(row)) => match take(row) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        done = Err(error);
                        break;
                    }
                },
                Ok(None) => break,
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        drop(rows);
        self.seen(done)
    }

    /// Runs statements that nobody wants explained.
    pub(super) async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.running = true;
        let done = work(self.connection()).await;
        self.seen(done)
    }

    /// Runs a statement once for its plan, if somebody watches.
    async fn explain(
        &mut self,
        sql: &'static str,
        bind: impl Fn(Statement) -> Statement,
    ) -> Result<(), StoreError> {
        let Some(steps) = self.call.steps.clone() else { return Ok(()) };
        let explained = AssertSqlSafe(format!("EXPLAIN (ANALYZE, BUFFERS) {sql}"));
        let began = Instant::now();
        self.running = true;
        let rows = bind(sqlx::query(explained)).persistent(false).fetch_all(self.connection()).await;
        let rows = self.seen(rows)?;
        let lines: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let plan = lines.map_err(unavailable)?.join("\n");
        steps.note(Step { statement: sql.to_owned(), plan, took: began.elapsed() });
        Ok(())
    }

    fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("only dropping takes it")
    }

    /// Notes that a statement's end was seen.
    fn seen<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        self.running = false;
        result.map_err(|error| {
            let passed = self.call.time_left().is_some_and(|left| left.is_zero());
            if passed && is_cancelled(&error) { StoreError::Deadline } else { unanswered(error) }
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let cancelled = self.running.then_some(self.backend);
        give_back(&self.pool, connection, cancelled);
    }
}

/// Ends what a connection is in the middle of, and gives it back; closes it where that does not work.
/// `cancelled` is the backend of a statement that runs, 0 where it is not known; None: none runs.
pub(super) fn give_back(pool: &PgPool, mut connection: PoolConnection<Postgres>, cancelled: Option<i32>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        connection.close_on_drop();
        return;
    };
    let pool = pool.clone();
    runtime.spawn(async move {
        let clean = async {
            if let Some(backend) = cancelled {
                if backend != 0 {
                    cancel(&pool, backend).await?;
                }
                // What is left of the statement is read before the next one is sent: that it was cancelled, too.
                match connection.ping().await {
                    Err(error) if is_cancelled(&error) => connection.ping().await?,
                    pinged => pinged?,
                }
            }
            sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.map(drop)
        };
        if !matches!(tokio::time::timeout(PATIENCE, clean).await, Ok(Ok(()))) {
            connection.close_on_drop();
        }
    });
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
