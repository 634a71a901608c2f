//! Our own kinds: what a real API server accepts and refuses, in the same words, kubeworld does.

use std::path::Path;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::discovery::Discovery;
use kube::runtime::{conditions, wait};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::{client, refused, within};
use crate::world::World;

#[tokio::test]
async fn our_crds() -> anyhow::Result<()> {
    let world = World::start().await?;
    let client = client(&world)?;
    let crds = Api::all(client.clone());
    let apply = PatchParams::apply("kubectl").force();
    for _ in 0..2 {
        for crd in api::v1alpha1::crds() {
            let name = crd.name_any();
            crds.patch(&name, &apply, &Patch::Apply(&crd)).await?;
            within(wait::await_condition(crds.clone(), &name, conditions::is_crd_established())).await??;
        }
    }
    for namespace in ["shop", "platform"] {
        let made = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        put(&client, made).await?;
    }
    accepted(&client).await?;
    defaults(&client).await?;
    bad(&client).await
}

/// Every example of the repository.
async fn accepted(client: &Client) -> anyhow::Result<()> {
    let mut applied = 0;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/examples");
    for entry in std::fs::read_dir(examples)? {
        let file = entry?.path();
        if file.extension().is_some_and(|e| e == "yaml") {
            for object in serde_saphyr::from_multiple::<Value>(&std::fs::read_to_string(&file)?)? {
                put(client, object).await?;
                applied += 1;
            }
        }
    }
    assert!(applied >= 5, "{applied} examples");
    Ok(())
}

async fn defaults(client: &Client) -> anyhow::Result<()> {
    let zone = ApiResource::erase::<api::v1alpha1::DnsZone>(&());
    let zone = Api::<DynamicObject>::all_with(client.clone(), &zone).get("gslb").await?;
    let soa = json!({ "expire": "336h", "minimum": "30s", "refresh": "1h", "retry": "10m" });
    assert_eq!((&zone.data["spec"]["ttl"], &zone.data["spec"]["soa"]), (&json!("1h"), &soa));
    let policy = ApiResource::erase::<api::v1alpha1::RegionPolicy>(&());
    let policy = Api::<DynamicObject>::namespaced_with(client.clone(), "shop", &policy).get("near").await?;
    let spec = &policy.data["spec"];
    assert_eq!(spec["activeActive"]["replicas"], "PerCluster");
    assert_eq!((&spec["traffic"]["tolerance"], &spec["traffic"]["ttl"]), (&json!("15ms"), &json!("30s")));
    Ok(())
}

/// The words of the real server, which the end-to-end tests hear.
async fn bad(client: &Client) -> anyhow::Result<()> {
    let policy = |spec: Value| ours("RegionPolicy", spec);
    let cases = [
        (policy(json!({})), "write exactly one mode"),
        (policy(json!({ "everywhere": {}, "activeActive": {} })), "write exactly one mode"),
        (
            policy(json!({ "everywhere": {}, "traffic": { "ttl": "30s" } })),
            "everywhere delivers a baseline and has no traffic",
        ),
        (policy(json!({ "activeActive": {}, "traffic": { "ttl": 30 } })), "spec.traffic.ttl"),
        (policy(json!({ "activeActive": {}, "traffic": { "ttl": "half an hour" } })), "spec.traffic.ttl"),
        (
            policy(json!({ "activeActive": { "spread": { "minRegions": 3, "maxClusters": 2 } } })),
            "minRegions cannot exceed maxClusters",
        ),
        (policy(json!({ "activeActive": { "replicas": "Half" } })), "PerCluster"),
        (
            policy(json!({
                "activeActive": {}, "clusters": { "matchExpressions": [{ "key": "a", "operator": "In" }] },
            })),
            "In and NotIn need at least one value",
        ),
        (policy(json!({ "activeActive": {}, "burst": {} })), ".spec.burst: field not declared in schema"),
        (ours("Cluster", json!({})), "spec.region"),
        (ours("Cluster", json!({ "region": "EU Central" })), "spec.region"),
        (
            ours("Cluster", json!({ "region": "eu", "location": { "latitude": 91, "longitude": 0 } })),
            "spec.location.latitude",
        ),
        (
            ours("Cluster", json!({ "region": "eu", "ingress": { "addresses": ["lb.example.com"] } })),
            "host name cannot be an answer",
        ),
        (
            ours("App", json!({ "policy": "near", "source": { "inline": { "manifests": [] } } })),
            "should have at least 1 items",
        ),
        (
            ours("DnsZone", json!({ "origin": "example.com", "nameServers": [], "allowedNamespaces": ["*"] })),
            "spec.nameServers",
        ),
    ];
    for (object, words) in cases {
        let said = match put(client, object.clone()).await {
            Ok(()) => panic!("accepted: {object}"),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(words), "{object}\nwas refused with\n{said}\nwithout {words:?}");
    }
    // What a zone is cannot be changed, not even by dropping the field.
    let zones = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<api::v1alpha1::DnsZone>(&()));
    let other = json!({ "spec": { "origin": "other.com" } });
    let said = refused(zones.patch("gslb", &PatchParams::default(), &Patch::Merge(other)).await, 422, "Invalid")?;
    assert!(said.message.contains("origin cannot be changed"), "{}", said.message);
    let none = json!({ "spec": null });
    let said = refused(zones.patch("gslb", &PatchParams::default(), &Patch::Merge(none)).await, 422, "Invalid")?;
    assert!(said.message.contains("spec: Required"), "{}", said.message);
    Ok(())
}

fn ours(kind: &str, spec: Value) -> Value {
    let namespace = matches!(kind, "App" | "RegionPolicy").then_some("shop");
    let mut object =
        json!({ "apiVersion": "isochrone.dev/v1alpha1", "kind": kind, "metadata": { "name": "x" }, "spec": spec });
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

/// Applies as `kubectl apply --server-side` does: any kind, strictly.
async fn put(client: &Client, object: Value) -> anyhow::Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.as_ref().ok_or_else(|| anyhow::anyhow!("no kind"))?;
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let Some((kind, _)) = discovery.resolve_typemeta(types) else { anyhow::bail!("{} is unknown", types.kind) };
    let api = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &kind),
        None => Api::<DynamicObject>::all_with(client.clone(), &kind),
    };
    let mut params = PatchParams::apply("kubectl");
    params.field_validation = Some(kube::api::ValidationDirective::Strict);
    api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await?;
    Ok(())
}
