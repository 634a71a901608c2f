//! The product on real Kubernetes: real kube-apiservers, the real binary, and the rights that we ship.
//!
//! One test binary, so that it links once. Every test's name begins with `real_`; `cargo xtask test` provides the
//! clusters' programs.

mod api;
mod delivery;
mod resolver;

/// The binary under test.
const ISOCHRONE: &str = env!("CARGO_BIN_EXE_isochrone");
