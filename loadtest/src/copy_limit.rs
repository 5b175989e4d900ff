//! What PostgreSQL itself takes: the same rows into the same table and index by sorted `COPY BINARY`,
//! without ledger, server and network. The rows are made and encoded beforehand; nothing else is timed.

mod encode;
mod psql;
mod scratch;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::task::JoinSet;

use crate::{
    farm::{Delivery, Farm},
    report::{LimitRun, Way},
    workload::{DAY_US, Latencies, Load, history_start_us, now_us},
};

pub use scratch::ScratchDatabase;

/// Readings that are made and encoded before they are timed: some 100 MB.
const ROUND: usize = 1_000_000;
/// Bytes handed to the connection at a time.
const PIECE: usize = 64 << 10;

/// Measures each group size for `each` over so many connections, the table emptied before each.
///
/// # Errors
///
/// The database is gone, or refuses rows.
pub async fn measure(
    load: &Load,
    groups: &[usize],
    each: Duration,
    database: &ScratchDatabase,
    connections: usize,
) -> Result<Vec<LimitRun>> {
    let mut runs = Vec::with_capacity(groups.len());
    for &group in groups {
        let mut writers = Writers::open(load, database.options(), connections).await?;
        let (mut commits, mut readings, mut timed) = (Latencies::default(), 0, Duration::ZERO);
        while timed < each {
            writers.prepare(group, ROUND).await?;
            let begun = Instant::now();
            readings += writers.write(&mut commits).await?;
            timed += begun.elapsed();
        }
        let percentiles = commits.percentiles();
        runs.push(LimitRun {
            way: Way::Copy,
            connections,
            group,
            readings_per_second: readings as f64 / timed.as_secs_f64(),
            commits: percentiles.samples,
            commit_ms_p50: percentiles.p50,
            commit_ms_p99: percentiles.p99,
        });
    }
    Ok(runs)
}

/// Has psql write the same rows, sorted in groups of `group`, with its `\copy … binary`.
///
/// # Errors
///
/// psql is not installed, or fails.
pub async fn measure_psql(
    load: &Load,
    group: usize,
    database: &ScratchDatabase,
    connections: usize,
) -> Result<LimitRun> {
    let mut writers = Writers::open(load, database.options(), connections).await?;
    writers.prepare(group, ROUND).await?;
    let groups: Vec<_> = writers.writers.iter_mut().map(|writer| std::mem::take(&mut writer.ready)).collect();
    psql::measure(database.url(), groups).await
}

/// Rows of one commit.
struct Group {
    /// Without the header and the trailer of the format.
    rows: Vec<u8>,
    readings: u64,
}

/// One connection and the farms whose readings it writes, as a lane has its producers.
struct Writer {
    connection: PgConnection,
    sources: Vec<Source>,
    next: usize,
    commits: i64,
    ready: Vec<Group>,
    days: BTreeSet<i64>,
}

struct Source {
    farm: Farm,
    series: Vec<i32>,
}

struct Writers {
    writers: Vec<Writer>,
    batch: usize,
    known_days: BTreeSet<i64>,
}

impl Writers {
    async fn open(load: &Load, options: &PgConnectOptions, connections: usize) -> Result<Self> {
        ensure!(connections > 0, "0 connections: give at least 1");
        let mut writers = Vec::with_capacity(connections);
        for number in 0..connections {
            let mut connection = PgConnection::connect_with(options).await.context("connecting")?;
            if number == 0 {
                sqlx::query("TRUNCATE iot.reading")
                    .execute(&mut connection)
                    .await
                    .context("emptying the table")?;
            }
            let mut sources = Vec::new();
            for producer in (number..load.producers).step_by(connections) {
                sources.push(Source::new(load.farm(producer, history_start_us()), &mut connection).await?);
            }
            ensure!(!sources.is_empty(), "{connections} connections for {} producers", load.producers);
            let (ready, days) = (Vec::new(), BTreeSet::new());
            writers.push(Writer { connection, sources, next: 0, commits: 0, ready, days });
        }
        Ok(Self { writers, batch: load.batch, known_days: BTreeSet::new() })
    }

    /// Makes and encodes groups, and the partitions that they go into.
    async fn prepare(&mut self, group: usize, readings: usize) -> Result<()> {
        let groups = (readings / group / self.writers.len()).max(2);
        let batch = self.batch.min(group);
        for writer in &mut self.writers {
            for _ in 0..groups {
                writer.make(group, batch);
            }
            for &day in writer.days.difference(&self.known_days) {
                sqlx::query("SELECT iot.ensure_reading_partition(DATE '1970-01-01' + $1)")
                    .bind(day as i32)
                    .execute(&mut writer.connection)
                    .await
                    .context("making the partition of a day")?;
            }
            self.known_days.append(&mut writer.days);
        }
        Ok(())
    }

    /// Writes what is ready; answers how many readings that were.
    async fn write(&mut self, commits: &mut Latencies) -> Result<u64> {
        let mut tasks = JoinSet::new();
        for mut writer in self.writers.drain(..) {
            tasks.spawn(async move {
                let (mut took, mut readings) = (Vec::new(), 0);
                for group in std::mem::take(&mut writer.ready) {
                    let begun = Instant::now();
                    copy(&mut writer.connection, &group.rows).await.context("COPY")?;
                    took.push(begun.elapsed());
                    readings += group.readings;
                }
                anyhow::Ok((writer, took, readings))
            });
        }
        let mut total = 0;
        while let Some(done) = tasks.join_next().await {
            let (writer, took, readings) = done.context("a writer panicked")??;
            for took in took {
                commits.record(took, 1);
            }
            total += readings;
            self.writers.push(writer);
        }
        Ok(total)
    }
}

impl Source {
    async fn new(farm: Farm, connection: &mut PgConnection) -> Result<Self> {
        let mut series = Vec::with_capacity(farm.series().len());
        for name in farm.series() {
            let number = sqlx::query_scalar(
                "INSERT INTO iot.series (farm_id, device_uid, device_type, metric_name, metric_unit) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (farm_id, device_uid, device_type, metric_name, metric_unit) \
                 DO UPDATE SET farm_id = excluded.farm_id RETURNING series_id",
            );
            let number = number
                .bind(name.farm_id)
                .bind(&name.device_uid)
                .bind(name.device_type.name())
                .bind(name.metric.name())
                .bind(name.metric.unit());
            series.push(number.fetch_one(&mut *connection).await.context("naming a series")?);
        }
        Ok(Self { farm, series })
    }
}

impl Writer {
    /// One group, of batches of its farms in turn, sorted by series and time.
    fn make(&mut self, group: usize, batch: usize) {
        let limit_us = now_us();
        let mut rows = Vec::with_capacity(group);
        let mut delivery = Delivery::default();
        for _ in 0..group.div_ceil(batch) {
            let turn = self.next;
            self.next = (turn + 1) % self.sources.len();
            let source = &mut self.sources[turn];
            delivery.clear();
            source.farm.deliver(batch, limit_us, &mut delivery);
            rows.extend(
                delivery.readings.drain(..).map(|sample| (source.series[sample.series as usize], sample)),
            );
        }
        rows.sort_by_key(|(series, sample)| (*series, sample.time_us));
        self.commits += 1;
        let mut encoded = Vec::with_capacity(rows.len() * 120);
        for (place, (series, sample)) in rows.iter().enumerate() {
            self.days.insert(sample.time_us.div_euclid(DAY_US));
            encode::row(&mut encoded, *series, self.commits << 16 | place as i64, sample);
        }
        self.ready.push(Group { rows: encoded, readings: rows.len() as u64 });
    }
}

async fn copy(connection: &mut PgConnection, rows: &[u8]) -> Result<(), sqlx::Error> {
    let mut copy = connection.copy_in_raw(encode::STATEMENT).await?;
    copy.send(encode::HEADER).await?;
    for piece in rows.chunks(PIECE) {
        copy.send(piece).await?;
    }
    copy.send(encode::TRAILER).await?;
    copy.finish().await?;
    Ok(())
}
