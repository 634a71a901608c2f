//! Sessions at a terminal as text: what was typed, and what was shown.
//!
//! ```text
//! #: A remark.
//! $ kubectl apply -f - <<E
//! {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
//! E
//! configmap/a created
//!
//! $ kubectl get nothing
//! ! error: the server doesn't have a resource type "nothing"
//! ? 1
//! ```
//!
//! Lines to standard error begin with `! `; `? 1` is the exit code where it is not 0. A line `...` stands for any
//! lines, for what is not worth comparing. `& kubectl …` runs beside the next ones; what it showed by the end of the
//! session is compared, and then it is stopped. No shell is involved: there are quotes, and nothing else.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Remarks and empty lines before it.
    pub(crate) before: String,
    /// As typed.
    pub(crate) line: String,
    /// Whether it runs beside the next ones.
    pub(crate) beside: bool,
    /// What it reads.
    pub(crate) input: Option<String>,
    /// What is shown, in this format.
    pub(crate) shown: String,
}

impl Step {
    /// The words of the line, without the heredoc.
    pub(crate) fn words(&self) -> anyhow::Result<Vec<String>> {
        let line = self.line.strip_suffix("<<E").unwrap_or(&self.line);
        words(line).with_context(|| format!("in {}", self.line))
    }
}

/// Reads a session.
pub(crate) fn read(file: &Path) -> anyhow::Result<Vec<Step>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut steps: Vec<Step> = Vec::new();
    let mut before = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(typed) = line.strip_prefix("$ ").or_else(|| line.strip_prefix("& ")) {
            let heredoc = typed.ends_with(" <<E");
            let input: Vec<&str> =
                if heredoc { lines.by_ref().take_while(|line| *line != "E").collect() } else { vec![] };
            steps.push(Step {
                before: std::mem::take(&mut before),
                line: typed.to_owned(),
                beside: line.starts_with('&'),
                input: heredoc.then(|| input.join("\n") + "\n"),
                shown: String::new(),
            });
        } else if line.starts_with("#: ") || steps.is_empty() {
            before += line;
            before += "\n";
        } else {
            ensure!(before.is_empty(), "{}: a remark in the middle of what is shown: {before}", file.display());
            let step = steps.last_mut().context("a line before all commands")?;
            step.shown += line;
            step.shown += "\n";
        }
    }
    for step in &mut steps {
        step.shown.truncate(step.shown.trim_end().len());
    }
    Ok(steps)
}

/// Whether a session says in its first line that it is for this version as well.
pub(crate) fn is_also_for(file: &Path, version: &str) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let versions = text.lines().next().and_then(|line| line.strip_prefix("# also: "));
    Ok(versions.is_some_and(|versions| versions.split_whitespace().any(|one| one == version)))
}

/// Puts what other steps show in the place of what the same commands show here; both are in the same order.
pub(crate) fn replace_shown(steps: &mut [Step], others: Vec<Step>) -> anyhow::Result<()> {
    let mut rest = steps.iter_mut();
    for other in others {
        let same = rest.find(|step| (&step.line, &step.input) == (&other.line, &other.input));
        let step = same.with_context(|| format!("the session has no such command, or earlier: {}", other.line))?;
        step.shown = other.shown;
    }
    Ok(())
}

/// The session as text.
pub(crate) fn write(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        if !text.is_empty() {
            text += "\n";
        }
        let _ = writeln!(text, "{}{} {}", step.before, if step.beside { '&' } else { '$' }, step.line);
        if let Some(input) = &step.input {
            text += input;
            text += "E\n";
        }
        if !step.shown.is_empty() {
            text += &step.shown;
            text += "\n";
        }
    }
    text
}

/// Whether what is shown is what was expected, in which `...` stands for any lines.
pub(crate) fn matches(expected: &str, shown: &str) -> bool {
    let (expected, shown): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), shown.lines().collect());
    matches_lines(&expected, &shown)
}

fn matches_lines(expected: &[&str], shown: &[&str]) -> bool {
    match expected {
        [] => shown.is_empty(),
        ["...", rest @ ..] => (0..=shown.len()).any(|skipped| matches_lines(rest, &shown[skipped..])),
        [line, rest @ ..] => shown.first() == Some(line) && matches_lines(rest, &shown[1..]),
    }
}

/// The words of a line, as a shell sees quotes.
fn words(line: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    ensure!(quote.is_none(), "a quote is open");
    words.extend(word);
    Ok(words)
}

#[test]
fn a_session_is_read_and_written() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("session.txt");
    let text =
        "#: Why.\n$ kubectl apply -f - <<E\na: b\nE\nnot so\n\nand so\n! oh\n? 1\n\n& kubectl get a -o 'b c' -w\n";
    std::fs::write(&file, text)?;
    let steps = read(&file)?;
    assert_eq!(write(&steps), text);
    assert_eq!(steps[0].shown, "not so\n\nand so\n! oh\n? 1");
    assert_eq!(steps[0].words()?, ["kubectl", "apply", "-f", "-"]);
    assert_eq!(steps[1].words()?, ["kubectl", "get", "a", "-o", "b c", "-w"]);
    assert!(matches("a\n...\nd", "a\nb\nc\nd") && matches("...", "") && !matches("a\n...", "b"));
    Ok(())
}

#[test]
fn another_version_replaces_what_it_shows_otherwise() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("session.txt");
    let session = |text: &str| -> anyhow::Result<Vec<Step>> {
        std::fs::write(&file, text)?;
        read(&file)
    };
    let text = "# also: 1.29 1.33\n$ kubectl get a\n1\n\n$ kubectl get a\n2\n\n$ kubectl get b\n3\n";
    let mut steps = session(text)?;
    assert_eq!(write(&steps), text);
    assert!(is_also_for(&file, "1.29")? && is_also_for(&file, "1.33")? && !is_also_for(&file, "1.2")?);
    replace_shown(&mut steps, session("$ kubectl get a\n1\n\n$ kubectl get a\ntwo\n")?)?;
    assert_eq!(steps.iter().map(|step| step.shown.as_str()).collect::<Vec<_>>(), ["1", "two", "3"]);
    let disordered = session("$ kubectl get b\n3\n\n$ kubectl get a\n1\n")?;
    assert!(replace_shown(&mut steps, disordered).is_err());
    assert!(!is_also_for(&file, "1.29")?);
    Ok(())
}
