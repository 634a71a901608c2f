//! Who may do what: RBAC as the real server decides it, with its words.
//!
//! [`Access`] is an index of the roles and bindings that there are; [`Access::decide`] answers from it alone. On top of
//! it are the three things that go beyond a single question: nobody grants rights that he does not hold
//! ([`Access::check_role`], [`Access::check_binding`]), nobody acts as another without leave (`impersonation`), and
//! everybody may ask what he may do ([`Access::rules_review`]).
//!
//! Where several bindings allow the same, the reason names the first: cluster-wide ones go before those of the
//! namespace, and both by name. (The real server takes them in no particular order.)
//!
//! Deliberately absent: the node authorizer and webhooks; and roles that sum up others, which a controller fills in.

mod impersonation;
mod rule;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::User;
use crate::status::Status;

pub(crate) use impersonation::wanted;
use rule::Rule;

/// The group of roles and bindings.
const GROUP: &str = "rbac.authorization.k8s.io";

/// The group whose members may do everything, whatever roles say.
const MASTERS: &str = "system:masters";

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes<'a> {
    /// `get`, `list`, …; for a path the HTTP method in small letters.
    pub(crate) verb: &'a str,
    pub(crate) target: Target<'a>,
}

/// What it is to be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Resource {
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        /// Empty for lists and creates.
        name: &'a str,
        /// Empty cluster-wide.
        namespace: &'a str,
    },
    /// What is no resource, such as `/healthz`.
    Path(&'a str),
}

/// An answer, and why, which is empty for a plain no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

/// All roles and bindings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    cluster_roles: BTreeMap<String, Vec<Rule>>,
    /// By namespace and name, as `bindings`.
    roles: BTreeMap<(String, String), Vec<Rule>>,
    cluster_bindings: BTreeMap<String, Binding>,
    bindings: BTreeMap<(String, String), Binding>,
}

#[derive(Clone, Debug)]
struct Binding {
    role_kind: String,
    role: String,
    subjects: Vec<Subject>,
}

#[derive(Clone, Debug)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

/// A rule that applies to a user, and through what; or a role that a binding names and that is not there.
enum Found<'a> {
    Rule { rule: &'a Rule, source: Source<'a> },
    Missing(String),
}

/// How a user comes by a rule.
#[derive(Clone, Copy)]
struct Source<'a> {
    /// None for a binding of the whole cluster.
    namespace: Option<&'a str>,
    name: &'a str,
    binding: &'a Binding,
    subject: &'a Subject,
}

/// What errors call a role that is not there: the authorizer goes by what it looked for, and the storage of roles by
/// the resource of the request, whatever it looked for.
#[derive(Clone, Copy)]
enum Naming<'a> {
    Sought,
    Requested(&'a str),
}

impl Access {
    /// Takes in an object of one of the four resources, in place of one with its name.
    pub(crate) fn observe(&mut self, resource: &str, object: &Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        match resource {
            "clusterroles" => drop(self.cluster_roles.insert(name, Rule::all_of(&object["rules"]))),
            "roles" => drop(self.roles.insert((namespace, name), Rule::all_of(&object["rules"]))),
            "clusterrolebindings" => drop(self.cluster_bindings.insert(name, Binding::of(object))),
            "rolebindings" => drop(self.bindings.insert((namespace, name), Binding::of(object))),
            _ => {}
        }
    }

    /// Forgets an object of one of the four resources.
    pub(crate) fn forget(&mut self, resource: &str, namespace: &str, name: &str) {
        let both = (namespace.to_owned(), name.to_owned());
        match resource {
            "clusterroles" => drop(self.cluster_roles.remove(name)),
            "roles" => drop(self.roles.remove(&both)),
            "clusterrolebindings" => drop(self.cluster_bindings.remove(name)),
            "rolebindings" => drop(self.bindings.remove(&both)),
            _ => {}
        }
    }

    /// Whether a user may do it.
    pub(crate) fn decide(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        if is_master(user) {
            return Decision { allowed: true, reason: String::new() };
        }
        let mut missing = Vec::new();
        for found in self.found(user, attributes.namespace(), Naming::Sought) {
            match found {
                Found::Rule { rule, source } if rule.allows(attributes) => {
                    return Decision { allowed: true, reason: format!("RBAC: allowed by {}", source.describe()) };
                }
                Found::Rule { .. } => {}
                Found::Missing(error) => missing.push(error),
            }
        }
        let reason = aggregate(&missing).map_or_else(String::new, |errors| format!("rbac: RBAC: {errors}"));
        Decision { allowed: false, reason }
    }

    /// As [`Self::decide`], with the refusal that a request gets.
    ///
    /// # Errors
    /// 403, in the real server's words.
    pub(crate) fn check(&self, user: &User, attributes: &Attributes<'_>) -> Result<(), Status> {
        let decision = self.decide(user, attributes);
        if decision.allowed { Ok(()) } else { Err(attributes.refusal(user, &decision.reason)) }
    }

    /// The `status` of a `SelfSubjectRulesReview`.
    pub(crate) fn rules_review(&self, user: &User, namespace: &str) -> Value {
        let (mut resource_rules, mut other_rules, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for found in self.found(user, namespace, Naming::Sought) {
            match found {
                Found::Rule { rule, .. } => {
                    if !rule.resources.is_empty() {
                        resource_rules.push(rule.to_json(&["verbs", "apiGroups", "resources", "resourceNames"]));
                    }
                    if !rule.paths.is_empty() {
                        other_rules.push(rule.to_json(&["verbs", "nonResourceURLs"]));
                    }
                }
                Found::Missing(error) => missing.push(error),
            }
        }
        let mut status = json!({"resourceRules": resource_rules, "nonResourceRules": other_rules, "incomplete": false});
        if let Some(errors) = aggregate(&missing) {
            status["evaluationError"] = json!(errors);
        }
        status
    }

    /// Whether a user may write a role of `resource` (`roles` or `clusterroles`): its rules must be his already, or he
    /// must hold the verb `escalate`.
    ///
    /// `name` is that of the request, empty for a create; `old` is what an update replaces.
    ///
    /// # Errors
    /// 403, in the real server's words.
    pub(crate) fn check_role(
        &self,
        user: &User,
        resource: &str,
        namespace: &str,
        name: &str,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let target = Target::Resource { group: GROUP, resource, subresource: "", name, namespace };
        if is_master(user)
            || self.decide(user, &Attributes { verb: "escalate", target }).allowed
            || old.is_some_and(|old| is_only_for_the_collector(new, old))
        {
            return Ok(());
        }
        let refused =
            |why: &str| Status::forbidden(GROUP, resource, new["metadata"]["name"].as_str().unwrap_or_default(), why);
        self.holds(user, resource, namespace, &Rule::all_of(&new["rules"])).map_err(|why| refused(&why))?;
        let aggregates = |role: &Value| {
            let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
            resource == "clusterroles" && selectors.is_some_and(|selectors| !selectors.is_empty())
        };
        // One that sums up others may come to hold anything.
        if (aggregates(new) || old.is_some_and(aggregates))
            && self.holds(user, resource, namespace, &Rule::everything()).is_err()
        {
            return Err(refused("must have cluster-admin privileges to use the aggregationRule"));
        }
        Ok(())
    }

    /// Whether a user may write a binding of `resource` (`rolebindings` or `clusterrolebindings`): the rules of its
    /// role must be his already, or he must hold the verb `bind` on it.
    ///
    /// # Errors
    /// 403, in the real server's words; 404 when there is no such role.
    pub(crate) fn check_binding(
        &self,
        user: &User,
        resource: &str,
        namespace: &str,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if is_master(user) || old.is_some_and(|old| is_only_for_the_collector(new, old)) {
            return Ok(());
        }
        let text = |field: &str| new["roleRef"][field].as_str().unwrap_or_default();
        let kind_of = match text("kind") {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            // Validation says so better.
            _ => return Ok(()),
        };
        let target = Target::Resource {
            group: text("apiGroup"),
            resource: kind_of,
            subresource: "",
            name: text("name"),
            namespace,
        };
        if self.decide(user, &Attributes { verb: "bind", target }).allowed {
            return Ok(());
        }
        let rules = self.rules_of(text("kind"), text("name"), namespace);
        // The real server says the resource of the request here, not that of the role.
        let rules = rules.ok_or_else(|| Status::not_found(GROUP, resource, text("name")))?;
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        self.holds(user, resource, namespace, rules).map_err(|why| Status::forbidden(GROUP, resource, name, &why))
    }

    /// Whether a user has all that some rules allow, or what he lacks.
    fn holds(&self, user: &User, resource: &str, namespace: &str, rules: &[Rule]) -> Result<(), String> {
        let (mut own, mut missing) = (Vec::new(), Vec::new());
        for found in self.found(user, namespace, Naming::Requested(resource)) {
            match found {
                Found::Rule { rule, .. } => own.push(rule),
                Found::Missing(error) => missing.push(error),
            }
        }
        let lacking = rules.iter().flat_map(Rule::parts).filter(|part| !own.iter().any(|rule| rule.covers(part)));
        let lacking: BTreeSet<String> = rule::compact(lacking).iter().map(Rule::describe).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let lacking = lacking.into_iter().collect::<Vec<_>>().join("\n");
        let (name, groups) = (&user.name, rule::quoted(&user.groups));
        let mut why = format!(
            "user {name:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{lacking}"
        );
        if let Some(errors) = aggregate(&missing) {
            why += &format!("; resolution errors: [{errors}]");
        }
        Err(why)
    }

    /// Every rule that applies to a user in a namespace (cluster-wide if that is empty).
    fn found<'a>(&'a self, user: &'a User, namespace: &'a str, naming: Naming<'a>) -> impl Iterator<Item = Found<'a>> {
        let everywhere = self.cluster_bindings.iter().map(|(name, binding)| (None, name.as_str(), binding));
        let from = (namespace.to_owned(), String::new());
        let here = self.bindings.range(from..).take_while(move |((of, _), _)| of == namespace && !namespace.is_empty());
        let here = here.map(move |((_, name), binding)| (Some(namespace), name.as_str(), binding));
        everywhere.chain(here).flat_map(move |(namespace, name, binding)| {
            let mut subjects = binding.subjects.iter();
            let Some(subject) = subjects.find(|subject| subject.is(user, namespace.unwrap_or_default())) else {
                return Vec::new();
            };
            let source = Source { namespace, name, binding, subject };
            match self.rules_of(&binding.role_kind, &binding.role, namespace.unwrap_or_default()) {
                Some(rules) => rules.iter().map(|rule| Found::Rule { rule, source }).collect(),
                None => vec![Found::Missing(binding.missing(naming))],
            }
        })
    }

    fn rules_of(&self, kind: &str, name: &str, namespace: &str) -> Option<&[Rule]> {
        match kind {
            "ClusterRole" => self.cluster_roles.get(name),
            "Role" => self.roles.get(&(namespace.to_owned(), name.to_owned())),
            _ => None,
        }
        .map(Vec::as_slice)
    }
}

impl<'a> Attributes<'a> {
    fn namespace(&self) -> &'a str {
        match self.target {
            Target::Resource { namespace, .. } => namespace,
            Target::Path(_) => "",
        }
    }

    /// The answer to a user who may not.
    pub(crate) fn refusal(&self, user: &User, reason: &str) -> Status {
        let (name, verb) = (&user.name, self.verb);
        let (group, resource, object, what) = match self.target {
            Target::Path(path) => ("", "", "", format!("User {name:?} cannot {verb} path {path:?}")),
            Target::Resource { group, resource, subresource, name: object, namespace } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                let place = match namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                let full = format!("{resource}{slash}{subresource}");
                let what = format!("User {name:?} cannot {verb} resource {full:?} in API group {group:?} {place}");
                (group, resource, object, what)
            }
        };
        // Nobody's browser shall take a name for HTML.
        let what = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let why = if reason.is_empty() { what } else { format!("{what}: {reason}") };
        let mut status = Status::forbidden(group, resource, object, &why);
        if resource.is_empty() {
            status.message = format!("forbidden: {why}");
        }
        status
    }
}

impl Binding {
    fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let subjects = object["subjects"].as_array().into_iter().flatten().map(|subject| Subject {
            kind: text(&subject["kind"]),
            name: text(&subject["name"]),
            namespace: text(&subject["namespace"]),
        });
        let role = &object["roleRef"];
        Self { role_kind: text(&role["kind"]), role: text(&role["name"]), subjects: subjects.collect() }
    }

    /// What is said when the role is not there.
    fn missing(&self, naming: Naming<'_>) -> String {
        let what = match (self.role_kind.as_str(), naming) {
            ("ClusterRole" | "Role", Naming::Requested(resource)) => resource,
            ("ClusterRole", Naming::Sought) => "clusterrole",
            ("Role", Naming::Sought) => "role",
            (other, Naming::Sought | Naming::Requested(_)) => {
                return format!("unsupported role reference kind: {other:?}");
            }
        };
        format!("{what}.{GROUP} {:?} not found", self.role)
    }
}

impl Subject {
    /// Whether it is this user. A service account without a namespace is one of the binding's.
    fn is(&self, user: &User, namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.groups.contains(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { namespace } else { &self.namespace };
                !namespace.is_empty() && user.name == format!("system:serviceaccount:{namespace}:{}", self.name)
            }
            _ => false,
        }
    }
}

impl Source<'_> {
    fn describe(&self) -> String {
        let binding = match self.namespace {
            None => format!("ClusterRoleBinding {:?}", self.name),
            Some(namespace) => format!("RoleBinding {:?}", format!("{}/{namespace}", self.name)),
        };
        let Subject { kind, name, namespace } = self.subject;
        let subject = match kind.as_str() {
            "ServiceAccount" => {
                let namespace = if namespace.is_empty() { self.namespace.unwrap_or_default() } else { namespace };
                format!("{name}/{namespace}")
            }
            _ => name.clone(),
        };
        format!("{binding} of {} {:?} to {kind} {subject:?}", self.binding.role_kind, self.binding.role)
    }
}

fn is_master(user: &User) -> bool {
    user.groups.iter().any(|group| group == MASTERS)
}

/// Whether an update changes only what the garbage collector changes, which may never be held up.
fn is_only_for_the_collector(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.as_object().cloned().unwrap_or_default();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["ownerReferences", "finalizers", "selfLink", "managedFields"] {
                metadata.remove(field);
            }
        }
        object
    };
    let (new, old): (Map<String, Value>, Map<String, Value>) = (rest(new), rest(old));
    new == old
}

/// Errors as one, each once; none of none.
fn aggregate(errors: &[String]) -> Option<String> {
    let mut once: Vec<&str> = Vec::new();
    for error in errors {
        if !once.contains(&error.as_str()) {
            once.push(error);
        }
    }
    match once.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests;
