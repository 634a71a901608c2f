//! The Kubernetes API, from memory.
//!
//! [`status`] says how a request fails.

#![forbid(unsafe_code)]

#[cfg_attr(not(test), expect(dead_code, reason = "the request handler that asks for it comes later"))]
mod data;
mod kinds;
#[cfg_attr(not(test), expect(dead_code, reason = "the request handler that asks for it comes later"))]
mod protobuf;
pub mod status;
#[cfg_attr(not(test), expect(dead_code, reason = "the request handler that asks for it comes later"))]
mod table;
