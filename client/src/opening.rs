//! Opens a spool and sends what earlier openings left in it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    backlog::{Backlog, Limits},
    config::WhenFull,
    error::Error,
    event::{Event, Events},
    outbox::Outbox,
    recall,
    session::{self, Link},
    spool::{Log, Spool, SpoolConfig, SpoolError},
};

/// Logs of earlier openings that are sent at the same time.
const PARALLEL_LOGS: usize = 8;

/// An open spool.
pub(crate) struct Opened {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) recovered: Vec<Arc<Outbox>>,
}

/// Opens a spool: an outbox for what is new, and one for each log that is not drained.
pub(crate) async fn open(
    config: SpoolConfig,
    limits: Limits,
    when_full: WhenFull,
    events: &Events,
) -> Result<Opened, Error> {
    let opening = tokio::task::spawn_blocking(move || Spool::open(&config));
    let (_, fresh, left) = opening
        .await
        .map_err(|error| Error::Config(format!("the runtime shuts down while the spool opens: {error}")))??;
    let outbox = |log: Log, backlog| {
        Arc::new(Outbox::new(log.producer_id(), backlog, Some(Arc::new(log)), when_full, events.clone()))
    };
    let recovered = left.into_iter().map(|log| {
        let backlog = Backlog::recovered(limits.clone(), log.next_offset(), log.acked(), &log.gaps());
        outbox(log, backlog)
    });
    Ok(Opened { recovered: recovered.collect(), outbox: outbox(fresh, Backlog::new(limits.clone())) })
}

/// Starts to send.
pub(crate) fn start(opened: &Opened, link: &Arc<Link>) {
    let live = &opened.outbox;
    link.tasks.spawn(session::run(live.clone(), link.clone()));
    link.tasks.spawn(recall::trim(live.clone(), live.clone()));
    let permits = Arc::new(Semaphore::new(PARALLEL_LOGS));
    for outbox in &opened.recovered {
        tell_recovered(outbox);
        link.tasks.spawn(recall::trim(outbox.clone(), live.clone()));
        let (outbox, link, permits) = (outbox.clone(), link.clone(), permits.clone());
        link.tasks.clone().spawn(async move {
            let Some(Ok(_permit)) = link.cancelled.run_until_cancelled(permits.acquire()).await else {
                return outbox.over();
            };
            session::run(outbox.clone(), link).await;
            if remove_if_drained(&outbox).await {
                outbox.events.send(Event::SpoolDrained { producer_id: outbox.producer_id });
            }
        });
    }
}

fn tell_recovered(outbox: &Outbox) {
    let Some(log) = outbox.log() else { return };
    let producer_id = outbox.producer_id;
    let (first_retained_offset, next_offset) = (log.first_retained(), log.next_offset());
    let recovered = log.recovered();
    let torn_bytes = recovered.torn_bytes;
    tracing::info!(%producer_id, first_retained_offset, next_offset, torn_bytes, "spool holds an earlier log");
    outbox.events.send(Event::SpoolRecovered { producer_id, first_retained_offset, next_offset, torn_bytes });
    for gap in &recovered.lost {
        outbox.tell_of(gap);
    }
}

/// Removes a log from the spool if the server has everything. Answers whether it did.
pub(crate) async fn remove_if_drained(outbox: &Outbox) -> bool {
    let (drained, decided) = {
        let backlog = outbox.lock();
        (backlog.is_drained(), backlog.decided())
    };
    let Some(log) = outbox.log().filter(|_| drained) else { return false };
    let removing = tokio::task::spawn_blocking(move || {
        log.ack(decided)?;
        log.remove()
    });
    match removing.await {
        Ok(Ok(())) => true,
        Ok(Err(error @ SpoolError::NotDrained { .. })) => {
            tracing::error!(%error, "a drained log is not drained");
            false
        }
        Ok(Err(error)) => {
            recall::failed(outbox, &error);
            false
        }
        Err(_) => false,
    }
}
