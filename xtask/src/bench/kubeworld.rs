//! `cargo xtask bench kubeworld`: the Kubernetes API from memory beside a real kube-apiserver with its etcd.
//!
//! All servers run in processes of their own on this machine, and one client asks each of them the same in the same
//! way: over TLS, with HTTP/1.1 and a bearer token, with bodies made beforehand. Servers take turns, and each round
//! begins with another one, so that what else the machine does hits all alike. The median of the rounds is told.
//!
//! Two figures for each measure, since the client shares the cores with the server: how much was done in a second,
//! which the client bounds where the server is fast; and how much processor time the server spent on each, which it
//! does not.

mod client;
mod load;
mod report;
mod server;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use self::load::Measure;
use self::report::{Report, table};
use self::server::{Kind, Server};
use super::write_whole;
use crate::kube;

pub(crate) use self::server::{ServeOptions, serve};

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each measure is taken from each server, beside one round to warm up.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a round of writes lasts.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How many objects are listed, and held when memory is measured.
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// How many watch.
    #[arg(long, default_value_t = 100)]
    watchers: usize,
    /// How many events each of them gets in a round.
    #[arg(long, default_value_t = 5_000)]
    events: usize,
    /// Only measures whose name contains one of these words.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave the real server out, to profile ours.
    #[arg(long)]
    alone: bool,
    /// Where to write every value.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How many clients write at once, beside one alone.
const CONCURRENT: usize = 16;

/// How long a server that has just started or been filled is left alone before its memory is read: the real one goes on
/// starting for a while after it says that it is ready.
const SETTLES_FOR: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.rounds > 0 && options.objects > 0 && options.watchers > 0 && options.events > 0,
        "nothing to measure"
    );
    if cfg!(debug_assertions) {
        eprintln!(
            "this is a development build, and so is the kubeworld in it: cargo run --release -p xtask -- bench …"
        );
    }
    let assets = kube::provide()?;
    // One thread, so that the server has a core to itself where there are two.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = measure(options, &assets) => report,
            ended = tokio::signal::ctrl_c() => {
                ended.context("listening for SIGINT")?;
                anyhow::bail!("interrupted")
            }
        }
    })?;
    if let Some(path) = &options.json {
        write_whole(path, &serde_json::to_string_pretty(&report.to_json()).context("writing the values as JSON")?)?;
    }
    let mut out = std::io::stdout().lock();
    out.write_all(table(&report).as_bytes())?;
    out.flush().context("printing the table")
}

async fn measure(options: &Options, assets: &world::Assets) -> anyhow::Result<Report> {
    let mut report = Report::new(options, assets)?;
    let kinds: &[Kind] = if options.alone { &[Kind::Memory] } else { &[Kind::Memory, Kind::Real] };
    let mut servers = vec![];
    for kind in kinds {
        servers.push(start(*kind, assets).await?);
    }
    tokio::time::sleep(SETTLES_FOR).await;
    for server in &servers {
        report.before.insert(server.kind, server.memory()?);
    }
    for server in &servers {
        eprintln!("making {} objects in {}", options.objects, server.kind.name());
        load::fill(server, options.objects, CONCURRENT).await?;
    }
    tokio::time::sleep(SETTLES_FOR).await;
    for server in &servers {
        let memory = server.memory()?;
        eprintln!("{} takes {}", server.kind.name(), memory.shown());
        report.filled.insert(server.kind, memory);
    }
    let of_all = [
        Measure::List { objects: options.objects },
        Measure::Watch { watchers: options.watchers, events: options.events },
        Measure::Apply { clients: 1 },
        Measure::Apply { clients: CONCURRENT },
        Measure::Create { clients: 1 },
        Measure::Create { clients: CONCURRENT },
    ];
    let chosen = |measure: &Measure| {
        let name = measure.name();
        options.only.is_empty() || options.only.iter().any(|word| name.contains(word.as_str()))
    };
    for measure in of_all.into_iter().filter(chosen) {
        rounds(options, &servers, measure, &mut report).await?;
    }
    report.versions(&servers).await?;
    drop(servers);
    if options.alone {
        return Ok(report);
    }
    // The same with an etcd that trusts the power, so that nobody need ask what the disk has to do with it.
    let servers = [start(Kind::RealWithoutSync, assets).await?];
    tokio::time::sleep(SETTLES_FOR).await;
    for measure in of_all.into_iter().filter(chosen).filter(Measure::writes) {
        rounds(options, &servers, measure, &mut report).await?;
    }
    Ok(report)
}

async fn start(kind: Kind, assets: &world::Assets) -> anyhow::Result<Server> {
    eprintln!("starting {}", kind.name());
    Server::start(kind, assets).await
}

/// All rounds of a measure, on each server in turn.
async fn rounds(options: &Options, servers: &[Server], measure: Measure, report: &mut Report) -> anyhow::Result<()> {
    for round in 0..=options.rounds {
        for at in 0..servers.len() {
            let server = &servers[(at + round) % servers.len()];
            let sample = measure.take(server, round, Duration::from_secs_f64(options.seconds)).await;
            let sample = sample.with_context(|| format!("{} on {}", measure.name(), server.kind.name()))?;
            // The first one warms up.
            if round > 0 {
                eprintln!(
                    "{:<24} {round}/{}: {:<34} {}",
                    measure.name(),
                    options.rounds,
                    server.kind.name(),
                    sample.shown()
                );
                report.samples.entry(measure.name()).or_default().entry(server.kind).or_default().push(sample);
            }
        }
    }
    Ok(())
}
