//! A server that has forgotten what it had acknowledged.

use super::*;

#[test]
fn acks_are_taken_back_as_far_as_the_batches_are_held() {
    let dir = memory_dir();
    let (spool, log, _) = Spool::open(&config(dir.path())).unwrap();
    append_each(&log, &frames(1..=35, 50));
    log.ack(27).unwrap();
    let first = log.first_retained();
    assert!(1 < first && first < 25, "some segments are gone, and one holds what is acked: {first}");

    assert_eq!(log.unack(27, 27).unwrap(), [], "nothing is forgotten");
    let held = |offsets| frames(offsets, 50).iter().map(|it| (it.offset, it.items)).collect::<Vec<_>>();
    assert_eq!(log.unack(24, 27).unwrap(), held(25..=27));
    assert_eq!(log.acked(), 24);
    assert_eq!(log.unack(0, 27).unwrap(), held(first..=27));
    assert_eq!((log.acked(), log.first_retained()), (first - 1, first));

    // A crash later, they are still to be sent.
    drop((spool, log));
    let (_spool, _, left) = Spool::open(&config(dir.path())).unwrap();
    let [log] = &left[..] else { panic!("one log is left: {left:?}") };
    assert_eq!((log.acked(), log.gaps()), (first - 1, vec![]));
    assert_eq!(log.read(first, usize::MAX).unwrap(), frames(first..=35, 50));
    log.ack(35).unwrap();
    log.remove().unwrap();
    assert_eq!(log.shared.held(), 0);
}

#[test]
fn acks_before_a_gap_are_not_taken_back() {
    let dir = memory_dir();
    let (_spool, log, _) = Spool::open(&config(dir.path())).unwrap();
    append_each(&log, &frames(1..=8, 50));
    log.poison(5).unwrap();
    log.ack(7).unwrap();
    assert_eq!(log.unack(0, 7).unwrap().first(), Some(&(6, frame(6, 0).items)), "5 cannot be sent");
    assert_eq!((log.acked(), log.gaps()), (5, vec![]));
}
