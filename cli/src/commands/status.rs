//! `isochrone status`: what the hub wrote into the statuses of our kinds.

use anyhow::{Context as _, Result};
use api::v1alpha1::{App, Cluster, DnsZone, standing};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde::Serialize;

use super::{kube_client, print};
use crate::args::StatusArgs;

#[derive(Serialize)]
struct Report {
    clusters: Vec<Cluster>,
    apps: Vec<App>,
    zones: Vec<DnsZone>,
}

pub(super) async fn run(args: StatusArgs) -> Result<()> {
    let client = kube_client(&args.kube).await?;
    let all = ListParams::default();
    let (clusters, apps, zones): (Api<Cluster>, Api<App>, Api<DnsZone>) =
        (Api::all(client.clone()), Api::all(client.clone()), Api::all(client));
    let (clusters, apps, zones) = tokio::try_join!(clusters.list(&all), apps.list(&all), zones.list(&all)).context(
        "cannot list our kinds: are the CRDs installed? (isochrone crds | kubectl apply --server-side -f -)",
    )?;
    let report = Report { clusters: clusters.items, apps: apps.items, zones: zones.items };
    print::value(&report, args.output, || tables(&report))
}

fn tables(report: &Report) -> String {
    let clusters: Vec<Vec<String>> = report
        .clusters
        .iter()
        .map(|cluster| {
            let status = cluster.status.clone().unwrap_or_default();
            vec![
                cluster.name_any(),
                cluster.spec.region.clone(),
                standing(&status.conditions, "Connected"),
                standing(&status.conditions, "Healthy"),
                if cluster.spec.drain { "yes" } else { "no" }.to_owned(),
                status.nodes_ready.map_or_else(|| "unknown".to_owned(), |n| n.to_string()),
                status.apps.to_string(),
            ]
        })
        .collect();
    let apps: Vec<Vec<String>> = report
        .apps
        .iter()
        .map(|app| {
            let status = app.status.clone().unwrap_or_default();
            vec![
                app.namespace().unwrap_or_default(),
                app.name_any(),
                app.spec.policy.clone(),
                format!("{}/{}", status.ready, status.clusters),
                standing(&status.conditions, "Accepted"),
                standing(&status.conditions, "Ready"),
            ]
        })
        .collect();
    let hosts: Vec<Vec<String>> = report
        .apps
        .iter()
        .flat_map(|app| app.status.iter().flat_map(|s| &s.hosts).map(move |host| (app, host)))
        .map(|(app, host)| {
            let app = format!("{}/{}", app.namespace().unwrap_or_default(), app.name_any());
            vec![host.host.clone(), app, host.zone.clone(), host.clusters.to_string(), host.reason.clone()]
        })
        .collect();
    let zones: Vec<Vec<String>> = report
        .zones
        .iter()
        .map(|zone| {
            let status = zone.status.clone().unwrap_or_default();
            vec![
                zone.spec.origin.clone(),
                status.serial.to_string(),
                status.hosts.to_string(),
                standing(&status.conditions, "Accepted"),
            ]
        })
        .collect();
    [
        print::table(&["CLUSTER", "REGION", "CONNECTED", "HEALTHY", "DRAIN", "NODES READY", "APPS"], &clusters),
        print::table(&["NAMESPACE", "APP", "POLICY", "READY", "ACCEPTED", "STATE"], &apps),
        print::table(&["HOST", "APP", "ZONE", "CLUSTERS", "REASON"], &hosts),
        print::table(&["ZONE", "SERIAL", "HOSTS", "ACCEPTED"], &zones),
    ]
    .join("\n")
}
