use super::*;

/// What is served.
const GROUP_VERSIONS: [&str; 22] = [
    "api/v1",
    "apis/admissionregistration.k8s.io/v1",
    "apis/apiextensions.k8s.io/v1",
    "apis/apiregistration.k8s.io/v1",
    "apis/apps/v1",
    "apis/authentication.k8s.io/v1",
    "apis/authorization.k8s.io/v1",
    "apis/autoscaling/v1",
    "apis/autoscaling/v2",
    "apis/batch/v1",
    "apis/certificates.k8s.io/v1",
    "apis/coordination.k8s.io/v1",
    "apis/discovery.k8s.io/v1",
    "apis/events.k8s.io/v1",
    "apis/flowcontrol.apiserver.k8s.io/v1",
    "apis/networking.k8s.io/v1",
    "apis/node.k8s.io/v1",
    "apis/policy/v1",
    "apis/rbac.authorization.k8s.io/v1",
    "apis/resource.k8s.io/v1",
    "apis/scheduling.k8s.io/v1",
    "apis/storage.k8s.io/v1",
];

/// The whole of what a document costs in the program.
const BYTES_MAX: usize = 1_500_000;

#[test]
fn the_archive_is_small_and_holds_every_group_version() {
    assert!(include_bytes!("../../data/openapi.archive").len() < BYTES_MAX);
    for path in GROUP_VERSIONS {
        let document = parse(&openapi(path).unwrap_or_else(|| panic!("{path} is missing")));
        let prefix = format!("/{path}/");
        let paths = document["paths"].as_object().unwrap();
        assert!(!paths.is_empty());
        assert!(paths.keys().all(|key| key.starts_with(&prefix)), "{path} has paths of another");
        assert!(document["components"]["schemas"].as_object().is_some_and(|all| !all.is_empty()));
    }
    assert_eq!(openapi("apis/nothing/v1"), None);
}

#[test]
fn documents_have_what_kubectl_reads() {
    let document = parse(&openapi("apis/apps/v1").unwrap());
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<_> = patch["parameters"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.contains(&"dryRun") && names.contains(&"fieldValidation"), "{names:?}");
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let schema = &document["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"];
    assert!(schema["properties"]["replicas"]["description"].as_str().is_some_and(|text| text.contains("pods")));
}

#[test]
fn discovery_holds_what_the_archive_holds() {
    let mut found = vec!["api/v1".to_owned()];
    for group in discovery()["apis"]["items"].as_array().unwrap() {
        let name = group["metadata"]["name"].as_str().unwrap();
        for version in group["versions"].as_array().unwrap() {
            found.push(format!("apis/{name}/{}", version["version"].as_str().unwrap()));
        }
    }
    found.sort();
    assert_eq!(found, GROUP_VERSIONS);
    let core = discovery()["api"]["items"][0]["versions"][0]["resources"].as_array().unwrap();
    assert!(core.iter().any(|resource| resource["resource"] == "pods"));
}

#[test]
fn every_resource_that_can_be_listed_has_columns() {
    for root in ["api", "apis"] {
        for group in discovery()[root]["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in group["versions"].as_array().unwrap() {
                for resource in version["resources"].as_array().unwrap() {
                    let lists =
                        resource["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"));
                    let (version, resource) =
                        (version["version"].as_str().unwrap(), resource["resource"].as_str().unwrap());
                    let columns = columns(name, version, resource);
                    assert_eq!(columns.is_some(), lists, "{name}/{version} {resource}");
                    let first = if resource == "events" { "Last Seen" } else { "Name" };
                    assert!(columns.is_none_or(|columns| columns[0]["name"] == first), "{name}/{version} {resource}");
                }
            }
        }
    }
    assert_eq!(columns("", "v1", "nothing"), None);
}

#[test]
fn the_beginning_has_roles_that_sum_up_others() {
    let objects = bootstrap();
    let named =
        |name: &str| objects.iter().find(|role| role["kind"] == "ClusterRole" && role["metadata"]["name"] == name);
    for name in ["cluster-admin", "admin", "edit", "view", "system:discovery", "system:basic-user"] {
        let role = named(name).unwrap_or_else(|| panic!("no {name}"));
        assert!(role["rules"].as_array().is_some_and(|rules| !rules.is_empty()), "{name} allows nothing");
        assert!(role["metadata"].get("uid").is_none());
    }
    for kind in ["Role", "RoleBinding", "ClusterRoleBinding", "PriorityClass", "FlowSchema"] {
        assert!(objects.iter().any(|object| object["kind"] == kind), "no {kind}");
    }
}
