//! A shorter list that fails too.

use anyhow::Error;

use super::{list::Op, world::World};

/// Lists tried at most: each is a run of its own.
const TRIES: usize = 40;

/// Leaves out parts, the last ones first and ever smaller ones, as long as what remains fails.
pub(crate) async fn shrink(mut list: Vec<Op>, mut failure: Error) -> (Vec<Op>, Error) {
    let mut tries = 0;
    let mut size = list.len().div_ceil(2);
    loop {
        let mut end = list.len();
        while end > 0 && tries < TRIES {
            tries += 1;
            let start = end.saturating_sub(size);
            let candidate: Vec<Op> = list[..start].iter().chain(&list[end..]).copied().collect();
            if let Err(error) = World::run(&candidate).await {
                (list, failure) = (candidate, error);
            }
            end = start;
        }
        if size == 1 || tries == TRIES {
            return (list, failure);
        }
        size = size.div_ceil(2);
    }
}
