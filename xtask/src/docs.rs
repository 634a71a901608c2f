//! `cargo xtask docs`: the reference of our kinds, `docs/policies.md`, from their definitions and the examples beside the
//! rules. A test holds the file to what this writes.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The file, in the workspace.
const FILE: &str = "docs/policies.md";
/// Kinds in the order in which a newcomer meets them, each with the file of its example.
const KINDS: [(&str, &str); 4] = [
    ("RegionPolicy", "active-active.yaml"),
    ("App", "active-active.yaml"),
    ("Cluster", "clusters.yaml"),
    ("DnsZone", "zone.yaml"),
];

/// Writes the file.
pub(crate) fn run(workspace: &Path) -> Result<()> {
    let path = workspace.join(FILE);
    std::fs::write(&path, reference(workspace)?).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("wrote {FILE}");
    Ok(())
}

fn reference(workspace: &Path) -> Result<String> {
    let mut text = "# Policies and the other kinds\n\n\
        What each field says, what it may be, and what is refused. Made by `cargo xtask docs` from the definitions that \
        `isochrone crds` prints; `kubectl explain` says the same. In all examples the group and version are \
        `isochrone.dev/v1alpha1`.\n"
        .to_owned();
    let crds = api::v1alpha1::crds().iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    for (kind, example) in KINDS {
        let crd = crds.iter().find(|crd| crd["spec"]["names"]["kind"] == kind).context("a kind of ours")?;
        text += &of_kind(kind, crd, &example_of(workspace, example, kind)?)?;
    }
    Ok(text)
}

fn of_kind(kind: &str, crd: &Value, example: &str) -> Result<String> {
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let spec = &schema["properties"]["spec"];
    let scope = if crd["spec"]["scope"] == "Cluster" { "of the whole cluster" } else { "in a namespace" };
    let mut text = format!("\n## {kind}\n\n{} ({scope}.)\n\n```yaml\n{}\n```\n\n", said(schema), example.trim_end());
    text += "| field | type | says |\n|---|---|---|\n";
    fields("spec", spec, &mut text)?;
    let mut rules = vec![];
    rules_of("spec", spec, &mut rules);
    if !rules.is_empty() {
        text += "\nRefused, with these words:\n\n";
        for (path, message) in rules {
            writeln!(text, "* `{path}`: {message}")?;
        }
    }
    Ok(text)
}

/// A row for each field, those of objects and lists of objects after their own.
fn fields(path: &str, schema: &Value, text: &mut String) -> Result<()> {
    let properties = schema["properties"].as_object();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in properties.into_iter().flatten() {
        let path = format!("{path}.{name}");
        let must = if required.contains(&name.as_str()) { ", required" } else { "" };
        let row = format!("{}{}", said(field).replace('|', "\\|"), limits(field));
        writeln!(text, "| `{path}` | {}{must} | {row} |", kind_of(field))?;
        fields(&path, field, text)?;
        fields(&format!("{path}[]"), &field["items"], text)?;
        fields(&format!("{path}.*"), &field["additionalProperties"], text)?;
    }
    Ok(())
}

fn kind_of(schema: &Value) -> String {
    let plain = |schema: &Value| {
        let kind = schema["type"].as_str().unwrap_or("any");
        if schema["x-kubernetes-preserve-unknown-fields"] == true { "any object".to_owned() } else { kind.to_owned() }
    };
    if schema["items"].is_object() {
        format!("list of {}", plain(&schema["items"]))
    } else if schema["additionalProperties"].is_object() {
        format!("map of {}", plain(&schema["additionalProperties"]))
    } else {
        plain(schema)
    }
}

/// What a value may be, as far as its type does not say so.
fn limits(schema: &Value) -> String {
    let own = if schema["items"].is_object() { &schema["items"] } else { schema };
    let mut said = vec![];
    if let Some(values) = own["enum"].as_array() {
        let values: Vec<String> = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        said.push(format!("One of {}.", values.join(", ")));
    }
    let range = |low: &str, high: &str, unit: &str| match (&schema[low], &schema[high]) {
        (Value::Null, Value::Null) => None,
        (Value::Null, high) => Some(format!("At most {}{unit}.", number(high))),
        (low, Value::Null) => Some(format!("At least {}{unit}.", number(low))),
        (low, high) => Some(format!("{} to {}{unit}.", number(low), number(high))),
    };
    said.extend(range("minimum", "maximum", ""));
    said.extend(range("minItems", "maxItems", " entries"));
    if own["pattern"].as_str().is_some_and(|pattern| pattern.contains("ms")) {
        said.push("A duration, such as `30s` or `1m30s`.".to_owned());
    } else {
        said.extend(range("minLength", "maxLength", " characters"));
    }
    let default = schema["default"].to_string();
    // What is empty is what is left out.
    if !["null", "{}", "[]"].contains(&default.as_str()) {
        said.push(format!("Default: `{default}`."));
    }
    said.into_iter().map(|words| format!(" {words}")).collect()
}

/// Whole numbers without a fraction, which schemas give them.
fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
        _ => value.to_string(),
    }
}

fn rules_of(path: &str, schema: &Value, rules: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        if let Some(message) = rule["message"].as_str() {
            rules.push((path.to_owned(), message.to_owned()));
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        rules_of(&format!("{path}.{name}"), field, rules);
    }
    if schema["items"].is_object() {
        rules_of(&format!("{path}[]"), &schema["items"], rules);
    }
    if schema["additionalProperties"].is_object() {
        rules_of(&format!("{path}.*"), &schema["additionalProperties"], rules);
    }
}

fn said(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first document of a kind in a file of examples, without what all documents have.
fn example_of(workspace: &Path, file: &str, kind: &str) -> Result<String> {
    let path = workspace.join("policies/examples").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let named = format!("kind: {kind}");
    let document = text.split("---\n").find(|document| document.lines().any(|line| line == named));
    let document = document.with_context(|| format!("{} has no {kind}", path.display()))?;
    let own = document.lines().filter(|line| !line.starts_with("apiVersion: "));
    Ok(own.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::workspace;

    #[test]
    fn the_reference_is_what_the_definitions_say() {
        let written = std::fs::read_to_string(workspace().join(FILE)).unwrap();
        assert_eq!(written, reference(&workspace()).unwrap(), "write it anew: cargo xtask docs");
    }
}
