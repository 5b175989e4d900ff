//! Compares what was taken with what was found.

use std::fmt;

use serde::Serialize;

use super::{Found, Gone, Log, Portion, ReadBack, Tally};

/// The balance of a whole run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Balance {
    /// Readings and milkings that the SDK took.
    pub sent: u64,
    /// Of these, found in the store.
    pub stored: u64,
    /// Extra transmissions, outside the sum.
    pub duplicate: u64,
    /// Found in quarantine.
    pub quarantined: u64,
    /// Given up by the SDK, or still under way.
    #[serde(flatten)]
    pub gone: Gone,
    /// Of unknown fate when the client died, and found.
    pub doubtful: u64,
    /// Whether each has exactly one fate, by producer and by series, and the ledger agrees.
    pub balanced: bool,
    /// What does not agree. At most so many are kept as a person reads.
    pub differences: Vec<Difference>,
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which gateway.
    pub gateway: String,
    /// Which series, or what else.
    pub subject: String,
    /// What was expected, what was found.
    pub message: String,
}

/// Differences that a balance keeps.
const KEPT: usize = 20;

impl Balance {
    /// A balance of nothing: it balances.
    pub fn empty() -> Self {
        Self { balanced: true, ..Self::default() }
    }

    /// Adds another gateway's.
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.stored += other.stored;
        self.duplicate += other.duplicate;
        self.quarantined += other.quarantined;
        self.gone.evicted += other.gone.evicted;
        self.gone.expired += other.gone.expired;
        self.gone.poisoned += other.gone.poisoned;
        self.gone.lost += other.gone.lost;
        self.gone.pending += other.gone.pending;
        self.doubtful += other.doubtful;
        self.balanced &= other.balanced;
        self.differences.extend(other.differences);
        self.differences.truncate(KEPT);
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.gateway, self.subject, self.message)
    }
}

/// Weighs what was taken from one gateway against what the server holds of it.
pub fn weigh(log: &Log, found: &ReadBack) -> Balance {
    let mut balance = Balance { sent: log.taken_total(), gone: log.gone, ..Balance::empty() };
    let mut differences = Vec::new();
    let mut differ = |subject: String, message: String| {
        differences.push(Difference { gateway: log.gateway_id.clone(), subject, message });
    };

    let mut missing = 0;
    for (row, taken) in log.taken.iter().enumerate() {
        let found = found.rows.get(row).copied().unwrap_or_default();
        balance.stored += found.stored.count();
        balance.quarantined += found.quarantined.count();
        balance.doubtful += found.stored.doubtful + found.quarantined.doubtful;
        missing += taken.count.saturating_sub(sure(&found).count);
        if let Some(message) = disagreement(*taken, &found, log.gone) {
            differ(subject(log, row), message);
        }
    }
    let gone = log.gone.total();
    // Who gave rows up tells how many, not which: the sum over all series must fit.
    if gone > 0 && missing != gone {
        differ(
            "all series".into(),
            format!("{missing} taken and not found, but {gone} given up or under way"),
        );
    }
    for (what, ledger, rows) in [
        ("stored", found.ledger.stored, balance.stored),
        ("quarantined", found.ledger.quarantined, balance.quarantined),
    ] {
        if ledger != rows {
            differ("ledger".into(), format!("counts {ledger} {what}, {rows} were read back"));
        }
    }
    balance.duplicate = found.ledger.duplicate;
    balance.balanced = differences.is_empty();
    differences.truncate(KEPT);
    balance.differences = differences;
    balance
}

fn disagreement(taken: Tally, found: &Found, gone: Gone) -> Option<String> {
    let sure = sure(found);
    let counts = || {
        let Portion { sure: stored, .. } = found.stored;
        format!(
            "{} taken, {} stored, {} quarantined",
            taken.count, stored.count, found.quarantined.sure.count
        )
    };
    if sure.count > taken.count {
        return Some(format!("{}: {} too many", counts(), sure.count - taken.count));
    }
    if sure.count < taken.count {
        return (gone.total() == 0).then(|| format!("{}: {} missing", counts(), taken.count - sure.count));
    }
    (sure != taken).then(|| format!("{}: the right number, but not the same rows", counts()))
}

fn sure(found: &Found) -> Tally {
    let mut sure = found.stored.sure;
    sure += found.quarantined.sure;
    sure
}

fn subject(log: &Log, row: usize) -> String {
    match log.names.get(row) {
        Some(name) => format!("{} of {}", name.metric.name(), name.device_uid),
        None => "milkings".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        farm::{DeviceType, Metric, SeriesName},
        oracle::Ledger,
    };

    fn tally(marks: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for mark in marks {
            tally.add(*mark);
        }
        tally
    }

    fn log(taken: &[&[u64]], gone: Gone) -> Log {
        let name = |n| SeriesName {
            farm_id: 1,
            device_uid: format!("collar-{n}"),
            device_type: DeviceType::Collar,
            metric: Metric::Activity,
        };
        let mut log = Log::new("gateway-1".into(), (1..taken.len()).map(name).collect(), "t-".into());
        log.taken = taken.iter().map(|marks| tally(marks)).collect();
        log.gone = gone;
        log
    }

    fn found(stored: &[&[u64]], quarantined: &[&[u64]]) -> ReadBack {
        let portion = |marks: &&[u64]| Portion { sure: tally(marks), doubtful: 0 };
        let count = |rows: &[&[u64]]| rows.iter().map(|marks| marks.len() as u64).sum();
        let rows = stored.iter().zip(quarantined).map(|(stored, quarantined)| Found {
            stored: portion(stored),
            quarantined: portion(quarantined),
        });
        let ledger = Ledger { stored: count(stored), quarantined: count(quarantined), ..Ledger::default() };
        ReadBack { rows: rows.collect(), ledger }
    }

    fn messages(balance: &Balance) -> Vec<String> {
        assert_eq!(balance.balanced, balance.differences.is_empty());
        balance.differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_stored_or_quarantined_balances() {
        let balance = weigh(
            &log(&[&[1, 2, 3], &[4], &[5]], Gone::default()),
            &found(&[&[3, 1], &[4], &[5]], &[&[2], &[], &[]]),
        );
        assert_eq!(messages(&balance), Vec::<String>::new());
        assert_eq!((balance.sent, balance.stored, balance.quarantined), (5, 4, 1));
    }

    #[test]
    fn a_missing_row_names_its_series() {
        let balance =
            weigh(&log(&[&[1, 2], &[3], &[]], Gone::default()), &found(&[&[1], &[3], &[]], &[&[], &[], &[]]));
        assert_eq!(
            messages(&balance),
            ["gateway-1, activity of collar-1: 2 taken, 1 stored, 0 quarantined: 1 missing"]
        );
    }

    #[test]
    fn a_doubled_row_does_not_make_up_for_a_missing_one() {
        let balance = weigh(
            &log(&[&[1, 2], &[3], &[]], Gone::default()),
            &found(&[&[1, 2, 2], &[], &[]], &[&[], &[], &[]]),
        );
        assert_eq!(messages(&balance).len(), 2);
        let balance = weigh(&log(&[&[1, 2], &[]], Gone::default()), &found(&[&[2, 2], &[]], &[&[], &[]]));
        assert_eq!(
            messages(&balance),
            [
                "gateway-1, activity of collar-1: 2 taken, 2 stored, 0 quarantined: the right number, but not the same rows"
            ]
        );
    }

    #[test]
    fn rows_given_up_are_missing_as_often_as_counted() {
        let gone = Gone { evicted: 1, pending: 1, ..Gone::default() };
        let taken: &[&[u64]] = &[&[1, 2, 3], &[4, 5], &[]];
        let fits = weigh(&log(taken, gone), &found(&[&[1, 3], &[5], &[]], &[&[], &[], &[]]));
        assert_eq!(messages(&fits), Vec::<String>::new());
        let too_few = weigh(&log(taken, gone), &found(&[&[1, 3], &[], &[]], &[&[], &[], &[]]));
        assert_eq!(
            messages(&too_few),
            ["gateway-1, all series: 3 taken and not found, but 2 given up or under way"]
        );
        let too_many = weigh(&log(taken, gone), &found(&[&[1, 2, 3], &[4, 5], &[]], &[&[], &[], &[]]));
        assert_eq!(messages(&too_many).len(), 1);
    }

    #[test]
    fn the_ledger_must_agree_with_the_rows() {
        let mut found = found(&[&[1], &[]], &[&[], &[]]);
        found.ledger.stored = 2;
        found.ledger.duplicate = 9;
        let balance = weigh(&log(&[&[1], &[]], Gone::default()), &found);
        assert_eq!(messages(&balance), ["gateway-1, ledger: counts 2 stored, 1 were read back"]);
        assert_eq!(balance.duplicate, 9);
    }

    #[test]
    fn a_row_in_doubt_may_be_there() {
        let log = log(&[&[1], &[]], Gone::default());
        let mut found = found(&[&[1], &[]], &[&[], &[]]);
        found.rows[0].stored.doubtful = 1;
        found.ledger.stored = 2;
        let balance = weigh(&log, &found);
        assert_eq!(messages(&balance), Vec::<String>::new());
        assert_eq!((balance.sent, balance.stored, balance.doubtful), (1, 2, 1));
    }
}
