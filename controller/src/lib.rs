//! The hub: watches what people wrote, decides, persists what it chose, and tells agents and DNS nodes.
//!
//! Code map, from pure to IO:
//! * [`core`] — [`core::decide`]: everything seen and chosen → everything to do. Sync; a simulator can drive it.
//! * [`choice_store`] — persists what was chosen, before it is acted on.
//! * [`credentials`] — the hub's authority and join tokens; [`revocation`] — who is not welcome any more; [`stub`] — what
//!   the hub answers on its tunnels.
//! * [`observe`] — watches, and [`orphans`], what went with its definition; [`execute`] — statuses and finalizers.
//! * `ask` — questions of operators to DNS nodes, passed on.
//! * [`runtime`] — the process: [`runtime::run`]. [`manifests`] — what it needs in a cluster.

#![forbid(unsafe_code)]

mod ask;
pub mod choice_store;
pub mod core;
pub mod credentials;
pub mod execute;
pub mod manifests;
pub mod observe;
pub mod orphans;
pub mod revocation;
pub mod runtime;
pub mod stub;
