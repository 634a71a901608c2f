//! Clients by kubeconfigs.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// A client by the content of a kubeconfig.
pub(crate) async fn by_content(content: Value) -> anyhow::Result<kube::Client> {
    let kubeconfig = serde_json::from_value(content).context("reading a kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .context("making a client configuration of a kubeconfig")?;
    kube::Client::try_from(config).context("making a client")
}

/// A client by a kubeconfig file.
pub(crate) async fn by_file(path: &Path) -> anyhow::Result<kube::Client> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    by_content(serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))?).await
}
