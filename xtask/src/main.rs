//! The project's own tasks: `cargo xtask …`.
//!
//! Why a program and not scripts: the rig is a library that tests use as well, and one language serves all. What a task
//! says goes to standard error; standard output carries only what another program may want to read.

mod bench;
mod docs;
mod geo;
mod kube;
mod kubeworld;
mod mutations;
mod python;
mod test;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks for people who work on Isochrone.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Provide kube-apiserver, kube-controller-manager, etcd, kwok and kubectl, and print their directory.
    ///
    /// Taken from $KUBEBUILDER_ASSETS where they work, else from the user's cache, else built with Go. With them come
    /// older kubectls and helm, for tests, where they are in the cache or there is Go.
    Kube,
    /// Start a hub and member clusters on loopback, and keep them until Ctrl-C.
    World(world::Options),
    /// Measure the whole system beside the figures that it is to reach.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Serve kubeworld to a bench, which starts this in a process of its own.
    #[command(hide = true)]
    ServeKubeworld(bench::ServeOptions),
    /// Make the country table that DNS nodes have built in.
    Geo(geo::Args),
    /// Record what a real API server says of itself: schemas, discovery, columns, roles, the shape of protobuf bodies.
    KubeworldData,
    /// Write the reference of our kinds, docs/policies.md.
    Docs,
    /// Put known faults into the rules, and demand that the simulator finds each of them.
    Mutations(mutations::Options),
    /// Run all tests, with everything they need.
    Test(test::Options),
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    let quiet = match task {
        // What is killed there is missed by the rig's own watches, loudly.
        Task::Bench(_) => "warn,kube_client=off,kube_runtime=off",
        Task::Kube
        | Task::World(_)
        | Task::Geo(_)
        | Task::KubeworldData
        | Task::Docs
        | Task::Mutations(_)
        | Task::ServeKubeworld(_)
        | Task::Test(_) => "warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| quiet.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match task {
        Task::Kube => kube::run(),
        Task::World(options) => world::run(&options),
        Task::Bench(bench) => bench::run(&bench),
        Task::ServeKubeworld(options) => bench::serve(&options),
        Task::Geo(args) => geo::run(&test::workspace(), &args),
        Task::KubeworldData => kubeworld::run(&test::workspace()),
        Task::Docs => docs::run(&test::workspace()),
        Task::Mutations(options) => return mutations::run(&options).unwrap_or_else(fail),
        Task::Test(options) => return test::run(&options).unwrap_or_else(fail),
    };
    result.map_or_else(fail, |()| ExitCode::SUCCESS)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `unwrap_or_else` wants")]
fn fail(error: anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
