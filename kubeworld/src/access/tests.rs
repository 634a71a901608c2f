use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::impersonation::Mode;
use super::*;

/// What a real server answered, and the roles and bindings that it held beside those of the beginning.
fn recorded() -> (Value, Access) {
    let recorded: Value = serde_json::from_str(include_str!("recorded.json")).unwrap();
    let mut access = beginning();
    for one in recorded["objects"].as_array().unwrap() {
        access.observe(one["resource"].as_str().unwrap(), &one["object"]);
    }
    (recorded, access)
}

fn beginning() -> Access {
    let mut access = Access::default();
    for role in crate::data::bootstrap() {
        let resource = format!("{}s", role["kind"].as_str().unwrap().to_lowercase());
        access.observe(&resource, &role);
    }
    access
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn user(value: &Value) -> User {
    User { name: value["user"].as_str().unwrap().to_owned(), groups: texts(&value["groups"]), ..User::default() }
}

fn target(value: &Value) -> Target<'_> {
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    match value.as_str().or(value["path"].as_str()) {
        Some(path) => Target::Path(path),
        None => Target::Resource {
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            name: text("name"),
            namespace: text("namespace"),
        },
    }
}

fn refused(result: Result<(), Status>) -> Value {
    result.map_or_else(|status| status.to_json(), |()| Value::Null)
}

#[test]
fn decisions_are_those_of_a_real_server() {
    let (recorded, access) = recorded();
    for one in recorded["decisions"].as_array().unwrap() {
        let spec = &one["spec"];
        let asked = spec.get("resourceAttributes").unwrap_or(&spec["nonResourceAttributes"]);
        let attributes = Attributes { verb: asked["verb"].as_str().unwrap(), target: target(asked) };
        let decision = access.decide(&user(spec), &attributes);
        assert_eq!(decision.allowed, one["status"]["allowed"], "{spec}");
        let reason = one["status"]["reason"].as_str().unwrap_or_default();
        // Where two bindings allow it, the real server names either.
        if reason.contains("system:") {
            assert!(decision.reason.contains("system:"), "{}", decision.reason);
        } else {
            assert_eq!(decision.reason, reason, "{spec}");
        }
    }
}

#[test]
fn refusals_are_those_of_a_real_server() {
    let (recorded, access) = recorded();
    for one in recorded["refusals"].as_array().unwrap() {
        let attributes = Attributes { verb: one["verb"].as_str().unwrap(), target: target(&one["target"]) };
        assert_eq!(refused(access.check(&user(one), &attributes)), one["answer"]);
    }
}

#[test]
fn nobody_grants_what_he_lacks_as_on_a_real_server() {
    let (recorded, access) = recorded();
    for one in recorded["roles"].as_array().unwrap() {
        let (resource, namespace) = (one["resource"].as_str().unwrap(), one["namespace"].as_str().unwrap());
        let result = access.check_role(&user(one), resource, namespace, "", &one["object"], None);
        assert_eq!(refused(result), one["answer"], "{one}");
    }
    for one in recorded["bindings"].as_array().unwrap() {
        let (resource, namespace) = (one["resource"].as_str().unwrap(), one["namespace"].as_str().unwrap());
        let result = access.check_binding(&user(one), resource, namespace, &one["object"], None);
        assert_eq!(refused(result), one["answer"], "{one}");
    }
}

#[test]
fn rules_reviews_are_those_of_a_real_server() {
    let (recorded, access) = recorded();
    // The real server has rules in no order.
    let sorted = |mut status: Value| {
        for field in ["resourceRules", "nonResourceRules"] {
            status[field].as_array_mut().unwrap().sort_by_key(ToString::to_string);
        }
        status
    };
    for one in recorded["reviews"].as_array().unwrap() {
        let status = access.rules_review(&user(one), one["namespace"].as_str().unwrap());
        assert_eq!(sorted(status), sorted(one["status"].clone()), "{one}");
    }
}

#[test]
fn impersonation_is_that_of_a_real_server() {
    let (recorded, access) = recorded();
    let mut last: BTreeMap<&str, Mode> = BTreeMap::new();
    for one in recorded["impersonations"].as_array().unwrap() {
        let mut headers = HeaderMap::new();
        for pair in one["headers"].as_array().unwrap() {
            let name: HeaderName = pair[0].as_str().unwrap().parse().unwrap();
            headers.append(name, HeaderValue::from_str(pair[1].as_str().unwrap()).unwrap());
        }
        let name = one["requestor"].as_str().unwrap();
        let groups: &[&str] = match name {
            "alice" => &["team-a", "team-b", "system:authenticated"],
            "bob" => &["team-b", "system:authenticated"],
            _ => &["system:authenticated"],
        };
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let requestor = User { name: name.to_owned(), groups, ..User::default() };
        let attributes = Attributes { verb: one["verb"].as_str().unwrap(), target: target(&one["target"]) };
        let result = wanted(&headers)
            .and_then(|wanted| access.impersonate(&requestor, &wanted.unwrap(), &attributes, last.get(name).copied()));
        let answer = match result {
            Err(status) => status.to_json(),
            Ok((user, mode)) => {
                last.insert(name, mode);
                let mut shown = json!({"username": user.name, "groups": user.groups});
                if !user.uid.is_empty() {
                    shown["uid"] = json!(user.uid);
                }
                if !user.extra.is_empty() {
                    shown["extra"] = json!(user.extra);
                }
                json!({"user": shown})
            }
        };
        assert_eq!(answer, one["answer"], "{} {}", one["requestor"], one["headers"]);
    }
}

#[test]
fn nobody_is_wanted_without_headers() {
    assert_eq!(wanted(&HeaderMap::new()), Ok(None));
}

#[test]
fn a_service_account_may_act_as_its_own_node_only() {
    let rule = |verb: &str, group: &str, resource: &str| json!({"verbs": [verb], "apiGroups": [group], "resources": [resource]});
    let mut access = Access::default();
    let on = rule("impersonate-on:associated-node:list", "", "pods");
    access.observe(
        "clusterroles",
        &json!({"metadata": {"name": "r"}, "rules":
        [on, rule("impersonate:associated-node", "authentication.k8s.io", "nodes")]}),
    );
    access.observe(
        "clusterrolebindings",
        &json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
    );
    let extra = BTreeMap::from([("authentication.kubernetes.io/node-name".to_owned(), vec!["n1".to_owned()])]);
    let requestor = User { name: "system:serviceaccount:n:s".to_owned(), extra, ..User::default() };
    let target = Target::Resource { group: "", resource: "pods", subresource: "", name: "", namespace: "" };
    let acts_as = |node: &str| {
        let wanted = User { name: format!("system:node:{node}"), ..User::default() };
        access.impersonate(&requestor, &wanted, &Attributes { verb: "list", target }, None)
    };
    let (user, mode) = acts_as("n1").unwrap();
    assert_eq!(
        (user.groups, mode),
        (vec!["system:nodes".to_owned(), "system:authenticated".to_owned()], Mode::AssociatedNode)
    );
    assert!(acts_as("n2").is_err());
}

#[test]
fn updates_for_the_garbage_collector_pass() {
    let (_, access) = recorded();
    let old = json!({"metadata": {"name": "r", "finalizers": ["x"]}, "rules": [{"verbs": ["*"], "apiGroups": ["*"],
        "resources": ["*"]}]});
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!([]);
    let nobody = User::default();
    assert_eq!(access.check_role(&nobody, "clusterroles", "", "r", &new, Some(&old)), Ok(()));
    new["metadata"]["labels"] = json!({"a": "b"});
    assert!(access.check_role(&nobody, "clusterroles", "", "r", &new, Some(&old)).is_err());
}

#[test]
fn what_is_forgotten_allows_nothing() {
    let (_, mut access) = recorded();
    let alice = User { name: "alice".to_owned(), ..User::default() };
    let target = Target::Resource { group: "", resource: "pods", subresource: "", name: "", namespace: "team" };
    let attributes = Attributes { verb: "create", target };
    assert!(access.decide(&alice, &attributes).allowed);
    access.forget("rolebindings", "other", "x-writers");
    assert!(access.decide(&alice, &attributes).allowed);
    access.forget("roles", "team", "x-writer");
    let decision = access.decide(&alice, &attributes);
    assert_eq!(decision.reason, "rbac: RBAC: role.rbac.authorization.k8s.io \"x-writer\" not found");
    access.forget("rolebindings", "team", "x-writers");
    assert_eq!(access.decide(&alice, &attributes), Decision { allowed: false, reason: String::new() });
}

/// A few names, so that roles, bindings, users and questions meet.
fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(words).prop_map(str::to_owned)
}

fn some_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(one_of(words), 0..3)
}

fn rules() -> impl Strategy<Value = Value> {
    let rule = (
        some_of(&["get", "list", "*", "escalate"]),
        some_of(&["", "apps", "*"]),
        some_of(&["pods", "pods/log", "*/log", "*", "deployments"]),
        some_of(&["a", "b"]),
        some_of(&["/x", "/x/*", "*"]),
    );
    let rule = rule.prop_map(|(verbs, groups, resources, names, paths)| {
        json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names,
            "nonResourceURLs": paths})
    });
    prop::collection::vec(rule, 0..3).prop_map(Value::Array)
}

fn objects() -> impl Strategy<Value = Vec<(String, Value)>> {
    let role = (one_of(&["clusterroles", "roles"]), one_of(&["r", "s"]), one_of(&["n", "m"]), rules());
    let role = role.prop_map(|(resource, name, namespace, rules)| {
        let namespace = if resource == "roles" { namespace } else { String::new() };
        (resource, json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules}))
    });
    let subject = (one_of(&["User", "Group", "ServiceAccount"]), one_of(&["u", "g", "s"]), one_of(&["", "n", "m"]));
    let subject =
        subject.prop_map(|(kind, name, namespace)| json!({"kind": kind, "name": name, "namespace": namespace}));
    let subjects = prop::collection::vec(subject, 0..3);
    let binding = (
        one_of(&["clusterrolebindings", "rolebindings"]),
        one_of(&["b", "c"]),
        one_of(&["n", "m"]),
        one_of(&["ClusterRole", "Role"]),
        one_of(&["r", "s"]),
        subjects,
    );
    let binding = binding.prop_map(|(resource, name, namespace, kind, role, subjects)| {
        let namespace = if resource == "rolebindings" { namespace } else { String::new() };
        let metadata = json!({"name": name, "namespace": namespace});
        (resource, json!({"metadata": metadata, "roleRef": {"kind": kind, "name": role}, "subjects": subjects}))
    });
    prop::collection::vec(prop_oneof![role, binding], 0..12)
}

fn asking() -> impl Strategy<Value = User> {
    (one_of(&["u", "v", "system:serviceaccount:n:s"]), some_of(&["g", "h"])).prop_map(|(name, groups)| User {
        name,
        groups,
        ..User::default()
    })
}

/// What a role's rules come to, read off the documentation of RBAC, one condition after the other.
fn naively_allows(rules: &Value, verb: &str, target: Target<'_>) -> bool {
    rules.as_array().unwrap().iter().any(|rule| {
        let has = |field: &str, wanted: &dyn Fn(&str) -> bool| texts(&rule[field]).iter().any(|one| wanted(one));
        let any_or = |wanted: &str| {
            let wanted = wanted.to_owned();
            move |one: &str| one == "*" || one == wanted
        };
        if !has("verbs", &any_or(verb)) {
            return false;
        }
        match target {
            Target::Path(path) => has("nonResourceURLs", &|one| match one.strip_suffix('*') {
                Some(start) => path.starts_with(start),
                None => one == path,
            }),
            Target::Resource { group, resource, subresource, name, .. } => {
                let full =
                    if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
                let star = format!("*/{subresource}");
                let names = texts(&rule["resourceNames"]);
                has("apiGroups", &any_or(group))
                    && has("resources", &|one| one == "*" || one == full || (!subresource.is_empty() && one == star))
                    && (names.is_empty() || names.contains(&name.to_owned()))
            }
        }
    })
}

/// All objects by name, the last of a name.
fn latest(objects: &[(String, Value)]) -> Vec<&(String, Value)> {
    let key = |(resource, object): &(String, Value)| (resource.clone(), object["metadata"].to_string());
    let last: BTreeMap<_, _> = objects.iter().map(|one| (key(one), one)).collect();
    last.into_values().collect()
}

fn naively_decides(objects: &[(String, Value)], user: &User, verb: &str, target: Target<'_>) -> bool {
    let all = latest(objects);
    let asked_in = match target {
        Target::Resource { namespace, .. } => namespace,
        Target::Path(_) => "",
    };
    all.iter().any(|(resource, binding)| {
        if !resource.ends_with("bindings") {
            return false;
        }
        let namespace = binding["metadata"]["namespace"].as_str().unwrap();
        if resource == "rolebindings" && namespace != asked_in {
            return false;
        }
        let is_subject = binding["subjects"].as_array().unwrap().iter().any(|subject| {
            let (name, own) = (subject["name"].as_str().unwrap(), subject["namespace"].as_str().unwrap());
            match subject["kind"].as_str().unwrap() {
                "User" => user.name == name,
                "Group" => user.groups.iter().any(|group| group == name),
                _ => {
                    let own = if own.is_empty() { namespace } else { own };
                    !own.is_empty() && user.name == format!("system:serviceaccount:{own}:{name}")
                }
            }
        });
        is_subject
            && all.iter().any(|(resource, role)| {
                let is_kind = match binding["roleRef"]["kind"].as_str().unwrap() {
                    "ClusterRole" => resource == "clusterroles",
                    _ => resource == "roles" && role["metadata"]["namespace"] == namespace && !namespace.is_empty(),
                };
                is_kind
                    && role["metadata"]["name"] == binding["roleRef"]["name"]
                    && naively_allows(&role["rules"], verb, target)
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decisions_are_those_of_a_naive_reading(
        objects in objects(),
        user in asking(),
        verb in one_of(&["get", "list", "delete"]),
        (group, resource) in (one_of(&["", "apps"]), one_of(&["pods", "deployments"])),
        subresource in one_of(&["", "log"]),
        (name, namespace) in (one_of(&["", "a", "b"]), one_of(&["", "n", "m"])),
        path in prop::option::of(one_of(&["/x", "/x/y", "/z"])),
    ) {
        let mut access = Access::default();
        for (resource, object) in &objects {
            access.observe(resource, object);
        }
        let target = match &path {
            Some(path) => Target::Path(path),
            None => Target::Resource {
                group: &group, resource: &resource, subresource: &subresource, name: &name, namespace: &namespace,
            },
        };
        let decision = access.decide(&user, &Attributes { verb: &verb, target });
        prop_assert_eq!(decision.allowed, naively_decides(&objects, &user, &verb, target));
    }

    /// Whoever may grant a role could do before all that the role allows.
    #[test]
    fn granting_adds_nothing(
        objects in objects(),
        user in asking(),
        granted in rules(),
        verb in one_of(&["get", "list", "delete"]),
        (group, resource) in (one_of(&["", "apps"]), one_of(&["pods", "deployments"])),
        subresource in one_of(&["", "log"]),
        (name, namespace) in (one_of(&["", "a", "b"]), one_of(&["n", "m"])),
        path in prop::option::of(one_of(&["/x", "/x/y", "/z"])),
    ) {
        let mut access = Access::default();
        for (resource, object) in &objects {
            access.observe(resource, object);
        }
        let role = json!({"metadata": {"name": "new"}, "rules": granted});
        let target =
            Target::Resource { group: GROUP, resource: "roles", subresource: "", name: "", namespace: &namespace };
        let escalates = access.decide(&user, &Attributes { verb: "escalate", target }).allowed;
        if escalates || access.check_role(&user, "roles", &namespace, "", &role, None).is_err() {
            return Ok(());
        }
        // A path is asked for in no namespace, so what a namespace's role says of paths counts for nothing.
        let target = match &path {
            Some(_) => return Ok(()),
            None => Target::Resource {
                group: &group, resource: &resource, subresource: &subresource, name: &name, namespace: &namespace,
            },
        };
        if naively_allows(&role["rules"], &verb, target) {
            let decision = access.decide(&user, &Attributes { verb: &verb, target });
            prop_assert!(decision.allowed);
        }
    }
}
