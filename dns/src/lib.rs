//! The DNS node: an authoritative server whose answers are compiled, not computed.
//!
//! A snapshot from the hub is compiled aside into tables and swapped in whole; verdicts about clusters are the node's
//! own and are applied when a query comes. Nothing here needs the hub to go on answering.
//!
//! Code map:
//! * [`locate`] — address → place: databases of MaxMind's format and the built-in country table.
//! * [`compile`] — places → which ranking of clusters holds for which addresses, with exact ECS scopes.
//! * `zone` — names and static records; [`view`] — all tables of one snapshot, and the classes of clusters beside them.
//! * [`answer`] — the one function that answers a query; `wire` — bytes in and out.
//! * [`explain`] — why a client gets what it gets, from the same tables.
//! * [`snapshot`] — takes snapshots in, keeps the last good one on disk.
//! * [`health`] — what this node holds of each cluster, pure; `kept` — the same on disk; [`fellows`] — DNS nodes among
//!   each other.
//! * [`enrol`] — who it is; [`runtime`] — the process.
//! * [`server`] — UDP threads and TCP; both call [`answer::answer`].

#![forbid(unsafe_code)]

pub mod answer;
pub mod compile;
pub mod enrol;
pub mod explain;
pub mod fellows;
pub mod health;
mod kept;
pub mod locate;
pub mod runtime;
pub mod server;
pub mod snapshot;
pub mod view;
mod wire;
pub mod zone;
