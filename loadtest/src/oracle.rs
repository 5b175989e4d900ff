//! The oracle: proves that everything the SDK accepted has exactly one fate.
//!
//! The left side of the balance comes only from the [`Log`] of what was handed to the SDK and taken. The
//! right side is read back row by row through the query service ([`read_back`]), and is then compared
//! with what the server's ledger says. [`weigh`] is the pure part: it compares the two sides.

mod read_back;
mod tally;
mod weigh;

use uuid::Uuid;

use crate::farm::{Delivery, SeriesName};

pub use read_back::{Found, Ledger, Portion, ReadBack, read_back};
pub use tally::{Doubt, Facts, Tally, milking_mark};
pub use weigh::{Balance, Difference, weigh};

/// What one gateway handed to the SDK, and the SDK took.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Name of the gateway, for people.
    pub gateway_id: String,
    /// Its series.
    pub names: Vec<SeriesName>,
    /// What sessions of milkings are called: they begin with it.
    pub session_prefix: String,
    /// Every producer id under which it sent.
    pub producers: Vec<Uuid>,
    /// Taken, by series; the last one is milkings.
    pub taken: Vec<Tally>,
    /// Handed over, and the answer is not known: may be there once, or not at all.
    pub doubt: Vec<Doubt>,
    /// Taken and then given up, or still under way, as the SDK counts it.
    pub gone: Gone,
}

/// What the SDK gave up, or has not yet delivered. Readings and milkings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs, reason = "the words of the balance")]
pub struct Gone {
    pub evicted: u64,
    pub expired: u64,
    pub poisoned: u64,
    pub lost: u64,
    pub pending: u64,
}

impl Gone {
    /// All of it.
    pub fn total(self) -> u64 {
        self.named().into_iter().map(|(_, count)| count).sum()
    }

    /// Each fate with its name.
    pub fn named(self) -> [(&'static str, u64); 5] {
        [
            ("evicted", self.evicted),
            ("expired", self.expired),
            ("poisoned", self.poisoned),
            ("lost", self.lost),
            ("pending", self.pending),
        ]
    }
}

impl Log {
    /// An empty log of a gateway with these series.
    pub fn new(gateway_id: String, names: Vec<SeriesName>, session_prefix: String) -> Self {
        let rows = names.len() + 1;
        Self {
            gateway_id,
            names,
            session_prefix,
            producers: Vec::new(),
            taken: vec![Tally::default(); rows],
            doubt: vec![Doubt::default(); rows],
            gone: Gone::default(),
        }
    }

    /// Notes what was taken of a delivery: its readings and milkings between two positions.
    pub fn take(&mut self, delivery: &Delivery, from: (usize, usize), to: (usize, usize)) {
        for sample in &delivery.readings[from.0..to.0] {
            self.taken[sample.series as usize].add(Facts::from(sample).mark());
        }
        let row = self.names.len();
        for milking in &delivery.milkings[from.1..to.1] {
            self.taken[row].add(milking_mark(&milking.into()));
        }
    }

    /// Notes what may or may not have been taken: readings and milkings from a position on.
    pub fn doubt(&mut self, delivery: &Delivery, from: (usize, usize)) {
        for sample in &delivery.readings[from.0..] {
            self.doubt[sample.series as usize].add(Facts::from(sample).mark());
        }
        let row = self.names.len();
        for milking in &delivery.milkings[from.1..] {
            self.doubt[row].add(milking_mark(&milking.into()));
        }
    }

    /// Readings and milkings taken.
    pub fn taken_total(&self) -> u64 {
        self.taken.iter().map(|tally| tally.count).sum()
    }
}
