//! Real server binaries, real databases and the SDK with a disk spool, killed, cut off and starved at
//! random moments: the oracle must balance. `HERDSTREAM_TEST_SEED` repeats a run.

mod client_killed;
mod herd;
mod postgres_away;
mod postgres_commit;
mod postgres_killed;
mod postgres_shared;
mod server_killed;
