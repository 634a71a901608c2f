//! kubeworld under real clients, unmodified, over HTTP: kubectl in three versions, helm, the Python client and kube-rs.
//!
//! The battery compares answers; here it is programs that must be content, with all that they ask beside the request
//! they were told to make: discovery, schemas, watches, retries.

mod apiserver;
mod kube_rs;
mod kubectl;
#[path = "../real/processes.rs"]
mod processes;
mod python;
mod terminal;
mod transcript;
mod world;
