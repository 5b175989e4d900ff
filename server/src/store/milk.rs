//! Milk by animal and span.

use std::collections::BTreeMap;

use super::aggregate::{Cut, MilkBucket};
use crate::model::{Micros, Milking};

/// Milkings put together so far.
pub(in crate::store) struct MilkTally {
    cut: Cut,
    days: BTreeMap<(Micros, i32), Sums>,
}

/// A mean over those that tell.
#[derive(Default)]
struct Mean {
    sum: f64,
    count: u64,
}

#[derive(Default)]
struct Sums {
    milkings: u64,
    yield_kg: f64,
    conductivity: Mean,
    scc: Mean,
    risk: Option<f64>,
    fat: Mean,
    protein: Mean,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.count += 1;
        }
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl MilkTally {
    pub(in crate::store) fn new(cut: Cut) -> Self {
        Self { cut, days: BTreeMap::new() }
    }

    /// Adds a milking; one outside of the cut is left out.
    pub(in crate::store) fn add(&mut self, milking: &Milking) {
        let Some(start_us) = self.cut.start_of(milking.time_us) else { return };
        let sums = self.days.entry((start_us, milking.animal_id)).or_default();
        sums.milkings += 1;
        sums.yield_kg += milking.yield_kg;
        sums.conductivity.add(milking.conductivity_ms);
        sums.scc.add(milking.somatic_cell_count.map(f64::from));
        sums.risk = match (sums.risk, milking.mastitis_risk_score) {
            (Some(ours), Some(theirs)) => Some(ours.max(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        sums.fat.add(milking.fat_percent);
        sums.protein.add(milking.protein_percent);
    }

    /// By span, then animal.
    pub(in crate::store) fn finish(self) -> Vec<MilkBucket> {
        let told = |((start_us, animal_id), sums): (_, Sums)| MilkBucket {
            start_us,
            animal_id,
            milkings: sums.milkings,
            total_yield_kg: sums.yield_kg,
            avg_conductivity: sums.conductivity.value(),
            avg_scc: sums.scc.value(),
            max_mastitis_risk: sums.risk,
            avg_fat: sums.fat.value(),
            avg_protein: sums.protein.value(),
        };
        self.days.into_iter().map(told).collect()
    }
}
