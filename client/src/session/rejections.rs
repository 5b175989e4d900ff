//! What the server refused: told to whoever holds a receipt, and to who listens to events.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt as _;
use herdstream_proto::{
    limits::MAX_ACK_REJECTIONS,
    v1::{self, RejectionKind},
};
use tonic::transport::Channel;

use super::Link;
use crate::{
    backlog::Settled,
    backoff::Backoff,
    batch::Tracked,
    error::Error,
    event::Event,
    outbox::Outbox,
    query::QueryClient,
    receipt::{Outcome, ReceiptError, Rejection},
};

/// Bound on one page of the server's list.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the list is asked for before the receipts are given up.
const ATTEMPTS: u32 = 8;

type Waiting = HashMap<(u64, RejectionKind, u32), Tracked>;

/// After an ack: it carries the rejections, or at least says how many there are.
pub(super) fn after_ack(
    link: &Arc<Link>,
    channel: &Channel,
    endpoint: &str,
    outbox: &Arc<Outbox>,
    settled: Settled,
    ack: v1::Ack,
) {
    let omitted = u64::from(ack.rejections_omitted);
    let rejections: Vec<Rejection> = ack.rejections.into_iter().map(Into::into).collect();
    let mut waiting = waiting(settled.receipts);
    for rejection in &rejections {
        answer(&mut waiting, rejection);
    }
    if omitted == 0 || waiting.is_empty() {
        stored(waiting);
    } else if let Some(offsets) = settled.offsets {
        ask(link, channel, endpoint, outbox, offsets, waiting, false);
    }
    if omitted > 0 || !rejections.is_empty() {
        let producer_id = outbox.producer_id;
        outbox.events.send(Event::Rejected { producer_id, rejections, omitted });
    }
}

/// After an opening: the acks that told of rejections were lost, so the server is asked.
pub(super) fn after_opening(
    link: &Arc<Link>,
    channel: &Channel,
    endpoint: &str,
    outbox: &Arc<Outbox>,
    settled: Settled,
) {
    let waiting = waiting(settled.receipts);
    match settled.offsets {
        Some(offsets) if settled.quarantined > 0 => {
            ask(link, channel, endpoint, outbox, offsets, waiting, true);
        }
        _ => stored(waiting),
    }
}

fn waiting(receipts: Vec<(u64, Vec<Tracked>)>) -> Waiting {
    let each = |(offset, tracked): (u64, Vec<Tracked>)| {
        tracked.into_iter().map(move |tracked| ((offset, tracked.kind, tracked.index), tracked))
    };
    receipts.into_iter().flat_map(each).collect()
}

fn answer(waiting: &mut Waiting, rejection: &Rejection) {
    if let Some(tracked) = waiting.remove(&(rejection.offset, rejection.kind, rejection.index)) {
        // Whoever dropped the receipt does not want to know; so below.
        let _ = tracked.answer.send(Ok(Outcome::Quarantined(rejection.clone())));
    }
}

fn stored(waiting: Waiting) {
    for tracked in waiting.into_values() {
        let _ = tracked.answer.send(Ok(Outcome::Stored));
    }
}

/// Asks the server what it refused of some offsets, beside the session.
fn ask(
    link: &Arc<Link>,
    channel: &Channel,
    endpoint: &str,
    outbox: &Arc<Outbox>,
    offsets: (u64, u64),
    mut waiting: Waiting,
    tell: bool,
) {
    let (link, outbox) = (link.clone(), outbox.clone());
    let mut client = QueryClient::over(channel.clone(), endpoint.to_owned(), link.token.clone(), ASK_TIMEOUT);
    let (tasks, cancelled) = (link.tasks.clone(), link.cancelled.clone());
    let asking = async move {
        let mut backoff = Backoff::new(link.config.backoff_min, link.config.backoff_max);
        let mut told = if tell { Some((0, 0, 0)) } else { None };
        for attempt in 1.. {
            match list(&client, &outbox, offsets, &mut waiting, &mut told).await {
                Ok(()) => return stored(waiting),
                Err(error) if attempt < ATTEMPTS && error.is_retryable() => {
                    tracing::debug!(%error, "cannot list rejections yet");
                }
                Err(error) => {
                    tracing::warn!(producer_id = %outbox.producer_id, %error, "cannot list rejections");
                    for tracked in waiting.into_values() {
                        let _ = tracked.answer.send(Err(ReceiptError::Unknown(error.to_string())));
                    }
                    return;
                }
            }
            tokio::time::sleep(backoff.next()).await;
            let again = link.config.endpoints[attempt as usize % link.config.endpoints.len()].clone();
            if let Ok(fresh) = super::stream::connect(&link, &again).await {
                client = QueryClient::over(fresh, again, link.token.clone(), ASK_TIMEOUT);
            }
        }
    };
    tasks.spawn(async move { cancelled.run_until_cancelled_owned(asking).await });
}

async fn list(
    client: &QueryClient,
    outbox: &Outbox,
    (first_offset, last_offset): (u64, u64),
    waiting: &mut Waiting,
    told: &mut Option<(u64, i32, u32)>,
) -> Result<(), Error> {
    let request = v1::ListRejectionsRequest {
        producer_id: outbox.producer_id.to_string(),
        first_offset,
        last_offset,
        ..Default::default()
    };
    let producer_id = outbox.producer_id;
    let mut records = pin!(client.list_rejections_all(request).chunks(MAX_ACK_REJECTIONS));
    while let Some(chunk) = records.next().await {
        let mut rejections = Vec::with_capacity(chunk.len());
        let mut failure = None;
        for record in chunk {
            match record {
                Ok(record) => rejections.extend(record.rejection.map(Rejection::from)),
                Err(error) => failure = Some(error),
            }
        }
        for rejection in &rejections {
            answer(waiting, rejection);
        }
        // The list is in order: what an attempt that failed has told is not told again.
        if let Some(told) = told {
            let key = |rejection: &Rejection| (rejection.offset, rejection.kind as i32, rejection.index);
            rejections.retain(|rejection| key(rejection) > *told);
            if let Some(last) = rejections.last() {
                *told = key(last);
                outbox.events.send(Event::Rejected { producer_id, rejections, omitted: 0 });
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
    }
    Ok(())
}
