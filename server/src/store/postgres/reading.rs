//! How the database is read: until the caller's deadline, and no longer than anybody waits.
//!
//! A statement whose future is dropped would go on in the database, and its connection could not be used until it
//! is done. So a [`Reader`] that is dropped has the statement cancelled while its connection is still leased, and only
//! then is that given back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    error::{is_cancelled, is_lost, unanswered, unavailable},
    read_pool::{Lease, ReadPool, Reads},
    watermark::Watermark,
};
use crate::store::{Call, Step, StoreError};

/// A statement with its arguments.
pub(super) type Statement = Query<'static, Postgres, PgArguments>;

/// Reads over one connection. Dropped, it stops what runs and ends the transaction, which nobody has to wait for.
pub(super) struct Reader {
    /// Always there until it is dropped.
    lease: Option<Lease>,
    call: Call,
    watermark: Watermark,
    in_transaction: bool,
    /// A statement was sent and its end was not seen.
    running: bool,
    /// The connection is of no more use.
    is_lost: bool,
}

impl Reader {
    /// Reads in one transaction: all its statements see the same; `most` is what one may take where no deadline is
    /// nearer.
    pub(super) async fn begin(
        pool: &Arc<ReadPool>,
        reads: Reads,
        most: Duration,
    ) -> Result<Self, StoreError> {
        let mut reader = Self::take(pool, reads).await?;
        let timeout = reader.call.time_left().map_or(most, |left| left.min(most));
        // One round trip. A millisecond more: who is cancelled for the time finds the deadline passed.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {}; \
             SET LOCAL plan_cache_mode = force_custom_plan; {}",
            timeout.as_millis() + 1,
            sql!("watermark"),
        );
        (reader.running, reader.in_transaction) = (true, true);
        let begun = sqlx::raw_sql(AssertSqlSafe(begin)).fetch_optional(reader.connection()).await;
        let Some(row) = reader.seen(begun)? else {
            return Err(StoreError::Damaged("iot.watermark has lost its row".into()));
        };
        reader.watermark = Watermark::of(&row).map_err(unavailable)?;
        Ok(reader)
    }

    /// All rows of one statement that answers a question, without a transaction: half of the round trips.
    pub(super) async fn once(
        pool: &Arc<ReadPool>,
        sql: &'static str,
        bind: impl Fn(Statement) -> Statement,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut reader = Self::take(pool, Reads::Question).await?;
        let left = reader.call.time_left();
        let rows = reader.all(sql, bind);
        match left {
            None => rows.await,
            Some(left) => tokio::time::timeout(left, rows).await.unwrap_or(Err(StoreError::Deadline)),
        }
    }

    async fn take(pool: &Arc<ReadPool>, reads: Reads) -> Result<Self, StoreError> {
        let call = Call::current();
        let taken = match call.time_left() {
            None => pool.take(reads).await,
            Some(left) => match tokio::time::timeout(left, pool.take(reads)).await {
                Ok(taken) => taken,
                Err(_) => return Err(StoreError::Deadline),
            },
        };
        let lease = Some(taken.map_err(unavailable)?);
        Ok(Self {
            lease,
            call,
            watermark: Watermark::default(),
            in_transaction: false,
            running: false,
            is_lost: false,
        })
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
        self.lease.as_mut().expect("only dropping takes it").connection()
    }

    /// Notes that a statement's end was seen.
    fn seen<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        self.running = false;
        self.is_lost = result.as_ref().is_err_and(is_lost);
        result.map_err(|error| {
            let passed = self.call.time_left().is_some_and(|left| left.is_zero());
            if passed && is_cancelled(&error) { StoreError::Deadline } else { unanswered(error) }
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        if self.is_lost {
            lease.lose();
        } else if self.running || self.in_transaction {
            lease.end(self.running, self.in_transaction);
        } else {
            lease.keep();
        }
    }
}
