//! The agent's options, as meant; the command line parses the raw ones into these.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};

/// The namespace an agent lives in unless told otherwise.
pub const NAMESPACE: &str = "isochrone-system";

/// Options of the delivery side.
#[derive(Clone, Debug)]
pub struct Config {
    /// How its own API server is reached.
    pub kube: KubeAccess,
    /// The namespace it lives in and keeps its memory and ApplySet parents in.
    pub namespace: String,
}

/// How the agent reaches its own API server.
#[derive(Clone, Debug)]
pub enum KubeAccess {
    /// By the service account of its pod.
    InCluster,
    /// By the current context of a kubeconfig file.
    Kubeconfig(PathBuf),
    /// By a configuration that is there already: in-memory worlds and tests.
    Given(Box<kube::Config>),
}

/// Why the API server cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is no pod around us.
    #[error("no in-cluster configuration; outside a pod, give a kubeconfig")]
    InCluster(#[source] kube::config::InClusterError),
    /// The file is no kubeconfig.
    #[error("read kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: kube::config::KubeconfigError,
    },
}

impl KubeAccess {
    /// The client configuration.
    pub async fn load(&self) -> Result<kube::Config, AccessError> {
        match self {
            Self::InCluster => kube::Config::incluster().map_err(AccessError::InCluster),
            Self::Kubeconfig(path) => {
                let failed = |source| AccessError::Kubeconfig { path: path.clone(), source };
                let file = Kubeconfig::read_from(path).map_err(failed)?;
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)
            }
            Self::Given(config) => Ok(config.as_ref().clone()),
        }
    }
}
