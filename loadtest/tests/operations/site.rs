//! A site: a gateway with the SDK, its spool, and its link to the server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use herdstream_client::{
    Error, Event, EventStream, FlushError, Item, Producer, ProducerConfig, SendReason, SeriesRef,
    SpoolConfig, SpoolError, WhenFull,
};
use herdstream_testkit::{Link, Mode, Upstream};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    content::{self, Content, Id},
    model::{BATCH_ITEMS, Model},
    world::{PATIENCE, until},
};

/// Sites at the start: three with a spool and one without. Clones of spools come to it.
pub(crate) const SITES: usize = 4;
/// Its spool keeps everything in one file.
pub(crate) const BIG_SPOOL: usize = 0;
/// Its spool is soon full and gives up the oldest.
pub(crate) const SMALL_SPOOL: usize = 1;
/// Its spool is in many small files.
const SPLIT_SPOOL: usize = 2;
pub(crate) const SPOOLED: [usize; 3] = [BIG_SPOOL, SMALL_SPOOL, SPLIT_SPOOL];

/// One gateway.
#[derive(Debug)]
pub(crate) struct Site {
    /// Its device and farm.
    pub(crate) number: usize,
    /// The site whose spool it has, or a clone of it.
    pub(crate) kind: usize,
    pub(crate) link: Link,
    pub(crate) spool: Option<PathBuf>,
    /// A copy of the spool, and how many items there were when it was made.
    pub(crate) saved: Option<(PathBuf, Id)>,
    opening: Option<Opening>,
    /// Of openings that are gone, but may still have had something to say.
    past: Vec<EventStream>,
}

/// The producer of a site.
#[derive(Debug)]
struct Opening {
    producer: Producer,
    events: EventStream,
    log: usize,
    series: [SeriesRef; 3],
    /// It takes nothing more: another session took over.
    ended: bool,
}

/// How much a call took, and whether it ran out of room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) taken: usize,
    pub(crate) full: bool,
}

impl Site {
    pub(crate) async fn new(number: usize, kind: usize, dir: &Path, upstream: Upstream) -> Result<Self> {
        let spool = SPOOLED.contains(&kind).then(|| dir.join(format!("spool-{number}")));
        let link = Link::new(upstream).await?;
        Ok(Self { number, kind, link, spool, saved: None, opening: None, past: Vec::new() })
    }

    /// Has a producer that takes items: the one there is, or a new one.
    pub(crate) async fn open(&mut self, model: &mut Model) -> Result<()> {
        self.listen(model);
        if self.opening.as_ref().is_some_and(|opening| !opening.ended) {
            return Ok(());
        }
        self.abandon(model);
        let deadline = Instant::now() + PATIENCE;
        let producer = loop {
            match Producer::open(self.config()).await {
                // What is abandoned lets go of the spool a little later.
                Err(Error::Spool(SpoolError::InUse { .. })) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                opened => break opened.with_context(|| format!("opening site {}", self.number))?,
            }
        };
        let log = model.open(producer.producer_id(), self.number, self.spool.is_some());
        let series = content::series(self.number, &producer)?;
        self.opening = Some(Opening { events: producer.events(), producer, log, series, ended: false });
        Ok(())
    }

    fn config(&self) -> ProducerConfig {
        // A clone passes for the gateway whose card was cloned.
        let mut config = ProducerConfig::new(self.link.endpoint(), format!("gateway-{}", self.kind))
            .batch_readings(BATCH_ITEMS)
            .linger(Duration::from_millis(1))
            .backoff(Duration::from_millis(5), Duration::from_millis(100));
        if let Some(dir) = &self.spool {
            let mut spool = SpoolConfig::new(dir);
            match self.kind {
                SMALL_SPOOL => {
                    (spool.max_bytes, spool.segment_bytes) = (64 << 10, 8 << 10);
                    config = config.when_full(WhenFull::EvictOldest);
                }
                SPLIT_SPOOL => spool.segment_bytes = 4 << 10,
                _ => {}
            }
            config = config.spool_config(spool);
        }
        config
    }

    fn opening(&self) -> Result<&Opening> {
        self.opening.as_ref().context("the site has no producer")
    }

    pub(crate) fn producer(&self) -> Result<&Producer> {
        Ok(&self.opening()?.producer)
    }

    pub(crate) fn producer_id(&self) -> Result<Uuid> {
        Ok(self.producer()?.producer_id())
    }

    pub(crate) fn log(&self) -> Result<usize> {
        Ok(self.opening()?.log)
    }

    /// Whether there is a producer that takes items.
    pub(crate) fn is_open(&mut self, model: &mut Model) -> bool {
        self.listen(model);
        self.opening.as_ref().is_some_and(|opening| !opening.ended)
    }

    /// Hears what the SDK has to say.
    pub(crate) fn listen(&mut self, model: &mut Model) {
        for events in &mut self.past {
            while let Some(event) = events.try_next() {
                model.hear(&event);
            }
        }
        let Some(opening) = &mut self.opening else { return };
        let own = opening.producer.producer_id();
        while let Some(event) = opening.events.try_next() {
            model.hear(&event);
            opening.ended |= matches!(
                event,
                Event::Fenced { producer_id, .. } | Event::Conflict { producer_id, .. } if producer_id == own
            );
        }
    }

    /// Hands over so many items.
    pub(crate) async fn send(
        &mut self,
        model: &mut Model,
        content: Content,
        items: usize,
        patience: Duration,
    ) -> Result<Sent> {
        self.open(model).await?;
        let prepared = model.prepare(self.log()?, self.number, items);
        let items = self.items(content, &prepared)?;
        let opening = self.opening.as_mut().context("the site has no producer")?;
        let (sent, reason) = match opening.producer.send_slice(&items, patience).await {
            Ok(()) => (Sent { taken: items.len(), full: false }, None),
            Err(error) => {
                let full = matches!(error.reason, SendReason::Full { .. });
                (Sent { taken: error.taken, full }, Some(error.reason))
            }
        };
        model.take(&prepared, sent.taken);
        match reason {
            None | Some(SendReason::Full { .. }) => {}
            Some(SendReason::Fenced(_) | SendReason::Conflict) => opening.ended = true,
            Some(reason) => bail!("site {} does not take items: {reason}", self.number),
        }
        let (accepted, taken) = (opening.producer.counters().accepted, model.logs[opening.log].ids.len());
        ensure!(
            accepted == taken as u64,
            "site {}: the SDK counts {accepted} accepted, of {taken}",
            self.number
        );
        Ok(sent)
    }

    fn items(&self, content: Content, ids: &std::ops::Range<Id>) -> Result<Vec<Item>> {
        let series = &self.opening()?.series;
        Ok(ids.clone().map(|id| content.item(self.number, id, series)).collect())
    }

    /// Waits until everything is acknowledged. False: another session took over.
    pub(crate) async fn flush(&mut self, model: &mut Model) -> Result<bool> {
        let opening = self.opening.as_mut().context("the site has no producer")?;
        match opening.producer.flush(PATIENCE).await {
            Ok(()) => {}
            Err(FlushError::Ended(SendReason::Fenced(_) | SendReason::Conflict)) => {
                opening.ended = true;
                return Ok(false);
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("flushing site {}: {:?}", self.number, opening.producer.counters())
                });
            }
        }
        let counters = opening.producer.counters();
        ensure!(counters.pending == 0, "site {} is flushed, and pending: {counters:?}", self.number);
        model.acked_but(opening.log, 0);
        Ok(true)
    }

    /// Drops the producer without a close.
    pub(crate) fn abandon(&mut self, model: &mut Model) {
        let Some(opening) = self.opening.take() else { return };
        if self.spool.is_none() {
            let counters = opening.producer.counters();
            // A call that was cut short may have put in what the model does not count as taken.
            let uncounted = counters.accepted - model.logs[opening.log].ids.len() as u64;
            let lost = model.last(opening.log, counters.pending.saturating_sub(uncounted)).to_vec();
            model.doubt(lost);
        }
        self.past.push(opening.events);
    }

    /// Drops the producer while it takes items.
    pub(crate) async fn abandon_amid_send(
        &mut self,
        model: &mut Model,
        content: Content,
        items: usize,
    ) -> Result<()> {
        let prepared = model.prepare(self.log()?, self.number, items);
        let items = self.items(content, &prepared)?;
        let producer = self.producer()?.clone();
        let sending = tokio::spawn(async move { producer.send_slice(&items, PATIENCE).await });
        tokio::task::yield_now().await;
        sending.abort();
        let _ = sending.await;
        // All of them, so that each has the offset under which it may have been sent.
        let taken = (prepared.end - prepared.start) as usize;
        self.abandon(model);
        model.take(&prepared, taken);
        model.doubt(prepared);
        Ok(())
    }

    /// Closes the producer at once; the spool keeps what is not acknowledged.
    pub(crate) async fn close(&mut self, model: &mut Model) -> Result<()> {
        if self.spool.is_none() {
            self.abandon(model);
        }
        let Some(opening) = self.opening.take() else { return Ok(()) };
        let report =
            opening.producer.close(Duration::ZERO).await.context("closing a producer with a spool")?;
        model.acked_but(opening.log, report.counters.pending);
        self.past.push(opening.events);
        self.listen(model);
        Ok(())
    }

    /// Takes the link down and waits until the SDK has noticed: no ack arrives after that.
    pub(crate) async fn unplug(&mut self, model: &mut Model) -> Result<()> {
        self.link.set(Mode::Down);
        if !self.is_open(model) {
            return Ok(());
        }
        let before = self.producer()?.counters().disconnects;
        let deadline = Instant::now() + PATIENCE;
        while self.is_open(model) && self.producer()?.counters().disconnects == before {
            ensure!(Instant::now() < deadline, "site {} does not notice that its link is down", self.number);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Brings the link up again and waits until the producer has a session. False: there is none, or
    /// another session took over.
    pub(crate) async fn reconnect(&mut self, model: &mut Model) -> Result<bool> {
        let before = self.opening.as_ref().map_or(0, |opening| opening.producer.counters().sessions);
        self.link.set(Mode::Open);
        if !self.is_open(model) {
            return Ok(false);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.producer()?.counters().sessions == before {
            ensure!(Instant::now() < deadline, "site {} does not get a session", self.number);
            if !self.is_open(model) {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(true)
    }

    /// Opens the spool once more and waits until nothing is left in it.
    pub(crate) async fn drain_spool(&mut self, model: &mut Model) -> Result<()> {
        let Some(dir) = self.spool.clone() else { return Ok(()) };
        self.open(model).await?;
        let producer = self.producer()?.clone();
        let drained = until(PATIENCE, async || Ok(producer.counters().recovered_logs == 0)).await?;
        ensure!(drained, "the spool of site {} is not drained: {:?}", self.number, producer.counters());
        self.close(model).await?;
        drop(producer);
        for entry in std::fs::read_dir(&dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            ensure!(
                Uuid::try_parse(&name).is_err(),
                "log {name} is left in the drained spool of site {}",
                self.number
            );
        }
        Ok(())
    }

    /// Of the live producer: what it has not seen acknowledged.
    pub(crate) fn pending(&self, model: &Model) -> Vec<Id> {
        let Some(opening) = &self.opening else { return Vec::new() };
        model.last(opening.log, opening.producer.counters().pending).to_vec()
    }
}
