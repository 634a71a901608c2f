//! The product on real Kubernetes: real kube-apiservers, the real binary, and the rights that we ship.
//!
//! One test binary, so that it links once. Every test's name begins with `real_`; `cargo xtask test` provides the
//! clusters' programs.

mod api;
mod bad;
mod crowd;
mod delivery;
mod disk;
mod failover;
mod garbage;
mod lifecycle;
mod up;
mod upkeep;

/// The binary under test.
const ISOCHRONE: &str = env!("CARGO_BIN_EXE_isochrone");

/// Held by a test that runs whole worlds, so that two do not share the machine: what one waits for would come late.
static ONE_WORLD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
