//! A render off the wire as objects with names. Bytes from a network: whatever they hold, the answer is a reason.

use policies::plan::fields::Ignore;
use policies::plan::{Adopt, GroupKind, ObjectDigest, ObjectId, Terms};
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The objects of one app, as the hub rendered them.
#[derive(Clone, Debug, PartialEq)]
pub struct Render {
    /// Objects in the author's order.
    pub objects: Vec<Object>,
    /// Hosts whose addresses are looked for.
    pub hosts: Vec<String>,
    /// What may be taken over and away.
    pub terms: Terms,
    /// Fields that others may set.
    pub ignore: Vec<Ignore>,
}

/// One object as rendered; what it is called in the cluster depends on the scope of its kind, which only the cluster
/// knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: GroupKind,
    /// The version of the kind that it is written in.
    pub version: String,
    /// `metadata.namespace`, if any.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// SHA-256 of its JSON.
    pub digest: ObjectDigest,
    /// When it is a CustomResourceDefinition: what it defines.
    pub defines: Option<Definition>,
    /// The whole object.
    pub json: Value,
}

/// What a CustomResourceDefinition defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The kind.
    pub kind: GroupKind,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// Why a render cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Not a protobuf `Render`.
    #[error("the render is not a Render message")]
    Wire(#[source] prost::DecodeError),
    /// An object is not JSON.
    #[error("object {index} of the render is not JSON")]
    Json {
        /// Its place, from zero.
        index: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// An object lacks what every Kubernetes object has.
    #[error("object {index} of the render has no {field}; write it into the manifest")]
    Missing {
        /// Its place, from zero.
        index: usize,
        /// The missing field.
        field: &'static str,
    },
}

impl Render {
    /// Decodes a blob.
    pub fn decode(bytes: &[u8]) -> Result<Self, RenderError> {
        let wire = api::wire::Render::decode(bytes).map_err(RenderError::Wire)?;
        let objects = wire.objects.iter().enumerate().map(|(index, text)| Object::parse(index, text));
        let objects = objects.collect::<Result<_, _>>()?;
        let adopt = match wire.adopt() {
            api::wire::Adopt::Never => Adopt::Never,
            api::wire::Adopt::IfIdentical => Adopt::IfIdentical,
            api::wire::Adopt::Always => Adopt::Always,
        };
        let ignore = |ignore: api::wire::Ignore| Ignore {
            kind: GroupKind::new(ignore.group, ignore.kind),
            name: (!ignore.name.is_empty()).then_some(ignore.name),
            pointers: ignore.pointers,
            managers: ignore.managers,
        };
        Ok(Self {
            objects,
            hosts: wire.hosts,
            terms: Terms { cascade: wire.cascade, adopt },
            ignore: wire.ignore.into_iter().map(ignore).collect(),
        })
    }
}

impl Object {
    fn parse(index: usize, text: &str) -> Result<Self, RenderError> {
        let json: Value = serde_json::from_str(text).map_err(|source| RenderError::Json { index, source })?;
        let field = |path: &str, field: &'static str| {
            let found = json.pointer(path).and_then(Value::as_str).filter(|s| !s.is_empty());
            found.map(str::to_owned).ok_or(RenderError::Missing { index, field })
        };
        let api_version = field("/apiVersion", "apiVersion")?;
        let kind = field("/kind", "kind")?;
        let name = field("/metadata/name", "metadata.name")?;
        let namespace = field("/metadata/namespace", "metadata.namespace").ok();
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let kind = GroupKind::new(group, kind);
        let defines = Definition::of(&kind, &json);
        let digest = Sha256::digest(text).into();
        Ok(Self { kind, version: version.to_owned(), namespace, name, digest, defines, json })
    }

    /// What the object is called in the cluster. `app` is the namespace of its App, and the default; a cluster-scoped
    /// object has none, whatever it says.
    pub fn id(&self, namespaced: bool, app: &str) -> ObjectId {
        let namespace = namespaced.then(|| self.namespace.clone().unwrap_or_else(|| app.to_owned()));
        ObjectId { kind: self.kind.clone(), namespace, name: self.name.clone() }
    }
}

impl Definition {
    fn of(kind: &GroupKind, json: &Value) -> Option<Self> {
        if (kind.group.as_str(), kind.kind.as_str()) != ("apiextensions.k8s.io", "CustomResourceDefinition") {
            return None;
        }
        let text = |path: &str| json.pointer(path).and_then(Value::as_str);
        let kind = GroupKind::new(text("/spec/group")?, text("/spec/names/kind")?);
        Some(Self { kind, namespaced: text("/spec/scope") != Some("Cluster") })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(objects: &[&str]) -> Result<Render, RenderError> {
        let wire =
            api::wire::Render { objects: objects.iter().map(|s| (*s).to_owned()).collect(), ..Default::default() };
        Render::decode(&wire.encode_to_vec())
    }

    #[test]
    fn names_follow_the_scope_of_the_kind() {
        let render = decode(&[
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#,
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"b","namespace":"other"}}"#,
            r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"ws.e.com"},
                "spec":{"group":"e.com","names":{"kind":"W"},"scope":"Namespaced"}}"#,
        ])
        .unwrap();
        assert_eq!(render.objects[0].id(true, "shop").to_string(), "ConfigMap shop/a");
        assert_eq!(render.objects[1].id(true, "shop").to_string(), "Deployment.apps other/b");
        assert_eq!(render.objects[1].id(false, "shop").to_string(), "Deployment.apps b");
        assert_eq!(
            render.objects[2].defines,
            Some(Definition { kind: GroupKind::new("e.com", "W"), namespaced: true })
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |text: &str| decode(&[text]).unwrap_err().to_string();
        assert!(message("{").contains("object 0 of the render is not JSON"));
        assert!(message(r#"{"kind":"X"}"#).contains("has no apiVersion"));
        assert!(
            message(r#"{"apiVersion":"v1","kind":"X","metadata":{"generateName":"a-"}}"#).contains("no metadata.name")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            let _ = Render::decode(&bytes);
            let _ = decode(&[&text]);
        }
    }
}
