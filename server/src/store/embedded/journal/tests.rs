use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tempfile::TempDir;

use super::*;

const BATCHES: u8 = 4;

/// A database with some batches, and where each ends in its journal.
fn written() -> (TempDir, PathBuf, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("0.jnl");
    let (db, keyspace) = open(dir.path());
    let mut ends = Vec::new();
    for batch in 0..BATCHES {
        let mut items = db.batch().durability(Some(PersistMode::SyncData));
        for item in 0..20_u8 {
            items.insert(&keyspace, [batch, item], [0x5a; 100]);
        }
        items.remove(&keyspace, [0xff]);
        items.commit().unwrap();
        ends.push(data_end(&mut File::open(&journal).unwrap()).unwrap());
    }
    drop((db, keyspace));
    (dir, journal, ends)
}

fn open(dir: &Path) -> (Database, Keyspace) {
    let db = Database::builder(dir).worker_threads(1).open().unwrap();
    let keyspace = db.keyspace("rows", KeyspaceCreateOptions::default).unwrap();
    (db, keyspace)
}

/// Batches in the database once the journal is settled, and that they are whole.
fn batches(dir: &Path) -> u64 {
    settle(dir).unwrap();
    let (_db, keyspace) = open(dir);
    let keys: Vec<_> = keyspace.iter().map(|row| row.key().unwrap()[0]).collect();
    let whole =
        keys.chunks(20).all(|batch| batch.len() == 20 && batch.iter().all(|number| *number == batch[0]));
    assert!(whole, "a part of a batch is seen: {keys:?}");
    keys.len() as u64 / 20
}

#[test]
fn the_scan_knows_what_fjall_writes() {
    let (_dir, journal, ends) = written();
    let Scan { valid_end, .. } = scan(&mut File::open(journal).unwrap()).unwrap();
    assert_eq!(valid_end, ends[3]);
    assert!(ends.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_batch_that_was_cut_off_is_none() {
    let (dir, journal, ends) = written();
    let bytes = fs::read(&journal).unwrap();
    // The file keeps its length, as after a crash, or loses its end, as after a reopening.
    for (position, keeps_len) in (ends[2]..=ends[3]).step_by(131).flat_map(|at| [(at, true), (at, false)]) {
        let mut cut = bytes[..position as usize].to_vec();
        if keeps_len {
            cut.resize(bytes.len(), 0);
        }
        fs::write(&journal, cut).unwrap();
        assert_eq!(batches(dir.path()), 3, "cut at {position}");
    }
    fs::write(&journal, &bytes).unwrap();
    assert_eq!(batches(dir.path()), 4);
}

#[test]
fn a_batch_with_a_hole_is_none() {
    let (dir, journal, ends) = written();
    let bytes = fs::read(&journal).unwrap();
    let first = ends[2].next_multiple_of(SECTOR as u64) as usize;
    // The first sector was written before, up to where the batch begins.
    let holes = (first..ends[3] as usize - SECTOR).step_by(SECTOR).map(|start| start..start + SECTOR);
    for hole in holes.chain(std::iter::once(ends[2] as usize..first)) {
        let mut torn = bytes.clone();
        torn[hole.clone()].fill(0);
        fs::write(&journal, torn).unwrap();
        assert_eq!(batches(dir.path()), 3, "a hole at {hole:?}");
    }
}

#[test]
fn a_changed_byte_is_damage_and_nothing_is_cut() {
    let (dir, journal, ends) = written();
    let whole = fs::read(&journal).unwrap();
    let assert_damaged = |bytes: &[u8], position: usize, bit: u8| {
        let mut damaged = bytes.to_vec();
        damaged[position] ^= bit;
        fs::write(&journal, &damaged).unwrap();
        let error = settle(dir.path()).expect_err("it is noticed");
        assert!(matches!(error, StoreError::Damaged(_)), "{error:?} for byte {position}");
        assert_eq!(fs::read(&journal).unwrap(), damaged);
    };
    // With the zeros that follow, as after a crash, only some: they take time.
    let value = whole.windows(50).position(|window| window == [0x5a; 50]).unwrap();
    let last_value = whole.windows(50).rposition(|window| window == [0x5a; 50]).unwrap();
    for position in [0, value, ends[0] as usize, ends[1] as usize - 5, last_value, ends[3] as usize - 1] {
        assert_damaged(&whole, position, 0x40);
    }
    // Without them, as after a reopening, all: lengths that lead beyond the end are among them.
    let starts = [0, ends[0], ends[1], ends[2]];
    for position in 0..ends[3] {
        // The number of a batch is under no checksum.
        if starts.iter().all(|start| !(start + 5..start + 13).contains(&position)) {
            for bit in [0x40, 0x01] {
                assert_damaged(&whole[..ends[3] as usize], position as usize, bit);
            }
        }
    }
}

#[test]
fn no_journal_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    settle(dir.path()).unwrap();
    settle(&dir.path().join("absent")).unwrap();
}
