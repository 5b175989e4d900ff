//! The producer against a real server in this process, and against one that follows a script.

// The values are small whole numbers, which come back as they were.
#![allow(clippy::float_cmp)]

mod farm;
mod memory;
mod scripted;
mod spooled;
