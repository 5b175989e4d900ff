//! Turns a batch as it arrived into rows and quarantine.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Ingest,
    incoming::{IncomingReading, IncomingSeries},
    lane::{Entry, Pending},
    pool::MessagePermit,
    refs::{Bound, Definitions, Refs, RefusedSeries},
    validate::{Fault, TimeWindow, check_milking, check_reading},
};
use crate::{
    clock::Present,
    error::Error,
    model::{
        Content as Kept, DAY_US, Micros, Milking, Offset, Quality, Quarantined, Reading, Rejection,
        RejectionCode, RejectionKind, SeriesId, SeriesKey, Totals, now_us,
    },
    ops::metrics,
    store::StoreError,
};

/// Pause before the store is asked again.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Memory that a row takes, roughly.
const ROW_BYTES: usize = 96;

/// Memory that a refused row takes with its reason and series, roughly.
const REFUSED_BYTES: usize = 512;

/// A batch whose series are registered.
pub(super) struct Content {
    pub(super) offset: Offset,
    /// History, which may be of any age.
    pub(super) backfill: bool,
    pub(super) refused: Vec<RefusedSeries>,
    pub(super) readings: Vec<IncomingReading>,
    pub(super) milkings: Vec<Milking>,
}

/// Turns what arrived into rows, with the series refs of one stream.
#[derive(Debug)]
pub(super) struct RowMaker {
    refs: Refs,
}

impl RowMaker {
    pub(super) fn new(ingest: &Ingest) -> Self {
        Self { refs: Refs::new(ingest.0.config.max_series_per_producer) }
    }

    /// Registers a batch's series; answers those refused.
    pub(super) async fn define(
        &mut self,
        ingest: &Ingest,
        series: Vec<IncomingSeries>,
    ) -> Result<Vec<RefusedSeries>, Error> {
        let Definitions { new, refused } = self.refs.define(series)?;
        if !new.is_empty() {
            let keys: Vec<SeriesKey> = new.iter().map(|(_, key)| SeriesKey::clone(key)).collect();
            let ids = loop {
                match ingest.0.store.resolve_series(&keys).await {
                    Ok(ids) => break ids,
                    Err(error) => pause(ingest, error).await?,
                }
            };
            for ((reference, key), id) in new.into_iter().zip(ids) {
                self.refs.resolve(reference, id, key);
            }
        }
        Ok(refused)
    }

    /// Sorts a batch's content into rows and quarantine, once there is room for them.
    pub(super) async fn entry(
        &self,
        ingest: &Ingest,
        content: Content,
        permit: MessagePermit,
        batch_bytes: u64,
    ) -> Result<Entry, Error> {
        let Content { offset, backfill, refused, readings, milkings } = content;
        let count = readings.len() + milkings.len();
        // Taken as if everything were refused, and given back in part: so whoever holds some never waits.
        let mut rows_permit = ingest.0.rows.clone().acquire(count * REFUSED_BYTES).await;
        let pending = Pending::new(&ingest.0.status, count);
        let received_us = now_us();
        let Present { earliest_us, latest_us } = ingest.0.clock.present();
        let window = ingest.0.validator.window(earliest_us, latest_us);
        let window = if backfill { window.for_backfill() } else { window };
        let mut quarantine = Quarantine { offset, received_us, records: Vec::new() };
        let mut rows = Vec::with_capacity(readings.len());
        for (index, reading) in (0..).zip(readings) {
            match self.judge(&reading, &window)? {
                Ok(series) => rows.push(to_row(series, reading)),
                Err(refusal) => quarantine.reading(index, *refusal, reading),
            }
        }
        let mut sound = Vec::with_capacity(milkings.len());
        for (index, milking) in (0..).zip(milkings) {
            match check_milking(&milking, &window) {
                Ok(()) => sound.push(milking),
                Err(fault) => quarantine.milking(index, fault, milking),
            }
        }
        let quarantined = quarantine.records.len();
        for (index, key, fault) in refused {
            quarantine.series(index, fault, key);
        }
        for record in &quarantine.records[..quarantined] {
            metrics::quarantined(record.rejection.code);
        }
        rows_permit.shrink((count - quarantined) * ROW_BYTES + quarantined * REFUSED_BYTES);
        prepare_days(ingest, &rows).await?;
        let (stored, quarantined) = ((count - quarantined) as u64, quarantined as u64);
        Ok(Entry {
            committed_offset: offset,
            totals: Totals { stored, quarantined, ..Totals::default() },
            readings: rows,
            milkings: sound,
            quarantined: quarantine.records,
            batch_bytes,
            permit,
            rows_permit,
            pending,
        })
    }

    /// The series that a sound reading belongs to; a small answer, as the reading itself is better not moved.
    #[inline]
    fn judge(
        &self,
        reading: &IncomingReading,
        window: &TimeWindow,
    ) -> Result<Result<SeriesId, Box<Refusal>>, Error> {
        match self.refs.get(reading.series_ref) {
            Some(Bound::Series { id, range, key }) => Ok(match check_reading(reading, *range, window) {
                Ok(()) => Ok(*id),
                Err(fault) => Err(Box::new(Refusal { key: Some(Arc::clone(key)), fault })),
            }),
            Some(Bound::Refused) => {
                let message = format!("series ref {} was refused", reading.series_ref);
                let fault = Fault { code: RejectionCode::SeriesRejected, field: "series_ref", message };
                Ok(Err(Box::new(Refusal { key: None, fault })))
            }
            Some(Bound::New { .. }) => Err(Error::Internal("a series was left without a number")),
            None => Err(Error::BadMessage(format!(
                "series ref {} was not defined on this stream",
                reading.series_ref
            ))),
        }
    }
}

/// Has the store get ready for the days of rows, so that its commits, and with them everybody else, wait for none.
async fn prepare_days(ingest: &Ingest, rows: &[Reading]) -> Result<(), Error> {
    let mut days = BTreeSet::new();
    let mut last = None;
    for day in rows.iter().map(|row| row.time_us.div_euclid(DAY_US)) {
        if last.replace(day) != Some(day) {
            days.insert(day);
        }
    }
    for day in days {
        while let Err(error) = ingest.0.store.prepare_day(day).await {
            pause(ingest, error).await?;
        }
    }
    Ok(())
}

/// Waits a moment for a store that failed, as open streams do; the drain ends the wait.
async fn pause(ingest: &Ingest, error: StoreError) -> Result<(), Error> {
    match error {
        StoreError::Unavailable(..) => {
            ingest.refuse_while_draining()?;
            tokio::time::sleep(PAUSE).await;
            Ok(())
        }
        error => Err(error.into()),
    }
}

/// Why a reading is refused, and its series if that is known.
struct Refusal {
    key: Option<Arc<SeriesKey>>,
    fault: Fault,
}

fn to_row(series: SeriesId, reading: IncomingReading) -> Reading {
    Reading {
        series,
        time_us: reading.time_us,
        value: reading.value,
        quality: Quality::Valid,
        is_interpolated: reading.is_interpolated,
        animal_id: reading.animal_id,
        zone_id: reading.zone_id,
        battery_level: reading.battery_level.map(|level| level as i16),
        signal_strength: reading.signal_strength.map(|signal| signal as i16),
        session_id: reading.session_id.map(String::into_boxed_str),
        metadata: reading.metadata.map(String::into_boxed_str),
    }
}

/// Quarantine records of one batch.
struct Quarantine {
    offset: Offset,
    received_us: Micros,
    records: Vec<Quarantined>,
}

impl Quarantine {
    fn reading(&mut self, index: u32, refusal: Refusal, mut reading: IncomingReading) {
        let Refusal { key, fault } = refusal;
        // The row's integers are narrower; what does not fit is named in the message.
        let narrow = |value: Option<i32>| value.filter(|value| i16::try_from(*value).is_ok());
        reading.battery_level = narrow(reading.battery_level);
        reading.signal_strength = narrow(reading.signal_strength);
        reading.session_id = reading.session_id.map(cut);
        reading.metadata = reading.metadata.map(cut);
        let content = Kept::Reading(to_row(SeriesId(0), reading));
        let key = key.map(|key| SeriesKey::clone(&key));
        self.push(RejectionKind::Reading, index, fault, key, Some(content));
    }

    fn milking(&mut self, index: u32, fault: Fault, mut milking: Milking) {
        milking.session_id = cut(milking.session_id);
        milking.milking_type = milking.milking_type.map(cut);
        milking.meter_status = milking.meter_status.map(cut);
        self.push(RejectionKind::Milking, index, fault, None, Some(Kept::Milking(Box::new(milking))));
    }

    fn series(&mut self, index: u32, fault: Fault, mut key: SeriesKey) {
        for text in [&mut key.device_uid, &mut key.device_type, &mut key.metric_name, &mut key.metric_unit] {
            *text = cut(std::mem::take(text));
        }
        self.push(RejectionKind::Series, index, fault, Some(key), None);
    }

    fn push(
        &mut self,
        kind: RejectionKind,
        index: u32,
        fault: Fault,
        series: Option<SeriesKey>,
        content: Option<Kept>,
    ) {
        let Fault { code, field, message } = fault;
        let rejection = Rejection { offset: self.offset, kind, index, code, field, message: cut(message) };
        self.records.push(Quarantined { rejection, received_us: self.received_us, series, content });
    }
}

/// The first 256 characters of a text, without U+0000: what quarantine keeps in every store.
fn cut(mut text: String) -> String {
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    if let Some((at, _)) = text.char_indices().nth(256) {
        text.truncate(at);
    }
    text
}
