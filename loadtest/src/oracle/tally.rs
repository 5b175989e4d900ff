//! Counts and order-free checksums of rows.

use std::{borrow::Cow, collections::HashMap, ops::AddAssign};

use herdstream_client::v1;

use crate::farm::{MilkingRecord, Sample};

/// How many rows, and the sum of their marks: equal for equal multisets of rows in any order; for
/// different ones equal only by an accident of 2⁻⁶⁴.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows.
    pub count: u64,
    /// Wrapping sum of their marks.
    pub sum: u64,
}

impl Tally {
    /// Counts a row by its mark.
    pub fn add(&mut self, mark: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(mark);
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Rows whose fate is unknown, by mark, with how many times each may occur.
#[derive(Clone, Debug, Default)]
pub struct Doubt(HashMap<u64, u64>);

impl Doubt {
    /// One more row that may be there.
    pub fn add(&mut self, mark: u64) {
        *self.0.entry(mark).or_default() += 1;
    }

    /// Takes a row out that was found; false when it is none of these, or was found often enough.
    pub fn remove(&mut self, mark: u64) -> bool {
        match self.0.get_mut(&mark) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

/// Everything a reading says, its series aside.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields of a reading")]
pub struct Facts<'a> {
    pub time_us: i64,
    pub value: f64,
    pub is_interpolated: bool,
    pub animal_id: Option<i32>,
    pub zone_id: Option<i32>,
    pub battery_level: Option<i32>,
    pub signal_strength: Option<i32>,
    pub session_id: Option<&'a str>,
    pub metadata: Option<&'a str>,
}

impl Facts<'_> {
    /// A number that stands for all of them.
    pub fn mark(&self) -> u64 {
        let mut mark = Mark::new();
        mark.word(self.time_us as u64);
        mark.word(self.value.to_bits());
        mark.word(optional(self.animal_id) << 1 | u64::from(self.is_interpolated));
        mark.word(optional(self.zone_id));
        mark.word(optional(self.battery_level) << 32 ^ optional(self.signal_strength));
        mark.text(self.session_id);
        mark.text(self.metadata.map(meaning).as_deref());
        mark.finish()
    }
}

/// JSON in one form out of many with the same meaning: PostgreSQL's JSONB keeps that, not the text.
fn meaning(json: &str) -> Cow<'_, str> {
    let value = serde_json::from_str::<serde_json::Value>(json);
    value.map_or(Cow::Borrowed(json), |value| Cow::Owned(value.to_string()))
}

/// A number that stands for everything a milking says.
pub fn milking_mark(milking: &v1::Milking) -> u64 {
    let mut mark = Mark::new();
    mark.word(milking.time_us as u64);
    for id in [milking.milk_meter_id, milking.animal_id, milking.farm_id] {
        mark.word(id as u64);
    }
    mark.text(Some(&milking.session_id));
    mark.word(milking.yield_kg.to_bits());
    mark.word(u64::from(milking.blood_detected));
    mark.word(optional(milking.duration_seconds));
    mark.word(optional(milking.somatic_cell_count));
    for value in [
        milking.flow_rate_kg_min,
        milking.conductivity_ms,
        milking.temperature_c,
        milking.fat_percent,
        milking.protein_percent,
        milking.lactose_percent,
        milking.mastitis_risk_score,
    ] {
        mark.word(u64::from(value.is_some()));
        mark.word(value.map_or(0, f64::to_bits));
    }
    for time_us in [milking.session_start_us, milking.session_end_us] {
        mark.word(u64::from(time_us.is_some()));
        mark.word(time_us.unwrap_or(0) as u64);
    }
    mark.text(milking.milking_type.as_deref());
    mark.text(milking.meter_status.as_deref());
    mark.finish()
}

impl<'a> From<&'a Sample> for Facts<'a> {
    fn from(sample: &'a Sample) -> Self {
        Self {
            time_us: sample.time_us,
            value: sample.value,
            is_interpolated: sample.is_interpolated,
            animal_id: sample.animal_id,
            zone_id: sample.zone_id,
            battery_level: Some(sample.battery_level.into()),
            signal_strength: Some(sample.signal_strength.into()),
            session_id: sample.session_id.as_deref(),
            metadata: sample.metadata,
        }
    }
}

impl<'a> From<&'a v1::StoredReading> for Facts<'a> {
    fn from(reading: &'a v1::StoredReading) -> Self {
        Self {
            time_us: reading.time_us,
            value: reading.value,
            is_interpolated: reading.is_interpolated,
            animal_id: reading.animal_id,
            zone_id: reading.zone_id,
            battery_level: reading.battery_level,
            signal_strength: reading.signal_strength,
            session_id: reading.session_id.as_deref(),
            metadata: reading.metadata.as_deref(),
        }
    }
}

impl<'a> From<&'a v1::Reading> for Facts<'a> {
    fn from(reading: &'a v1::Reading) -> Self {
        Self {
            time_us: reading.time_us,
            value: reading.value,
            is_interpolated: reading.is_interpolated,
            animal_id: reading.animal_id,
            zone_id: reading.zone_id,
            battery_level: reading.battery_level,
            signal_strength: reading.signal_strength,
            session_id: reading.session_id.as_deref(),
            metadata: reading.metadata.as_deref(),
        }
    }
}

impl From<&MilkingRecord> for v1::Milking {
    fn from(record: &MilkingRecord) -> Self {
        Self {
            time_us: record.time_us,
            milk_meter_id: record.milk_meter_id,
            animal_id: record.animal_id,
            farm_id: record.farm_id,
            session_id: record.session_id.clone(),
            yield_kg: record.yield_kg,
            duration_seconds: Some(record.duration_seconds),
            flow_rate_kg_min: Some(record.flow_rate_kg_min),
            conductivity_ms: Some(record.conductivity_ms),
            temperature_c: Some(record.temperature_c),
            blood_detected: record.blood_detected,
            fat_percent: record.fat_percent,
            protein_percent: record.protein_percent,
            lactose_percent: record.lactose_percent,
            somatic_cell_count: record.somatic_cell_count,
            mastitis_risk_score: Some(record.mastitis_risk_score),
            session_start_us: Some(record.session_start_us),
            session_end_us: None,
            milking_type: Some(record.milking_type.to_owned()),
            meter_status: None,
        }
    }
}

/// Tells None from every number.
fn optional(number: Option<i32>) -> u64 {
    number.map_or(0, |number| u64::from(number as u32) + 1)
}

/// A 64-bit mix: each word is folded in by a widening multiplication, as wyhash does.
struct Mark(u64);

impl Mark {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn word(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * u128::from(0xa076_1d64_78bd_642f_u64);
        // The last summand keeps a word that cancels the state from erasing all that came before.
        self.0 = (wide as u64 ^ (wide >> 64) as u64).wrapping_add(self.0.rotate_left(29));
    }

    fn text(&mut self, text: Option<&str>) {
        let Some(text) = text else { return self.word(0) };
        self.word(text.len() as u64 + 1);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn finish(mut self) -> u64 {
        self.word(0xe703_7ed1_a0b4_28db);
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::farm::{Delivery, Farm, FarmConfig};

    fn samples(seed: u64) -> Vec<Sample> {
        let config = FarmConfig {
            seed,
            run: "t".into(),
            farm_id: 1,
            series: 9,
            start_us: 1_700_000_000_000_000,
            bad_per_million: 0,
        };
        let mut delivery = Delivery::default();
        Farm::new(&config).deliver(200, i64::MAX, &mut delivery);
        delivery.readings
    }

    fn tally<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Tally {
        let mut tally = Tally::default();
        for sample in samples {
            tally.add(Facts::from(sample).mark());
        }
        tally
    }

    #[test]
    fn metadata_is_compared_by_what_it_says() {
        assert_eq!(meaning(r#"{"b": [1, 2], "a":null}"#), meaning(r#"{"a": null,"b":[1,2]}"#));
        assert_ne!(meaning(r#"{"a":1}"#), meaning(r#"{"a":"1"}"#));
        assert_ne!(meaning(r#"{"a":[1,2]}"#), meaning(r#"{"a":[2,1]}"#));
    }

    /// Every way in which one fact of a reading can change.
    fn alterations() -> Vec<fn(&mut Sample)> {
        vec![
            |s| s.time_us += 1,
            |s| s.value = -s.value - 1.0,
            |s| s.value = f64::from_bits(s.value.to_bits() ^ 1),
            |s| s.is_interpolated = !s.is_interpolated,
            |s| s.animal_id = s.animal_id.map_or(Some(1), |_| None),
            |s| s.zone_id = s.zone_id.map_or(Some(1), |_| None),
            |s| s.battery_level += 1,
            |s| s.signal_strength -= 1,
            |s| (s.battery_level, s.signal_strength) = (s.signal_strength, s.battery_level),
            |s| s.session_id = s.session_id.take().map_or(Some("".into()), |_| None),
            |s| s.metadata = s.metadata.take().map_or(Some("{}"), |_| None),
        ]
    }

    proptest! {
        #[test]
        fn order_does_not_matter(seed: u64, by in 0_usize..200) {
            let mut samples = samples(seed);
            let before = tally(&samples);
            let by = by % samples.len();
            samples.rotate_left(by);
            samples.reverse();
            prop_assert_eq!(tally(&samples), before);
        }

        #[test]
        fn a_lost_doubled_or_altered_row_shows(seed: u64, at: prop::sample::Index) {
            let samples = samples(seed);
            let whole = tally(&samples);
            let at = at.index(samples.len());
            let row = &samples[at];
            let lost = samples.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, s)| s);
            prop_assert_ne!(tally(lost), whole);
            prop_assert_ne!(tally(samples.iter().chain([row])), whole);
            // One lost and another doubled: the count alone would not tell.
            let other = &samples[(at + 1) % samples.len()];
            let swapped = samples.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, s)| s).chain([other]);
            prop_assert_ne!(tally(swapped).sum, whole.sum);
            for (n, alter) in alterations().into_iter().enumerate() {
                let mut altered = samples.clone();
                alter(&mut altered[at]);
                prop_assert_ne!(tally(&altered), whole, "alteration {}", n);
            }
        }
    }

    #[test]
    fn a_milking_is_marked_by_each_of_its_fields() {
        let base = v1::Milking { session_id: "s".into(), ..Default::default() };
        let alter: Vec<fn(&mut v1::Milking)> = vec![
            |m| m.time_us = 1,
            |m| m.milk_meter_id = 1,
            |m| m.animal_id = 1,
            |m| m.farm_id = 1,
            |m| m.session_id = "t".into(),
            |m| m.yield_kg = 1.0,
            |m| m.duration_seconds = Some(0),
            |m| m.flow_rate_kg_min = Some(0.0),
            |m| m.conductivity_ms = Some(0.0),
            |m| m.temperature_c = Some(0.0),
            |m| m.blood_detected = true,
            |m| m.fat_percent = Some(0.0),
            |m| m.protein_percent = Some(0.0),
            |m| m.lactose_percent = Some(0.0),
            |m| m.somatic_cell_count = Some(0),
            |m| m.mastitis_risk_score = Some(0.0),
            |m| m.session_start_us = Some(0),
            |m| m.session_end_us = Some(0),
            |m| m.milking_type = Some(String::new()),
            |m| m.meter_status = Some(String::new()),
        ];
        let mut marks = std::collections::HashSet::from([milking_mark(&base)]);
        for (n, alter) in alter.into_iter().enumerate() {
            let mut milking = base.clone();
            alter(&mut milking);
            assert!(marks.insert(milking_mark(&milking)), "alteration {n} does not show");
        }
    }

    #[test]
    fn a_doubtful_row_counts_once() {
        let mut doubt = Doubt::default();
        doubt.add(7);
        assert!(!doubt.remove(8));
        assert!(doubt.remove(7));
        assert!(!doubt.remove(7), "its second occurrence is no longer covered");
    }
}
