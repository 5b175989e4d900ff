//! Statements that nobody waits for any more are stopped in the database.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool, Postgres, pool::PoolConnection};

/// Time in which a statement must end once it was cancelled, and the connection for cancelling it be open.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Stops the statement of a backend, over a connection that does not wait for one of the pool's.
pub(super) async fn cancel(pool: &PgPool, backend: i32) -> Result<(), sqlx::Error> {
    let mut other = PgConnection::connect_with(&pool.connect_options()).await?;
    sqlx::query(sql!("cancel")).bind(backend).execute(&mut other).await?;
    other.close().await
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
