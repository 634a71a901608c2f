//! `cargo xtask bench`: figures of the whole system, taken on this machine.
//!
//! A bench prints figures beside the bars that the design sets, and never fails for being slow: how fast a machine is,
//! is no property of a commit.

mod delivery;
mod failover;
mod kubeworld;
mod process;
mod up;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

pub(crate) use self::kubeworld::{ServeOptions, serve};

/// What is measured.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// How long until users are sent elsewhere when something fails; needs root.
    Failover(failover::Options),
    /// How long a change takes to the members, and whether one that is silent delays the others.
    Delivery(delivery::Options),
    /// The Kubernetes API from memory beside a real one; in a release build: cargo run --release -p xtask -- bench …
    Kubeworld(kubeworld::Options),
    /// A world in one process with a fault each minute: whether it grows.
    Up(up::Options),
}

pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Failover(options) => failover::run(options),
        Bench::Delivery(options) => delivery::run(options),
        Bench::Kubeworld(options) => kubeworld::run(options),
        Bench::Up(options) => up::run(options),
    }
}

/// What is written after each run must be readable whenever the bench is ended.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).with_context(|| format!("writing {}", draft.display()))?;
    std::fs::rename(&draft, path).with_context(|| format!("writing {}", path.display()))
}

/// The nearest rank: the least value that is not below `percent` of all. `sorted` is.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}
