use std::{num::NonZeroU32, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};

use crate::error::Error;

/// At most so many of something a second, or any number.
#[derive(Debug)]
pub(super) struct Rate {
    what: &'static str,
    limiter: Option<(u32, DefaultDirectRateLimiter)>,
}

impl Rate {
    pub(super) fn new(what: &'static str, per_second: Option<u32>) -> Self {
        let limit = per_second.and_then(NonZeroU32::new);
        Self {
            what,
            limiter: limit.map(|limit| (limit.get(), RateLimiter::direct(Quota::per_second(limit)))),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let Some((limit, limiter)) = &self.limiter else { return Ok(()) };
        limiter.check().map_err(|not_until| Error::RateLimited {
            what: self.what,
            limit: *limit,
            retry_after: not_until
                .wait_time_from(governor::clock::DefaultClock::default().now())
                .max(Duration::from_millis(1)),
        })
    }
}
