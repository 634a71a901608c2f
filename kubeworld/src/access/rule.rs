//! A rule of a role: what it allows, and whether it covers another.

use serde_json::{Value, json};

use super::{Attributes, Target};

/// What a role allows, any combination of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) verbs: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) names: Vec<String>,
    /// `nonResourceURLs`.
    pub(super) paths: Vec<String>,
}

impl Rule {
    pub(super) fn all_of(rules: &Value) -> Vec<Self> {
        rules.as_array().into_iter().flatten().map(Self::of).collect()
    }

    fn of(rule: &Value) -> Self {
        let texts = |field: &str| {
            let list = rule[field].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            paths: texts("nonResourceURLs"),
        }
    }

    /// What an administrator of the whole cluster holds.
    pub(super) fn everything() -> [Self; 2] {
        let all = || vec!["*".to_owned()];
        [
            Self { verbs: all(), groups: all(), resources: all(), ..Self::default() },
            Self { verbs: all(), paths: all(), ..Self::default() },
        ]
    }

    /// The rule as the API has it, with these fields as far as they are not empty; `verbs` always.
    pub(super) fn to_json(&self, fields: &[&str]) -> Value {
        let mut out = json!({});
        for (field, list) in [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ] {
            if fields.contains(&field) && (field == "verbs" || !list.is_empty()) {
                out[field] = json!(list);
            }
        }
        out
    }

    pub(super) fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, attributes.verb) {
            return false;
        }
        match attributes.target {
            Target::Path(path) => self.paths.iter().any(|own| path_covers(own, path)),
            Target::Resource { group, resource, subresource, name, .. } => {
                has_or_all(&self.groups, group)
                    && self.resources.iter().any(|own| is_resource(own, resource, subresource))
                    && (self.names.is_empty() || has(&self.names, name))
            }
        }
    }

    /// The rule as rules of one verb, one resource and one name, or of one verb and one path.
    pub(super) fn parts(&self) -> impl Iterator<Item = Self> {
        let one = |text: &String| vec![text.clone()];
        let mut parts = Vec::new();
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let part =
                        Self { verbs: one(verb), groups: one(group), resources: one(resource), ..Self::default() };
                    if self.names.is_empty() {
                        parts.push(part.clone());
                    }
                    parts.extend(self.names.iter().map(|name| Self { names: one(name), ..part.clone() }));
                }
            }
        }
        for path in &self.paths {
            let of = |verb| Self { verbs: one(verb), paths: one(path), ..Self::default() };
            parts.extend(self.verbs.iter().map(of));
        }
        parts.into_iter()
    }

    /// Whether it allows all that one of another rule's parts does.
    pub(super) fn covers(&self, part: &Self) -> bool {
        let covers_resource = |resource: &String| {
            has_or_all(&self.resources, resource)
                || resource.split_once('/').is_some_and(|(_, subresource)| {
                    self.resources.iter().any(|own| own.strip_prefix("*/") == Some(subresource))
                })
        };
        part.verbs.iter().all(|verb| has_or_all(&self.verbs, verb))
            && part.groups.iter().all(|group| has_or_all(&self.groups, group))
            && part.resources.iter().all(covers_resource)
            && part.paths.iter().all(|path| self.paths.iter().any(|own| path_covers(own, path)))
            && (self.names.is_empty() || !part.names.is_empty() && part.names.iter().all(|name| has(&self.names, name)))
    }

    /// In short, as refusals have it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    pub(super) fn describe(&self) -> String {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let parts = parts.iter().filter(|(_, list)| !list.is_empty());
        format!("{{{}}}", parts.map(|(name, list)| format!("{name}:{}", quoted(list))).collect::<Vec<_>>().join(", "))
    }
}

/// Parts of rules with those put together that differ by their verb only.
pub(super) fn compact(parts: impl Iterator<Item = Rule>) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    for part in parts {
        let same = |one: &&mut Rule| {
            part.paths.is_empty()
                && (&one.groups, &one.resources, &one.names, &one.paths)
                    == (&part.groups, &part.resources, &part.names, &part.paths)
        };
        match all.iter_mut().find(same) {
            Some(one) => one.verbs.extend(part.verbs),
            None => all.push(part),
        }
    }
    all
}

/// A list of texts as Go prints it with quotes: `["a" "b"]`.
pub(super) fn quoted(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" "))
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|one| one == text)
}

fn has_or_all(list: &[String], text: &str) -> bool {
    list.iter().any(|one| one == "*" || one == text)
}

/// Whether a rule's resource, which may be `*`, `pods`, `pods/log` or `*/scale`, is the one that is asked for.
fn is_resource(own: &str, resource: &str, subresource: &str) -> bool {
    if own == "*" {
        return true;
    }
    if subresource.is_empty() {
        return own == resource;
    }
    own.strip_suffix(subresource).and_then(|own| own.strip_suffix('/')).is_some_and(|own| own == "*" || own == resource)
}

/// Whether a rule's path, which may end in `*`, takes another.
fn path_covers(own: &str, path: &str) -> bool {
    own == path || (own.ends_with('*') && path.starts_with(own.trim_end_matches('*')))
}
