//! What Isochrone says to the outside: the CRDs that people write, and the messages that the hub exchanges with agents
//! and DNS nodes. Types only; behaviour lives elsewhere.
//!
//! * [`v1alpha1`] — the API kinds `Cluster`, `App`, `RegionPolicy` and `DnsZone`.
//! * [`lower`] — from those to the types of `policies`; [`regions`] — places of cloud regions by name.
//! * [`wire`] — desired state, ledger and reports, as they cross the tunnel.
//! * [`snapshot`] — the tables that a DNS node answers from.

#![forbid(unsafe_code)]

pub mod lower;
pub mod regions;
pub mod snapshot;
pub mod v1alpha1;
pub mod wire;
