//! The agent: applies what the hub decided to its own cluster, holds it in place with the hub gone, and says what
//! stands.
//!
//! Code map, from pure to IO:
//! * [`core`] — the sync heart: what it was told, did, and does next. A simulator can drive it.
//! * [`members`] → [`health`], [`address`] — what watches tell of delivered objects: current, drifted, where reached.
//! * [`render`], [`kept`], [`names`], [`reads`] — values: objects off the wire, the memory's form, names and labels, and
//!   what is read with which identity.
//! * [`fields`] — who owns which field of an object, and how a field is handed over.
//! * [`round`] — the pure half of a run, for [`apply`] and for the simulator.
//! * [`apply`], [`kinds`] — performs `policies::plan` against the API server, by impersonation.
//! * [`keep`], [`watch`], [`observe`] — the memory in the agent's own cluster, watches, the cluster report.
//! * [`engine`], [`config`] — all of it as one task behind two channels.
//! * [`enrol`] — who it is; [`runtime`] — the process: link to the hub and engine together.
//! * [`manifests`] — the rights it needs, as objects to apply.

#![forbid(unsafe_code)]

pub mod address;
pub mod apply;
pub mod config;
pub mod core;
pub mod engine;
pub mod enrol;
pub mod fields;
pub mod health;
pub mod keep;
pub mod kept;
pub mod kinds;
mod manifests;
pub mod members;
pub mod names;
pub mod observe;
pub mod reads;
pub mod render;
pub mod round;
pub mod runtime;
pub mod watch;

pub use manifests::{AGENT, JOIN_SECRET, manifests};
