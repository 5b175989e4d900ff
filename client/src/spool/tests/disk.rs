//! Limits of the disk: full, files that may not grow, batches as large as segments.

use super::*;

#[test]
fn a_batch_may_be_larger_than_a_segment_but_not_than_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig { max_bytes: 64 << 20, ..config(dir.path()) };
    let (spool, log, _) = Spool::open(&config).unwrap();
    let huge = Frame { batch: vec![7; 40 << 20].into(), ..frame(2, 0) };
    log.append(&[frame(1, 10)]).unwrap();
    log.append(std::slice::from_ref(&huge)).unwrap();
    log.append(&[frame(3, 10)]).unwrap();
    let again = Frame { offset: 4, ..huge.clone() };
    assert!(matches!(log.append(&[again]), Err(SpoolError::Full { .. })));
    assert_eq!(log.read(1, 1_000).unwrap(), [frame(1, 10)]);
    assert_eq!(log.read(2, 1_000).unwrap(), std::slice::from_ref(&huge));
    drop((spool, log));
    let (_spool, _log, left) = Spool::open(&config).unwrap();
    assert_eq!(left[0].read(1, usize::MAX).unwrap(), [frame(1, 10), huge, frame(3, 10)]);
    left[0].ack(2).unwrap();
    assert!(left[0].bytes() < 10_000);
}

#[test]
fn files_that_may_not_grow_refuse_batches_and_keep_the_others() {
    let dir = tempfile::tempdir().unwrap();
    // Blocks of 512 or 1024 bytes, as the shell has it.
    let script = r#"trap '' XFSZ; ulimit -f 32; exec "$0" "$@""#;
    let output =
        child("spool::tests::disk::child_with_small_files", dir.path(), Some(script)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "a child process of another test"]
fn child_with_small_files() {
    let Some(dir) = child_dir() else { return };
    let config = SpoolConfig::new(dir.join("spool"));
    let (spool, log, left) = Spool::open(&config).unwrap();
    let mut refused = 0;
    let too_large = frame(1, 40_000);
    assert!(matches!(log.append(&[too_large]), Err(SpoolError::Io { .. })));
    for offset in 1..=60 {
        while let Err(error) = log.append(&[frame(offset, 3_000)]) {
            assert!(
                matches!(&error, SpoolError::Io { source, .. } if source.kind() == io::ErrorKind::FileTooLarge)
            );
            refused += 1;
            assert!(refused < 60, "{error:?}");
            assert_eq!(offsets(&log.read(1, usize::MAX).unwrap()), (1..offset).collect::<Vec<_>>());
        }
    }
    assert!(refused > 0, "the limit does not hold");
    drop((spool, log, left));
    let (_spool, _log, left) = Spool::open(&config).unwrap();
    assert_eq!(left[0].recovered(), &Recovered::default());
    assert_eq!(left[0].read(1, usize::MAX).unwrap(), frames(1..=60, 3_000));
}

#[test]
fn a_full_disk_refuses_batches_until_some_are_acked_or_evicted() {
    let dir = tempfile::tempdir().unwrap();
    // A file system of its own that ends with the child.
    let script = r#"mount -t tmpfs -o size=512k tmpfs "$HERDSTREAM_TEST_SPOOL" && exec "$0" "$@""#;
    let inner = child("spool::tests::disk::child_on_a_small_disk", dir.path(), Some(script));
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "--map-root-user"]).arg(inner.get_program()).args(inner.get_args());
    match unshare.env(CHILD_DIR, dir.path()).output() {
        Ok(output) => {
            let (text, errors) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if text.contains("running 1 test") {
                assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
            } else {
                eprintln!("skipped: cannot mount a small file system: {errors}");
            }
        }
        Err(error) => eprintln!("skipped: cannot run unshare: {error}"),
    }
}

#[test]
#[ignore = "a child process of another test"]
fn child_on_a_small_disk() {
    let Some(dir) = child_dir() else { return };
    let config = SpoolConfig { segment_bytes: 32 << 10, ..SpoolConfig::new(dir.join("spool")) };
    let (spool, log, left) = Spool::open(&config).unwrap();
    let fill_up = || {
        loop {
            let next = log.next_offset();
            match log.append(&[frame(next, 5_000)]) {
                Ok(()) => {}
                Err(SpoolError::Io { source, .. }) => {
                    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
                    assert_eq!(log.next_offset(), next);
                    break;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        // Not a byte is left.
        let mut rest = fs::OpenOptions::new().append(true).create(true).open(dir.join("rest")).unwrap();
        while io::Write::write(&mut rest, &[0; 512]).is_ok() {}
        log.next_offset()
    };
    let full = fill_up();
    assert!(full > 50, "{full}");
    log.ack(10).unwrap();
    let after_ack = fill_up();
    assert!(after_ack > full);
    let gaps = log.evict(60_000, u64::MAX, GapReason::Evicted).unwrap();
    assert_eq!(gaps.len(), 1);
    assert!(gaps[0].first == 11 && gaps[0].last >= 17, "{gaps:?}");
    let after_evict = fill_up();
    assert!(after_evict > after_ack);
    drop((spool, log, left));
    // The full disk opens, drains, and takes batches again.
    let (_spool, fresh, left) = Spool::open(&config).unwrap();
    assert_eq!(left[0].gaps(), gaps);
    let read = left[0].read(1, usize::MAX).unwrap();
    assert_eq!(read.iter().filter(|frame| frame.offset > 10).count() as u64, after_evict - 1 - gaps[0].last);
    left[0].ack(after_evict - 1).unwrap();
    left[0].remove().unwrap();
    fresh.append(&[frame(1, 5_000)]).unwrap();
}
