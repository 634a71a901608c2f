//! Starts a world to work and test in: a hub and several member clusters, on loopback or, where packets are to be lost,
//! in network namespaces.
//!
//! What a [`Cluster`] is made of, its [`Provider`] says. [`Provider::Real`]: a kube-apiserver, kube-controller-manager,
//! etcd and kwok of its own, built from pinned sources by `cargo xtask kube`, and a scheduler, which lives here.
//! [`Provider::Memory`]: the Kubernetes API from memory, `kubeworld`. Who uses a cluster does so by kubeconfigs, and
//! cannot tell; so what a test tells of the product holds on both. What a cloud would add is small, and the same for
//! both: the addresses of load balancers ([`LoadBalancer`]) and an ingress that answers HTTP for a cluster ([`Ingress`]).
//! [`World`] puts them together. The product itself ([`System`]) always runs as its users run it.
//!
//! Why real components: what Kubernetes accepts, defaults, refuses and audits is not ours to imitate. Why from memory,
//! too: the same story in a fraction of the time, and whatever differs is a fault of `kubeworld` that no case of its own
//! has shown. Why loopback and no containers: every test gets clusters of its own in seconds, with no registry and no
//! privileges. Only the address of the ingress on port 80 wants root; another port does not.
//!
//! Deliberately absent: a kubelet (pods become Ready, but nothing runs in them, so `exec` and `logs` have nothing to
//! reach), a pod network, kube-proxy, an aggregation layer, admission webhooks that need one, and high availability.
//! Nothing listens on any address outside 127.0.0.0/8 or, with namespaces, outside those and one link to them.
//!
//! Code map:
//! * [`provider`] — what clusters are made of; [`assets`] — the directory of the five programs of real ones.
//! * [`cluster`] — one cluster: start, use, kill, freeze, revive, stop; [`process`] and `clients` serve it.
//! * `scheduler` — binds pods to nodes in real ones, by a subset of the rules of kube-scheduler.
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
pub mod process;
pub mod provider;
pub mod resolver;
mod scheduler;
pub mod system;

pub use assets::{Assets, assets_from_env};
pub use cluster::{Cluster, ClusterSpec, Component};
pub use fleet::{Member, MemberSpec, World, WorldSpec};
pub use ingress::{Ingress, IngressSpec};
pub use network::{Cut, Faults, Network, Place};
pub use provider::Provider;
pub use system::System;

/// The cloud's part in a cluster, for tests that start one without a world.
pub use ::ingress::LoadBalancer;
