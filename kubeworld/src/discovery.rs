//! Paths that are about no object: health, version, which groups and resources there are, and their schemas.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Method, Request};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::State;
use crate::custom::{self, Custom};
use crate::handle::{Answer, method_not_allowed, nowhere};
use crate::registry::{Registry, Resource, api_version};
use crate::request::Query;
use crate::status::Status;

/// The type of the one answer that lists all groups with all their resources.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

pub(crate) fn answer(state: &State, request: &Request<Bytes>, path: &str, query: &Query) -> Result<Answer, Status> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let known = matches!(
        parts.first().copied(),
        Some("healthz" | "livez" | "readyz" | "version" | "api" | "apis" | "openapi" | "metrics") | None
    );
    if !known {
        return Ok(nowhere());
    }
    if !reads && !matches!(parts.first().copied(), Some("healthz" | "livez" | "readyz")) {
        return Err(method_not_allowed());
    }
    let aggregated = request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .any(|range| {
            range.contains("as=APIGroupDiscoveryList") && range.contains("v=v2") && !range.contains("v=v2beta1")
        });
    let registry = &state.registry;
    if matches!(parts.as_slice(), ["api" | "apis"]) && !aggregated && !accepts_json(request) {
        return Err(crate::negotiate::Accept::refusal());
    }
    Ok(match parts.as_slice() {
        [] => Answer::Other(200, root(registry)),
        ["healthz" | "livez" | "readyz"] if !path.ends_with('/') => health(&parts, query),
        ["healthz" | "livez" | "readyz", "ping"] => health(&parts, query),
        ["version"] => Answer::Other(200, version(state)),
        ["api"] if aggregated => listed(registry, true),
        ["apis"] if aggregated => listed(registry, false),
        ["api"] => Answer::Other(
            200,
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [
                {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address(request)}]}),
        ),
        ["apis"] => {
            let groups: Vec<Value> = registry
                .groups()
                .iter()
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, versions)| group(name, versions))
                .collect();
            Answer::Other(200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["api", "v1"] => Answer::Other(200, resources(registry, "", "v1")),
        ["apis", name] => match registry.groups().iter().find(|(own, _)| own == name && !own.is_empty()) {
            Some((name, versions)) => {
                let mut group = group(name, versions);
                group["kind"] = json!("APIGroup");
                group["apiVersion"] = json!("v1");
                Answer::Other(200, group)
            }
            None => nowhere(),
        },
        ["apis", group, version] if registry.has_version(group, version) => {
            Answer::Other(200, resources(registry, group, version))
        }
        ["apis", group, _] if registry.groups().iter().any(|(own, _)| own == group) => {
            return Err(crate::handle::unknown_resource());
        }
        ["openapi", "v2"] => openapi_v2(state, request),
        ["openapi", "v3"] => Answer::Text(200, "text/plain; charset=utf-8", openapi_index(state).to_string()),
        ["openapi", "v3", rest @ ..] => match openapi(state, &rest.join("/")) {
            Some(document) => Answer::Json(200, Bytes::from(document)),
            None => Answer::Text(404, "", String::new()),
        },
        ["api", _] => return Err(crate::handle::unknown_resource()),
        _ => nowhere(),
    })
}

/// Whether a client takes the lists of old. A wish for an aggregated list of another version does not count.
fn accepts_json(request: &Request<Bytes>) -> bool {
    let accepted: Vec<&str> =
        request.headers().get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok()).collect();
    let mut ranges = accepted.iter().flat_map(|accept| accept.split(',')).map(str::trim).peekable();
    ranges.peek().is_none() || ranges.any(|range| !range.contains("as=") && !range.is_empty())
}

fn server_address(request: &Request<Bytes>) -> String {
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    host.unwrap_or("127.0.0.1").to_owned()
}

fn health(parts: &[&str], query: &Query) -> Answer {
    let text = if query.has("verbose") && parts.len() == 1 {
        format!("[+]ping ok\n[+]store ok\n{} check passed\n", parts[0])
    } else {
        "ok".to_owned()
    };
    Answer::Text(200, "text/plain; charset=utf-8", text)
}

fn version(state: &State) -> Value {
    let version = state.options.version.as_str();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    json!({
        "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": minor.parse::<u32>().unwrap_or(1).saturating_sub(1).to_string(),
        "gitVersion": version, "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "kubeworld", "platform": "",
    })
}

fn root(registry: &Registry) -> Value {
    let mut paths = ["/api", "/api/v1", "/apis", "/apis/"].map(ToOwned::to_owned).to_vec();
    for (group, versions) in registry.groups().iter().filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(
        ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/openapi/v3/", "/readyz", "/version"]
            .map(ToOwned::to_owned),
    );
    json!({"paths": paths})
}

fn group(name: &str, versions: &[String]) -> Value {
    let version = |version: &String| json!({"groupVersion": api_version(name, version), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// The list of old: one group and version, with subresources as entries of their own.
fn resources(registry: &Registry, group: &str, version: &str) -> Value {
    let hashes = &crate::data::discovery()["storageVersionHashes"];
    let mut out = Vec::new();
    for resource in registry.of_version(group, version) {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        let hash = match resource.custom() {
            Some(_) => {
                let digest = Sha256::digest(format!("{}/{}/{}", resource.group, resource.version, resource.kind));
                let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &digest[..8]);
                Some(json!(hash))
            }
            None => hashes[api_version(group, version)].get(&resource.plural).cloned(),
        };
        if let Some(hash) = hash {
            entry["storageVersionHash"] = hash;
        }
        out.push(entry);
        for subresource in &resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, subresource.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": subresource.kind, "verbs": subresource.verbs,
            });
            if subresource.group != group || subresource.version != version {
                entry["group"] = json!(subresource.group);
                entry["version"] = json!(subresource.version);
            }
            out.push(entry);
        }
    }
    let mut list = json!({"kind": "APIResourceList", "groupVersion": api_version(group, version), "resources": out});
    if !group.is_empty() {
        list["apiVersion"] = json!("v1");
    }
    list
}

/// All groups at once.
fn listed(registry: &Registry, core: bool) -> Answer {
    let items: Vec<Value> = registry
        .groups()
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        registry.of_version(name, version).map(|resource| aggregated(resource)).collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    Answer::Text(200, AGGREGATED, list.to_string())
}

fn aggregated(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| {
        // The real server leaves the version out where it is the list's own.
        if group == resource.group && version == resource.version && resource.custom().is_none() {
            json!({"group": "", "version": "", "kind": kind})
        } else {
            json!({"group": group, "version": version, "kind": kind})
        }
    };
    let mut out = json!({
        "resource": resource.plural, "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular, "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        out["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        out["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let subresources = resource.subresources.iter().map(|subresource| {
            json!({
                "subresource": subresource.name, "verbs": subresource.verbs,
                "responseKind": kind(&subresource.group, &subresource.version, &subresource.kind),
            })
        });
        out["subresources"] = subresources.collect();
    }
    out
}

fn openapi_index(state: &State) -> Value {
    let mut paths = Map::new();
    let mut add = |path: &str, hash: &str| {
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path.to_owned(), json!({"serverRelativeURL": url}));
    };
    for (path, hash) in crate::data::openapi_paths() {
        add(path, hash);
    }
    for (group, versions) in state.registry.groups() {
        for version in versions {
            let customs = customs_of(state, group, version);
            if !customs.is_empty() {
                let document = custom_document(&customs).to_string();
                let hash: String = Sha256::digest(document).iter().map(|byte| format!("{byte:02X}")).collect();
                add(&format!("apis/{group}/{version}"), &hash);
            }
        }
    }
    json!({"paths": paths})
}

fn customs_of<'a>(state: &'a State, group: &'a str, version: &'a str) -> Vec<&'a Custom> {
    state.registry.of_version(group, version).filter_map(|resource| resource.custom().map(AsRef::as_ref)).collect()
}

fn openapi(state: &State, path: &str) -> Option<Vec<u8>> {
    if let Some(document) = crate::data::openapi(path) {
        return Some(document);
    }
    let (group, version) = path.strip_prefix("apis/")?.split_once('/')?;
    let customs = customs_of(state, group, version);
    (!customs.is_empty()).then(|| custom_document(&customs).to_string().into_bytes())
}

/// Schemas in their old form, of which there are none: kubectl asks for them about a kind that the new ones do not
/// know, such as a List, and is content when it is not there either. It takes the message of `openapi.v2.Document`
/// alone: `swagger`, `info` with its title and version, and no `paths`.
fn openapi_v2(state: &State, request: &Request<Bytes>) -> Answer {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let accepts = request.headers().get_all(ACCEPT);
    let binary = accepts.iter().filter_map(|accept| accept.to_str().ok()).any(|accept| accept.contains("spec.v2@v1.0"));
    if binary {
        return Answer::Text(200, PROTOBUF, "\n\x032.0\x12\x12\n\nKubernetes\x12\x041.37B\0".to_owned());
    }
    let info = json!({"title": "Kubernetes", "version": state.options.version});
    Answer::Other(200, json!({"swagger": "2.0", "info": info, "paths": {}}))
}

/// The document of custom kinds: their schemas, and that their patches know `fieldValidation` and `dryRun`.
fn custom_document(customs: &[&Custom]) -> Value {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for custom in customs {
        let name = custom::openapi::schema_name(custom);
        let own = json!({"group": custom.group, "version": custom.version, "kind": custom.names.kind});
        schemas.insert(name.clone(), custom::openapi::schema(custom));
        let scope = if custom.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("/apis/{}/{}{scope}/{}/{{name}}", custom.group, custom.version, custom.names.plural);
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        let parameters: Vec<Value> =
            ["dryRun", "fieldManager", "fieldValidation", "force"].into_iter().map(parameter).collect();
        let content = json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}});
        let operation = |action: &str| {
            json!({
                "parameters": parameters, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": own,
                "responses": {"200": {"description": "OK", "content": content}},
            })
        };
        paths.insert(
            path,
            json!({"get": operation("get"), "put": operation("put"), "patch": operation("patch"),
                   "delete": operation("delete")}),
        );
    }
    // What the schemas refer to.
    if let Some(document) = crate::data::openapi("api/v1").and_then(|text| serde_json::from_slice::<Value>(&text).ok())
    {
        for name in ["ObjectMeta", "OwnerReference", "ManagedFieldsEntry", "FieldsV1", "Time"] {
            let name = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}");
            let schema = document["components"]["schemas"][&name].clone();
            schemas.insert(name, schema);
        }
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
        "components": {"schemas": schemas}, "paths": paths,
    })
}
