//! Statistics as a textbook has them.

/// Statistics of values.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the usual figures")]
pub struct Plain {
    pub count: u64,
    pub sum: f64,
    pub avg: f64,
    pub min: f64,
    pub max: f64,
    /// Of the sample; none of a single value.
    pub stddev: Option<f64>,
    pub median: f64,
    pub p95: f64,
}

impl Plain {
    /// Of some values; None of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let count = values.len() as f64;
        let sum: f64 = values.iter().sum();
        let avg = sum / count;
        let squares: f64 = values.iter().map(|value| (value - avg) * (value - avg)).sum();
        Some(Self {
            count: values.len() as u64,
            sum,
            avg,
            min,
            max,
            stddev: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
            median: percentile(&values, 0.5),
            p95: percentile(&values, 0.95),
        })
    }
}

/// Between the two values beside it, as SQL's `percentile_cont`; of values in order, one or more.
fn percentile(values: &[f64], part: f64) -> f64 {
    let place = part * (values.len() - 1) as f64;
    let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let plain = Plain::of([4.0, 1.0, 3.0, 2.0]).expect("there are values");
        let stddev = Some((5.0_f64 / 3.0).sqrt());
        let wanted =
            Plain { count: 4, sum: 10.0, avg: 2.5, min: 1.0, max: 4.0, stddev, median: 2.5, p95: plain.p95 };
        assert_eq!(plain, wanted);
        assert!((plain.p95 - 3.85).abs() < 1e-12);
        let one = Plain::of([7.0]).expect("there is one");
        assert_eq!((one.stddev, one.count), (None, 1));
        assert!([one.median, one.p95, one.avg].iter().all(|value| (value - 7.0).abs() < 1e-12));
        assert_eq!(Plain::of([]), None);
    }
}
