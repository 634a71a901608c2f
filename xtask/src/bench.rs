//! `cargo xtask bench`: figures of the whole system, taken on this machine.
//!
//! A bench prints figures beside the bars that the design sets, and never fails for being slow: how fast a machine is,
//! is no property of a commit.

mod failover;

/// What is measured.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// How long until users are sent elsewhere when something fails; needs root.
    Failover(failover::Options),
}

pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Failover(options) => failover::run(options),
    }
}
