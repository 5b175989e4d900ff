//! An answer that is handed out part by part, each when its caller asks for it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::Error;

/// Where the parts of an answer go. None waits in between: what nobody takes is gone with its giver.
pub struct Parts<T> {
    asks: mpsc::Receiver<oneshot::Sender<T>>,
    patience: Duration,
    left: CancellationToken,
    took: Took,
}

/// Told how long it took to look for a part.
type Took = Box<dyn Fn(Duration) + Send + Sync>;

/// Where they come from.
#[derive(Debug)]
pub struct Taker<T> {
    asks: mpsc::Sender<oneshot::Sender<T>>,
    _left: DropGuard,
}

/// A way for the parts of an answer, each of which must be asked for within `patience`; `took` is told how long each
/// was looked for.
pub fn parts<T>(patience: Duration, took: impl Fn(Duration) + Send + Sync + 'static) -> (Parts<T>, Taker<T>) {
    let (sender, asks) = mpsc::channel(1);
    let left = CancellationToken::new();
    let taker = Taker { asks: sender, _left: left.clone().drop_guard() };
    (Parts { asks, patience, left, took: Box::new(took) }, taker)
}

impl<T> Parts<T> {
    /// Looks for a part.
    pub(super) async fn look<A>(&self, work: impl Future<Output = A>) -> A {
        let began = Instant::now();
        let found = work.await;
        (self.took)(began.elapsed());
        found
    }

    /// Hands a part out once it is asked for; whether anybody is there to ask.
    ///
    /// # Errors
    ///
    /// [`Error::Stalled`] when nobody asks in time.
    pub async fn give(&mut self, part: T) -> Result<bool, Error> {
        let patience = self.patience;
        match tokio::time::timeout(patience, self.asks.recv()).await {
            Ok(Some(ask)) => Ok(ask.send(part).is_ok()),
            Ok(None) => Ok(false),
            Err(_) => Err(Error::Stalled(format!("nothing was read for {patience:?}: read in time"))),
        }
    }

    /// Cancelled once the taker has gone.
    pub fn left(&self) -> &CancellationToken {
        &self.left
    }
}

impl<T> fmt::Debug for Parts<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl<T> Taker<T> {
    /// Asks for the next part; None: the giver has gone.
    pub async fn take(&mut self) -> Option<T> {
        let (ask, part) = oneshot::channel();
        self.asks.send(ask).await.ok()?;
        part.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn parts_come_in_order_and_end_with_their_giver() {
        let (mut parts, mut taker) = parts(LONG, |_| ());
        let giving = tokio::spawn(async move {
            for part in 0..3 {
                assert!(parts.give(part).await.unwrap());
            }
        });
        let taken = [taker.take().await, taker.take().await, taker.take().await, taker.take().await];
        assert_eq!(taken, [Some(0), Some(1), Some(2), None]);
        giving.await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_nobody_asks_for_ends_the_answer() {
        let (mut parts, taker) = parts(Duration::from_millis(1), |_| ());
        assert!(matches!(parts.give(()).await, Err(Error::Stalled(_))));
        assert!(!parts.left().is_cancelled());
        drop(taker);
    }

    #[tokio::test]
    async fn whoever_has_gone_is_given_nothing_and_waited_for_by_nobody() {
        let (mut parts, taker) = parts(LONG, |_| ());
        drop(taker);
        parts.left().cancelled().await;
        assert!(!parts.give(()).await.unwrap());
        let (mut parts, mut taker) = super::parts::<()>(LONG, |_| ());
        // It asked, and left before the answer.
        tokio::select! { biased; _ = taker.take() => unreachable!(), () = std::future::ready(()) => {} }
        drop(taker);
        assert!(!parts.give(()).await.unwrap());
    }
}
