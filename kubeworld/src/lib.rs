//! The Kubernetes API, from memory.
//!
//! [`status`] says how a request fails.

#![forbid(unsafe_code)]

mod kinds;
pub mod status;
