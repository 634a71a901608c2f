//! The shape of protobuf bodies, from the sources of Kubernetes' Go modules, which `xtask/kube/servers` pins.
//!
//! A body tells numbers and bytes only. What they are is in two files of each package: `generated.proto` has the type
//! of each field, and the Go types have what becomes of it as JSON: its name, whether it stands in the object around it
//! (an embedded struct), and whether an empty one is left out. Neither alone would do.
//!
//! The text that comes out, compact and made to be read line by line:
//!
//! ```text
//! apps/v1.Deployment
//! 1 metadata meta.k8s.io/v1.ObjectMeta !
//! 2 spec .DeploymentSpec !
//!
//! ```
//!
//! A message begins with its name, `GROUP/VERSION.NAME`, and ends with an empty line. A field is its number, its name
//! in JSON, its type and `!` if it is kept when empty. The name `-` is that of a field whose own fields stand here,
//! `=` that of the only field of a message that is a list in JSON. A type that begins with `.` is of the same group
//! and version, `[]` before a type means a list, `{}` a map from strings. Types without a `.` are those of protobuf,
//! or one of [`SPECIAL`], which have a form of their own in JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Where the kinds are: module, directory, and the group and version that the API has for it.
const PACKAGES: [(&str, &str, &str); 24] = [
    ("k8s.io/api", "core/v1", "v1"),
    ("k8s.io/api", "admissionregistration/v1", "admissionregistration.k8s.io/v1"),
    ("k8s.io/api", "apps/v1", "apps/v1"),
    ("k8s.io/api", "authentication/v1", "authentication.k8s.io/v1"),
    ("k8s.io/api", "authorization/v1", "authorization.k8s.io/v1"),
    ("k8s.io/api", "autoscaling/v1", "autoscaling/v1"),
    ("k8s.io/api", "autoscaling/v2", "autoscaling/v2"),
    ("k8s.io/api", "batch/v1", "batch/v1"),
    ("k8s.io/api", "certificates/v1", "certificates.k8s.io/v1"),
    ("k8s.io/api", "coordination/v1", "coordination.k8s.io/v1"),
    ("k8s.io/api", "discovery/v1", "discovery.k8s.io/v1"),
    ("k8s.io/api", "events/v1", "events.k8s.io/v1"),
    ("k8s.io/api", "flowcontrol/v1", "flowcontrol.apiserver.k8s.io/v1"),
    ("k8s.io/api", "networking/v1", "networking.k8s.io/v1"),
    ("k8s.io/api", "node/v1", "node.k8s.io/v1"),
    ("k8s.io/api", "policy/v1", "policy/v1"),
    ("k8s.io/api", "rbac/v1", "rbac.authorization.k8s.io/v1"),
    ("k8s.io/api", "resource/v1", "resource.k8s.io/v1"),
    ("k8s.io/api", "scheduling/v1", "scheduling.k8s.io/v1"),
    // Not served; Jobs have a field of it.
    ("k8s.io/api", "scheduling/v1alpha3", "scheduling.k8s.io/v1alpha3"),
    ("k8s.io/api", "storage/v1", "storage.k8s.io/v1"),
    ("k8s.io/apiextensions-apiserver", "pkg/apis/apiextensions/v1", "apiextensions.k8s.io/v1"),
    ("k8s.io/kube-aggregator", "pkg/apis/apiregistration/v1", "apiregistration.k8s.io/v1"),
    ("k8s.io/apimachinery", "pkg/apis/meta/v1", "meta.k8s.io/v1"),
];

/// Messages that JSON has another form for: what `.proto` calls them, and the word for them here.
const SPECIAL: [(&str, &str); 13] = [
    ("k8s.io.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("k8s.io.apimachinery.pkg.api.resource.QuantityValue", "quantity"),
    ("k8s.io.apimachinery.pkg.util.intstr.IntOrString", "int-or-string"),
    ("k8s.io.apimachinery.pkg.runtime.RawExtension", "raw-json"),
    ("k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1", "raw-json"),
    ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON", "raw-json"),
    ("k8s.io.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("k8s.io.apimachinery.pkg.apis.meta.v1.Timestamp", "time"),
    ("k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime", "micro-time"),
    ("k8s.io.apimachinery.pkg.apis.meta.v1.Duration", "duration"),
    ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray", "schema-or-array"),
    ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool", "schema-or-bool"),
    ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray", "schema-or-strings"),
];

const SCALARS: [&str; 6] = ["bool", "bytes", "double", "int32", "int64", "string"];

/// The whole text.
pub(super) fn of(workspace: &Path) -> Result<String> {
    let modules = modules(&workspace.join("xtask/kube/servers"))?;
    let mut sources = Vec::new();
    for (module, directory, group_version) in PACKAGES {
        let root = modules.get(module).with_context(|| format!("Go has no module {module}"))?;
        sources.push(Source::read(&root.join(directory), group_version)?);
    }
    text(&sources)
}

/// Downloads the modules that [`PACKAGES`] are of, in the versions that are pinned, and says where they are.
fn modules(pinned: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut names: Vec<&str> = PACKAGES.iter().map(|(module, _, _)| *module).collect();
    names.sort_unstable();
    names.dedup();
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json"]).args(&names).current_dir(pinned).env("GOFLAGS", "-mod=mod");
    let output = go.output().context("run go, which fetches the sources of Kubernetes")?;
    ensure!(output.status.success(), "go mod download: {}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeMap::new();
    for module in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>() {
        let module = module.context("read what go says of its modules")?;
        if let (Some(path), Some(directory)) = (module["Path"].as_str(), module["Dir"].as_str()) {
            found.insert(path.to_owned(), PathBuf::from(directory));
        }
    }
    Ok(found)
}

/// One package.
struct Source {
    group_version: &'static str,
    proto: String,
    /// The Go files that people wrote, one after the other.
    go: String,
}

impl Source {
    fn read(directory: &Path, group_version: &'static str) -> Result<Self> {
        let context = || format!("read {}", directory.display());
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(directory).with_context(context)? {
            files.push(entry.with_context(context)?.path());
        }
        files.sort();
        let mut go = String::new();
        for file in files {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(".go") && !name.ends_with("_test.go") && !name.starts_with("generated.") {
                go += &fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            }
        }
        let proto = fs::read_to_string(directory.join("generated.proto")).with_context(context)?;
        Ok(Self { group_version, proto, go })
    }
}

fn text(sources: &[Source]) -> Result<String> {
    let mut packages = BTreeMap::new();
    for source in sources {
        packages.insert(package(&source.proto)?, source.group_version);
    }
    let mut out = String::new();
    for source in sources {
        let own = package(&source.proto)?;
        let go = GoTypes::read(&source.go)?;
        for message in messages(&source.proto) {
            let full = format!("{own}.{}", message.name);
            // A type that is another package's by a further name (`v1.List`) is nobody's body.
            if SPECIAL.iter().any(|(name, _)| *name == full) || go.aliases.contains(&message.name) {
                continue;
            }
            let _ = writeln!(out, "{}.{}", source.group_version, message.name);
            for field in &message.fields {
                let context = || format!("{full}, field {}", field.name);
                let shape = go.shape(message.name, field).with_context(context)?;
                let of = field_type(field.of, own, &packages).with_context(context)?;
                let keep = if shape.keep_empty { " !" } else { "" };
                let _ = writeln!(out, "{} {} {}{of}{keep}", field.number, shape.name, field.container);
            }
            out.push('\n');
        }
    }
    Ok(out)
}

/// The name of a `.proto` file's package.
fn package(proto: &str) -> Result<&str> {
    let line = proto.lines().find_map(|line| line.strip_prefix("package ")?.strip_suffix(';'));
    line.context("a .proto file without a package")
}

struct Message<'a> {
    name: &'a str,
    fields: Vec<Field<'a>>,
}

struct Field<'a> {
    number: u32,
    name: &'a str,
    /// As the file has it, without what it is a list or map of.
    of: &'a str,
    /// `[]`, `{}` or nothing.
    container: &'static str,
}

/// The messages of a generated file, which are never nested and have a field to the line.
fn messages(proto: &str) -> Vec<Message<'_>> {
    let mut all: Vec<Message<'_>> = Vec::new();
    for line in proto.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(name) = line.strip_prefix("message ").and_then(|rest| rest.split(' ').next()) {
            all.push(Message { name, fields: Vec::new() });
        } else if let (Some(message), Some(field)) = (all.last_mut(), field(line)) {
            message.fields.push(field);
        }
    }
    all
}

fn field(line: &str) -> Option<Field<'_>> {
    let (declared, number) = line.strip_suffix(';')?.rsplit_once(" = ")?;
    let number = number.parse().ok()?;
    let (declared, name) = declared.rsplit_once(' ')?;
    if let Some(types) = declared.strip_prefix("map<") {
        let of = types.strip_suffix('>')?.strip_prefix("string,")?.trim();
        return Some(Field { number, name, of, container: "{}" });
    }
    let (label, of) = declared.split_once(' ')?;
    Some(Field { number, name, of, container: if label == "repeated" { "[]" } else { "" } })
}

/// What a field's type is called here.
fn field_type(of: &str, own: &str, packages: &BTreeMap<&str, &'static str>) -> Result<String> {
    if SCALARS.contains(&of) {
        return Ok(of.to_owned());
    }
    let full = of.strip_prefix('.').map_or_else(|| format!("{own}.{of}"), str::to_owned);
    if let Some((_, word)) = SPECIAL.iter().find(|(name, _)| *name == full) {
        return Ok((*word).to_owned());
    }
    let (package, name) = full.rsplit_once('.').context("a type without a package")?;
    if package == own {
        return Ok(format!(".{name}"));
    }
    let group_version = packages.get(package).with_context(|| format!("no package {package} is read"))?;
    Ok(format!("{group_version}.{name}"))
}

/// What JSON makes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    name: String,
    keep_empty: bool,
}

/// The structs of a package's Go files, by name and number of the field; and the names of types that are lists, or
/// those of another package.
struct GoTypes<'a> {
    fields: BTreeMap<(&'a str, u32), Shape>,
    lists: Vec<&'a str>,
    aliases: Vec<&'a str>,
}

impl<'a> GoTypes<'a> {
    fn read(go: &'a str) -> Result<Self> {
        let (mut fields, mut current) = (BTreeMap::new(), None);
        let (mut lists, mut aliases) = (Vec::new(), Vec::new());
        for line in go.lines().filter(|line| !line.trim_start().starts_with("//")) {
            if let Some(declared) = line.strip_prefix("type ") {
                let mut words = declared.split_whitespace();
                let name = words.next().unwrap_or_default();
                match words.next() {
                    Some("struct") => current = Some(name),
                    Some(of) if of.starts_with("[]") => lists.push(name),
                    Some(of) if of.contains('.') => aliases.push(name),
                    Some(_) | None => {}
                }
            } else if line == "}" {
                current = None;
            } else if let (Some(name), Some((declared, tags))) = (current, line.split_once('`'))
                && let Some((number, shape)) = go_field(declared, tags).with_context(|| format!("read {line:?}"))?
            {
                fields.insert((name, number), shape);
            }
        }
        Ok(Self { fields, lists, aliases })
    }

    fn shape(&self, message: &str, field: &Field<'_>) -> Result<Shape> {
        if let Some(shape) = self.fields.get(&(message, field.number)) {
            return Ok(shape.clone());
        }
        if self.lists.contains(&message) && field.name == "items" {
            return Ok(Shape { name: "=".to_owned(), keep_empty: true });
        }
        bail!("the Go types do not have it")
    }
}

/// Reads one field of a struct: what stands before its tags, and these. None without a number for protobuf.
fn go_field(declared: &str, tags: &str) -> Result<Option<(u32, Shape)>> {
    let Some(protobuf) = tag(tags, "protobuf").filter(|tag| *tag != "-") else { return Ok(None) };
    let number = protobuf.split(',').nth(1).and_then(|number| number.parse().ok());
    let number = number.context("a tag for protobuf without a number")?;
    let words: Vec<&str> = declared.split_whitespace().collect();
    // Without a name in the tag, an embedded struct's fields stand here, and others have the name that they have in Go.
    let (unnamed, of) = match words.as_slice() {
        [of] => ("-", *of),
        [name, of] => (*name, *of),
        [..] => bail!("a field of {} words", words.len()),
    };
    let mut json = tag(tags, "json").unwrap_or_default().split(',');
    let name = json.next().filter(|name| !name.is_empty()).unwrap_or(unnamed);
    let drops_empty = json.any(|option| option == "omitempty" || option == "omitzero");
    // A pointer that is set is kept, whatever it points to.
    Ok(Some((number, Shape { name: name.to_owned(), keep_empty: of.starts_with('*') || !drops_empty })))
}

/// The value of a tag, as in `json:"name,omitempty" protobuf:"…"`.
fn tag<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    let start = tags.find(&format!("{name}:\""))? + name.len() + 2;
    tags.get(start..)?.split('"').next()
}

#[cfg(test)]
mod tests;
