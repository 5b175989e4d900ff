//! What the SDK took, and what may have become of it.

use std::{collections::HashMap, ops::Range};

use herdstream_client::{Counters, Event};
use uuid::Uuid;

use super::content::Id;

/// Items of a batch: every producer is told so, which makes offsets known beforehand.
pub(crate) const BATCH_ITEMS: usize = 20;

/// Everything that was ever handed to the SDK, by number, and the logs that it went into.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) items: Vec<Entry>,
    pub(crate) logs: Vec<Log>,
    by_producer: HashMap<Uuid, usize>,
}

/// One item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Which site's device measured it.
    pub(crate) site: usize,
    pub(crate) log: usize,
    /// Its batch; only a log in a spool lets it be foreseen.
    pub(crate) offset: Option<u64>,
    pub(crate) fate: Fate,
    /// A client was told that it is durable.
    pub(crate) acked: bool,
    /// The server was put back behind its commit, and no client need hold it.
    pub(crate) forgettable: bool,
}

/// What the SDK, or an operation, made of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Taken: it has to be found.
    Taken,
    /// Given back, or never sent: it must not be found.
    NotTaken,
    /// It may be found.
    Doubtful,
}

/// The log of one opening.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) producer: Uuid,
    /// Where its spool is.
    pub(crate) site: usize,
    spooled: bool,
    /// What was taken, in order.
    pub(crate) ids: Vec<Id>,
    batches: u64,
    /// Nobody else ever sent from it, and the server never forgot any of it: the ledger's totals and the
    /// SDK's counters are then known to the item.
    pub(crate) exact: bool,
    /// There is a copy of it that somebody else sends.
    pub(crate) cloned: bool,
    /// Offsets that a client said it gave up to make room.
    pub(crate) evicted: Vec<(u64, u64)>,
    /// Offsets that a client said the server has forgotten.
    pub(crate) forgotten: Vec<(u64, u64)>,
    /// The SDK's counters when everything was flushed, if that opening lived to the end.
    pub(crate) counters: Option<Counters>,
}

impl Model {
    /// A new opening.
    pub(crate) fn open(&mut self, producer: Uuid, site: usize, spooled: bool) -> usize {
        self.by_producer.insert(producer, self.logs.len());
        self.logs.push(Log {
            producer,
            site,
            spooled,
            ids: Vec::new(),
            batches: 0,
            exact: true,
            cloned: false,
            evicted: Vec::new(),
            forgotten: Vec::new(),
            counters: None,
        });
        self.logs.len() - 1
    }

    /// Items about to be handed over: not taken until that is known.
    pub(crate) fn prepare(&mut self, log: usize, site: usize, items: usize) -> Range<Id> {
        let start = self.items.len() as Id;
        let entry = Entry { site, log, offset: None, fate: Fate::NotTaken, acked: false, forgettable: false };
        self.items.extend(std::iter::repeat_n(entry, items));
        start..self.items.len() as Id
    }

    /// A call took so many of what was prepared for it, from the front.
    pub(crate) fn take(&mut self, prepared: &Range<Id>, taken: usize) {
        let taken = prepared.start..prepared.start + taken as Id;
        let Some(log) = self.items.get(taken.start as usize).map(|entry| entry.log) else { return };
        let log = &mut self.logs[log];
        for (index, id) in taken.enumerate() {
            if index % BATCH_ITEMS == 0 {
                log.batches += 1;
            }
            log.ids.push(id);
            let entry = &mut self.items[id as usize];
            (entry.fate, entry.offset) = (Fate::Taken, log.spooled.then_some(log.batches));
        }
    }

    /// These may be found, or not.
    pub(crate) fn doubt(&mut self, ids: impl IntoIterator<Item = Id>) {
        for id in ids {
            self.items[id as usize].fate = Fate::Doubtful;
        }
    }

    /// All but the last `pending` items of a log are acknowledged or given up.
    pub(crate) fn acked_but(&mut self, log: usize, pending: u64) {
        let ids = &self.logs[log].ids;
        for id in &ids[..ids.len().saturating_sub(pending as usize)] {
            self.items[*id as usize].acked = true;
        }
    }

    /// The last `pending` items of a log.
    pub(crate) fn last(&self, log: usize, pending: u64) -> &[Id] {
        let ids = &self.logs[log].ids;
        &ids[ids.len().saturating_sub(pending as usize)..]
    }

    /// The logs in the spool of a site.
    pub(crate) fn logs_of(&mut self, site: usize) -> impl Iterator<Item = &mut Log> {
        self.logs.iter_mut().filter(move |log| log.site == site)
    }

    /// Notes what a client says it gave up.
    pub(crate) fn hear(&mut self, event: &Event) {
        match *event {
            Event::Evicted { producer_id, first, last, .. } => {
                self.logs[self.by_producer[&producer_id]].evicted.push((first, last));
            }
            Event::Forgotten { producer_id, first, last } => {
                self.logs[self.by_producer[&producer_id]].forgotten.push((first, last));
            }
            _ => {}
        }
    }

    /// Whether a client said that it gave up an item to make room.
    pub(crate) fn is_evicted(&self, entry: &Entry) -> bool {
        within(&self.logs[entry.log].evicted, entry.offset)
    }

    /// Whether a client said that the server has forgotten an item; as far as its offset is known.
    pub(crate) fn is_forgotten(&self, entry: &Entry) -> bool {
        entry.offset.is_none() || within(&self.logs[entry.log].forgotten, entry.offset)
    }
}

fn within(ranges: &[(u64, u64)], offset: Option<u64>) -> bool {
    offset.is_some_and(|offset| ranges.iter().any(|(first, last)| (*first..=*last).contains(&offset)))
}
