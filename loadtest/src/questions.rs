//! Questions to a server, again and again, with the time that each kind takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use herdstream_client::{QueryClient, v1};
use parking_lot::Mutex;
use rand::{
    Rng as _, SeedableRng as _,
    rngs::SmallRng,
    seq::{IndexedRandom as _, IteratorRandom as _},
};
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    answers,
    history::{Dairy, Device},
    workload::{DAY_US, Latencies, Percentiles, now_us},
};

const HOUR_US: i64 = 3_600_000_000;

/// Questions of an open loop that may wait for their answers.
const MOST_UNDER_WAY: usize = 1_000;

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Kind {
    Latest,
    LastHour,
    HourlyWeek,
    Daily90,
    FarmSummary30,
    FarmHourlyDay,
    AnimalDaily30,
    MilkDaily30,
    Devices,
}

impl Kind {
    /// All of them, asked in turn.
    pub const ALL: [Self; 9] = [
        Self::Latest,
        Self::LastHour,
        Self::HourlyWeek,
        Self::Daily90,
        Self::FarmSummary30,
        Self::FarmHourlyDay,
        Self::AnimalDaily30,
        Self::MilkDaily30,
        Self::Devices,
    ];

    /// Those of `only` that have an answer, or of all if it is empty: of animals and their milk only where there are
    /// animals.
    pub fn of(dairy: &Dairy, only: &[Self]) -> Vec<Self> {
        let of_animals = [Self::AnimalDaily30, Self::MilkDaily30];
        let has_answer = |kind: &Self| dairy.animals().next().is_some() || !of_animals.contains(kind);
        let is_asked = |kind: &Self| only.is_empty() || only.contains(kind);
        Self::ALL.into_iter().filter(has_answer).filter(is_asked).collect()
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest of a device",
            Self::LastHour => "last hour of a series, raw",
            Self::HourlyWeek => "7 days of a series, by hour",
            Self::Daily90 => "90 days of a series, by day",
            Self::FarmSummary30 => "farm summary of 30 days",
            Self::FarmHourlyDay => "a farm's day, by hour",
            Self::AnimalDaily30 => "30 days of an animal, by day",
            Self::MilkDaily30 => "milk of a farm, 30 days",
            Self::Devices => "devices of a farm",
        }
    }
}

/// When questions leave.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Closed loop: so many askers, each asks when it has its answer.
    Closed {
        /// Askers, 1 or more.
        askers: usize,
    },
    /// Open loop: so many questions a second, on a schedule that waits for no answer. How long one takes counts from
    /// the moment at which its question leaves; how late that was is told by itself, and a run that was too late fails.
    Open {
        /// Questions a second, above zero.
        rate: f64,
    },
}

/// How long answers of one kind took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    /// The kind.
    pub name: &'static str,
    /// How long.
    pub answer_ms: Percentiles,
}

/// How long answers took.
#[derive(Debug)]
pub struct Answers {
    /// Of each kind that was asked.
    pub figures: Vec<Figure>,
    /// How long after its moment each question of an open loop left; not part of the times above. None: closed loop.
    pub late_ms: Option<Percentiles>,
}

/// How long each kind took.
#[derive(Debug)]
struct Times([Mutex<Latencies>; Kind::ALL.len()]);

impl Times {
    fn new() -> Self {
        Self(Kind::ALL.map(|_| Mutex::default()))
    }

    /// Of every kind that was asked.
    fn figures(&self) -> Vec<Figure> {
        let figure = |(kind, times): (Kind, &Mutex<Latencies>)| Figure {
            name: kind.name(),
            answer_ms: times.lock().percentiles(),
        };
        let all = Kind::ALL.into_iter().zip(&self.0).map(figure);
        all.filter(|figure| figure.answer_ms.samples > 0).collect()
    }
}

/// Looks whether the history is there: its last device, which is written last.
///
/// # Errors
///
/// It is not there, or the server cannot be asked.
pub async fn find_history(client: &QueryClient, dairy: &Dairy) -> Result<()> {
    let device = dairy.devices.last().context("a dairy has devices")?;
    let request = v1::GetLatestRequest {
        device_uid: device.uid.clone(),
        farm_id: device.farm_id,
        ..v1::GetLatestRequest::default()
    };
    client.get_latest(request).await.with_context(|| {
        format!(
            "the history is not there, since {} is not known: write it first, with --readings above 0 and the same \
             --devices and --farms",
            device.uid
        )
    })?;
    Ok(())
}

/// Asks questions of `kinds` in turn for `time`. Equal seeds make equal questions.
///
/// # Errors
///
/// There is no kind, a question fails, or so many questions of an open loop are unanswered that the server cannot keep
/// up.
pub async fn ask(
    client: &QueryClient,
    dairy: &Arc<Dairy>,
    kinds: &[Kind],
    (time, pace): (Duration, Pace),
    seed: u64,
) -> Result<Answers> {
    ensure!(!kinds.is_empty(), "the dairy has no animals to ask about");
    let asking = Arc::new(Asking {
        client: client.clone(),
        dairy: Arc::clone(dairy),
        kinds: kinds.to_vec(),
        times: Times::new(),
        late: Mutex::default(),
        seed,
    });
    match pace {
        Pace::Closed { askers } => asking.closed(time, askers).await?,
        Pace::Open { rate } => asking.open(time, rate).await?,
    }
    let late_ms = asking.late.lock().percentiles();
    Ok(Answers { figures: asking.times.figures(), late_ms: (late_ms.samples > 0).then_some(late_ms) })
}

/// What all askers share.
#[derive(Debug)]
struct Asking {
    client: QueryClient,
    dairy: Arc<Dairy>,
    kinds: Vec<Kind>,
    times: Times,
    late: Mutex<Latencies>,
    seed: u64,
}

impl Asking {
    async fn closed(&self, time: Duration, askers: usize) -> Result<()> {
        let (until, turn) = (Instant::now() + time, AtomicU64::new(0));
        let asker = async || -> Result<()> {
            while Instant::now() < until {
                self.answered(turn.fetch_add(1, Ordering::Relaxed)).await?;
            }
            Ok(())
        };
        futures::future::try_join_all((0..askers).map(|_| asker())).await?;
        Ok(())
    }

    /// Ends when the last question that was due is answered: it would be the slowest, perhaps.
    async fn open(self: &Arc<Self>, time: Duration, rate: f64) -> Result<()> {
        let schedule = Schedule { start: Instant::now(), time, rate, seed: self.seed };
        let mut moments = schedule.begin();
        let (mut turn, mut under_way) = (0, JoinSet::new());
        loop {
            tokio::select! {
                Some(due) = moments.recv() => {
                    ensure!(
                        under_way.len() < MOST_UNDER_WAY,
                        "{MOST_UNDER_WAY} questions wait for an answer: the server does not keep up with {rate} a \
                         second"
                    );
                    let (asking, asked) = (Arc::clone(self), turn);
                    under_way.spawn(async move {
                        asking.late.lock().record(due.elapsed(), 1);
                        asking.answered(asked).await
                    });
                    turn += 1;
                }
                Some(answered) = under_way.join_next() => answered.context("an asker panicked")??,
                else => break,
            }
        }
        ensure!(turn == schedule.questions(), "only {turn} of {} questions were due", schedule.questions());
        Ok(())
    }

    async fn answered(&self, turn: u64) -> Result<()> {
        let kind = self.kinds[turn as usize % self.kinds.len()];
        let mut rng = SmallRng::seed_from_u64(self.seed.wrapping_add(turn));
        let asked = Instant::now();
        ask_one(&self.client, &self.dairy, kind, &mut rng).await.with_context(|| kind.name())?;
        self.times.0[kind as usize].lock().record(asked.elapsed(), 1);
        Ok(())
    }
}

/// When the questions of an open loop are due: each anywhere in its share of the time, so that they keep no step with the
/// load.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    time: Duration,
    rate: f64,
    seed: u64,
}

impl Schedule {
    fn questions(self) -> u64 {
        (self.time.as_secs_f64() * self.rate).ceil() as u64
    }

    /// How long before a moment its thread is awake, since a sleep ends late: a twentieth of the time between two of
    /// them, and no more than 2 ms.
    fn awake(self) -> Duration {
        Duration::from_secs_f64(0.05 / self.rate).min(Duration::from_millis(2))
    }

    /// Tells each moment once it has come. From a thread of its own: timers of the runtime are a millisecond late.
    fn begin(self) -> mpsc::UnboundedReceiver<Instant> {
        let (come, moments) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let mut rng = SmallRng::seed_from_u64(self.seed);
            for turn in 0..self.questions() {
                let after = Duration::from_secs_f64((turn as f64 + rng.random::<f64>()) / self.rate);
                let due = self.start + after.min(self.time);
                std::thread::sleep(
                    due.saturating_duration_since(Instant::now()).saturating_sub(self.awake()),
                );
                while Instant::now() < due {
                    std::hint::spin_loop();
                }
                if come.send(due).is_err() {
                    return;
                }
            }
        });
        moments
    }
}

/// A day of UTC, as the API writes it.
fn date(days_ago: i64) -> String {
    answers::date(now_us() - days_ago * DAY_US)
}

async fn ask_one(client: &QueryClient, dairy: &Dairy, kind: Kind, rng: &mut SmallRng) -> Result<()> {
    let device: &Device = dairy.devices.choose(rng).context("a dairy has devices")?;
    let metric = device.kind.metrics()[0].name().to_owned();
    let now = now_us();
    let range = |back_us: i64, resolution: v1::Resolution| v1::QueryRangeRequest {
        metric_name: metric.clone(),
        start_us: now - back_us,
        end_us: now,
        page_size: 10_000,
        resolution: resolution.into(),
        ..v1::QueryRangeRequest::default()
    };
    let of_device =
        |request: v1::QueryRangeRequest| v1::QueryRangeRequest { device_uid: device.uid.clone(), ..request };
    let farm_id = device.farm_id;
    match kind {
        Kind::Latest => {
            let request =
                v1::GetLatestRequest { device_uid: device.uid.clone(), ..v1::GetLatestRequest::default() };
            ensure!(!client.get_latest(request).await?.is_empty(), "{} has no latest reading", device.uid);
        }
        Kind::LastHour => drop(client.query_range(of_device(range(HOUR_US, v1::Resolution::Raw))).await?),
        Kind::HourlyWeek => {
            drop(client.query_range(of_device(range(7 * DAY_US, v1::Resolution::Hour))).await?);
        }
        Kind::Daily90 => drop(client.query_range(of_device(range(90 * DAY_US, v1::Resolution::Day))).await?),
        Kind::FarmHourlyDay => {
            let request = v1::QueryRangeRequest { farm_id, ..range(DAY_US, v1::Resolution::Hour) };
            drop(client.query_range(request).await?);
        }
        Kind::FarmSummary30 => {
            let (first_date, last_date) = (date(29), date(0));
            let request =
                v1::GetFarmDailySummaryRequest { farm_id, first_date, last_date, ..Default::default() };
            drop(client.get_farm_daily_summary(request).await?);
        }
        Kind::AnimalDaily30 => {
            let animal_id = dairy.animals().choose(rng).context("a dairy whose animals are asked for")?;
            let request = v1::QueryRangeRequest {
                animal_id,
                metric_name: "rumination".to_owned(),
                ..range(30 * DAY_US, v1::Resolution::Day)
            };
            drop(client.query_range(request).await?);
        }
        Kind::MilkDaily30 => {
            let (first_date, last_date) = (date(29), date(0));
            let request = v1::GetMilkProductionDailyRequest {
                farm_id,
                first_date,
                last_date,
                page_size: 10_000,
                ..Default::default()
            };
            drop(client.get_milk_production_daily(request).await?);
        }
        Kind::Devices => {
            let request = v1::ListDevicesRequest { farm_id, ..v1::ListDevicesRequest::default() };
            ensure!(!client.list_devices(request).await?.devices.is_empty(), "farm {farm_id} has no devices");
        }
    }
    Ok(())
}
