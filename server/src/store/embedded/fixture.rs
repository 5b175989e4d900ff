//! What tests inside the store begin with.

use std::sync::Arc;

use uuid::Uuid;

use super::{EmbeddedConfig, EmbeddedStore};
use crate::{
    model::{Milking, Reading, SeriesKey, Totals},
    store::{Batch, CommitGroup, ProducerCommit},
};

pub(super) fn open(dir: &tempfile::TempDir) -> EmbeddedStore {
    EmbeddedStore::open(EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(dir.path()) }).unwrap()
}

pub(super) fn key(n: usize) -> SeriesKey {
    SeriesKey {
        farm_id: 1,
        device_uid: format!("collar-{n}"),
        device_type: "collar".into(),
        metric_name: "activity".into(),
        metric_unit: "1".into(),
    }
}

/// Rows of nobody, once.
pub(super) fn group(readings: Vec<Reading>, milkings: Vec<Milking>) -> Arc<CommitGroup> {
    let producer = ProducerCommit {
        producer: Uuid::nil(),
        guard: None,
        committed_offset: 0,
        totals: Totals::default(),
        open: None,
        batches: vec![Batch { offset: 1, readings, milkings }],
        quarantined: Vec::new(),
    };
    CommitGroup { producers: vec![producer] }.into()
}
