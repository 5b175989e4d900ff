//! Operations, and lists of them.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};

use super::site::{SITES, SPOOLED};

/// One step. Sites are numbered as in `site.rs`; one that does not fit the moment does nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Hands items to the SDK; goes on as soon as it took them.
    Send { site: usize, items: usize },
    /// Waits until everything of a site is acknowledged.
    Flush { site: usize },
    /// What a client sends gets nowhere, then the link breaks.
    CutBeforeCommit { site: usize, items: usize },
    /// What a client sends is committed, it does not hear of it, then the link breaks.
    CutAfterCommit { site: usize, items: usize },
    /// SIGKILL and a restart. Goes on before it answers, or then.
    KillServer { wait: bool },
    /// Drops a producer without a close, and opens the next.
    KillClient { site: usize, death: Death },
    /// SIGTERM and a restart.
    Drain,
    /// Another client opens a session of the site's producer, while items are on their way or not.
    SecondSession { site: usize, items: usize },
    /// Copies the spool, with items in it that were not sent or only with what is there.
    SaveSpool { site: usize, unsent: usize },
    /// Puts the copy back and opens it.
    RestoreSpool { site: usize, flushed: bool },
    /// Copies the spool and opens the copy beside it.
    CloneSpool { site: usize, unsent: usize },
    /// Stops the server, copies its data, and starts it again.
    SaveServer { orderly: bool },
    /// Kills the server, puts the copy of its data back, and starts it again.
    RestoreServer,
    /// Kills the server, fills the small spool beyond its bound, and starts the server again. Before,
    /// the spool may have been filled with what the server has but the client did not hear of.
    EvictOffline { unheard: bool },
}

/// How a client dies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    /// As it is.
    Now,
    /// While it cannot send, with so many items that were not sent.
    Offline(usize),
    /// While a call of so many items is under way.
    AmidSend(usize),
}

/// What must have happened in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    SendReading,
    SendMilking,
    SendBadReading,
    CutBeforeCommit,
    CutAfterCommit,
    KillServer,
    KillClient,
    Drain,
    SecondSession,
    RestoreSpool,
    CloneSpool,
    RestoreServer,
    EvictOffline,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::SendReading,
        Self::SendMilking,
        Self::SendBadReading,
        Self::CutBeforeCommit,
        Self::CutAfterCommit,
        Self::KillServer,
        Self::KillClient,
        Self::Drain,
        Self::SecondSession,
        Self::RestoreSpool,
        Self::CloneSpool,
        Self::RestoreServer,
        Self::EvictOffline,
    ];
}

/// The list of a seed: every fault once and some of them again, in any order, with sends between them.
pub(crate) fn generate(seed: u64) -> Vec<Op> {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let mut list: Vec<Op> = (0..FAULTS).map(|fault| draw(fault, rng)).collect();
    // Draws that are sure to do what they are for.
    let site = spooled(rng);
    list.push(Op::SaveSpool { site, unsent: items(rng) });
    list.push(Op::RestoreSpool { site, flushed: rng.random() });
    list.push(Op::CloneSpool { site: spooled(rng), unsent: items(rng) });
    for _ in 0..rng.random_range(0..8) {
        list.push(draw(rng.random_range(0..FAULTS + 3), rng));
    }
    for _ in 0..rng.random_range(8..16) {
        list.push(Op::Send { site: any_site(rng), items: items(rng) });
    }
    for _ in 0..rng.random_range(1..5) {
        list.push(Op::Flush { site: any_site(rng) });
    }
    list.shuffle(rng);
    // A copy comes before it is put back.
    order(&mut list, |op| matches!(op, Op::SaveServer { .. }), |op| matches!(op, Op::RestoreServer));
    for site in SPOOLED {
        let saves = |op: &Op| matches!(op, Op::SaveSpool { site: saved, .. } if *saved == site);
        let restores = |op: &Op| matches!(op, Op::RestoreSpool { site: restored, .. } if *restored == site);
        order(&mut list, saves, restores);
    }
    list
}

/// Draws that every list has.
const FAULTS: u32 = 10;

fn draw(fault: u32, rng: &mut SmallRng) -> Op {
    match fault {
        0 => Op::CutBeforeCommit { site: any_site(rng), items: items(rng) },
        1 => Op::CutAfterCommit { site: any_site(rng), items: items(rng) },
        2 => Op::KillServer { wait: rng.random() },
        3 => Op::KillClient { site: any_site(rng), death: death(rng) },
        4 => Op::KillClient { site: spooled(rng), death: death(rng) },
        5 => Op::Drain,
        6 => Op::SecondSession { site: any_site(rng), items: maybe(rng) },
        7 => Op::SaveServer { orderly: rng.random() },
        8 => Op::RestoreServer,
        9 => Op::EvictOffline { unheard: rng.random() },
        10 => Op::SaveSpool { site: spooled(rng), unsent: maybe(rng) },
        11 => Op::RestoreSpool { site: spooled(rng), flushed: rng.random() },
        _ => Op::CloneSpool { site: spooled(rng), unsent: maybe(rng) },
    }
}

fn any_site(rng: &mut SmallRng) -> usize {
    rng.random_range(0..SITES)
}

fn spooled(rng: &mut SmallRng) -> usize {
    SPOOLED[rng.random_range(0..SPOOLED.len())]
}

fn items(rng: &mut SmallRng) -> usize {
    if rng.random_ratio(1, 5) { rng.random_range(200..600) } else { rng.random_range(20..100) }
}

fn maybe(rng: &mut SmallRng) -> usize {
    if rng.random() { items(rng) } else { 0 }
}

fn death(rng: &mut SmallRng) -> Death {
    match rng.random_range(0..3) {
        0 => Death::Now,
        1 => Death::Offline(items(rng)),
        _ => Death::AmidSend(items(rng)),
    }
}

/// Swaps the first of `second` with the first of `first` if it comes before it.
fn order(list: &mut [Op], first: impl Fn(&Op) -> bool, second: impl Fn(&Op) -> bool) {
    let at = (list.iter().position(first), list.iter().position(second));
    if let (Some(first), Some(second)) = at
        && second < first
    {
        list.swap(first, second);
    }
}
