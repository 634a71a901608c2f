//! Every decision Isochrone takes: where an app runs, who answers a client, what an agent does to its cluster.
//!
//! The contract: each function is **pure, synchronous and total**. It takes values and, where time matters, a given
//! [`time::Instant`]; it returns comparable values and, beside each decision, a report that says why every candidate
//! was kept or dropped. Equal arguments give equal results, byte for byte. There is no clock, no randomness, no
//! environment, no async, no IO and no unordered collection in this crate (`clippy.toml` beside it bans them), so the
//! shells and a simulator can drive the very same code.
//!
//! Code map:
//! * [`inventory`] → [`placement`] — where an app runs; [`hosts`] — who owns which name.
//! * [`withdrawal`] — when a copy that is not wanted any more may go: after its users.
//! * [`steering`] — which cluster answers one client: ranking by estimate, choice by health.
//! * [`failover`] — which clusters are healthy, as one DNS node decides it: votes of failure domains, damping.
//! * [`plan`] — what an agent does to its cluster, deletions last and gated; which orders it obeys.
//! * [`id`], [`time`], [`geo`] — the words: clusters, apps, epochs, instants, coordinates and distance.

#![forbid(unsafe_code)]

pub mod failover;
pub mod geo;
pub mod hosts;
pub mod id;
pub mod inventory;
pub mod placement;
pub mod plan;
pub mod steering;
pub mod time;
pub mod withdrawal;
