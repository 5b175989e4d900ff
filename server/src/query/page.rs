use std::{
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::PAGE_BYTES;
use crate::error::Error;

/// Part of an answer.
#[derive(Debug)]
pub struct Page<T> {
    /// What it holds.
    pub items: Vec<T>,
    /// To be sent back for the next part; empty: that was all.
    pub next_token: String,
}

impl<T> Page<T> {
    /// The last part.
    pub(super) fn last(items: Vec<T>) -> Self {
        Self { items, next_token: String::new() }
    }
}

/// How many of some items fit on a page by their encoded bytes; one at least, so that there is always a next page.
pub(super) fn fitting<T>(items: &[T], bytes_of: impl Fn(&T) -> usize) -> usize {
    let mut bytes = 0;
    let fits = |item: &&T| {
        bytes += bytes_of(item);
        bytes <= PAGE_BYTES
    };
    items.iter().take_while(fits).count().max(1).min(items.len())
}

/// Where a page begins: numbers, bound to the request they were made for. A token that was changed is told from one that
/// was not, but not one that somebody took pains to make.
#[derive(Debug)]
pub(super) struct Token {
    request: u64,
}

impl Token {
    /// Tokens for a request; everything of it that must not change between pages goes in.
    pub(super) fn of(request: impl Hash) -> Self {
        Self { request: hashed(request) }
    }

    /// Whether `text` was written for this request.
    pub(super) fn wrote(&self, text: &str) -> bool {
        self.position(text).is_some()
    }

    /// Writes a position.
    pub(super) fn write<const N: usize>(&self, position: [i64; N]) -> String {
        let mut text = format!("{:016x}", self.fingerprint(&position));
        for number in position {
            // Writing to a string cannot fail.
            let _ = write!(text, "-{:x}", number as u64);
        }
        text
    }

    /// Reads a position back; None from an empty token.
    pub(super) fn read<const N: usize>(&self, text: &str) -> Result<Option<[i64; N]>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let position = self.position(text).and_then(|position| position.try_into().ok());
        position.map(Some).ok_or_else(forged)
    }

    fn position(&self, text: &str) -> Option<Vec<i64>> {
        let mut parts = text.split('-').map(|part| u64::from_str_radix(part, 16).ok());
        let fingerprint = parts.next()??;
        let position: Vec<i64> = parts.map(|part| part.map(|number| number as i64)).collect::<Option<_>>()?;
        (fingerprint == self.fingerprint(&position)).then_some(position)
    }

    fn fingerprint(&self, position: &[i64]) -> u64 {
        hashed((self.request, position))
    }
}

fn hashed(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn forged() -> Error {
    let message = "not a token of this request: send back what the last page held, or start over";
    Error::BadRequest { field: "page_token", message: message.to_owned() }
}
