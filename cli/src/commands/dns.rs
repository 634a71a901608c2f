//! `isochrone dns`, and `add`, `revoke` and `forget` of DNS nodes.

use anyhow::{Context as _, Result, bail};
use controller::credentials::Credentials;
use controller::revocation::Revocations;
use tunnel::identity::Role;

use super::{kube_client, print, until_signal};
use crate::args::{DnsAddArgs, DnsRunArgs, RevokeArgs};

pub(super) async fn add(args: DnsAddArgs) -> Result<()> {
    let client = kube_client(&args.kube).await?;
    let credentials = Credentials::new(&client, &args.kube.namespace);
    let token = credentials.token(Role::Dns, &args.name, &args.region).await?;
    let words = "Run this on the DNS node, within a day; the token works once:\n";
    print::line_to_run(words, &format!("isochrone dns --join {token}"))
}

pub(super) async fn revoke(args: RevokeArgs) -> Result<()> {
    let client = kube_client(&args.kube).await?;
    let revocations = Revocations::new(&client, &args.kube.namespace);
    must_be_known(&revocations, &args).await?;
    revocations.revoke(Role::Dns, &args.name, false).await?;
    print::text(&format!(
        "Every certificate of {name} is void. The node goes on answering from what it has; to let it in again:\n\
         isochrone dns add {name} --region REGION\n",
        name = args.name
    ))
}

pub(super) async fn forget(args: RevokeArgs) -> Result<()> {
    let client = kube_client(&args.kube).await?;
    let revocations = Revocations::new(&client, &args.kube.namespace);
    must_be_known(&revocations, &args).await?;
    revocations.revoke(Role::Dns, &args.name, false).await?;
    revocations.remove_tokens(Role::Dns, &args.name).await?;
    print::text(&format!(
        "{} is forgotten. It goes on answering from what it has until you stop it: take it out of the zone's name \
         servers and of its delegation.\n",
        args.name
    ))
}

/// A name that was mistyped must not look revoked.
async fn must_be_known(revocations: &Revocations, args: &RevokeArgs) -> Result<()> {
    if !revocations.is_known(Role::Dns, &args.name).await? {
        bail!(
            "no DNS node {} was ever added here: `kubectl get secrets -n {} -l isochrone.dev/token=dns -L \
             isochrone.dev/name` lists those that were",
            args.name,
            args.kube.namespace
        );
    }
    Ok(())
}

pub(super) async fn run(args: DnsRunArgs) -> Result<()> {
    let config = ::dns::runtime::Config {
        join: args.join,
        state: args.state,
        listen: args.listen,
        threads: args.threads,
        admin: args.admin,
        peering: args.peering,
        source: args.source,
        advertise_peering: args.advertise_peering,
    };
    ::dns::runtime::run(config, until_signal()?).await.context("dns")
}
