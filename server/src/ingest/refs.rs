use std::{collections::HashMap, sync::Arc};

use herdstream_proto::limits::MAX_STREAM_SERIES;

use super::{
    incoming::IncomingSeries,
    validate::{Fault, ValueRange, check_series, quote, value_range},
};
use crate::{
    error::Error,
    model::{RejectionCode, SeriesId, SeriesKey},
};

/// The series refs of one stream.
#[derive(Debug)]
pub(super) struct Refs {
    bound: HashMap<u32, Bound, foldhash::fast::RandomState>,
    accepted: usize,
    max_series: usize,
}

/// What a ref stands for.
#[derive(Clone, Debug)]
pub(super) enum Bound {
    /// A series in the store.
    Series { id: SeriesId, range: ValueRange, key: Arc<SeriesKey> },
    /// A refused series: its readings are refused too.
    Refused,
    /// Defined in the batch at hand, not yet in the store.
    New { key: Arc<SeriesKey> },
}

/// What a batch's definitions come to.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    /// Refs to be given the numbers of their series with [`Refs::resolve`], before readings are looked at.
    pub(super) new: Vec<(u32, Arc<SeriesKey>)>,
    /// Series refused.
    pub(super) refused: Vec<RefusedSeries>,
}

/// A series that was refused: its position in the batch, its key and why.
pub(super) type RefusedSeries = (u32, SeriesKey, Fault);

impl Refs {
    pub(super) fn new(max_series: usize) -> Self {
        Self { bound: HashMap::default(), accepted: 0, max_series }
    }

    pub(super) fn get(&self, reference: u32) -> Option<&Bound> {
        self.bound.get(&reference)
    }

    /// Takes a batch's definitions in.
    ///
    /// # Errors
    ///
    /// [`Error::BadMessage`] when a ref is bound to another series already, or the stream has too many.
    pub(super) fn define(&mut self, series: Vec<IncomingSeries>) -> Result<Definitions, Error> {
        let mut definitions = Definitions::default();
        for (index, IncomingSeries { reference, key }) in (0..).zip(series) {
            match self.bound.get(&reference) {
                Some(Bound::Series { key: known, .. } | Bound::New { key: known }) if **known == key => {
                    continue;
                }
                Some(Bound::Series { key: known, .. } | Bound::New { key: known }) => {
                    return Err(Error::BadMessage(format!(
                        "series ref {reference} stands for {} of device {} already: use another ref",
                        quote(&known.metric_name),
                        quote(&known.device_uid),
                    )));
                }
                None if self.bound.len() >= MAX_STREAM_SERIES => {
                    return Err(Error::BadMessage(format!(
                        "more than {MAX_STREAM_SERIES} series refs on one stream: open another producer"
                    )));
                }
                Some(Bound::Refused) | None => {}
            }
            match self.check(&key) {
                Ok(()) => {
                    self.accepted += 1;
                    let key = Arc::new(key);
                    self.bound.insert(reference, Bound::New { key: Arc::clone(&key) });
                    definitions.new.push((reference, key));
                }
                Err(fault) => {
                    self.bound.insert(reference, Bound::Refused);
                    definitions.refused.push((index, key, fault));
                }
            }
        }
        Ok(definitions)
    }

    /// Gives a new series its number.
    pub(super) fn resolve(&mut self, reference: u32, id: SeriesId, key: Arc<SeriesKey>) {
        let range = value_range(&key.metric_name);
        self.bound.insert(reference, Bound::Series { id, range, key });
    }

    fn check(&self, key: &SeriesKey) -> Result<(), Fault> {
        check_series(key)?;
        if self.accepted < self.max_series {
            return Ok(());
        }
        Err(Fault {
            code: RejectionCode::TooManySeries,
            field: "ref",
            message: format!("this producer has {} series, the bound of this server", self.max_series),
        })
    }
}
