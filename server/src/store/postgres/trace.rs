//! A commit whose data the database refused: everything once more under savepoints, halving until the rows
//! at fault are alone, so that a bad row never takes a good one with it.

use sqlx::{Connection as _, PgConnection};

use super::error::{Kind, kind};

/// A way to write rows.
pub(super) trait Writer<R> {
    /// Writes all of them or none.
    async fn write(&self, connection: &mut PgConnection, rows: &[R]) -> Result<(), sqlx::Error>;
}

/// Writes the rows that can be written; answers the others, with what the database said.
pub(super) async fn write_sound<R: Copy>(
    connection: &mut PgConnection,
    rows: &[R],
    writer: &impl Writer<R>,
) -> Result<Vec<(R, String)>, sqlx::Error> {
    let mut refused = Vec::new();
    let mut parts = vec![rows];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let mut savepoint = connection.begin().await?;
        match writer.write(&mut savepoint, part).await {
            Ok(()) => savepoint.commit().await?,
            Err(error) if kind(&error) == Kind::Data => {
                savepoint.rollback().await?;
                match part {
                    [row] => refused.push((*row, message(&error))),
                    _ => {
                        let (left, right) = part.split_at(part.len() / 2);
                        parts.extend([right, left]);
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

/// What a person needs to see of it, at most 256 characters.
fn message(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(error) => {
            format!(
                "the database refused it: {} (SQLSTATE {})",
                error.message(),
                error.code().unwrap_or_default()
            )
        }
        other => other.to_string(),
    };
    text.chars().take(256).collect()
}
