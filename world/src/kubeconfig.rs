//! Kubeconfig files, self-contained so that they may be copied anywhere.

use std::path::Path;

use anyhow::Context;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::authority::Pair;

/// How the user of a kubeconfig proves who they are.
pub(crate) enum Credential<'a> {
    Certificate(&'a Pair),
    Token(&'a str),
}

/// The content of a kubeconfig with one context, named after the cluster.
pub(crate) fn content(cluster: &str, api_url: &str, ca_pem: &str, user: &str, credential: &Credential<'_>) -> Value {
    let credential = match credential {
        Credential::Certificate(pair) => json!({
            "client-certificate-data": base64(&pair.certificate),
            "client-key-data": base64(&pair.key),
        }),
        Credential::Token(token) => json!({ "token": token }),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": cluster,
            "cluster": { "server": api_url, "certificate-authority-data": base64(ca_pem) },
        }],
        "users": [{ "name": user, "user": credential }],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": user } }],
        "current-context": cluster,
    })
}

/// Writes a kubeconfig so that only the owner may read it.
pub(crate) fn write(path: &Path, content: &Value) -> anyhow::Result<()> {
    let text = serde_saphyr::to_string(content).context("writing a kubeconfig as YAML")?;
    write_private(path, &text)
}

/// Writes a file that only the owner may read; credentials lie in a directory that others may enter.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

/// A client by the content of a kubeconfig.
pub(crate) async fn client(content: Value) -> anyhow::Result<kube::Client> {
    let kubeconfig = serde_json::from_value(content).context("reading a kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .context("making a client configuration of a kubeconfig")?;
    kube::Client::try_from(config).context("making a client")
}

/// A client by a kubeconfig file.
pub(crate) async fn client_of(path: &Path) -> anyhow::Result<kube::Client> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    client(serde_saphyr::from_str(&text).with_context(|| format!("reading {}", path.display()))?).await
}

/// `ByteString` is the form in which Kubernetes writes bytes: base64.
fn base64(text: &str) -> Value {
    json!(ByteString(text.as_bytes().to_vec()))
}
