//! What the program `world-ingress` does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress as IngressObject;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::Store;
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinSet;

use super::IngressSpec;
use super::route::{self, Outcome, Seen};
use crate::clients;
use crate::watch;

/// Opens the door of the cluster behind a kubeconfig, after its objects were read once, writes the address to the file
/// `ready`, and serves for ever.
///
/// # Errors
/// When the kubeconfig is of no use, or the address is taken or not allowed.
pub async fn serve(kubeconfig: &Path, spec: IngressSpec, ready: &Path) -> anyhow::Result<()> {
    let mut watches = JoinSet::new();
    let stores = Stores::watch(&clients::by_file(kubeconfig).await?, &mut watches);
    stores.ready().await.with_context(|| format!("reading the objects of {}", spec.cluster))?;
    let wanted = SocketAddr::from((spec.address, spec.port));
    // It sets SO_REUSEADDR, so that a revived door does not wait for old connections to expire.
    let listener = tokio::net::TcpListener::bind(wanted).await;
    let listener = listener.with_context(|| format!("opening the ingress of {} at {wanted}", spec.cluster))?;
    let address = listener.local_addr().context("asking for the address")?;
    let door = Arc::new(Door { cluster: spec.cluster, region: spec.region, stores });
    let service = Router::new().fallback(answer).with_state(door).into_make_service_with_connect_info::<SocketAddr>();
    // Whole or not at all: who waits for it may look at any time.
    let draft = ready.with_extension("draft");
    std::fs::write(&draft, address.to_string()).with_context(|| format!("writing {}", draft.display()))?;
    std::fs::rename(&draft, ready).with_context(|| format!("writing {}", ready.display()))?;
    axum::serve(listener, service).await.context("serving")
}

/// What the door knows of its cluster.
#[derive(Debug)]
struct Stores {
    ingresses: Store<IngressObject>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<PartialObjectMeta<Pod>>,
    deployments: Store<Deployment>,
}

impl Stores {
    fn watch(client: &Client, tasks: &mut JoinSet<()>) -> Self {
        let (ingresses, ingress_changes) = watch::objects(Api::all(client.clone()));
        let (services, service_changes) = watch::objects(Api::all(client.clone()));
        let (slices, slice_changes) = watch::objects(Api::all(client.clone()));
        let (pods, pod_changes) = watch::objects(Api::all(client.clone()));
        let (deployments, deployment_changes) = watch::objects(Api::all(client.clone()));
        for changes in [ingress_changes, service_changes, slice_changes, pod_changes, deployment_changes] {
            tasks.spawn(changes.for_each(|()| std::future::ready(())));
        }
        Self { ingresses, services, slices, pods, deployments }
    }

    async fn ready(&self) -> anyhow::Result<()> {
        self.ingresses.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.slices.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        Ok(())
    }

    fn seen(&self) -> Seen {
        Seen {
            ingresses: self.ingresses.state(),
            services: self.services.state(),
            slices: self.slices.state(),
            pods: self.pods.state(),
            deployments: self.deployments.state(),
        }
    }
}

struct Door {
    cluster: String,
    region: String,
    stores: Stores,
}

async fn answer(
    State(door): State<Arc<Door>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let given = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let host = route::host_name(given.or_else(|| request.uri().host()).unwrap_or_default());
    let refuse = |status: StatusCode, error: String| {
        let body = json!({ "cluster": door.cluster, "region": door.region, "error": error });
        (status, axum::Json(body)).into_response()
    };
    match door.stores.seen().route(&host, request.uri().path()) {
        Outcome::Served { service, version } => {
            let body = json!({
                "cluster": door.cluster,
                "region": door.region,
                "service": service,
                "version": version,
                "client": client.to_string(),
            });
            axum::Json(body).into_response()
        }
        Outcome::NoEndpoint { service } => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the service {service} has no ready endpoint for the host {host}"),
        ),
        Outcome::NoRoute => {
            refuse(StatusCode::NOT_FOUND, format!("no Ingress or Service answers for the host {host:?} and this path"))
        }
    }
}
