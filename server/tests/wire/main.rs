//! The protocol on the wire: a real server, a real embedded store, and a client that knows nothing but
//! the generated types.

mod admin;
mod answers;
mod bounds;
mod client;
mod edges;
mod kept;
mod known;
mod limits;
mod overload;
mod pages;
mod queries;
mod sessions;
mod stalls;
mod statuses;
mod waiting;
mod writes;
