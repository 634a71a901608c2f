//! Sends cases and reads what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::answer::{Raw, normalise};
use crate::case::{Area, Case, Step, accept, content_type};
use crate::diff::diff;
use crate::http::{Request, Response};

/// A server to send requests to.
pub(crate) trait Provider: Sync {
    /// Sends one request and reads its answer to the end.
    fn send(&self, request: &Request) -> anyhow::Result<Response>;

    /// The headers by which a user is known.
    fn credentials(&self, user: &str) -> Vec<(String, String)>;
}

/// The answer of each step, as it is compared; or why there is none. An answer is missing where the step only prepares.
pub(crate) type Answers = Result<Vec<Option<String>>, String>;

/// A watch takes a second by the clock whatever the server does, so more run at once than there are processors.
const THREADS: usize = 6;

/// How long the real server takes to serve a new kind, at most: seconds on a busy machine.
const UNTIL_WITHIN: Duration = Duration::from_secs(40);

/// A watch lasts a second, a slow answer some: more is a server that hangs.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// Names and groups of those who have tokens.
pub(crate) const USERS: [(&str, &str); 5] = [
    ("admin", "system:masters"),
    ("alice", "developers"),
    ("bob", ""),
    ("carol", "auditors,developers"),
    ("erin", "auditors"),
];

/// The token of a user; `nobody` has none, and a name that is none has a wrong one.
pub(crate) fn bearer(user: &str) -> Vec<(String, String)> {
    if user == "nobody" { vec![] } else { vec![("Authorization".to_owned(), format!("Bearer token-of-{user}"))] }
}

/// Makes what all cases rely on; once for each server.
pub(crate) fn fixtures(provider: &dyn Provider) -> anyhow::Result<()> {
    let fixtures = Area::read(&crate::dir().join("fixtures.yaml")).context("reading the fixtures")?;
    for case in &fixtures.cases {
        send(provider, case, "fixtures").with_context(|| format!("fixture {}", case.name))?;
    }
    Ok(())
}

/// Runs every case whose title contains `only`. Each round has namespaces of its own.
pub(crate) fn all(
    provider: &dyn Provider,
    areas: &[Area],
    only: &str,
    round: usize,
) -> anyhow::Result<Vec<(Case, Answers)>> {
    let cases: Vec<&Case> = areas.iter().flat_map(|area| &area.cases).collect();
    let mut titles: Vec<String> = cases.iter().map(|case| case.title()).collect();
    titles.sort();
    let twice: Vec<_> = titles.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
    ensure!(twice.is_empty(), "cases share their names: {twice:?}");
    let namespaces: BTreeSet<String> = cases.iter().map(|case| namespace(case, round)).collect();
    ensure!(namespaces.len() == cases.len(), "two cases share a namespace: give one of them another name");

    let next = AtomicUsize::new(0);
    let answers = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { return };
                    if case.title().contains(only) {
                        let answer = one(provider, case, &namespace(case, round));
                        answers
                            .lock()
                            .expect("no case panics")
                            .insert(at, answer.map_err(|error| format!("{error:#}")));
                    }
                }
            });
        }
    });
    let answers = answers.into_inner().expect("no case panics");
    Ok(answers.into_iter().map(|(at, answer)| (cases[at].clone(), answer)).collect())
}

/// The namespace of a case: by its title, since hashes of groups that are called by it are recorded; of one length, so
/// that none is the beginning of another.
fn namespace(case: &Case, round: usize) -> String {
    // FNV-1a, as no hash of the standard library stays what it is.
    let title = format!("{} {round}", case.title());
    let hash = title.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("bat-{hash:08x}")
}

/// Whether a step went as recorded, and if not, what differs.
pub(crate) fn outcome(step: &Step, got: &Answers, number: usize) -> Result<(), String> {
    let got = match got {
        Ok(answers) => answers[number].as_deref(),
        Err(what) => return Err(format!("    {what}")),
    };
    match (&step.answer, got) {
        (_, None) => Ok(()),
        (None, Some(_)) => Err("    no answer is recorded; see the head of the test".to_owned()),
        (Some(expected), Some(got)) if expected.trim_end() == got.trim_end() => Ok(()),
        (Some(expected), Some(got)) => Err(diff(expected.trim_end(), got.trim_end())),
    }
}

fn one(provider: &dyn Provider, case: &Case, namespace: &str) -> anyhow::Result<Vec<Option<String>>> {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let mut request = Request {
        method: "POST".to_owned(),
        target: "/api/v1/namespaces?fieldManager=battery".to_owned(),
        headers: provider.credentials("admin"),
        body: Some(serde_json::to_vec(&body)?),
    };
    request.headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    let made = provider.send(&request).context("making the namespace")?;
    ensure!(made.status == 201, "making the namespace: {}", String::from_utf8_lossy(&made.body));
    let raw = send(provider, case, namespace)?;
    let steps = case.steps.iter().zip(normalise(case, namespace, raw));
    Ok(steps.map(|(step, text)| (!step.quiet).then_some(text)).collect())
}

fn send(provider: &dyn Provider, case: &Case, namespace: &str) -> anyhow::Result<Vec<Raw>> {
    let mut known = BTreeMap::from([("ns".to_owned(), namespace.to_owned())]);
    let mut answers = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let raw = step_with_patience(provider, step, &known)
            .with_context(|| format!("step {} ({})", number + 1, step.request))?;
        for (name, pointer) in &step.save {
            let value = raw.json().and_then(|value| value.pointer(pointer).cloned());
            let value = value.with_context(|| format!("step {}: no {pointer} in {raw:?}", number + 1))?;
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            known.insert(name.clone(), text);
        }
        answers.push(raw);
    }
    Ok(answers)
}

fn step_with_patience(provider: &dyn Provider, step: &Step, known: &BTreeMap<String, String>) -> anyhow::Result<Raw> {
    let request = request(provider, step, known)?;
    let started = Instant::now();
    loop {
        let response = provider.send(&request)?;
        let raw = Raw::new(&response, step);
        let text = String::from_utf8_lossy(&response.body);
        match &step.until {
            Some(until) if !text.contains(&expand(until, known)) => {
                if started.elapsed() > UNTIL_WITHIN {
                    bail!("after {} s still no {until:?} in {text}", UNTIL_WITHIN.as_secs());
                }
                std::thread::sleep(Duration::from_millis(30));
            }
            _ if step.quiet && !(200..300).contains(&response.status) => bail!("{}: {text}", response.status),
            _ => return Ok(raw),
        }
    }
}

fn request(provider: &dyn Provider, step: &Step, known: &BTreeMap<String, String>) -> anyhow::Result<Request> {
    let (method, target) = step.request.split_once(' ').context("a request is a method and a target")?;
    let mut headers = provider.credentials(step.user.as_deref().unwrap_or("admin"));
    // What the managers of objects are named after when a request does not say.
    headers.push(("User-Agent".to_owned(), "battery/1.0 (test)".to_owned()));
    if let Some(word) = &step.accept {
        headers.push(("Accept".to_owned(), accept(word).to_owned()));
    }
    let body = match &step.body {
        None => None,
        Some(Value::String(text)) => Some(expand_repeats(&expand(text, known))?.into_bytes()),
        Some(value) => Some(expand_repeats(&expand(&serde_json::to_string(value)?, known))?.into_bytes()),
    };
    match &step.kind {
        Some(word) => headers.push(("Content-Type".to_owned(), content_type(word).to_owned())),
        None if body.is_some() => headers.push(("Content-Type".to_owned(), "application/json".to_owned())),
        None => {}
    }
    headers.extend(step.headers.iter().map(|(name, value)| (name.clone(), expand(value, known))));
    let target = expand(target, known);
    for text in [Some(target.as_bytes()), body.as_deref()].into_iter().flatten() {
        ensure!(!has_word(text), "no step before has saved what this one names: {}", String::from_utf8_lossy(text));
    }
    Ok(Request { method: method.to_owned(), target, headers, body })
}

/// Whether there is a `{word}` left, which stands for nothing; JSON has no letter behind a brace.
fn has_word(text: &[u8]) -> bool {
    let is_word =
        |inner: &[u8]| inner.first().is_some_and(u8::is_ascii_lowercase) && inner.iter().all(u8::is_ascii_alphanumeric);
    let opened = text.split(|byte| *byte == b'{').skip(1);
    opened
        .filter_map(|rest| rest.split(|byte| *byte == b'}').next().filter(|inner| inner.len() < rest.len()))
        .any(is_word)
}

/// Only what is known is replaced: JSON has braces of its own.
fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// Replaces `{repeat:text:times}`, for bodies that nobody would want to read.
fn expand_repeats(text: &str) -> anyhow::Result<String> {
    const OPEN: &str = "{repeat:";
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        out.push_str(&rest[..at]);
        let inner = &rest[at + OPEN.len()..];
        let end = inner.find('}').context("a repeat without end")?;
        let (what, times) = inner[..end].rsplit_once(':').context("a repeat is a text and a number")?;
        // The text may itself need braces, which end the expression.
        out.push_str(&what.replace("((", "{").repeat(times.parse().context("how often to repeat")?));
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
