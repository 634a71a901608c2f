//! `cargo xtask bench delivery`: how long a change takes to reach the members, with all of them well, and with one that
//! accepts connections and then is silent. The second must be as fast as the first.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use world::system::{System, kubectl};
use world::{Assets, Component, World, WorldSpec, delivery, demo};

use super::{percentile, write_whole};
use crate::kube;
use crate::world::build_binary;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Changes with all members well, and as many with one of them silent.
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Where to write every time.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Tells worlds on one machine apart: members are at 127.(20 + SLOT).k.1.
    #[arg(long, default_value_t = 60)]
    slot: u8,
}

/// The member that falls silent, and those that must not notice.
const SILENT: &str = "sin";
const OTHERS: [&str; 2] = ["fra", "iad"];
/// One change takes a fraction of a second; this only ends a bench that would never end.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let assets = kube::provide()?;
    build_binary("world", "world-ingress")?;
    let program = build_binary("cli", "isochrone")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let [well, silent] = runtime.block_on(async {
        tokio::select! {
            done = measure(options, &assets, &program) => done,
            ended = tokio::signal::ctrl_c() => {
                ended.context("listening for SIGINT")?;
                anyhow::bail!("interrupted")
            }
        }
    })?;
    if let Some(path) = &options.json {
        let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
        let all = serde_json::json!({"well": seconds(&well), "silent": seconds(&silent)});
        write_whole(path, &serde_json::to_string_pretty(&all).context("writing the times as JSON")?)?;
    }
    let mut out = std::io::stdout().lock();
    out.write_all(table(&well, &silent).as_bytes())?;
    out.flush().context("printing the table")
}

/// Times with all members well, and with one silent; sorted.
async fn measure(options: &Options, assets: &Assets, program: &Path) -> anyhow::Result<[Vec<Duration>; 2]> {
    eprintln!("starting a hub and three members");
    let spec = WorldSpec { slot: options.slot, ingress_port: 8080, ..WorldSpec::new() };
    let world = World::start(assets, spec).await?;
    let system = System::start(&world, program).await?;
    let done = in_world(options, &world, &system).await.map_err(|error| error.context(system.tails()));
    let _ = system.stop().await;
    world.stop().await;
    done
}

async fn in_world(options: &Options, world: &World, system: &System) -> anyhow::Result<[Vec<Duration>; 2]> {
    kubectl(&world.hub, &["apply", "--server-side", "-f", "-"], demo::MANIFESTS).await?;
    system.until_steered(demo::HOST).await?;
    let well = rounds(options.rounds, world, "well").await?;
    eprintln!("{} changes with all members well; now the API server of {SILENT} accepts and is silent", options.rounds);
    let api = &world.member(SILENT).context("a member")?.cluster;
    api.freeze(Component::ApiServer)?;
    let silent = rounds(options.rounds, world, "silent").await;
    api.thaw(Component::ApiServer)?;
    Ok([well, silent?])
}

async fn rounds(rounds: u32, world: &World, name: &str) -> anyhow::Result<Vec<Duration>> {
    let mut times = vec![];
    for round in 0..rounds {
        let value = format!("{name}-{round}");
        let change = delivery::change(world, &value, &OTHERS);
        let arrived = tokio::time::timeout(PATIENCE, change).await.context("a change does not arrive")??;
        times.extend(arrived.into_values());
    }
    times.sort();
    Ok(times)
}

fn table(well: &[Duration], silent: &[Duration]) -> String {
    let at = |times: &[Duration], percent| percentile(times, percent).unwrap_or_default().as_secs_f64() * 1000.0;
    let row = |name: &str, times: &[Duration]| {
        let (p50, p99, max) = (at(times, 50), at(times, 99), at(times, 100));
        format!("{name:<28}  {:>7}  {p50:>7.0}  {p99:>7.0}  {max:>7.0}\n", times.len())
    };
    let ratio = |percent| at(silent, percent) / at(well, percent);
    format!(
        "{:<28}  {:>7}  {:>7}  {:>7}  {:>7}\n{}{}ratio: p50 {:.2}, p99 {:.2}\n",
        "from the App to the object",
        "arrived",
        "p50 ms",
        "p99 ms",
        "max ms",
        row("all members well", well),
        row("one accepts and is silent", silent),
        ratio(50),
        ratio(99)
    )
}
