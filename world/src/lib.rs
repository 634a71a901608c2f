//! Starts a world to work and test in: a hub and several member clusters of real Kubernetes components, on loopback or,
//! where packets are to be lost, in network namespaces.
//!
//! Each [`Cluster`] is a kube-apiserver, kube-controller-manager, etcd and kwok of its own, built from pinned sources
//! by `cargo xtask kube`. What a cloud would add is small and lives here: a scheduler, the addresses of load balancers
//! ([`LoadBalancer`]) and an ingress that answers HTTP for a cluster ([`Ingress`]). [`World`] puts them together.
//!
//! Why real components: what Kubernetes accepts, defaults, refuses and audits is not ours to imitate. Why loopback and
//! no containers: every test gets clusters of its own in seconds, with no registry and no privileges. Only the address
//! of the ingress on port 80 wants root; another port does not.
//!
//! Deliberately absent: a kubelet (pods become Ready, but nothing runs in them, so `exec` and `logs` have nothing to
//! reach), a pod network, kube-proxy, an aggregation layer, admission webhooks that need one, and high availability.
//! Nothing listens on any address outside 127.0.0.0/8 or, with namespaces, outside those and one link to them.
//!
//! Code map:
//! * [`assets`] — the directory of the five programs.
//! * [`cluster`] — one cluster: start, use, kill, freeze, revive, stop; `process` and `clients` serve it.
//! * `scheduler` — binds pods to nodes, by a subset of the rules of kube-scheduler.
//! * [`ingress`] — the door of a cluster as a process; the rest of the crate `ingress` stands in for the cloud, too.
//! * [`network`] — sites, their addresses, and packets that vanish between them.
//! * [`fleet`] — the hub and the members, and where they are.
//! * [`system`] — the product in such a world, as processes with the rights that it ships; [`demo`] —
//!   something to deliver, and lines that show it.
//! * [`resolver`] — a resolver's side of DNS.
//! * [`failover`] — what fails in such a world, and what the DNS nodes then answer; [`delivery`] — how long a change takes
//!   to the members.

pub mod assets;
mod clients;
pub mod cluster;
pub mod delivery;
pub mod demo;
pub mod failover;
pub mod fleet;
pub mod ingress;
pub mod network;
mod process;
pub mod resolver;
mod scheduler;
pub mod system;

pub use assets::{Assets, assets_from_env};
pub use cluster::{Cluster, ClusterSpec, Component};
pub use fleet::{Member, MemberSpec, World, WorldSpec};
pub use ingress::{Ingress, IngressSpec};
pub use network::{Cut, Faults, Network, Place};
pub use system::System;
