//! The HTTP side of a door.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::WriterDropped;
use kube::{Api, Client};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::route::{self, Outcome, Seen};
use crate::site::{self, Content};
use crate::watch;

/// Which cluster answered, in every answer, files too.
const CLUSTER: HeaderName = HeaderName::from_static("isochrone-cluster");
/// In which region that is.
const REGION: HeaderName = HeaderName::from_static("isochrone-region");

/// What a door calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The `cluster` of its answers.
    pub cluster: String,
    /// The `region` of its answers.
    pub region: String,
}

/// The door of a cluster, which knows what is in it. Dropping it ends its watches.
#[derive(Debug)]
pub struct Door {
    router: Router,
    _watches: JoinSet<()>,
}

impl Door {
    /// Reads the objects of the cluster behind `client` once, and keeps them current from then on.
    ///
    /// # Errors
    /// When the watches end, which they do not do by themselves.
    pub async fn new(client: &Client, named: Named) -> Result<Self, WriterDropped> {
        let mut watches = JoinSet::new();
        let stores = Stores::watch(client, &mut watches);
        stores.ready().await?;
        let router = Router::new().fallback(answer).with_state(Arc::new(Behind { named, stores }));
        Ok(Self { router, _watches: watches })
    }

    /// Answers until `stop`, and then until the requests that are there are answered.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let service = self.router.into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).with_graceful_shutdown(stop).await
    }
}

/// What the door knows of its cluster.
#[derive(Debug)]
struct Stores {
    ingresses: Store<Ingress>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<Pod>,
    deployments: Store<Deployment>,
    maps: Store<ConfigMap>,
}

impl Stores {
    fn watch(client: &Client, tasks: &mut JoinSet<()>) -> Self {
        let (ingresses, ingress_changes) = watch::objects(Api::all(client.clone()));
        let (services, service_changes) = watch::objects(Api::all(client.clone()));
        let (slices, slice_changes) = watch::objects(Api::all(client.clone()));
        let (pods, pod_changes) = watch::objects(Api::all(client.clone()));
        let (deployments, deployment_changes) = watch::objects(Api::all(client.clone()));
        let (maps, map_changes) = watch::objects(Api::all(client.clone()));
        for changes in [ingress_changes, service_changes, slice_changes, pod_changes, deployment_changes, map_changes] {
            tasks.spawn(changes.for_each(|()| std::future::ready(())));
        }
        Self { ingresses, services, slices, pods, deployments, maps }
    }

    async fn ready(&self) -> Result<(), WriterDropped> {
        self.ingresses.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.slices.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.maps.wait_until_ready().await
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

struct Behind {
    named: Named,
    stores: Stores,
}

async fn answer(
    State(door): State<Arc<Behind>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let mut response = answer_of(&door, client, &request);
    let named = response.headers_mut();
    insert(named, CLUSTER, &door.named.cluster);
    insert(named, REGION, &door.named.region);
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn answer_of(door: &Behind, client: SocketAddr, request: &Request) -> Response {
    let Named { cluster, region } = &door.named;
    let given = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let host = route::host_name(given.or_else(|| request.uri().host()).unwrap_or_default());
    let path = request.uri().path();
    let refuse = |status: StatusCode, error: String| {
        (status, axum::Json(json!({ "cluster": cluster, "region": region, "error": error }))).into_response()
    };
    let (service, version, pod) = match door.stores.seen().route(&host, path) {
        Outcome::Served { service, version, pod } => (service, version, pod),
        Outcome::NoEndpoint { service } => {
            let error = format!("the service {service} has no ready endpoint for the host {host}");
            return refuse(StatusCode::SERVICE_UNAVAILABLE, error);
        }
        Outcome::NoRoute => {
            let error = format!("no Ingress or Service answers for the host {host:?} and this path");
            return refuse(StatusCode::NOT_FOUND, error);
        }
    };
    match pod.map_or(Content::NoSite, |pod| site::content(&pod, &door.stores.maps.state(), path)) {
        Content::NoSite => axum::Json(json!({
            "cluster": cluster,
            "region": region,
            "service": service,
            "version": version,
            "client": client.to_string(),
        }))
        .into_response(),
        Content::File(..) | Content::Missing if request.method() != Method::GET && request.method() != Method::HEAD => {
            refuse(StatusCode::METHOD_NOT_ALLOWED, format!("{} is not for files: write GET or HEAD", request.method()))
        }
        Content::File(bytes, media_type) => ([(header::CONTENT_TYPE, media_type)], bytes).into_response(),
        Content::Missing => refuse(StatusCode::NOT_FOUND, format!("the pods of {service} have no file for {path}")),
    }
}
