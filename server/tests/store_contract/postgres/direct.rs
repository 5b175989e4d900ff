//! `COPY`, what stands in for it, and what TimescaleDB makes of it.

use std::time::{Duration, Instant};

use herdstream_server::store::{
    Feature, Outcome, Store,
    postgres::{CopyMode, DirectCompress, NewChunks, PostgresConfig, PostgresStore},
};
use herdstream_testkit::Postgres;

use super::{super::laws::Fixture as _, Database};
use crate::store_contract::rows::{
    DAY, NOON, batches, commit_one, everything, opening, producer, reading, resolve, values, write,
};

fn feature(store: &dyn Store, name: &str) -> Feature {
    let features = store.describe().features;
    features.into_iter().find(|feature| feature.name == name).expect("every profile tells it")
}

/// Two commits: the first one meets the missing COPY, the second one knows.
async fn commits_and_counts_once(store: &dyn Store) {
    let series = resolve(store, 0).await;
    commit_one(store, opening(producer(1), "a")).await;
    for offset in 0..2 {
        let one = vec![reading(series, NOON + offset as i64, offset as f64)];
        let outcome = commit_one(store, batches(producer(1), 1, offset, offset + 1, one)).await;
        let Outcome::Committed(row, refused) = &outcome else { panic!("{outcome:?}") };
        assert_eq!((row.committed_offset, row.totals.stored), (offset + 1, offset + 1));
        assert!(refused.is_empty(), "{refused:?}");
    }
    assert_eq!(values(&everything(store, series).await), [0.0, 1.0]);
}

/// Under row level security PostgreSQL refuses COPY, and takes INSERT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_refuses_copy_gets_inserts() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.create_database();
    server.psql("DROP ROLE IF EXISTS writer; CREATE ROLE writer LOGIN PASSWORD 'writer'").unwrap();
    server.psql_at(&url, &["CREATE SCHEMA iot AUTHORIZATION writer"]).unwrap();
    let name = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let config = PostgresConfig::new(server.url_as("writer", "writer", name));
    let store = PostgresStore::open(config).await.unwrap();
    assert!(feature(&store, "copy").on);
    let rules = [
        "ALTER TABLE iot.reading ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE iot.reading FORCE ROW LEVEL SECURITY",
        "CREATE POLICY everything ON iot.reading USING (true) WITH CHECK (true)",
    ];
    server.psql_at(&url, &rules).unwrap();
    commits_and_counts_once(&store).await;
    assert!(!feature(&store, "copy").on, "the store has found out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timescale_without_copy_gets_inserts() {
    let Some(database) = Database::timescale().await else { return };
    let copies = database.is_real();
    commits_and_counts_once(&*database.store()).await;
    assert_eq!(feature(&*database.store(), "copy").on, copies);
}

#[tokio::test]
async fn why_direct_compress_is_off_is_told() {
    let told = |store: &dyn Store, part: &str| {
        let Feature { on, note, .. } = feature(store, "direct_compress");
        assert!(!on && note.contains(part), "{part:?} is not in {note:?}");
    };
    if let Some(database) = Database::plain().await {
        told(&*database.store(), "needs TimescaleDB");
    }
    if let Some(database) =
        Database::timescale_with(|config| config.direct_compress = DirectCompress::Never).await
    {
        told(&*database.store(), "database.direct_compress");
    }
    if let Some(database) = Database::timescale_with(|config| config.copy = CopyMode::Never).await {
        told(&*database.store(), "database.copy");
    }
    if let Some(database) = Database::timescale().await {
        if database.is_real() {
            let feature = feature(&*database.store(), "direct_compress");
            assert!(feature.on, "{feature:?}");
        } else {
            told(&*database.store(), "2.26");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_chunks_tell_whether_they_are_compressed() {
    if let Some(database) = Database::plain().await {
        assert_eq!(database.postgres().new_chunks().await.unwrap(), None);
    }
    for direct_compress in [DirectCompress::Auto, DirectCompress::Never] {
        let Some(database) =
            Database::timescale_with(|config| config.direct_compress = direct_compress).await
        else {
            return;
        };
        let store = database.store();
        let chunks = async || database.postgres().new_chunks().await.unwrap();
        assert_eq!(chunks().await, Some(NewChunks::default()));
        let series = resolve(&*store, 0).await;
        write(&*store, vec![reading(series, NOON, 1.0), reading(series, NOON + DAY, 2.0)]).await;
        if feature(&*store, "direct_compress").on {
            assert_eq!(chunks().await, Some(NewChunks { compressed: 2, uncompressed: 0 }));
        } else {
            assert_eq!(chunks().await, Some(NewChunks { compressed: 0, uncompressed: 2 }));
            database
                .run("SELECT compress_chunk(chunk) FROM show_chunks('iot.reading') AS chunk LIMIT 1")
                .await;
            assert_eq!(chunks().await, Some(NewChunks { compressed: 1, uncompressed: 1 }));
        }
        assert_eq!(values(&everything(&*store, series).await), [1.0, 2.0]);
    }
}

/// Needs a real TimescaleDB: on PGlite there is nothing to be disappointed of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_stay_uncompressed_are_noticed() {
    let Some(database) = Database::timescale().await else { return };
    let store = database.store();
    if !feature(&*store, "direct_compress").on {
        return;
    }
    let rule = "CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER pass BEFORE INSERT ON iot.reading FOR EACH ROW EXECUTE FUNCTION pass()";
    database.run(rule).await;
    let series = resolve(&*store, 0).await;
    write(&*store, vec![reading(series, NOON, 1.0)]).await;
    let asked = Instant::now();
    while !feature(&*store, "direct_compress").note.contains("see the log") {
        assert!(asked.elapsed() < Duration::from_secs(150), "two looks have passed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
