//! The commands that talk to a server, as processes, and a server that is one, too: import, query and admin.

mod changed;
mod import;
mod kept;
mod parquet;
mod query;
mod rejected;
mod server;
mod terminal;
mod watch;
mod words;
