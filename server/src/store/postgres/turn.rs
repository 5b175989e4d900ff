//! Whose turn it is to refresh and to drop: one session of all servers of a database.

use sqlx::{PgConnection, PgPool, Postgres, Row as _, pool::PoolConnection};

use super::{
    cancel::stop,
    error::{is_locked, unavailable},
};
use crate::store::StoreError;

/// A connection that holds the lock of who refreshes or drops, and whose statements may take long. It is closed
/// with this, and the lock goes with it; what runs then is cancelled.
pub(super) struct Turn {
    pool: PgPool,
    /// Always there until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    backend: i32,
    running: bool,
}

impl Turn {
    /// Takes the turn; None: another session has it.
    pub(super) async fn take(pool: &PgPool) -> Result<Option<Self>, StoreError> {
        Self::ask(pool, sql!("take_turn")).await
    }

    /// Takes the turn once it is free.
    ///
    /// # Errors
    ///
    /// [`StoreError::Elsewhere`]: it was not free within `database.lock_timeout`.
    pub(super) async fn wait(pool: &PgPool) -> Result<Self, StoreError> {
        Self::ask(pool, sql!("wait_turn")).await?.ok_or(StoreError::Elsewhere)
    }

    async fn ask(pool: &PgPool, sql: &'static str) -> Result<Option<Self>, StoreError> {
        let connection = pool.acquire().await.map_err(unavailable)?;
        let mut turn = Self { pool: pool.clone(), connection: Some(connection), backend: 0, running: true };
        let asked = async {
            let row = sqlx::query(sql).fetch_one(turn.connection()).await?;
            let taken: bool = row.try_get("taken")?;
            let backend: i32 = row.try_get("backend")?;
            if taken {
                sqlx::raw_sql("SET statement_timeout = 0").execute(turn.connection()).await?;
            }
            Ok::<_, sqlx::Error>((taken, backend))
        };
        let (taken, backend) = match asked.await {
            Err(error) if is_locked(&error) => (false, 0),
            asked => asked.map_err(unavailable)?,
        };
        (turn.backend, turn.running) = (backend, false);
        if taken {
            return Ok(Some(turn));
        }
        // Nothing was changed: it may serve others.
        drop(turn.connection.take());
        Ok(None)
    }

    /// Runs statements, each in a transaction of its own.
    pub(super) async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        self.running = true;
        let done = work(self.connection()).await;
        self.running = false;
        done
    }

    /// Gives the turn to others at once, not only when the connection is closed.
    pub(super) async fn end(mut self) {
        let ended =
            self.run(async |connection| sqlx::query(sql!("end_turn")).execute(connection).await).await;
        if let Err(error) = ended {
            tracing::debug!(%error, "the turn ends with its connection");
        }
    }

    fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("only dropping takes it")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            stop(&self.pool, connection, self.running.then_some(self.backend));
        }
    }
}
