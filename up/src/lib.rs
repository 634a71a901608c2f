//! A whole world in one process, to try things in: a hub, regional clusters with agents and DNS nodes, and users, all on
//! loopback addresses of one machine.
//!
//! Every part is the real one ([`controller`], [`agent`], [`dns`]) with the rights that it ships, joined by tokens, over
//! QUIC; but for the clusters, which are the Kubernetes API from memory ([`kubeworld`]), and the doors to their apps
//! ([`ingress`]). Between the sites lies a network of relays, in which distance takes time and regions fall silent.
//!
//! * [`spec`]: what a world is to be like.
//! * [`network`]: distance and cuts. `addresses`: who is reached where.
//! * `cluster`: a cluster in its site; `apply`: objects into it.
//! * [`world`]: all of it, and what can be done to it.
//! * [`seen`]: what there is to see; `ask`: a user's question to a DNS node. [`lines`]: what to try.
//! * [`control`]: the port by which other programs do and see that.
//!
//! Deliberately absent: what a world outlives. It keeps nothing, and leaves nothing behind.

#![forbid(unsafe_code)]

mod addresses;
mod apply;
mod ask;
mod cluster;
pub mod control;
pub mod lines;
pub mod network;
pub mod seen;
pub mod spec;
pub mod world;

pub use seen::State;
pub use spec::Spec;
pub use world::World;
