//! Cases as files: how people write them, and how answers are written back between their lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::run::Answers;

/// A file of cases.
#[derive(Debug)]
pub(crate) struct Area {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    text: String,
    pub(crate) cases: Vec<Case>,
}

/// Steps that belong together, in a namespace of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    #[serde(skip)]
    pub(crate) area: String,
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

/// A request and what the real server answered.
///
/// In all its texts `{ns}` stands for the namespace of the case, and `{x}` for what an earlier step saved as `x`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// The method and the target, as they go over the wire.
    pub(crate) request: String,
    /// A user of the fixtures, `nobody` for no credentials, or `stranger` for wrong ones; else the administrator.
    #[serde(default, rename = "as")]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The content type of the body, or one of the short words of [`content_type`]; JSON else.
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    /// The Accept header, or one of the short words of [`accept`].
    #[serde(default)]
    pub(crate) accept: Option<String>,
    /// A text is sent as it is, with `{repeat:text:times}` expanded; anything else as JSON.
    #[serde(default)]
    pub(crate) body: Option<Value>,
    /// What later steps need of the answer: a name and a JSON pointer for each.
    #[serde(default)]
    pub(crate) save: BTreeMap<String, String>,
    /// Sends the request again until the answer contains this, within bounds: for what the real server does later.
    #[serde(default)]
    pub(crate) until: Option<String>,
    /// Only what this JSON pointer points to is compared.
    #[serde(default)]
    pub(crate) only: Option<String>,
    /// Keeps those elements of a list whose name is among these: for lists that hold more than the case made.
    #[serde(default)]
    pub(crate) keep: Vec<String>,
    /// The real server walks a map, so what it lists (causes, resources, rules) comes in any order.
    #[serde(default, rename = "any-order")]
    pub(crate) any_order: bool,
    /// The step only prepares: it must succeed, and its answer does not matter.
    #[serde(default)]
    pub(crate) quiet: bool,
    #[serde(default)]
    pub(crate) answer: Option<String>,
}

impl Step {
    /// A step of a sequence that a seed gives: conflicts with several managers come in any order.
    pub(crate) fn new(request: &str, kind: Option<&str>, body: Option<Value>) -> Self {
        Self {
            request: request.to_owned(),
            user: None,
            headers: BTreeMap::new(),
            kind: kind.map(str::to_owned),
            accept: None,
            body,
            save: BTreeMap::new(),
            until: None,
            only: None,
            keep: vec![],
            any_order: true,
            quiet: false,
            answer: None,
        }
    }
}

/// A difference from the real server that is meant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    /// `area: name` of the case.
    pub(crate) case: String,
    /// Counted from 1.
    pub(crate) step: usize,
    /// Read by people only; whoever adds an entry must have one.
    #[expect(dead_code, reason = "for the reader of the file")]
    pub(crate) why: String,
}

/// The short words for content types.
pub(crate) fn content_type(word: &str) -> &str {
    match word {
        "json-patch" => "application/json-patch+json",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "apply" => "application/apply-patch+yaml",
        "yaml" => "application/yaml",
        "options" => "application/json",
        other => other,
    }
}

/// The short words for what kubectl and kube-rs ask for.
pub(crate) fn accept(word: &str) -> &str {
    match word {
        "table" => "application/json;as=Table;v=v1;g=meta.k8s.io",
        "metadata" => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        "metadata-list" => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        "yaml" => "application/yaml",
        "discovery" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        other => other,
    }
}

/// A step begins with this; what else belongs to it is indented deeper.
const STEP: &str = "  - request:";
const ANSWER: &str = "    answer:";

impl Case {
    /// How reports name it.
    pub(crate) fn title(&self) -> String {
        format!("{}: {}", self.area, self.name)
    }
}

impl Area {
    /// Cases that no file holds.
    pub(crate) fn generated(name: &str, cases: Vec<Case>) -> Self {
        Self { name: name.to_owned(), file: PathBuf::new(), text: String::new(), cases }
    }

    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)?;
        // `y` is a letter here, as in YAML 1.2.
        let options = serde_saphyr::options! { budget: None, strict_booleans: true };
        let mut cases: Vec<Case> = serde_saphyr::from_str_with_options(&text, options)?;
        let name = file.file_stem().and_then(|stem| stem.to_str()).context("a file name")?.to_owned();
        for case in &mut cases {
            case.area.clone_from(&name);
        }
        let steps = text.lines().filter(|line| line.starts_with(STEP)).count();
        ensure!(
            steps == cases.iter().map(|case| case.steps.len()).sum::<usize>(),
            "each step begins with {STEP:?}, nothing else does: that is how answers find their place"
        );
        Ok(Self { name, file: file.to_owned(), text, cases })
    }

    /// Writes the answers of these cases into the file, and leaves all other lines as they are.
    pub(crate) fn record(&self, recorded: &[(Case, Answers)]) -> anyhow::Result<()> {
        let mut answers = Vec::new();
        for case in &self.cases {
            let answer = recorded.iter().find(|(one, _)| one.name == case.name).map(|(_, answers)| answers);
            match answer {
                None | Some(Err(_)) => answers.extend(case.steps.iter().map(|_| None)),
                Some(Ok(texts)) => answers.extend(texts.iter().zip(&case.steps).map(|(text, step)| {
                    let compared = text.as_ref().filter(|_| !step.quiet);
                    Some(compared.map_or_else(Vec::new, |text| literal(text)))
                })),
            }
        }
        let mut answers = answers.into_iter();
        let mut out: Vec<String> = Vec::new();
        // The answer of the step that the lines belong to, and where it goes: after its last line that says something.
        let mut due: Option<Option<Vec<String>>> = None;
        let mut dropping = false;
        let end = [""];
        for line in self.text.lines().chain(end) {
            let deeper = line.starts_with("    ");
            if !deeper && !line.trim().is_empty() || std::ptr::eq(line, end[0]) {
                if let Some(answer) = due.take().flatten() {
                    let blank = out.iter().rev().take_while(|line| line.trim().is_empty()).count();
                    let place = out.len() - blank;
                    out.splice(place..place, answer);
                }
                dropping = false;
            }
            if line.starts_with(STEP) {
                due = answers.next();
            }
            if line.starts_with(ANSWER) && due.as_ref().is_some_and(Option::is_some) {
                dropping = true;
            } else if deeper && !line.starts_with("     ") {
                dropping = false;
            }
            if !(dropping && deeper) {
                out.push(line.to_owned());
            }
        }
        while out.last().is_some_and(|line| line.trim().is_empty()) {
            out.pop();
        }
        std::fs::write(&self.file, out.join("\n") + "\n")?;
        Ok(())
    }
}

fn literal(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| format!("      {line}"));
    std::iter::once(format!("{ANSWER} |")).chain(lines).collect()
}

#[test]
fn answers_are_written_between_the_lines_of_people() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.yaml");
    let text = "# Head.\n- name: one\n  steps:\n  - request: GET /a\n    answer: |\n      200\n      old\n    quiet: false\n  # Said.\n  - request: GET /b\n    quiet: true\n\n- name: two\n  steps:\n  - request: GET /c\n    body:\n      x: 1\n";
    std::fs::write(&file, text).unwrap();
    let area = Area::read(&file).unwrap();
    let answers = |texts: &[&str]| Ok(texts.iter().map(|text| Some((*text).to_owned())).collect());
    let recorded =
        vec![(area.cases[0].clone(), answers(&["200\nnew", "unseen"])), (area.cases[1].clone(), answers(&["404"]))];
    area.record(&recorded).unwrap();
    let expected = "# Head.\n- name: one\n  steps:\n  - request: GET /a\n    quiet: false\n    answer: |\n      200\n      new\n  # Said.\n  - request: GET /b\n    quiet: true\n\n- name: two\n  steps:\n  - request: GET /c\n    body:\n      x: 1\n    answer: |\n      404\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    let again = Area::read(&file).unwrap();
    again.record(&recorded).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    assert_eq!(again.cases[0].steps[0].answer.as_deref(), Some("200\nnew\n"));
}
