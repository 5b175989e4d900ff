//! Series and their numbers, and which device and newest hour each has.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};

use crate::{
    model::{SeriesId, SeriesKey},
    store::{SeriesFilter, cache::Generations},
};

/// Tuples whose numbers are kept in memory, at most; the others are looked up.
const CACHED_KEYS: usize = 100_000;

/// Devices whose series are kept in memory, at most.
const CACHED_DEVICES: usize = 10_000;

/// Series of such a device, at most: those of 10 000 take 80 MB then.
const MOST_OF_DEVICE: usize = 32;

/// What is known of every series: 16 bytes each; their tuples only as far as the caches hold them.
pub(super) struct Catalogue {
    numbers: Mutex<Generations<SeriesKey, SeriesId>>,
    /// All series of a farm's device, or of every device of that name, in the order of their numbers.
    of_devices: Mutex<Generations<(Option<i32>, String), OfDevice>>,
    /// By number; numbers start at 1.
    series: RwLock<Vec<Option<Series>>>,
    next_device: AtomicU32,
}

type OfDevice = Arc<[(SeriesId, SeriesKey)]>;

struct Series {
    device: u32,
    newest: AtomicU64,
}

/// No reading lies after this hour, counted from 1970; and how often that was raised. An odd count says
/// that a commit which may raise it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewestHour {
    hour: i64,
    raised: u64,
}

impl NewestHour {
    /// Hours take 40 bits (64-bit microseconds reach 33), the count the other 24.
    const RAISED_BITS: u32 = 24;
    /// The hour of a series without readings.
    const NEVER: i64 = -(1 << 39);

    /// The hour, unless there is no reading at all.
    pub(super) fn hour(self) -> Option<i64> {
        (self.hour != Self::NEVER).then_some(self.hour)
    }

    fn pack(self) -> u64 {
        (self.hour << Self::RAISED_BITS) as u64 | self.raised & ((1 << Self::RAISED_BITS) - 1)
    }

    fn unpack(word: u64) -> Self {
        Self { hour: word as i64 >> Self::RAISED_BITS, raised: word & ((1 << Self::RAISED_BITS) - 1) }
    }
}

impl Catalogue {
    pub(super) fn new() -> Self {
        Self {
            numbers: Mutex::new(Generations::new(CACHED_KEYS)),
            of_devices: Mutex::new(Generations::new(CACHED_DEVICES)),
            series: RwLock::default(),
            next_device: AtomicU32::new(0),
        }
    }

    /// The number for a new series.
    pub(super) fn next(&self) -> u32 {
        // The catalogue would fill all memory long before it filled 32 bits.
        self.series.read().len().max(1) as u32
    }

    /// The number for a new device.
    pub(super) fn next_device(&self) -> u32 {
        self.next_device.load(Ordering::Acquire)
    }

    /// The number of a tuple, if it is cached.
    pub(super) fn number(&self, key: &SeriesKey) -> Option<SeriesId> {
        self.numbers.lock().get(key)
    }

    /// Remembers a tuple's number.
    pub(super) fn cache(&self, key: SeriesKey, id: SeriesId) {
        self.numbers.lock().insert(key, id);
    }

    /// The series that match, if they are of one device and cached.
    pub(super) fn of_device(&self, filter: &SeriesFilter) -> Option<Vec<(SeriesId, SeriesKey)>> {
        let device = (filter.farm_id, filter.device_uid.clone()?);
        let series = self.of_devices.try_lock()?.get(&device)?;
        Some(filter.pick(&series))
    }

    /// Remembers all series of a device up to number `last`, unless they are too many or there is a newer one.
    pub(super) fn cache_device(&self, of: &SeriesFilter, series: &[(SeriesId, SeriesKey)], last: u32) {
        let Some(device_uid) = of.device_uid.clone().filter(|_| series.len() <= MOST_OF_DEVICE) else {
            return;
        };
        let mut of_devices = self.of_devices.lock();
        // Whoever adds one forgets what is here after that.
        if self.next() == last + 1 {
            of_devices.insert((of.farm_id, device_uid), series.into());
        }
    }

    /// Takes up a series that is in the store and has no reading after `newest_hour`.
    pub(super) fn add(&self, id: SeriesId, device: u32, newest_hour: Option<i64>) {
        let mut series = self.series.write();
        let index = id.0 as usize;
        if series.len() <= index {
            series.resize_with(index + 1, || None);
        }
        let newest = NewestHour { hour: newest_hour.unwrap_or(NewestHour::NEVER), raised: 0 };
        self.next_device.fetch_max(device + 1, Ordering::AcqRel);
        series[index] = Some(Series { device, newest: AtomicU64::new(newest.pack()) });
    }

    /// Takes up a new series, which is in the store and has no reading.
    pub(super) fn add_new(&self, id: SeriesId, key: &SeriesKey, device: u32) {
        self.add(id, device, None);
        self.cache(key.clone(), id);
        let mut of_devices = self.of_devices.lock();
        for farm_id in [Some(key.farm_id), None] {
            of_devices.remove(&(farm_id, key.device_uid.clone()));
        }
    }

    /// The device of a series, if there is such a series; a commit of a reading in `hour` begins.
    ///
    /// To be called before the reading can be seen, so that no search starts too early in time.
    pub(super) fn begin(&self, id: SeriesId, hour: i64) -> Option<u32> {
        let series = self.series.read();
        let series = series.get(id.0 as usize)?.as_ref()?;
        update(&series.newest, |newest| NewestHour {
            hour: newest.hour.max(hour),
            raised: newest.raised | 1,
        });
        Some(series.device)
    }

    /// The commit of readings of these series has ended, and they can be seen.
    pub(super) fn end(&self, ids: impl Iterator<Item = SeriesId>) {
        let all = self.series.read();
        for series in ids.filter_map(|id| all.get(id.0 as usize)?.as_ref()) {
            update(&series.newest, |newest| NewestHour {
                raised: newest.raised + (newest.raised & 1),
                ..newest
            });
        }
    }

    /// Where to start looking for the newest reading.
    pub(super) fn newest(&self, id: SeriesId) -> Option<NewestHour> {
        let series = self.series.read();
        let series = series.get(id.0 as usize)?.as_ref()?;
        Some(NewestHour::unpack(series.newest.load(Ordering::Acquire)))
    }

    /// A search that started at `known` found the newest reading in `hour`, or none; it saw every commit that had ended
    /// when `known` was asked for.
    ///
    /// Forgotten if a commit was under way then or has been since: its reading may be newer.
    pub(super) fn learn(&self, id: SeriesId, known: NewestHour, hour: Option<i64>) {
        let series = self.series.read();
        if let Some(Some(series)) = series.get(id.0 as usize)
            && known.raised & 1 == 0
        {
            let found = NewestHour { hour: hour.unwrap_or(NewestHour::NEVER), ..known };
            // Lost to a commit: nothing to do.
            let _ = series.newest.compare_exchange(
                known.pack(),
                found.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
    }
}

fn update(newest: &AtomicU64, change: impl Fn(NewestHour) -> NewestHour) {
    newest
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            Some(change(NewestHour::unpack(word)).pack())
        })
        .expect("the change is never None");
}

#[cfg(test)]
mod tests;
