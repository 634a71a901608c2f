//! kubeworld under real clients, unmodified: kubectl and kube-rs, over HTTP.
//!
//! The battery compares answers; here it is programs that must be content, with all that they ask beside the request
//! they were told to make: discovery, schemas, watches, retries.

mod apiserver;
mod kube_rs;
mod kubectl;
mod transcript;
mod world;
