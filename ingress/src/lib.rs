//! The door of a cluster: an HTTP server that answers for the names its Ingresses and Services carry.
//!
//! It stands in for an ingress controller together with the pods behind it, which in worlds for trying things run
//! nothing: it decides as a controller would, from watched objects, and answers in the place of the pod. A pod that has
//! a ConfigMap mounted where web servers have their files is one, and its files are served; any other says who it is.
//! A name nobody asked for is 404, one without a ready endpoint 503. Like a real one it goes on with what it knew when
//! the API server is lost, and one that starts reads the objects before it listens.
//!
//! * `route`: which Service answers. `site`: the files that its pod has. [`server`]: the HTTP side.
//! * [`load_balancer`]: says in their statuses that Services and Ingresses are reached here.
//! * [`watch`]: objects of a cluster, kept current.
//!
//! Deliberately absent: TLS, proxying, path rewriting, ingress classes (every Ingress is served), weights.

#![forbid(unsafe_code)]

pub mod load_balancer;
mod route;
pub mod server;
mod site;
pub mod watch;

pub use load_balancer::LoadBalancer;
pub use server::{Door, Named};

/// On a Service of type LoadBalancer: the host name that this Service answers for, without any Ingress.
pub const HOST_ANNOTATION: &str = "isochrone.dev/host";
