//! `isochrone dns` and `isochrone dns add`.

use anyhow::{Context as _, Result};
use controller::credentials::Credentials;
use tunnel::identity::Role;

use super::{kube_client, print, until_signal};
use crate::args::{DnsAddArgs, DnsRunArgs};

pub(super) async fn add(args: DnsAddArgs) -> Result<()> {
    let client = kube_client(&args.kube).await?;
    let credentials = Credentials::new(&client, &args.kube.namespace);
    let token = credentials.token(Role::Dns, &args.name, &args.region).await?;
    let words = "Run this on the DNS node, within a day; the token works once:\n";
    print::line_to_run(words, &format!("isochrone dns --join {token}"))
}

pub(super) async fn run(args: DnsRunArgs) -> Result<()> {
    let config = ::dns::runtime::Config {
        join: args.join,
        state: args.state,
        listen: args.listen,
        threads: args.threads,
        admin: args.admin,
        peering: args.peering,
        advertise_peering: args.advertise_peering,
    };
    ::dns::runtime::run(config, until_signal()?).await.context("dns")
}
