//! The contract of `Store`, once for every profile, and beside it what only one profile has.
//!
//! The laws are in `laws.rs`; a profile obeys them by naming how an empty store of it is made.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test fails by panicking, and values come back exactly"
)]

mod store_contract {
    pub(crate) mod aggregates;
    mod embedded;
    pub(crate) mod laws;
    mod model;
    mod postgres;
    mod rows;
}
