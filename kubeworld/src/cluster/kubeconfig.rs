//! Kubeconfig files, self-contained so that they may be copied anywhere.

use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::authority::Pair;

/// How the user of a kubeconfig proves who they are.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// By a client certificate.
    Certificate(&'a Pair),
    /// By a bearer token.
    Token(&'a str),
}

/// The content of a kubeconfig with one context, named after the cluster.
pub fn content(cluster: &str, api_url: &str, ca_pem: &str, user: &str, credential: Credential<'_>) -> Value {
    let credential = match credential {
        Credential::Certificate(pair) => json!({
            "client-certificate-data": STANDARD.encode(&pair.certificate),
            "client-key-data": STANDARD.encode(&pair.key),
        }),
        Credential::Token(token) => json!({ "token": token }),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": cluster,
            "cluster": { "server": api_url, "certificate-authority-data": STANDARD.encode(ca_pem) },
        }],
        "users": [{ "name": user, "user": credential }],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": user } }],
        "current-context": cluster,
    })
}

/// One kubeconfig of several, with all their contexts; the first one's is the current one. Users keep apart by the
/// clusters' names.
pub fn merged(kubeconfigs: &[Value]) -> Value {
    let mut lists = [vec![], vec![], vec![]];
    for one in kubeconfigs {
        let cluster = &one["clusters"][0]["name"];
        let user =
            format!("{}-{}", cluster.as_str().unwrap_or_default(), one["users"][0]["name"].as_str().unwrap_or("user"));
        lists[0].push(one["clusters"][0].clone());
        lists[1].push(json!({ "name": user, "user": one["users"][0]["user"] }));
        lists[2].push(json!({ "name": cluster, "context": { "cluster": cluster, "user": user } }));
    }
    let [clusters, users, contexts] = lists;
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": clusters,
        "users": users,
        "current-context": contexts.first().map(|context| context["name"].clone()),
        "contexts": contexts,
    })
}

/// Writes a kubeconfig so that only the owner may read it.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, content: &Value) -> std::io::Result<()> {
    let text = serde_saphyr::to_string(content).map_err(|error| named(path, std::io::Error::other(error)))?;
    write_private(path, &text)
}

/// Writes a file that only the owner may read; credentials lie in a directory that others may enter.
///
/// # Errors
/// When the file cannot be written.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| named(path, error))
}

/// The error with the file in it: the system's own words do not name it.
fn named(path: &Path, error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("writing {}: {error}", path.display()))
}
