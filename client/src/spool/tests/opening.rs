//! Directories: new, locked, foreign, read-only, half removed.

use std::{
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Stdio,
};

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn what_was_appended_is_read_after_reopening_until_it_is_acked() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, log, left) = Spool::open(&config).unwrap();
    assert!(left.is_empty());
    log.append(&frames(1..=3, 100)).unwrap();
    let id = log.producer_id();
    drop((spool, log));

    let (spool, fresh, left) = Spool::open(&config).unwrap();
    assert_ne!(fresh.producer_id(), id);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].producer_id(), id);
    assert_eq!(left[0].read(2, usize::MAX).unwrap(), frames(2..=3, 100));
    assert!(matches!(left[0].append(&[frame(4, 1)]), Err(SpoolError::Closed { .. })));
    left[0].ack(3).unwrap();
    left[0].remove().unwrap();
    assert_eq!(fresh.shared.held(), 0);
    drop((spool, fresh, left));
    assert!(Spool::open(&config).unwrap().2.is_empty());
}

#[test]
fn offsets_are_appended_in_their_order_only() {
    let dir = tempfile::tempdir().unwrap();
    let (_spool, log, _) = Spool::open(&config(dir.path())).unwrap();
    for wrong in [[frame(2, 1), frame(3, 1)], [frame(1, 1), frame(3, 1)], [frame(1, 1), frame(1, 1)]] {
        assert!(matches!(log.append(&wrong), Err(SpoolError::OutOfOrder { .. })));
    }
    assert_eq!((log.next_offset(), log.bytes()), (1, 0));
}

#[test]
fn logs_are_left_in_the_order_of_their_openings_and_empty_ones_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut ids = Vec::new();
    for opening in 0..4 {
        let (_spool, log, left) = Spool::open(&config).unwrap();
        assert_eq!(left.iter().map(Log::producer_id).collect::<Vec<_>>(), ids);
        if opening != 2 {
            log.append(&[frame(1, 10)]).unwrap();
            ids.push(log.producer_id());
        }
    }
    assert_eq!(names(&config.dir).len(), 1 + ids.len(), "a mark and three logs");
}

#[test]
fn the_bound_is_for_all_logs_together() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig { max_bytes: 20_000, ..config(dir.path()) };
    append_each(&Spool::open(&config).unwrap().1, &frames(1..=10, 1_000));
    let (_spool, log, left) = Spool::open(&config).unwrap();
    let held = log.shared.held();
    assert_eq!(held, left[0].bytes());
    assert!(matches!(
        log.append(&[frame(1, 10_000)]),
        Err(SpoolError::Full { needed: 10_048, held: h, max: 20_000 }) if h == held
    ));
    assert_eq!((log.shared.held(), log.next_offset()), (held, 1), "nothing was written");
    let gaps = left[0].evict(3_000, u64::MAX, GapReason::Evicted).unwrap();
    assert_eq!(gaps, [Gap { first: 1, last: 3, items: 2 + 3 + 4, reason: GapReason::Evicted }]);
    log.append(&[frame(1, 5_000)]).unwrap();
}

#[test]
fn a_directory_in_use_is_refused_until_the_last_log_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, log, _) = Spool::open(&config).unwrap();
    drop(spool);
    let error = Spool::open(&config).map(drop).unwrap_err();
    assert!(matches!(&error, SpoolError::InUse { dir } if *dir == config.dir), "{error}");
    drop(log);
    Spool::open(&config).unwrap();
}

#[test]
fn a_directory_is_free_again_when_the_process_that_had_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = child("spool::tests::opening::child_holds_a_spool", dir.path(), None)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(holder.stdout.take().unwrap());
    assert!(stdout.lines().map_while(Result::ok).any(|line| line.ends_with("holding")), "child failed");
    assert!(matches!(Spool::open(&config(dir.path())), Err(SpoolError::InUse { .. })));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let (_spool, _log, left) = Spool::open(&config(dir.path())).unwrap();
    assert_eq!(left[0].read(1, usize::MAX).unwrap(), frames(1..=50, 30));
}

#[test]
#[ignore = "a child process of another test"]
fn child_holds_a_spool() {
    let Some(dir) = child_dir() else { return };
    let (_spool, log, _) = Spool::open(&config(&dir)).unwrap();
    append_each(&log, &frames(1..=50, 30));
    println!("\nholding");
    // Until it is killed, or its parent died and closed the pipe.
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_foreign_directory_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "irreplaceable").unwrap();
    let error = Spool::open(&SpoolConfig::new(dir.path())).map(drop).unwrap_err();
    assert!(matches!(&error, SpoolError::Foreign { found, .. } if found == "thesis.tex"), "{error}");
    assert_eq!(names(dir.path()), ["thesis.tex"]);
}

#[test]
fn another_format_is_refused_and_not_touched() {
    for mark in [&b"herdstream spool 2\n"[..], b"", b"\xff\xfe", b"herdstream spool 1\nmore"] {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(Uuid::now_v7().to_string());
        fs::create_dir(&log).unwrap();
        fs::write(log.join("00000000000000000001.segment"), "frames of the future").unwrap();
        fs::write(dir.path().join(MARK), mark).unwrap();
        let error = Spool::open(&SpoolConfig::new(dir.path())).map(drop).unwrap_err();
        assert!(matches!(error, SpoolError::Format { .. }), "{error}");
        assert_eq!(fs::read(dir.path().join(MARK)).unwrap(), mark);
        assert_eq!(fs::read(log.join("00000000000000000001.segment")).unwrap(), b"frames of the future");
    }
}

#[test]
fn a_mark_that_a_crash_cut_short_is_completed() {
    for mark in ["", "herdstr"] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        fs::write(dir.path().join(MARK), mark).unwrap();
        Spool::open(&SpoolConfig::new(dir.path())).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(MARK)).unwrap(), FORMAT);
    }
}

#[test]
fn directories_are_made_for_the_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig::new(dir.path().join("a/b"));
    let (_spool, log, _) = Spool::open(&config).unwrap();
    log.append(&[frame(1, 1)]).unwrap();
    log.poison(1).unwrap();
    let modes = [dir.path().join("a"), config.dir.clone(), config.dir.join("poison"), log.dir.clone()];
    for path in modes {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
    }
}

#[test]
fn a_read_only_directory_is_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    fs::create_dir(&config.dir).unwrap();
    fs::set_permissions(&config.dir, PermissionsExt::from_mode(0o555)).unwrap();
    if let Err(error) = Spool::open(&config) {
        let text = error.to_string();
        assert!(matches!(error, SpoolError::Io { .. }), "{error:?}");
        assert!(text.contains(config.dir.to_str().unwrap()) && text.contains("permissions"), "{text}");
        return;
    }
    // Nothing is read-only for root: try as nobody.
    fs::remove_file(config.dir.join(MARK)).unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    match child("spool::tests::opening::child_cannot_write", dir.path(), None).uid(65_534).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
        }
        Err(error) => eprintln!("skipped: runs as root, and nobody may not run the test binary: {error}"),
    }
    assert!(names(&config.dir).is_empty());
}

#[test]
#[ignore = "a child process of another test"]
fn child_cannot_write() {
    let Some(dir) = child_dir() else { return };
    let error = Spool::open(&config(&dir)).map(drop).unwrap_err();
    assert!(matches!(error, SpoolError::Io { .. }), "{error:?}");
}

#[test]
fn what_was_being_removed_goes_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (spool, log, left) = Spool::open(&config).unwrap();
    append_each(&log, &frames(1..=30, 50));
    let removed = config.dir.join(format!("{}{}", log.producer_id(), log::REMOVED));
    fs::rename(&log.dir, &removed).unwrap();
    fs::remove_file(removed.join("gaps")).unwrap();
    fs::create_dir(config.dir.join("not-a-log")).unwrap();
    drop((spool, log, left));
    let (_spool, _log, left) = Spool::open(&config).unwrap();
    assert!(left.is_empty());
    assert_eq!(names(&config.dir), [MARK, "not-a-log"]);
}
