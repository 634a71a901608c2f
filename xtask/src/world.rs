//! `cargo xtask world`: a hub and members to play with.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};
use world::system::kubectl;
use world::{Provider, System, World, WorldSpec, demo};

use crate::kube;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many member clusters, beside the hub.
    #[arg(long, default_value_t = 3)]
    clusters: usize,
    /// Tells worlds on one machine apart: members answer on 127.(20 + SLOT).k.1.
    #[arg(long, default_value_t = 0)]
    slot: u8,
    /// The port of the members' doors; 80 needs rights.
    #[arg(long, default_value_t = 80)]
    ingress_port: u16,
    /// Also run a hub, an agent in each member and a DNS node in each region, deliver an app, and print lines to try.
    #[arg(long)]
    demo: bool,
    /// Make the clusters of the Kubernetes API from memory: quicker, and of the five programs only kubectl is needed.
    #[arg(long)]
    memory: bool,
    /// Where the clusters keep their files; without it, in a directory that vanishes at the end.
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let spec = WorldSpec {
        slot: options.slot,
        ingress_port: options.ingress_port,
        dir: options.dir.clone(),
        ..WorldSpec::with_members(options.clusters)?
    };
    let provider = provider(options.memory)?;
    let program = build(options.demo)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        // From here on a signal ends the world in order, also while it starts.
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let ended = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        tokio::pin!(ended);
        let started = Instant::now();
        eprintln!("starting a hub and {} members", spec.members.len());
        let world = tokio::select! {
            world = World::start(provider, spec) => world?,
            // Dropping what has started so far kills it.
            () = &mut ended => return Ok(()),
        };
        eprintln!("ready after {:.1} s; files in {}", started.elapsed().as_secs_f64(), world.dir().display());
        describe(&world).context("printing the world")?;
        let system = match &program {
            Some(program) => tokio::select! {
                system = deliver_demo(&world, program) => Some(system?),
                () = &mut ended => None,
            },
            None => None,
        };
        if system.is_some() || program.is_none() {
            eprintln!("Ctrl-C ends it");
            ended.await;
        }
        let stopping = Instant::now();
        if let Some(system) = system {
            system.stop().await;
        }
        let killed = world.stop().await;
        for (cluster, component) in killed {
            eprintln!("{component} of {cluster} did not end when asked and was killed");
        }
        eprintln!("ended in {:.1} s", stopping.elapsed().as_secs_f64());
        Ok(())
    })
}

fn provider(memory: bool) -> anyhow::Result<Provider> {
    if !memory {
        return Ok(Provider::Real(kube::provide()?));
    }
    // That of the user will do; only who has none waits for one to be built.
    Provider::memory_from_env()
        .or_else(|_| Ok(Provider::Memory { kubectl: kube::provide()?.program(world::assets::KUBECTL) }))
}

/// Builds what a world runs beside Kubernetes' own programs, and the program under trial, in the profile of the tests;
/// says where the latter is.
fn build(demo: bool) -> anyhow::Result<Option<PathBuf>> {
    build_binary("world", "world-ingress")?;
    demo.then(|| build_binary("cli", "isochrone")).transpose()
}

pub(crate) fn build_binary(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    eprintln!("building {name}");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--package", package, "--bin", name, "--message-format", "json-render-diagnostics"]);
    let output = build.stderr(Stdio::inherit()).output().context("running `cargo build`")?;
    ensure!(output.status.success(), "`cargo build` failed");
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.context("`cargo build` named no executable")
}

/// Installs the product, delivers the demo's app, and prints lines that are true from then on.
async fn deliver_demo(world: &World, program: &Path) -> anyhow::Result<System> {
    let started = Instant::now();
    eprintln!("starting a hub, agents and DNS nodes; they join by token");
    let system = System::start(world, program).await?;
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], demo::MANIFESTS).await?;
    let ready = ["wait", "-n", "shop", "--for=condition=Ready", "--timeout=60s", "apps.isochrone.dev/shop"];
    kubectl(&world.hub, &ready, "").await.map_err(|error| error.context(system.tails()))?;
    system.until_steered(demo::HOST).await?;
    eprintln!("delivered to every member after {:.1} s", started.elapsed().as_secs_f64());
    let mut out = std::io::stdout().lock();
    for line in demo::lines(world, &system)? {
        writeln!(out, "# {}\n{}", line.shows, line.command)?;
    }
    out.flush()?;
    Ok(system)
}

/// Lines to paste into a shell, with what they lead to as comments.
fn describe(world: &World) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "# hub, {}", world.hub.api_url())?;
    writeln!(out, "export KUBECONFIG={}", quoted(&world.hub.admin_kubeconfig().display().to_string()))?;
    for member in &world.members {
        let spec = &member.spec;
        let (cluster, door) = (&member.cluster, member.ingress.address());
        let (api, region, city) = (cluster.api_url(), &spec.region, &spec.city);
        writeln!(out, "# {}: {region} ({city}), {api}, answers on http://{door}", spec.name)?;
        writeln!(out, "export KUBECONFIG={}", quoted(&cluster.admin_kubeconfig().display().to_string()))?;
    }
    out.flush()
}

/// A word of a POSIX shell.
fn quoted(text: &str) -> String {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn paths_survive_a_shell() {
        for (given, expected) in [("/tmp/a-b.c", "/tmp/a-b.c"), ("/a b", "'/a b'"), ("/it's", "'/it'\\''s'")] {
            assert_eq!(quoted(given), expected);
        }
    }
}
