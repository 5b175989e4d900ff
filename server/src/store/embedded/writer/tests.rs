use parking_lot::RwLock;
use tempfile::TempDir;

use super::*;
use crate::{
    model::{DAY_US, Reading, Totals},
    store::{
        Batch, Guard, OpenSession, ProducerCommit, SeriesRange,
        embedded::{EmbeddedConfig, fixture::key},
    },
};

const TIME_US: i64 = 5 * DAY_US;

/// A writer that is driven by hand.
fn writer(dir: &TempDir) -> Writer {
    let config = EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(dir.path()) };
    let directory = Directory::take(&config.dir).unwrap();
    let engine = Engine::open(&directory.engine(), &config).unwrap();
    directory.created().unwrap();
    let shared = Arc::new(Shared { config, state: RwLock::new(State::Closed) });
    Writer::new(shared, directory, engine).unwrap()
}

fn one_reading(series: SeriesId) -> Arc<CommitGroup> {
    let reading = Reading { battery_level: Some(80), ..Reading::new(series, TIME_US, 38.5) };
    let commit = ProducerCommit {
        producer: uuid::Uuid::from_u128(1),
        guard: Some(Guard { epoch: 0, committed_offset: 0 }),
        committed_offset: 0,
        totals: Totals { stored: 1, ..Totals::default() },
        open: Some(OpenSession { gateway_id: "barn".into(), instance_id: "a".into() }),
        batches: vec![Batch { offset: 0, readings: vec![reading], milkings: Vec::new() }],
        quarantined: Vec::new(),
    };
    Arc::new(CommitGroup { producers: vec![commit] })
}

fn done<T>(result: Result<T, Failure>) -> T {
    match result {
        Ok(done) => done,
        Err(Failure::Refused(error) | Failure::Engine(error)) => panic!("{error}"),
    }
}

fn break_and_reopen(writer: &mut Writer) {
    writer.fail(&StoreError::Unavailable("the disk gave up".into(), None));
    assert!(matches!(writer.engine(), Err(Failure::Refused(StoreError::Unavailable(..)))));
    while writer.engine.is_none() {
        thread::sleep(Duration::from_millis(1));
        writer.reopen();
    }
}

fn stored(writer: &Writer, series: SeriesId) -> usize {
    let engine = done(writer.engine());
    let range = SeriesRange {
        series,
        start_us: 0,
        end_us: 10 * DAY_US,
        skip: 0,
        limit: 100,
        text_bytes: usize::MAX,
        tag: None,
    };
    engine.view().range(&range).unwrap().len()
}

#[test]
fn a_commit_whose_outcome_got_lost_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&dir);
    let series = done(writer.resolve(vec![key(0)]))[0];
    let group = one_reading(series);
    let outcomes = done(writer.commit(group.clone()));
    // As if the error had come after the sync: guard, offset and totals alone could not tell.
    writer.attempts[0].committed = false;
    break_and_reopen(&mut writer);
    assert_eq!(done(writer.commit(group)), outcomes);
    assert_eq!(stored(&writer, series), 1);
}

#[test]
fn a_commit_that_did_not_happen_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&dir);
    let series = done(writer.resolve(vec![key(0)]))[0];
    let group = one_reading(series);
    // As if the error had come before anything was written.
    writer.last_commit += 1;
    let number = writer.last_commit;
    writer.attempts.push(Attempt {
        group: Arc::downgrade(&group),
        number,
        outcomes: Vec::new(),
        committed: false,
    });
    break_and_reopen(&mut writer);
    let outcomes = done(writer.commit(group.clone()));
    assert_eq!(writer.last_commit, number + 1, "no number is used twice");
    assert_eq!(done(writer.commit(group)), outcomes);
    assert_eq!(stored(&writer, series), 1);
    let Outcome::Committed(row, _) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!((row.epoch, row.totals.stored), (1, 1));
}

#[test]
fn series_that_were_handed_out_keep_their_numbers_though_the_disk_lost_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&dir);
    let first = done(writer.resolve(vec![key(0)]))[0];
    done(writer.commit(one_reading(first)));
    assert!(writer.unsynced.is_empty(), "a commit syncs what came before it");
    // As if they had been handed out by an engine whose last writes never reached the disk.
    writer.unsynced = vec![(SeriesId(2), key(1)), (SeriesId(3), key(2))];
    break_and_reopen(&mut writer);
    assert_eq!(done(writer.resolve(vec![key(3), key(2), key(1), key(0)])), [4, 3, 2, 1].map(SeriesId));
    done(writer.commit(one_reading(SeriesId(3))));
    assert_eq!(stored(&writer, SeriesId(3)), 0, "fenced: the epoch was raised");
}

#[test]
fn statuses_are_written_and_their_records_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&dir);
    let series = done(writer.resolve(vec![key(0)]))[0];
    done(writer.commit(one_reading(series)));
    let engine = done(writer.engine());
    let heard = engine.devices.get(0).expect("it was heard");
    assert_eq!((heard.last_seen_us, heard.battery_level), (TIME_US, Some((TIME_US, 80))));
    assert_eq!(Unwritten::read(&engine).unwrap().commits, [1]);
    writer.write_statuses(&engine).unwrap();
    assert!(Unwritten::read(&engine).unwrap().commits.is_empty());
    drop(engine);
    break_and_reopen(&mut writer);
    assert_eq!(done(writer.engine()).devices.get(0), Some(heard));
}

#[test]
fn a_drop_that_was_interrupted_is_finished_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&dir);
    let series = done(writer.resolve(vec![key(0)]))[0];
    done(writer.commit(one_reading(series)));
    let engine = done(writer.engine());
    // The tombstone is there, and nothing else was done.
    let mut batch = engine.batch(1);
    batch.insert(engine.rows(), keys::tombstone(TIME_US / DAY_US), []);
    engine::write(batch, true).unwrap();
    drop(engine);
    assert_eq!(stored(&writer, series), 1);
    break_and_reopen(&mut writer);
    assert_eq!(stored(&writer, series), 0);
    let engine = done(writer.engine());
    assert!(engine.chunks().is_empty());
    assert_eq!(engine.view().get(keys::tombstone(TIME_US / DAY_US)).unwrap(), None);
    assert_eq!(engine.view().number(keys::activity(TIME_US / keys::MINUTE_US)).unwrap(), 0);
}

#[test]
fn a_panic_of_the_engine_is_a_failure_of_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&dir);
    let series = done(writer.resolve(vec![key(0)]))[0];
    let (reply, mut answer) = oneshot::channel();
    writer.answer::<()>(reply, |_| panic!("lock is poisoned"));
    let error = answer.try_recv().expect("it is answered").unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(..)), "{error:?}");
    assert!(error.to_string().contains("lock is poisoned"), "{error}");
    assert!(writer.engine.is_none());
    writer.reopen_at = Instant::now();
    writer.reopen();
    done(writer.commit(one_reading(series)));
}

#[test]
fn a_reader_that_takes_its_time_delays_the_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&dir);
    let reading = done(writer.engine());
    writer.fail(&StoreError::Unavailable("the disk gave up".into(), None));
    for _ in 0..3 {
        writer.reopen_at = Instant::now();
        writer.reopen();
        assert!(writer.engine.is_none(), "two engines would share the directory");
    }
    drop(reading);
    writer.reopen_at = Instant::now();
    writer.reopen();
    done(writer.engine());
}
