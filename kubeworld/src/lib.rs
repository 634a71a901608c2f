//! The Kubernetes API, from memory.
//!
//! [`Api`] is a Kubernetes API server without a disk, a socket or a clock: [`Api::handle`] takes a request, a user and
//! the time, and gives the answer of a real one; a watch is an answer that is polled. Real clients work on it
//! unmodified: kubectl, kube-rs, helm.
//!
//! Why: a world of several clusters in one process, started in a moment; and tests of controllers that need a
//! Kubernetes API, but no minutes. It is kept honest by one battery of cases, recorded from a real kube-apiserver and
//! replayed here byte for byte (`tests/battery`).
//!
//! * [`api`]: the server, and who asks. [`status`]: how a request fails.
//! * `handle`: the way of a request; `read`, `watch`, `write`, `special`, `discovery` answer it.
//! * `store`: objects as bytes, one revision, the last changes.
//! * `registry`, `schema`, `data`: which kinds there are and what they look like, from a real server; `custom` adds
//!   those of CustomResourceDefinitions.
//! * `kinds`: what the server does to built-in kinds beyond their schemas.
//! * `fields`, `merge`, `managed`: who owns which fields, and server-side apply; `patch`: the other patches.
//! * [`serve`]: the HTTP shell. [`cluster`]: a whole cluster on a socket, with controllers, TLS and kubeconfigs.
//!
//! Absent on purpose: IO and clocks outside those two; admission webhooks and aggregated API servers, which need IO.

#![forbid(unsafe_code)]

mod access;
mod admission;
pub mod api;
mod authorize;
mod bootstrap;
pub mod cluster;
pub mod controllers;
mod convert;
mod custom;
mod data;
mod decode;
mod discovery;
mod fields;
mod handle;
mod kinds;
mod managed;
mod merge;
mod negotiate;
mod patch;
mod protobuf;
mod read;
mod registry;
mod request;
mod schema;
mod select;
pub mod serve;
mod special;
pub mod status;
mod store;
mod table;
mod time;
mod tokens;
mod warnings;
mod watch;
mod write;

pub use api::{Api, Options, Reply, User};
pub use watch::Watch;
