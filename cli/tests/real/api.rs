//! The API on a real kube-apiserver: what it accepts, what it refuses and with which words, what `kubectl` shows.

use std::path::Path;
use std::process::{Command, Output};

use world::{Cluster, ClusterSpec, assets_from_env};

use crate::ISOCHRONE;

#[tokio::test(flavor = "multi_thread")]
async fn real_the_api_says_what_it_means() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let cluster = Cluster::start(&assets_from_env()?, ClusterSpec::new("api", dir.path())).await?;
    let api = Kubectl { cluster: &cluster };

    // As the README says: crds | kubectl apply --server-side, twice, so that an upgrade is no different.
    let crds = stdout(Command::new(ISOCHRONE).arg("crds").output()?);
    for _ in 0..2 {
        api.ok(&["apply", "--server-side", "-f", "-"], &crds).await;
    }
    api.ok(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").await;
    for role in ["hub", "agent", "dns"] {
        let manifests = stdout(Command::new(ISOCHRONE).args(["manifests", role]).output()?);
        api.ok(&["apply", "--server-side", "-f", "-"], &manifests).await;
    }

    accepted(&api).await?;
    defaults_and_columns(&api).await;
    refused(&api).await;

    let explained = api.ok(&["explain", "regionpolicy.spec.traffic.tolerance"], "").await;
    assert!(explained.contains("estimated round trip"), "{explained}");
    cluster.stop().await;
    Ok(())
}

/// Every example of the repository is applied as it is.
async fn accepted(api: &Kubectl<'_>) -> anyhow::Result<()> {
    for namespace in ["shop", "platform"] {
        api.ok(&["create", "namespace", namespace], "").await;
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/examples");
    let mut applied = 0;
    for entry in std::fs::read_dir(&examples)? {
        let file = entry?.path();
        if file.extension().is_some_and(|e| e == "yaml") {
            api.ok(&["apply", "--server-side", "-f", "-"], &std::fs::read_to_string(&file)?).await;
            applied += 1;
        }
    }
    assert!(applied >= 5, "{applied} examples in {}", examples.display());
    Ok(())
}

async fn defaults_and_columns(api: &Kubectl<'_>) {
    let path = "{.spec.activeActive.replicas}{.spec.traffic.tolerance}{.spec.traffic.ttl}";
    let read = api.ok(&["get", "-n", "shop", "rp", "near", "-o", &format!("jsonpath={path}")], "").await;
    assert_eq!(read, "PerCluster15ms30s");
    let zone = api.ok(&["get", "dz", "gslb", "-o", "jsonpath={.spec.ttl}{.spec.soa}"], "").await;
    assert_eq!(zone, r#"1h{"expire":"336h","minimum":"30s","refresh":"1h","retry":"10m"}"#);
    let table = api.ok(&["get", "clusters.isochrone.dev"], "").await;
    assert!(table.starts_with("NAME") && table.contains("REGION") && table.contains("eu-central-1"), "{table}");
    let table = api.ok(&["get", "-n", "shop", "apps.isochrone.dev"], "").await;
    assert!(table.contains("POLICY") && table.contains("near"), "{table}");
}

/// Each with the words that say what to write instead.
async fn refused(api: &Kubectl<'_>) {
    let policy = |spec: &str| {
        format!(
            "{{apiVersion: isochrone.dev/v1alpha1, kind: RegionPolicy, metadata: {{name: x, namespace: shop}}, spec: {spec}}}"
        )
    };
    let cluster = |name: &str, spec: &str| {
        format!("{{apiVersion: isochrone.dev/v1alpha1, kind: Cluster, metadata: {{name: {name}}}, spec: {spec}}}")
    };
    let app = |spec: &str| {
        format!(
            "{{apiVersion: isochrone.dev/v1alpha1, kind: App, metadata: {{name: x, namespace: shop}}, spec: {spec}}}"
        )
    };
    let zone = |spec: &str| {
        format!("{{apiVersion: isochrone.dev/v1alpha1, kind: DnsZone, metadata: {{name: x}}, spec: {spec}}}")
    };
    let manifest = "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}";
    let cases = [
        (policy("{}"), "write exactly one mode"),
        (policy("{everywhere: {}, activeActive: {}}"), "write exactly one mode"),
        (policy("{everywhere: {}, traffic: {ttl: 30s}}"), "everywhere delivers a baseline and has no traffic"),
        (policy("{activeActive: {}, traffic: {ttl: 30}}"), "spec.traffic.ttl"),
        (policy("{activeActive: {}, traffic: {ttl: half an hour}}"), "spec.traffic.ttl"),
        (policy("{activeActive: {spread: {minRegions: 3, maxClusters: 2}}}"), "minRegions cannot exceed maxClusters"),
        (policy("{activeActive: {replicas: Half}}"), "PerCluster"),
        (
            policy("{activeActive: {}, clusters: {matchExpressions: [{key: a, operator: In}]}}"),
            "In and NotIn need at least one value",
        ),
        (
            policy("{activeActive: {}, tolerations: [{key: a, operator: Exists, value: b}]}"),
            "Exists tolerates every value",
        ),
        (policy("{activeActive: {}, burst: {}}"), ".spec.burst: field not declared in schema"),
        (cluster("x", "{}"), "spec.region"),
        (cluster("x", "{region: EU Central}"), "spec.region"),
        (cluster("a.b", "{region: eu}"), "a cluster's name is one DNS label"),
        (cluster("x", "{region: eu, location: {latitude: 91, longitude: 0}}"), "spec.location.latitude"),
        (cluster("x", "{region: eu, ingress: {addresses: [lb.example.com]}}"), "host name cannot be an answer"),
        (cluster("x", "{region: eu, probe: {path: healthz}}"), "write a path that begins with /"),
        (cluster("x", "{region: eu, probe: {host: 'a:80'}}"), "a DNS name in lower case without a port"),
        (cluster("x", "{region: eu, taints: [{key: a, effect: Never}]}"), "NoSchedule"),
        (app(&format!("{{source: {{inline: {{manifests: [{manifest}]}}}}}}")), "spec.policy"),
        (app("{policy: near, source: {inline: {manifests: []}}}"), "should have at least 1 items"),
        (app("{policy: near, source: {inline: {manifests: [{apiVersion: v1, metadata: {name: x}}]}}}"), "kind"),
        (
            app(&format!(
                "{{policy: near, hosts: [{{host: Shop.Example.com}}], source: {{inline: {{manifests: [{manifest}]}}}}}}"
            )),
            "write a DNS name in lower case without a final dot",
        ),
        (
            app(&format!(
                "{{policy: near, hosts: [{{host: a.b.c}}, {{host: a.b.c}}], source: {{inline: {{manifests: [{manifest}]}}}}}}"
            )),
            "uplicate",
        ),
        (
            zone("{origin: example.com., nameServers: [{name: ns1.example.net}], allowedNamespaces: ['*']}"),
            "without a final dot",
        ),
        (zone("{origin: example.com, nameServers: [], allowedNamespaces: ['*']}"), "spec.nameServers"),
        (zone("{origin: example.com, nameServers: [{name: ns1.example.net}]}"), "spec.allowedNamespaces"),
        (
            zone(
                "{origin: example.com, nameServers: [{name: ns1.example.com, addresses: [ns.example.com]}], allowedNamespaces: ['*']}",
            ),
            "write IP addresses",
        ),
    ];
    for (yaml, words) in cases {
        let said = api.refused(&["apply", "--server-side", "-f", "-"], &yaml).await;
        assert!(said.contains(words), "{yaml}\nwas refused with\n{said}\nwithout {words:?}");
    }
    // What a zone is cannot be changed, not even by dropping the field.
    let said =
        api.refused(&["patch", "dz", "gslb", "--type=merge", "-p", r#"{"spec":{"origin":"other.com"}}"#], "").await;
    assert!(said.contains("origin cannot be changed"), "{said}");
    let said =
        api.refused(&["patch", "dz", "gslb", "--type=json", "-p", r#"[{"op":"remove","path":"/spec"}]"#], "").await;
    assert!(said.contains("spec: Required"), "{said}");
}

struct Kubectl<'a> {
    cluster: &'a Cluster,
}

impl Kubectl<'_> {
    async fn ok(&self, args: &[&str], input: &str) -> String {
        let output = self.cluster.kubectl_with_input(args, input.as_bytes()).await.expect("kubectl runs");
        assert!(output.status.success(), "kubectl {args:?}\n{input}\n{}", String::from_utf8_lossy(&output.stderr));
        // Warnings are what a user sees at every apply.
        let warned = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!warned.contains("Warning"), "kubectl {args:?} warned: {warned}");
        stdout(output)
    }

    async fn refused(&self, args: &[&str], input: &str) -> String {
        let output = self.cluster.kubectl_with_input(args, input.as_bytes()).await.expect("kubectl runs");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "kubectl {args:?} accepted\n{input}\n{out}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
