//! `isochrone cluster add`.

use anyhow::{Context as _, Result, bail};
use api::lower;
use api::v1alpha1::{Cluster, ClusterSpec, Location};
use controller::credentials::Credentials;
use kube::Api;
use kube::api::PostParams;
use tunnel::identity::Role;

use super::{kube_client, print};
use crate::args::ClusterAddArgs;

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
    let credentials = Credentials::new(&client, &args.kube.namespace);
    let token = credentials.token(Role::Agent, &args.name, &wanted.spec.region).await?;
    let words = format!("Cluster {} is known. Run this in it, within a day; the token works once:\n", args.name);
    print::line_to_run(&words, &format!("isochrone agent --join {token}"))
}
