//! The end of a run: everything is drained, then judged.

use anyhow::Result;

use herdstream_testkit::Mode;

use super::{
    judge::{judge, read_back},
    list::Kind,
    world::{Tally, World},
};

impl World {
    /// Drains every site and judges what is found.
    pub(crate) async fn settle(mut self) -> Result<Tally> {
        self.server()?.answering().await?;
        for site in &self.sites {
            site.link.set(Mode::Open);
        }
        let Self { sites, model, .. } = &mut self;
        for site in &mut *sites {
            if site.is_open(model) && site.flush(model).await? {
                model.logs[site.log()?].counters = Some(site.producer()?.counters());
            }
        }
        for site in &mut *sites {
            site.close(model).await?;
        }
        // One at a time: nobody fences anybody, so that every spool must get empty.
        for site in &mut *sites {
            site.drain_spool(model).await?;
        }
        for site in sites {
            site.listen(model);
        }
        let query = self.query().await?;
        let found = read_back(&query, self.content, self.sites.len(), &self.model).await?;
        let fates = judge(&self.model, &found)?;
        self.stop_server().await?;

        let Self { mut executed, model, .. } = self;
        for id in (0..model.items.len() as u64).filter(|id| found.has(*id)) {
            let kind = match (super::content::is_bad(id), super::content::is_milking(id)) {
                (true, _) => Kind::SendBadReading,
                (_, true) => Kind::SendMilking,
                _ => Kind::SendReading,
            };
            *executed.entry(kind).or_default() += 1;
        }
        Ok(Tally { executed, fates })
    }
}
