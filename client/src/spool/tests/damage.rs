//! Damage on the disk, and power cuts, case by case.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::spool::{
    durable::faults::{self, Faults},
    frame::HEADER,
    segment,
};

/// A closed spool with 40 batches of 52 bytes, 100 bytes each on the disk, ten in each of four segments.
fn written() -> (tempfile::TempDir, SpoolConfig, PathBuf) {
    let dir = memory_dir();
    let config = config(dir.path());
    let (_spool, log, _) = Spool::open(&config).unwrap();
    append_each(&log, &frames(1..=40, 52));
    assert_eq!(segment::names(&log.dir).unwrap(), [1, 11, 21, 31]);
    (dir, config, log.dir.clone())
}

/// Changes the bytes of a segment.
fn edit(log: &Path, name: u64, edit: impl FnOnce(&mut Vec<u8>)) {
    let path = segment::path(log, name);
    let mut bytes = fs::read(&path).unwrap();
    edit(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

/// What an opening finds in the only log: recovered, the offsets that can be read, and the gaps then.
fn reopened(config: &SpoolConfig) -> (Recovered, Vec<u64>, Vec<Gap>) {
    let (_spool, _log, left) = Spool::open(config).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].next_offset(), 41);
    let read = left[0].read(0, usize::MAX).unwrap();
    for read in &read {
        assert_eq!(*read, frame(read.offset, 52));
    }
    (left[0].recovered().clone(), offsets(&read), left[0].gaps())
}

fn lost(first: u64, last: u64) -> Gap {
    let items = frames(first..=last, 0).iter().map(|frame| u64::from(frame.items)).sum();
    Gap { first, last, items, reason: GapReason::Lost }
}

fn without(first: u64, last: u64) -> Vec<u64> {
    (1..first).chain(last + 1..=40).collect()
}

#[test]
fn a_damaged_header_costs_its_batch_and_its_items_are_known_from_the_neighbours() {
    // In the middle, at the start, and at the end of a segment.
    for offset in [5, 11, 20, 31] {
        let (_dir, config, log) = written();
        let name = (offset - 1) / 10 * 10 + 1;
        edit(&log, name, |bytes| bytes[(offset - name) as usize * 100 + 34] ^= 0x80);
        let (recovered, read, gaps) = reopened(&config);
        assert_eq!(recovered, Recovered { torn_bytes: 0, lost: vec![lost(offset, offset)] });
        assert_eq!(read, without(offset, offset));
        assert_eq!(gaps, [lost(offset, offset)]);
        // Told once, kept for ever.
        let (again, _, gaps) = reopened(&config);
        assert_eq!(again, Recovered::default());
        assert_eq!(gaps, [lost(offset, offset)]);
    }
}

#[test]
fn a_damaged_payload_is_found_when_it_is_read() {
    let (_dir, config, log) = written();
    edit(&log, 1, |bytes| bytes[4 * 100 + HEADER + 20] ^= 1);
    let (recovered, read, gaps) = reopened(&config);
    assert_eq!(recovered, Recovered::default());
    assert_eq!(read, without(5, 5));
    assert_eq!(gaps, [lost(5, 5)]);
}

#[test]
fn a_whole_batch_at_the_end_that_is_damaged_is_lost_and_not_torn() {
    let (_dir, config, log) = written();
    edit(&log, 31, |bytes| bytes[999] ^= 1);
    let (recovered, read, _) = reopened(&config);
    assert_eq!(recovered, Recovered { torn_bytes: 0, lost: vec![lost(40, 40)] });
    assert_eq!(read, without(40, 40));
}

#[test]
fn a_segment_that_vanished_is_lost_with_all_its_items() {
    for name in [1, 11, 21] {
        let (_dir, config, log) = written();
        fs::remove_file(segment::path(&log, name)).unwrap();
        let (recovered, read, _) = reopened(&config);
        assert_eq!(recovered.lost, [lost(name, name + 9)]);
        assert_eq!(read, without(name, name + 9));
    }
}

#[test]
fn a_segment_that_vanishes_while_the_log_is_open_is_lost_as_well() {
    let dir = memory_dir();
    let (_spool, log, _) = Spool::open(&config(dir.path())).unwrap();
    append_each(&log, &frames(1..=40, 52));
    fs::remove_file(segment::path(&log.dir, 11)).unwrap();
    assert_eq!(offsets(&log.read(1, usize::MAX).unwrap()), without(11, 20));
    assert_eq!(log.gaps(), [lost(11, 20)]);
}

#[test]
fn segments_cut_short_in_the_middle_lose_their_ends_only() {
    let (_dir, config, log) = written();
    edit(&log, 11, |bytes| bytes.truncate(730));
    let (recovered, read, _) = reopened(&config);
    assert_eq!(recovered, Recovered { torn_bytes: 0, lost: vec![lost(18, 20)] });
    assert_eq!(read, without(18, 20));
}

#[test]
fn without_a_record_of_the_ack_what_is_missing_at_the_front_was_acked() {
    for damage in [None, Some(&[7; 12][..]), Some(b"")] {
        let dir = memory_dir();
        let config = config(dir.path());
        let (spool, log, left) = Spool::open(&config).unwrap();
        append_each(&log, &frames(1..=40, 52));
        log.ack(25).unwrap();
        let record = log.dir.join("acked");
        match damage {
            Some(bytes) => fs::write(record, bytes).unwrap(),
            None => fs::remove_file(record).unwrap(),
        }
        drop((spool, log, left));
        let (recovered, read, gaps) = reopened(&config);
        assert_eq!((recovered, gaps), (Recovered::default(), vec![]));
        assert_eq!(read, (21..=40).collect::<Vec<_>>());
    }
}

#[test]
fn damaged_gaps_leave_what_is_there_readable_and_call_the_rest_lost() {
    let dir = memory_dir();
    let config = config(dir.path());
    let (spool, log, left) = Spool::open(&config).unwrap();
    append_each(&log, &frames(1..=40, 52));
    let gaps = log.evict(2_000, u64::MAX, GapReason::Evicted).unwrap();
    assert_eq!(gaps, [Gap { reason: GapReason::Evicted, ..lost(1, 20) }]);
    log.evict(u64::MAX, 25, GapReason::Expired).unwrap();
    let record = log.dir.join("gaps");
    let mut bytes = fs::read(&record).unwrap();
    for byte in &mut bytes {
        *byte ^= 0x55;
    }
    fs::write(record, bytes).unwrap();
    drop((spool, log, left));
    let (recovered, read, gaps) = reopened(&config);
    assert_eq!(recovered.lost, [lost(1, 20)]);
    assert_eq!(read, (21..=40).collect::<Vec<_>>());
    assert_eq!(gaps, [lost(1, 20)]);
}

#[test]
fn batches_whose_sync_failed_are_not_accepted_even_if_they_cannot_be_cut_off() {
    let dir = memory_dir();
    let config = config(dir.path());
    let (spool, log, left) = Spool::open(&config).unwrap();
    append_each(&log, &frames(1..=3, 52));
    faults::order(Faults { failed_sync_after: Some(0), no_truncate: true, ..Faults::default() });
    let mut refused = frames(4..=5, 52);
    refused[0].sealed_us = -1;
    assert!(matches!(log.append(&refused), Err(SpoolError::Io { .. })));
    faults::order(Faults::default());
    assert_eq!(log.next_offset(), 4);
    assert_eq!(offsets(&log.read(1, usize::MAX).unwrap()), [1, 2, 3]);
    append_each(&log, &frames(4..=40, 52));
    assert_eq!(segment::names(&log.dir).unwrap()[..2], [1, 4], "the log went on in a new segment");
    assert_eq!(fs::metadata(segment::path(&log.dir, 1)).unwrap().len(), 500, "the rest is still there");
    assert_eq!(offsets(&log.read(1, usize::MAX).unwrap()), without(41, 41));
    drop((spool, log, left));
    let (recovered, read, gaps) = reopened(&config);
    assert_eq!((recovered, gaps), (Recovered::default(), vec![]));
    assert_eq!(read, without(41, 41));
}

/// The syncs stand between a record and what is removed because of it.
#[test]
fn nothing_is_removed_before_the_record_of_it_is_durable() {
    let dir = memory_dir();
    let config = config(dir.path());
    let (spool, log, left) = Spool::open(&config).unwrap();
    append_each(&log, &frames(1..=40, 52));
    let failing = Faults { failed_sync_after: Some(0), ..Faults::default() };

    faults::order(failing);
    assert!(matches!(log.evict(1_500, u64::MAX, GapReason::Evicted), Err(SpoolError::Io { .. })));
    assert_eq!((log.gaps(), segment::names(&log.dir).unwrap()), (vec![], vec![1, 11, 21, 31]));
    faults::order(failing);
    assert!(matches!(log.ack(20), Err(SpoolError::Io { .. })));
    assert_eq!((log.acked(), segment::names(&log.dir).unwrap()), (20, vec![1, 11, 21, 31]));
    faults::order(failing);
    assert!(matches!(log.poison(25), Err(SpoolError::Io { .. })));
    assert_eq!(offsets(&log.read(25, 0).unwrap()), [25]);

    // The next ack makes up for the one before.
    faults::order(Faults::default());
    log.ack(21).unwrap();
    assert_eq!(segment::names(&log.dir).unwrap(), [21, 31]);
    drop((spool, log, left));
    assert_eq!(reopened(&config), (Recovered::default(), (21..=40).collect(), vec![]));
}

#[test]
fn a_new_segment_is_not_used_before_its_name_is_durable() {
    let dir = memory_dir();
    let (_spool, log, _) = Spool::open(&config(dir.path())).unwrap();
    append_each(&log, &frames(1..=10, 52));
    // The eleventh batch starts a segment: the first sync is the directory's, the second the batch's.
    for failed_sync_after in [Some(0), Some(1)] {
        faults::order(Faults { failed_sync_after, ..Faults::default() });
        assert!(matches!(log.append(&[frame(11, 52)]), Err(SpoolError::Io { .. })));
        assert!(faults::spent());
    }
    faults::order(Faults::default());
    append_each(&log, &frames(11..=12, 52));
    assert_eq!(offsets(&log.read(1, usize::MAX).unwrap()), (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_copy_of_an_older_state_opens_with_what_it_had() {
    let dir = memory_dir();
    let config = config(dir.path());
    let (_spool, log, _) = Spool::open(&config).unwrap();
    append_each(&log, &frames(1..=25, 52));
    log.ack(12).unwrap();
    let copy = SpoolConfig { dir: dir.path().join("copy"), ..config.clone() };
    let copied = copy.dir.join(log.producer_id().to_string());
    fs::create_dir_all(&copied).unwrap();
    fs::copy(config.dir.join(MARK), copy.dir.join(MARK)).unwrap();
    for entry in fs::read_dir(&log.dir).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copied.join(entry.file_name())).unwrap();
    }
    append_each(&log, &frames(26..=40, 52));
    let (_spool, fresh, left) = Spool::open(&copy).unwrap();
    assert_ne!(fresh.producer_id(), log.producer_id());
    assert_eq!(left[0].producer_id(), log.producer_id());
    assert_eq!((left[0].acked(), left[0].first_retained(), left[0].next_offset()), (12, 11, 26));
    assert_eq!(offsets(&left[0].read(13, usize::MAX).unwrap()), (13..=25).collect::<Vec<_>>());
    // The server had more from the original.
    left[0].ack(40).unwrap();
    left[0].remove().unwrap();
}

proptest! {
    /// Whatever lies in the files of a log: it opens, what can be read is what was written, every
    /// offset that is not acked can be read or is a gap, and the next opening finds the same.
    #[test]
    fn any_bytes_in_any_file_open_and_end(
        edits in vec((0_usize..6, any::<Index>(), vec(any::<u8>(), 0..200), any::<bool>()), 1..6),
    ) {
        let (_dir, config, log) = written();
        for (file, at, bytes, whole) in edits {
            let path = match file {
                0 => log.join("gaps"),
                1 => log.join("acked"),
                n => segment::path(&log, (n as u64 - 2) * 10 + 1),
            };
            let mut content = fs::read(&path).unwrap();
            let at = at.index(content.len() + 1);
            if whole {
                content = bytes;
            } else {
                content.splice(at..(at + bytes.len() / 2).min(content.len()), bytes);
            }
            fs::write(&path, content).unwrap();
        }
        let mut before = None;
        for _ in 0..3 {
            let (_spool, _log, left) = Spool::open(&config).unwrap();
            prop_assert!(left.len() <= 1);
            let Some(left) = left.first() else { break };
            let read = left.read(1, usize::MAX).unwrap();
            for read in &read {
                prop_assert_eq!(read, &frame(read.offset, 52));
            }
            let gaps = left.gaps();
            let mut fates: Vec<_> = offsets(&read);
            fates.extend(gaps.iter().flat_map(|gap| gap.first..=gap.last));
            fates.retain(|offset| *offset > left.acked());
            fates.sort_unstable();
            prop_assert_eq!(&fates, &(left.acked() + 1..left.next_offset()).collect::<Vec<_>>());
            prop_assert_eq!(left.shared.held(), left.bytes());
            let now = (offsets(&read), gaps, left.next_offset());
            prop_assert!(before.is_none_or(|before| before == now));
            before = Some(now);
        }
    }
}
