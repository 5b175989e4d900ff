//! What metrics are made of, and how they are registered.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// A counter that can also be read.
pub(in crate::ops) struct Total {
    shown: Counter,
    value: AtomicU64,
}

impl Total {
    pub(super) fn add(&self, count: u64) {
        self.shown.increment(count);
        self.value.fetch_add(count, Ordering::Relaxed);
    }

    pub(in crate::ops) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// A whole number that goes up and down and can also be read.
pub(in crate::ops) struct Gauged {
    shown: Gauge,
    value: AtomicI64,
}

impl Gauged {
    pub(super) fn set(&self, value: i64) {
        self.shown.set(value as f64);
        self.value.store(value, Ordering::Relaxed);
    }

    pub(super) fn change(&self, by: i64) {
        self.shown.increment(by as f64);
        self.value.fetch_add(by, Ordering::Relaxed);
    }

    pub(in crate::ops) fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// A histogram of durations whose number and sum can also be read.
pub(in crate::ops) struct Timed {
    shown: Histogram,
    count: AtomicU64,
    micros: AtomicU64,
}

impl Timed {
    pub(super) fn new(shown: Histogram) -> Self {
        Self { shown, count: AtomicU64::new(0), micros: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, took: Duration) {
        self.shown.record(took);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Number and sum, in microseconds.
    pub(in crate::ops) fn get(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.micros.load(Ordering::Relaxed))
    }
}

/// Registers metrics with a recorder of our own: no other crate's metrics get in, and a handle costs
/// no look-up when it is used.
pub(super) struct Maker(PrometheusRecorder);

/// A metric's name and unit.
pub(super) type Name = (&'static str, Unit);

impl Maker {
    /// With the buckets of each histogram.
    pub(super) fn new(buckets: &[(&str, &[f64])]) -> Self {
        let recorder = buckets
            .iter()
            .try_fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
                builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)
            })
            .expect("the lists of buckets are not empty")
            .build_recorder();
        Self(recorder)
    }

    /// Reads what was made.
    pub(super) fn handle(&self) -> PrometheusHandle {
        self.0.handle()
    }

    pub(super) fn counter(&self, name: &'static str, help: &str) -> Total {
        self.0.describe_counter(name.into(), Some(Unit::Count), help.to_owned().into());
        self.total(&Key::from_name(name))
    }

    pub(super) fn counters<const N: usize>(
        &self,
        (name, unit): Name,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Total; N] {
        self.0.describe_counter(name.into(), Some(unit), help.into());
        values.map(|value| self.total(&Key::from_parts(name, vec![Label::new(label, value)])))
    }

    fn total(&self, key: &Key) -> Total {
        Total { shown: self.0.register_counter(key, &HERE), value: AtomicU64::new(0) }
    }

    pub(super) fn gauge(&self, name: Name, help: &'static str) -> Gauged {
        Gauged { shown: self.gauge_with(name, help, Vec::new()), value: AtomicI64::new(0) }
    }

    pub(super) fn gauge_with(&self, (name, unit): Name, help: &'static str, labels: Vec<Label>) -> Gauge {
        self.0.describe_gauge(name.into(), Some(unit), help.into());
        self.0.register_gauge(&Key::from_parts(name, labels), &HERE)
    }

    pub(super) fn histogram(&self, name: Name, help: &'static str) -> Histogram {
        self.describe_histogram(name, help)(Vec::new())
    }

    pub(super) fn timed(&self, name: Name, help: &'static str) -> Timed {
        Timed::new(self.histogram(name, help))
    }

    /// Describes a histogram; what is returned registers it for each set of labels.
    pub(super) fn describe_histogram(
        &self,
        (name, unit): Name,
        help: &'static str,
    ) -> impl Fn(Vec<Label>) -> Histogram {
        self.0.describe_histogram(name.into(), Some(unit), help.into());
        move |labels| self.0.register_histogram(&Key::from_parts(name, labels), &HERE)
    }
}

const HERE: Metadata<'_> = Metadata::new("herdstream", Level::INFO, None);

impl fmt::Debug for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Gauged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
