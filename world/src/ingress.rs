//! The door of a cluster: an HTTP server that answers for the names its Ingresses and Services carry.
//!
//! It stands in for an ingress controller together with the pods behind it, which on fake nodes run nothing: it decides
//! as a controller would, from watched objects, and answers in the place of the pod, saying who would have. A name
//! nobody asked for is 404, one without a ready endpoint 503. Like a real one it goes on with what it knew when the API
//! server is lost.
//!
//! It lives in a runtime of its own, in a thread of its own, so that [`Ingress::kill`] ends every connection at once as
//! a crash would, not only the listener.
//!
//! Deliberately absent: TLS, proxying, path rewriting, ingress classes (every Ingress is served), weights.

mod route;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

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
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::watch;
use route::{Outcome, Seen};

/// On a Service of type LoadBalancer: the host name that this Service answers for, without any Ingress.
pub const HOST_ANNOTATION: &str = "isochrone.dev/host";

/// Where the door is and what it calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressSpec {
    /// The `cluster` of its answers.
    pub cluster: String,
    /// The `region` of its answers.
    pub region: String,
    /// Where it listens.
    pub address: IpAddr,
    /// The port; 80 needs rights, 0 takes a free one.
    pub port: u16,
}

/// A running door; dropping it closes everything.
#[derive(Debug)]
pub struct Ingress {
    spec: IngressSpec,
    stores: Arc<Stores>,
    server: Option<Server>,
    _watches: JoinSet<()>,
}

impl Ingress {
    /// Opens the door of the cluster behind `client`, after its objects were read once.
    ///
    /// # Errors
    /// When the address is taken or not allowed.
    pub async fn start(client: Client, mut spec: IngressSpec) -> anyhow::Result<Self> {
        let mut watches = JoinSet::new();
        let stores = Arc::new(Stores::watch(&client, &mut watches));
        stores.ready().await.with_context(|| format!("reading the objects of {}", spec.cluster))?;
        let server = Server::start(&spec, &stores)?;
        // Port 0 is settled now; a revived door must have the same one.
        spec.port = server.address.port();
        Ok(Self { spec, stores, server: Some(server), _watches: watches })
    }

    /// Where it listens, or listened before it was killed.
    pub fn address(&self) -> SocketAddr {
        (self.spec.address, self.spec.port).into()
    }

    /// Closes the listener and every connection. Afterwards the address refuses connections. The cluster lives on.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Opens a killed door again at the same address. One that is open stays as it is.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        if self.server.is_none() {
            self.server = Some(Server::start(&self.spec, &self.stores)?);
        }
        Ok(())
    }
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

/// The thread that serves; it ends, with all connections, when this is dropped.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// Dropping it is the signal to end.
    close: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(spec: &IngressSpec, stores: &Arc<Stores>) -> anyhow::Result<Self> {
        let wanted = SocketAddr::from((spec.address, spec.port));
        let context = || format!("opening the ingress of {} at {wanted}", spec.cluster);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().with_context(context)?;
        // tokio's listener sets SO_REUSEADDR, so that a revived door does not wait for old connections to expire.
        let listener = {
            let _entered = runtime.enter();
            let socket =
                if wanted.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() };
            let socket = socket.with_context(context)?;
            socket.set_reuseaddr(true).with_context(context)?;
            socket.bind(wanted).with_context(context)?;
            socket.listen(1024).with_context(context)?
        };
        let address = listener.local_addr().with_context(context)?;
        let door =
            Arc::new(Door { cluster: spec.cluster.clone(), region: spec.region.clone(), stores: Arc::clone(stores) });
        let service =
            Router::new().fallback(answer).with_state(door).into_make_service_with_connect_info::<SocketAddr>();
        let (close, closed) = oneshot::channel::<()>();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    // It ends only by the other branch: it answers accept errors by trying again.
                    _ = axum::serve(listener, service) => {}
                    _ = closed => {}
                }
            });
            // The runtime is dropped here, and with it every connection's task.
        };
        let thread = std::thread::Builder::new().name(format!("ingress-{}", spec.cluster)).spawn(serve);
        Ok(Self { address, close: Some(close), thread: Some(thread.with_context(context)?) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Door {
    cluster: String,
    region: String,
    stores: Arc<Stores>,
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
