//! `isochrone cluster add`, `revoke` and `forget`.

use anyhow::{Context as _, Result, bail};
use api::lower;
use api::v1alpha1::{App, Cluster, ClusterSpec, Location, Truth};
use controller::credentials::Credentials;
use controller::revocation::Revocations;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use tunnel::identity::Role;

use super::{kube_client, print};
use crate::args::{ClusterAddArgs, ForgetArgs, RevokeArgs};

pub(super) async fn add(args: ClusterAddArgs) -> Result<()> {
    let client = kube_client(&args.kube).await?;
    let spec = ClusterSpec {
        region: args.region,
        location: args.location.map(|(latitude, longitude)| Location { latitude, longitude }),
        provider: args.provider,
        ingress: None,
        probe: None,
        taints: vec![],
        drain: false,
    };
    let wanted = Cluster::new(&args.name, spec);
    if let Err(error) = lower::location(&wanted) {
        bail!("{error}; here that is --location LAT,LON, such as --location 50.11,8.68");
    }
    let clusters: Api<Cluster> = Api::all(client.clone());
    match clusters.get_opt(&args.name).await.context("cannot read Clusters: are the CRDs installed?")? {
        None => {
            let created = clusters.create(&PostParams::default(), &wanted).await;
            created.with_context(|| format!("cannot create Cluster {}", args.name))?;
        }
        Some(there) if there.spec.region != wanted.spec.region => bail!(
            "Cluster {} is in region {}, not {}: edit the object, or write its region",
            args.name,
            there.spec.region,
            wanted.spec.region
        ),
        Some(_) => {}
    }
    Revocations::new(&client, &args.kube.namespace).remember(Role::Agent, &args.name).await?;
    let credentials = Credentials::new(&client, &args.kube.namespace);
    let token = credentials.token(Role::Agent, &args.name, &wanted.spec.region).await?;
    let words = format!("Cluster {} is known. Run this in it, within a day; the token works once:\n", args.name);
    print::line_to_run(&words, &format!("isochrone agent --join {token}"))
}

pub(super) async fn revoke(args: RevokeArgs) -> Result<()> {
    let client = kube_client(&args.kube).await?;
    let clusters: Api<Cluster> = Api::all(client.clone());
    let found = clusters.get_opt(&args.name).await.context("cannot read Clusters: are the CRDs installed?")?;
    let Some(cluster) = found else { bail!("there is no Cluster {}: see isochrone status", args.name) };
    Revocations::new(&client, &args.kube.namespace).revoke(Role::Agent, &args.name, false).await?;
    print::text(&format!(
        "Every certificate of {name} is void. What runs there goes on; its agent holds still until it joins again:\n\
         isochrone cluster add {name} --region {region}\n",
        name = args.name,
        region = cluster.spec.region,
    ))
}

pub(super) async fn forget(args: ForgetArgs) -> Result<()> {
    let client = kube_client(&args.kube).await?;
    let clusters: Api<Cluster> = Api::all(client.clone());
    let found = clusters.get_opt(&args.name).await.context("cannot read Clusters: are the CRDs installed?")?;
    let revocations = Revocations::new(&client, &args.kube.namespace);
    if found.is_none() && !revocations.is_known(Role::Agent, &args.name).await? {
        bail!("no cluster {} was ever added here: see isochrone status", args.name);
    }
    let conditions = found.iter().filter_map(|cluster| cluster.status.as_ref()).flat_map(|status| &status.conditions);
    let connected = conditions.into_iter().any(|c| c.r#type == "Connected" && c.status == Truth::True);
    if connected && !args.connected {
        bail!(
            "{name} is connected: what runs there would go on without anybody to look after it. To empty it first, take \
             it out of the policies and wait until `isochrone status` shows no app there; to forget it all the same, \
             write --connected",
            name = args.name
        );
    }
    let apps: Api<App> = Api::all(client.clone());
    let apps = apps.list(&ListParams::default()).await.context("cannot list Apps: are the CRDs installed?")?;
    let waiting = |app: &&App| {
        let listed = app.status.iter().flat_map(|status| &status.worst);
        listed.into_iter().any(|pair| pair.cluster == args.name && pair.phase == "Removing")
    };
    let released: Vec<String> = (apps.items.iter().filter(waiting))
        .map(|app| format!("{}/{}", app.namespace().unwrap_or_default(), app.name_any()))
        .collect();
    // First what the hub must know when the object goes: an object alone that goes takes nothing with it.
    revocations.revoke(Role::Agent, &args.name, true).await?;
    if found.is_some() {
        let deleted = clusters.delete(&args.name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("cannot delete Cluster {}; delete it yourself", args.name))?;
    }
    let released = match released.as_slice() {
        [] => String::new(),
        some => format!("No longer waited for it: {}.\n", some.join(", ")),
    };
    print::text(&format!(
        "{} is forgotten. Nothing was deleted in it; its agent, should it return, holds still.\n{released}",
        args.name
    ))
}
