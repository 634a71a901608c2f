//! One file per command; each turns arguments into a role's configuration or calls, and prints. No logic of its own.

mod agent;
mod cluster;
mod dns;
mod explain;
mod hub;
mod print;
mod sim;
mod status;
mod up;
mod world;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, ClusterCommand, Command, DnsCommand, KubeArgs, LogFormat, Role, SimCommand};

/// Runs what was asked for.
pub(crate) async fn run(args: Args) -> Result<()> {
    let default = if matches!(args.command, Command::Hub(_) | Command::Agent(_) | Command::Dns(_)) {
        "info,quinn=warn,rustls=warn,kube=warn"
    } else if matches!(args.command, Command::Up(_)) {
        // It tells what happens in its own words, and faults are what it is for.
        "error,kube_client=off"
    } else {
        "warn"
    };
    log_to_stderr(args.log_format, args.verbose, default);
    match args.command {
        Command::Up(args) => up::run(args).await,
        Command::World(args) => world::run(args).await,
        Command::Crds => print::yaml_documents(&api::v1alpha1::crds()),
        Command::Manifests(args) => print::yaml_documents(&match args.role {
            Role::Hub => controller::manifests::hub(&args.namespace, &args.image),
            Role::Agent => ::agent::manifests(&args.namespace, &args.image),
            Role::Dns => controller::manifests::dns(&args.namespace, &args.image),
        }),
        Command::Hub(args) => hub::run(args).await,
        Command::Agent(args) => agent::run(args).await,
        Command::Dns(args) => match args.command {
            Some(DnsCommand::Add(add)) => dns::add(add).await,
            Some(DnsCommand::Revoke(args)) => dns::revoke(args).await,
            Some(DnsCommand::Forget(args)) => dns::forget(args).await,
            None => dns::run(args.run).await,
        },
        Command::Cluster(ClusterCommand::Add(args)) => cluster::add(args).await,
        Command::Cluster(ClusterCommand::Revoke(args)) => cluster::revoke(args).await,
        Command::Cluster(ClusterCommand::Forget(args)) => cluster::forget(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Sim(SimCommand::Fuzz(args)) => sim::fuzz(&args),
    }
}

/// Data goes to stdout, logs to stderr: roles say what they do, other commands only what goes wrong.
fn log_to_stderr(format: LogFormat, verbose: u8, default: &str) {
    let default = match verbose {
        0 => default,
        1 => "debug,quinn=info,rustls=info,hyper_util=info,h2=info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// A client for the API server that the arguments name.
async fn kube_config(args: &KubeArgs) -> Result<kube::Config> {
    match &args.kubeconfig {
        Some(file) => {
            let text =
                Kubeconfig::read_from(file).with_context(|| format!("cannot read kubeconfig {}", file.display()))?;
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(text, &options)
                .await
                .with_context(|| format!("kubeconfig {} cannot be used", file.display()))
        }
        None => kube::Config::infer()
            .await
            .context("found no Kubernetes API server: write --kubeconfig FILE, set KUBECONFIG, or run in a pod"),
    }
}

async fn kube_client(args: &KubeArgs) -> Result<kube::Client> {
    kube::Client::try_from(kube_config(args).await?).context("cannot make a Kubernetes client")
}

/// Cancelled by SIGTERM or Ctrl-C: a role then says goodbye and ends. A second signal ends it at once.
fn until_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            if first {
                tracing::info!("stopping; once more to stop at once");
                token.cancel();
            } else {
                std::process::exit(130);
            }
        }
    });
    Ok(stop)
}
