//! `cargo xtask kubeworld-data`: records what a real API server says of itself into `kubeworld/data/`, which
//! `kubeworld` has built in.
//!
//! A cluster of the rig is asked, not files of a release: what kubeworld claims to be is a server with its default
//! settings. Only the shape of protobuf bodies comes from sources, since a server does not tell it; see [`messages`].
//! Made twice, the files are equal byte by byte, so a change in them is a change of Kubernetes.

mod messages;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::kube;
use server::Server;

/// The group-versions that kubeworld serves: those that a cluster of today has and that clients use. What is left out
/// is alpha, beta, or of Kubernetes' own parts only.
const GROUP_VERSIONS: [&str; 21] = [
    "admissionregistration.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "apiregistration.k8s.io/v1",
    "apps/v1",
    "authentication.k8s.io/v1",
    "authorization.k8s.io/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates.k8s.io/v1",
    "coordination.k8s.io/v1",
    "discovery.k8s.io/v1",
    "events.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1",
    "networking.k8s.io/v1",
    "node.k8s.io/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
    "resource.k8s.io/v1",
    "scheduling.k8s.io/v1",
    "storage.k8s.io/v1",
];

/// What a server makes for itself at its first start and controllers then keep, by list. All of RBAC's carry a label
/// that tells them from what the rig adds; of the others the rig adds none.
const BOOTSTRAP: [&str; 7] = [
    "/apis/rbac.authorization.k8s.io/v1/clusterroles?labelSelector=kubernetes.io/bootstrapping%3Drbac-defaults",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings?labelSelector=kubernetes.io/bootstrapping%3Drbac-defaults",
    "/apis/rbac.authorization.k8s.io/v1/roles?labelSelector=kubernetes.io/bootstrapping%3Drbac-defaults",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings?labelSelector=kubernetes.io/bootstrapping%3Drbac-defaults",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
    "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
];

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The most that the schemas may take: they are in every program.
const OPENAPI_BYTES_MAX: usize = 1_500_000;

/// Writes `kubeworld/data/` under `workspace`.
///
/// # Errors
/// When the rig's cluster does not start, lacks what is to be recorded, or the Go modules cannot be found.
pub(crate) fn run(workspace: &Path) -> Result<()> {
    let data = workspace.join("kubeworld/data");
    fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = data.join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
        eprintln!("{}: {} bytes", path.display(), bytes.len());
        anyhow::Ok(())
    };
    // First, since it takes no cluster.
    write("messages.txt.gz", &gzip(messages::of(workspace)?.as_bytes())?)?;
    let assets = kube::provide()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let directory = workspace.join("target/xtask/kubeworld-data");
    runtime.block_on(async {
        let server = Server::start(&assets, &directory).await?;
        let discovery = discovery(&server).await?;
        write("openapi.archive", &openapi(&server).await?)?;
        write("discovery.json", &in_lines(&discovery, 7))?;
        write("columns.json", &in_lines(&columns(&server, &discovery).await?, 2))?;
        write("bootstrap.json.gz", &gzip(&in_lines(&bootstrap(&server).await?, 1))?)?;
        server.stop().await;
        Ok(())
    })
}

/// All documents in one archive: a line `PATH HASH LENGTH` for each, an empty line, then the documents in that order,
/// each a gzip member of its own, so that one can be read without the others. The hash is the one in the server's
/// index.
async fn openapi(server: &Server) -> Result<Vec<u8>> {
    let listed = server.json("/openapi/v3", "application/json").await?;
    let mut paths = vec!["api".to_owned(), "api/v1".to_owned(), "apis".to_owned(), "version".to_owned()];
    for group_version in GROUP_VERSIONS {
        let group = group_version.split('/').next().unwrap_or_default();
        paths.extend([format!("apis/{group}"), format!("apis/{group_version}")]);
    }
    paths.sort();
    paths.dedup();
    let (mut index, mut documents) = (String::new(), Vec::new());
    for path in paths {
        let url = listed["paths"][&path]["serverRelativeURL"].as_str();
        let url = url.with_context(|| format!("the server's index of OpenAPI lacks {path}"))?;
        let (_, hash) = url.split_once("?hash=").with_context(|| format!("no hash in {url}"))?;
        let packed = gzip(server.text(url, "application/json").await?.as_bytes())?;
        index += &format!("{path} {hash} {}\n", packed.len());
        documents.extend(packed);
    }
    let archive = [index.as_bytes(), b"\n", &documents].concat();
    ensure!(
        archive.len() <= OPENAPI_BYTES_MAX,
        "the schemas take {} bytes, more than the {OPENAPI_BYTES_MAX} that they may",
        archive.len()
    );
    Ok(archive)
}

/// Aggregated discovery of what is served, and what only the lists of old say.
async fn discovery(server: &Server) -> Result<Value> {
    let api = server.json("/api", AGGREGATED).await?;
    let mut apis = server.json("/apis", AGGREGATED).await?;
    let groups = apis["items"].as_array_mut().context("aggregated discovery has no items")?;
    let mut found = 0;
    for group in groups.iter_mut() {
        let name = group["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let Some(versions) = group["versions"].as_array_mut() else { continue };
        versions.retain(|one| {
            one["version"].as_str().is_some_and(|version| GROUP_VERSIONS.contains(&&*format!("{name}/{version}")))
        });
        found += versions.len();
    }
    groups.retain(|group| group["versions"].as_array().is_some_and(|versions| !versions.is_empty()));
    ensure!(found == GROUP_VERSIONS.len(), "the server serves {found} of {} group-versions", GROUP_VERSIONS.len());
    let mut hashes: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for group_version in GROUP_VERSIONS.into_iter().chain(["v1"]) {
        let root = if group_version == "v1" { "/api" } else { "/apis" };
        let list = server.json(&format!("{root}/{group_version}"), "application/json").await?;
        for resource in list["resources"].as_array().into_iter().flatten() {
            if let (Some(name), hash @ Value::String(_)) = (resource["name"].as_str(), &resource["storageVersionHash"])
            {
                hashes.entry(group_version).or_default().insert(name.to_owned(), hash.clone());
            }
        }
    }
    let version = server.json("/version", "application/json").await?;
    Ok(json!({"api": api, "apis": apis, "gitVersion": version["gitVersion"], "storageVersionHashes": hashes}))
}

/// The `columnDefinitions` of each resource that can be listed, by group-version and resource.
async fn columns(server: &Server, discovery: &Value) -> Result<Value> {
    let mut all: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    let groups = ["api", "apis"].into_iter().flat_map(|root| discovery[root]["items"].as_array().into_iter().flatten());
    for group in groups {
        for version in group["versions"].as_array().into_iter().flatten() {
            let version_name = version["version"].as_str().context("a version without a name")?;
            let (group_version, root) = match group["metadata"]["name"].as_str() {
                Some(name) => (format!("{name}/{version_name}"), "/apis"),
                None => (version_name.to_owned(), "/api"),
            };
            for resource in version["resources"].as_array().into_iter().flatten() {
                let can_list = resource["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!("list")));
                let name = resource["resource"].as_str().context("a resource without a name")?;
                if !can_list {
                    continue;
                }
                let table = server.json(&format!("{root}/{group_version}/{name}?limit=1"), TABLE).await?;
                let Value::Array(_) = table["columnDefinitions"] else {
                    bail!("the list of {name} as a Table has no columns: {table}");
                };
                all.entry(group_version.clone())
                    .or_default()
                    .insert(name.to_owned(), table["columnDefinitions"].clone());
            }
        }
    }
    Ok(json!(all))
}

/// What a fresh server holds, as a list of objects without what the server adds to each.
async fn bootstrap(server: &Server) -> Result<Value> {
    let mut objects = Vec::new();
    for url in BOOTSTRAP {
        let mut list = server.settled(url, is_filled).await?;
        let kind = list["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).context("not a list")?.to_owned();
        let version = list["apiVersion"].clone();
        for object in list["items"].as_array_mut().into_iter().flatten() {
            let Some(fields) = object.as_object_mut() else { continue };
            fields.insert("apiVersion".to_owned(), version.clone());
            fields.insert("kind".to_owned(), json!(kind));
            fields.remove("status");
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                for name in ["creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"] {
                    metadata.remove(name);
                }
            }
            objects.push(object.take());
        }
    }
    Ok(Value::Array(objects))
}

/// Whether a list of cluster roles has what the controller fills in: the rules of those that sum up others.
fn is_filled(list: &Value) -> bool {
    let mut items = list["items"].as_array().into_iter().flatten();
    items.all(|role| {
        role["aggregationRule"].is_null() || role["rules"].as_array().is_some_and(|rules| !rules.is_empty())
    })
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).context("compress")?;
    encoder.finish().context("compress")
}

/// JSON in which everything down to `depth` has a line of its own and the rest is compact: short, and a change in it
/// can still be read.
fn in_lines(value: &Value, depth: usize) -> Vec<u8> {
    let mut out = String::new();
    put(value, depth, 0, &mut out);
    out.push('\n');
    out.into_bytes()
}

fn put(value: &Value, depth: usize, indent: usize, out: &mut String) {
    let line = |out: &mut String, indent: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
    };
    match value {
        Value::Array(items) if depth > 0 && !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                line(out, indent + 1);
                put(item, depth - 1, indent + 1, out);
            }
            line(out, indent);
            out.push(']');
        }
        Value::Object(fields) if depth > 0 && !fields.is_empty() => {
            out.push('{');
            for (i, (key, field)) in fields.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                line(out, indent + 1);
                out.push_str(&json!(key).to_string());
                out.push_str(": ");
                put(field, depth - 1, indent + 1, out);
            }
            line(out, indent);
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            out.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
