//! Gives Services of type LoadBalancer and Ingresses the address of their cluster, as a cloud's controller would.
//!
//! A bare API server leaves `status.loadBalancer` empty for ever. All objects of a cluster get one address: there is
//! one door for each cluster. A Service with a `loadBalancerClass` belongs to another controller and is left alone, as the
//! Kubernetes API says.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::Lookup as _;
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinSet;

use crate::watch;

/// The task that fills addresses; it ends when this is dropped.
#[derive(Debug)]
pub struct LoadBalancer {
    _tasks: JoinSet<()>,
}

impl LoadBalancer {
    /// Begins to fill the cluster behind `client` with `address`.
    pub fn start(client: Client, address: IpAddr) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(fill(client, address));
        Self { _tasks: tasks }
    }
}

async fn fill(client: Client, address: IpAddr) {
    let address = address.to_string();
    let (services, service_changes) = watch::objects::<Service>(Api::all(client.clone()));
    let (ingresses, ingress_changes) = watch::objects::<Ingress>(Api::all(client.clone()));
    let mut changes = futures::stream::select(service_changes, ingress_changes);
    let status = Patch::Merge(json!({ "status": { "loadBalancer": { "ingress": [{ "ip": address }] } } }));
    let params = PatchParams::default();
    loop {
        watch::changed(&mut changes).await;
        for service in services.state().iter().filter(|service| lacks_service_address(service, &address)) {
            let Some((namespace, name)) = service.namespace().zip(service.name()) else {
                continue;
            };
            let api = Api::<Service>::namespaced(client.clone(), &namespace);
            report("Service", &namespace, &name, api.patch_status(&name, &params, &status).await.map(drop));
        }
        for ingress in ingresses.state().iter().filter(|ingress| lacks_ingress_address(ingress, &address)) {
            let Some((namespace, name)) = ingress.namespace().zip(ingress.name()) else {
                continue;
            };
            let api = Api::<Ingress>::namespaced(client.clone(), &namespace);
            report("Ingress", &namespace, &name, api.patch_status(&name, &params, &status).await.map(drop));
        }
    }
}

fn lacks_service_address(service: &Service, address: &str) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.is_none()
        && service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref())
            .and_then(|balancer| balancer.ingress.as_deref())
            .is_none_or(|ingress| !ingress.iter().any(|entry| entry.ip.as_deref() == Some(address)))
}

fn lacks_ingress_address(ingress: &Ingress, address: &str) -> bool {
    ingress
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_deref())
        .is_none_or(|entries| !entries.iter().any(|entry| entry.ip.as_deref() == Some(address)))
}

/// A refused patch is not tried again by itself: an object that vanished needs none, and any change of it comes back as
/// an event.
fn report(kind: &str, namespace: &str, name: &str, result: kube::Result<()>) {
    if let Err(error) = result {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "filling the address of {kind} {namespace}/{name}");
    }
}
