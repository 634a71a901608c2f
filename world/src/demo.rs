//! Something to deliver, and lines to paste that show it served: each with what it must say, so that a test can hold the
//! printed lines to their word.

use anyhow::Context as _;

use crate::World;
use crate::system::{DNS_PORT, System};

/// A namespace, a zone, a policy and an app.
pub const MANIFESTS: &str = include_str!("demo.yaml");
/// The app's host.
pub const HOST: &str = "shop.gslb.example.com";
/// One address of a provider in each of three countries, beside the member that is nearest.
pub const CLIENTS: [(&str, &str); 3] = [("fra", "87.123.200.0"), ("iad", "71.126.40.0"), ("sin", "116.86.20.0")];

/// A line to paste into a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it shows, for people.
    pub shows: String,
    /// The line.
    pub command: String,
    /// What its output contains.
    pub says: String,
}

/// Lines that are true of `world` once the app is ready and every DNS node has it.
///
/// # Errors
/// When the world lacks a member that the lines speak of.
pub fn lines(world: &World, system: &System) -> anyhow::Result<Vec<Line>> {
    let line =
        |shows: &str, command: String, says: &str| Line { shows: shows.to_owned(), command, says: says.to_owned() };
    let (hub, kubectl) = (world.hub.admin_kubeconfig().display(), world.hub.kubectl_program().display());
    let program = system.program().display();
    let mut lines = vec![
        line(
            "what was declared",
            format!("{kubectl} --kubeconfig {hub} get -n shop regionpolicies,apps.isochrone.dev"),
            "near",
        ),
        line("clusters, apps and hosts", format!("{program} status --kubeconfig {hub}"), HOST),
    ];
    let node = system.dns(&world.members.first().context("a member")?.spec.name)?.ip();
    for (name, client) in CLIENTS {
        let Some(member) = world.member(name) else { continue };
        let (address, door, city) = (member.address.to_string(), member.ingress.address(), &member.spec.city);
        let dig = format!("dig +short +subnet={client}/24 -p {DNS_PORT} @{node} {HOST}");
        lines.push(line(&format!("a user near {city} is sent to {name}"), dig.clone(), &address));
        let port = door.port();
        let curl = format!("curl -sS -H 'Host: {HOST}' http://$({dig}):{port}/");
        lines.push(line(
            "and served there (the answer names the cluster and the version)",
            curl,
            &format!("\"{name}\""),
        ));
        let kubeconfig = member.cluster.admin_kubeconfig().display();
        lines.push(line(
            "by what was delivered",
            format!("{kubectl} --kubeconfig {kubeconfig} get -n shop deployments"),
            "web",
        ));
    }
    let (_, client) = CLIENTS[1];
    let admin = system.dns_admin(&world.members.first().context("a member")?.spec.name)?;
    lines.push(line("why", format!("{program} explain {HOST} --client {client} --node {admin}"), "CLASS"));
    Ok(lines)
}
