//! Load tester of Herdstream: simulated farms, a workload, an oracle that proves that nothing was lost
//! or doubled, and a report. The binary is the usual way in; tests use the parts.

pub mod answers;
pub mod copy_limit;
pub mod database_url;
pub mod farm;
pub mod fresh;
pub mod history;
pub mod limit;
pub mod oracle;
pub mod questions;
pub mod report;
pub mod server_process;
pub mod workload;
