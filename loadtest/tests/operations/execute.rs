//! What each operation does.

use std::{collections::HashSet, time::Duration};

use anyhow::{Result, ensure};
use herdstream_client::v1;
use herdstream_testkit::Mode;

use super::{
    content,
    copy::{copy_dir, replace_dir},
    judge::read_back,
    list::{Death, Kind, Op},
    model::{Fate, Model},
    second_session::SecondSession,
    site::{BIG_SPOOL, SITES, SMALL_SPOOL, Site},
    world::{PATIENCE, World, until},
};

/// How long a cut waits for what it is to cut: a client that is only just connecting may miss it.
const CUT_PATIENCE: Duration = Duration::from_secs(10);
/// The shortest item on the wire.
const ITEM_BYTES: u64 = 16;
const MAX_CLONES: usize = 2;

impl World {
    /// Executes an operation, and counts it if it really did what it is for.
    pub(crate) async fn execute(&mut self, op: Op) -> Result<()> {
        let (kind, done) = match op {
            Op::Send { site, items } => {
                self.send(site, items).await?;
                return Ok(());
            }
            Op::Flush { site } => {
                let Self { sites, model, .. } = self;
                sites[site].open(model).await?;
                sites[site].flush(model).await?;
                return Ok(());
            }
            Op::SaveSpool { site, unsent } => return self.save_spool(site, unsent).await,
            Op::SaveServer { orderly } => return self.save_server(orderly).await,
            Op::CutBeforeCommit { site, items } => {
                (Kind::CutBeforeCommit, self.cut_before_commit(site, items).await?)
            }
            Op::CutAfterCommit { site, items } => {
                (Kind::CutAfterCommit, self.cut_after_commit(site, items).await?)
            }
            Op::KillServer { wait } => (Kind::KillServer, self.kill_server(wait).await?),
            Op::KillClient { site, death } => (Kind::KillClient, self.kill_client(site, death).await?),
            Op::Drain => (Kind::Drain, self.drain().await?),
            Op::SecondSession { site, items } => {
                (Kind::SecondSession, self.second_session(site, items).await?)
            }
            Op::RestoreSpool { site, flushed } => {
                (Kind::RestoreSpool, self.restore_spool(site, flushed).await?)
            }
            Op::CloneSpool { site, unsent } => (Kind::CloneSpool, self.clone_spool(site, unsent).await?),
            Op::RestoreServer => (Kind::RestoreServer, self.restore_server().await?),
            Op::EvictOffline { unheard } => (Kind::EvictOffline, self.evict_offline(unheard).await?),
        };
        if done {
            *self.executed.entry(kind).or_default() += 1;
        }
        Ok(())
    }

    async fn send(&mut self, site: usize, items: usize) -> Result<()> {
        let Self { sites, model, content, .. } = self;
        let sent = sites[site].send(model, *content, items, PATIENCE).await?;
        ensure!(!sent.full, "site {site} is full and stays so, though its server is there");
        Ok(())
    }

    /// An open producer with a session: it has just heard of what it sent. False: it was fenced.
    async fn connect(&mut self, site: usize) -> Result<bool> {
        self.server()?.answering().await?;
        self.send(site, 20).await?;
        self.sites[site].flush(&mut self.model).await
    }

    async fn cut_before_commit(&mut self, site: usize, items: usize) -> Result<bool> {
        if !self.connect(site).await? {
            return Ok(false);
        }
        self.sites[site].link.set(Mode::ServerDeaf);
        let before = self.sites[site].link.swallowed();
        self.send(site, items).await?;
        let link = &self.sites[site].link;
        let enough = before + items as u64 * ITEM_BYTES;
        let done = until(CUT_PATIENCE, async || Ok(link.swallowed() >= enough)).await?;
        link.cut();
        link.set(Mode::Open);
        Ok(done)
    }

    async fn cut_after_commit(&mut self, site: usize, items: usize) -> Result<bool> {
        if !self.connect(site).await? {
            return Ok(false);
        }
        self.sites[site].link.set(Mode::ClientDeaf);
        self.send(site, items).await?;
        let done = self.committed_unheard(site).await?;
        let link = &self.sites[site].link;
        link.cut();
        link.set(Mode::Open);
        Ok(done)
    }

    /// Waits until everything of a site is committed of which it cannot hear.
    async fn committed_unheard(&mut self, site: usize) -> Result<bool> {
        let query = self.query().await?;
        let Self { sites, model, .. } = self;
        let producer = sites[site].producer_id()?;
        let taken = model.logs[sites[site].log()?].ids.len() as u64;
        until(CUT_PATIENCE, async || {
            let totals = Self::totals(&query, producer).await?;
            Ok(totals.stored + totals.quarantined + totals.skipped >= taken)
        })
        .await
    }

    async fn kill_server(&mut self, wait: bool) -> Result<bool> {
        let server = self.server()?;
        server.kill().await?;
        server.restart()?;
        if wait {
            server.answering().await?;
        }
        Ok(true)
    }

    async fn drain(&mut self) -> Result<bool> {
        self.server()?.answering().await?;
        self.stop_server().await?;
        self.start_server().await?;
        Ok(true)
    }

    async fn kill_client(&mut self, site: usize, death: Death) -> Result<bool> {
        let Self { sites, model, content, .. } = self;
        let site = &mut sites[site];
        site.open(model).await?;
        match death {
            Death::Now => site.abandon(model),
            Death::Offline(items) => {
                site.unplug(model).await?;
                site.send(model, *content, items, PATIENCE).await?;
                site.abandon(model);
                site.link.set(Mode::Open);
            }
            Death::AmidSend(items) => site.abandon_amid_send(model, *content, items).await?,
        }
        site.open(model).await?;
        Ok(true)
    }

    async fn second_session(&mut self, site: usize, items: usize) -> Result<bool> {
        if !self.connect(site).await? {
            return Ok(false);
        }
        self.send(site, items).await?;
        let endpoint = self.server()?.endpoint();
        let Self { sites, model, content, .. } = self;
        let (number, log, producer) = (sites[site].number, sites[site].log()?, sites[site].producer_id()?);
        model.logs[log].exact = false;
        // Numbers that are never handed to the SDK.
        let never = model.prepare(log, number, 3);
        let repeat = v1::Batch {
            series: content::METRICS
                .iter()
                .zip(1..)
                .map(|(metric, r#ref)| raw_series(number, *metric, r#ref))
                .collect(),
            readings: never.map(|id| content.raw(id, 1 + (id % 3) as u32)).collect(),
            ..v1::Batch::default()
        };
        let next_offset = model.logs[log].ids.len() as u64 + 1;
        let Some(mut second) = SecondSession::open(endpoint, producer, next_offset, repeat).await? else {
            return Ok(false);
        };
        // The SDK hears of it, unless it was not connected: then it takes over in its turn.
        let fenced = tokio::select! {
            taken_over = second.taken_over() => {
                taken_over?;
                false
            }
            fenced = until(PATIENCE, async || Ok(!sites[site].is_open(model))) => {
                ensure!(fenced?, "site {site} does not hear that it is fenced");
                true
            }
        };
        drop(second);
        self.sites[site].open(&mut self.model).await?;
        Ok(fenced)
    }

    async fn save_spool(&mut self, site: usize, unsent: usize) -> Result<()> {
        let to = self.copy_path();
        self.copy_spool(site, unsent, &to).await?;
        let at = self.model.items.len() as u64;
        let site = &mut self.sites[site];
        site.saved = Some((to, at));
        site.link.set(Mode::Open);
        Ok(())
    }

    /// Copies a spool while its producer runs. Leaves the link down if something unsent was to be in it.
    async fn copy_spool(&mut self, site: usize, unsent: usize, to: &std::path::Path) -> Result<()> {
        let Self { sites, model, content, .. } = self;
        let site = &mut sites[site];
        site.open(model).await?;
        if unsent > 0 {
            site.unplug(model).await?;
            site.send(model, *content, unsent, PATIENCE).await?;
        }
        match &site.spool {
            Some(dir) => copy_dir(dir, to),
            None => Ok(()),
        }
    }

    async fn restore_spool(&mut self, site: usize, flushed: bool) -> Result<bool> {
        if flushed && self.sites[site].saved.is_some() {
            self.connect(site).await?;
        }
        let Self { sites, model, .. } = self;
        let site = &mut sites[site];
        let (Some((copy, at)), Some(dir)) = (site.saved.clone(), site.spool.clone()) else {
            return Ok(false);
        };
        site.close(model).await?;
        // What came after the copy goes with the files, unless the server has it.
        let mut gone = Vec::new();
        for log in model.logs_of(site.number) {
            log.exact = false;
            gone.extend(log.ids.iter().filter(|id| **id >= at));
        }
        gone.retain(|id| !model.items[*id as usize].acked);
        model.doubt(gone);
        replace_dir(&dir, &copy)?;
        site.open(model).await?;
        Ok(site.producer()?.counters().recovered_logs > 0)
    }

    async fn clone_spool(&mut self, site: usize, unsent: usize) -> Result<bool> {
        if self.sites.len() >= SITES + MAX_CLONES || !Self::has_spool(site) {
            return Ok(false);
        }
        let mut twin =
            Site::new(self.sites.len(), self.sites[site].kind, self.dir.path(), self.upstream.subscribe())
                .await?;
        if let Some(to) = twin.spool.clone() {
            self.copy_spool(site, unsent, &to).await?;
        }
        let Self { sites, model, content, .. } = self;
        for log in model.logs_of(site) {
            (log.exact, log.cloned) = (false, true);
        }
        twin.open(model).await?;
        let done = twin.producer()?.counters().recovered_logs > 0;
        // From here on both run.
        sites[site].link.set(Mode::Open);
        twin.send(model, *content, 50, PATIENCE).await?;
        sites[site].send(model, *content, 50, PATIENCE).await?;
        sites.push(twin);
        Ok(done)
    }

    async fn save_server(&mut self, orderly: bool) -> Result<()> {
        let to = self.copy_path();
        self.server()?.answering().await?;
        if orderly {
            self.stop_server().await?;
        } else {
            self.server()?.kill().await?;
        }
        copy_dir(&self.server_dir(), &to)?;
        self.saved_server = Some(to);
        if orderly { self.start_server().await } else { self.server()?.restart() }
    }

    async fn restore_server(&mut self) -> Result<bool> {
        let Some(copy) = self.saved_server.clone() else { return Ok(false) };
        self.server()?.kill().await?;
        for site in &mut self.sites {
            site.unplug(&mut self.model).await?;
        }
        replace_dir(&self.server_dir(), &copy)?;
        self.server()?.restart()?;
        let query = self.query().await?;
        let found = read_back(&query, self.content, self.sites.len(), &self.model).await?;
        let Self { sites, model, .. } = self;
        let mut held: HashSet<_> = sites.iter().flat_map(|site| site.pending(model)).collect();
        // Of a cloned log, the one that heard an ack makes the server skip what the other one still has, and tells.
        held.retain(|id| !model.logs[model.items[*id as usize].log].cloned);
        for site in &mut *sites {
            // A producer that hears of it in time sends again what its spool has, even if it was acked.
            if site.kind != BIG_SPOOL {
                site.link.set(Mode::Open);
            } else if site.reconnect(model).await? {
                let log = &model.logs[site.log()?];
                held.extend(log.ids.iter().filter(|_| !log.cloned));
            }
        }
        let mut forgotten = 0;
        for (id, entry) in model.items.iter_mut().enumerate() {
            let id = id as u64;
            if entry.fate == Fate::Taken && !found.has(id) {
                entry.acked = false;
                entry.forgettable |= !held.contains(&id);
                forgotten += 1;
            }
        }
        model.logs.iter_mut().for_each(|log| log.exact = false);
        Ok(forgotten > 0)
    }

    async fn evict_offline(&mut self, unheard: bool) -> Result<bool> {
        if !self.connect(SMALL_SPOOL).await? {
            return Ok(false);
        }
        let Self { sites, model, content, .. } = self;
        let site = &mut sites[SMALL_SPOOL];
        let own = site.log()?;
        if unheard {
            site.link.set(Mode::ClientDeaf);
            // Nothing may go while the session is open.
            while !site.send(model, *content, 60, Duration::from_millis(100)).await?.full {
                ensure!(model.logs[own].ids.len() < 100_000, "a spool without acks is never full");
            }
            self.committed_unheard(SMALL_SPOOL).await?;
        }
        self.server()?.kill().await?;
        let Self { sites, model, content, .. } = self;
        let site = &mut sites[SMALL_SPOOL];
        site.link.set(Mode::Open);
        let before = model.logs.iter().map(|log| log.evicted.len()).sum::<usize>();
        let evicted = |model: &Model| model.logs.iter().map(|log| log.evicted.len()).sum::<usize>() - before;
        // First goes what the server has, and that shows later; then what it has not.
        let enough = if unheard { 12 } else { 3 };
        for _ in 0..100 {
            let sent = site.send(model, *content, 60, PATIENCE).await?;
            ensure!(!sent.full, "a spool that may give up the oldest refuses items while it is offline");
            site.listen(model);
            if evicted(model) >= enough {
                break;
            }
        }
        let done = evicted(model) > 0;
        self.server()?.restart()?;
        Ok(done)
    }
}

fn raw_series(site: usize, metric: (&str, &str), r#ref: u32) -> v1::Series {
    let key = content::key(site, metric);
    v1::Series {
        r#ref,
        farm_id: key.farm_id,
        device_uid: key.device_uid,
        device_type: key.device_type,
        metric_name: key.metric_name,
        metric_unit: key.metric_unit,
    }
}
