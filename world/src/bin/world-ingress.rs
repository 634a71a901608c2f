//! The door of one cluster as a process; see `world::ingress`. The rig starts it, nobody else needs to.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use world::IngressSpec;

/// Answers HTTP for the Ingresses and Services of a cluster, in the place of its pods.
#[derive(Parser)]
struct Arguments {
    /// How to reach the cluster.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The `cluster` of the answers.
    #[arg(long)]
    cluster: String,
    /// The `region` of the answers.
    #[arg(long)]
    region: String,
    /// Address and port; port 0 takes a free one.
    #[arg(long)]
    listen: SocketAddr,
    /// A file to write the address to, once it listens.
    #[arg(long)]
    ready: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Arguments { kubeconfig, cluster, region, listen, ready } = Arguments::parse();
    let spec = IngressSpec { cluster, region, address: listen.ip(), port: listen.port() };
    world::ingress::serve(&kubeconfig, spec, &ready).await
}
