//! What the API server refuses, and what somebody did to the agent's memory: nothing is removed for it, and the ledger
//! says what is wrong.
//!
//! A reverse proxy stands before the real API server and refuses on demand. It has no rights of its own: what it passes
//! on carries the agent's token.

use std::sync::{Arc, Mutex, PoisonError};

use agent::config::{KubeAccess, NAMESPACE};
use anyhow::{Context as _, ensure};
use api::wire::{LedgerEntry, Phase};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use world::Cluster;

use super::{Hub, PATIENCE, await_object, deployment, kubectl, list, names};

/// The text of every injected refusal.
const INJECTED: &str = "refused by the proxy";

/// What the proxy does with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rule {
    #[default]
    LetThrough,
    /// Refuses to list the members of a set in this resource.
    Lists(&'static str, StatusCode),
    /// Refuses to delete objects of this resource.
    Deletions(&'static str, StatusCode),
    /// Lets one deletion through, and refuses everything that comes after it.
    AllAfterOneDeletion(StatusCode),
}

/// What the proxy has seen since its rule was set last.
#[derive(Clone, Debug, Default)]
struct Seen {
    rule: Rule,
    refused: usize,
    /// Paths of the deletions that were let through; those of the agent's own memory are left out.
    deleted: Vec<String>,
}

/// A reverse proxy before one API server, on loopback.
pub(super) struct Proxy {
    access: KubeAccess,
    seen: watch::Sender<Seen>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Stands before the API server of `access`.
    pub(super) async fn start(access: &KubeAccess) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let mut upstream = access.load().await?;
        let mut through = upstream.clone();
        upstream.auth_info = kube::config::AuthInfo::default();
        (through.cluster_url, through.root_cert) = (format!("http://{}", listener.local_addr()?).parse()?, None);
        let access = KubeAccess::Given(Box::new(through));
        let (seen, _) = watch::channel(Seen::default());
        let door = Arc::new(Door { upstream: Client::try_from(upstream)?, seen: seen.clone(), turn: Mutex::default() });
        let router = axum::Router::new().fallback(pass).with_state(door);
        let serving = tokio::spawn(async move {
            // It serves until it is dropped; what ends it before shows as an API server that is away.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { access, seen, serving })
    }

    /// The way to the API server through this proxy, with the same rights.
    pub(super) fn access(&self) -> &KubeAccess {
        &self.access
    }

    fn set(&self, rule: Rule) {
        self.seen.send_replace(Seen { rule, ..Seen::default() });
    }

    /// Waits until this many requests were refused under the rule; what it has seen by then.
    async fn refused(&self, times: usize) -> anyhow::Result<Seen> {
        let mut seen = self.seen.subscribe();
        let wait = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| seen.refused >= times)).await;
        Ok(wait.with_context(|| format!("not refused {times} times"))??.clone())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Door {
    upstream: Client,
    seen: watch::Sender<Seen>,
    /// Held from the judgement of a deletion to the note of it, so that "after one" is exact.
    turn: Mutex<()>,
}

impl Door {
    /// Whether this request is refused, and with what.
    fn judge(&self, request: &Request) -> Option<StatusCode> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        let deletes = request.method() == Method::DELETE && !path.contains(&format!("/{NAMESPACE}/"));
        let lists = request.method() == Method::GET && query.contains("part-of") && !query.contains("watch=");
        let seen = self.seen.borrow().clone();
        let status = match seen.rule {
            Rule::LetThrough => None,
            Rule::Lists(resource, status) => (lists && path.ends_with(&format!("/{resource}"))).then_some(status),
            Rule::Deletions(resource, status) => (deletes && path.contains(&format!("/{resource}/"))).then_some(status),
            Rule::AllAfterOneDeletion(status) => (!seen.deleted.is_empty()).then_some(status),
        };
        self.seen.send_modify(|seen| match status {
            Some(_) => seen.refused += 1,
            None if deletes => seen.deleted.push(path.to_owned()),
            None => {}
        });
        status
    }
}

async fn pass(State(door): State<Arc<Door>>, request: Request) -> Response<Body> {
    if let Some(status) = door.judge(&request) {
        let reason = if status == StatusCode::FORBIDDEN { "Forbidden" } else { "InternalError" };
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": INJECTED,
            "reason": reason, "code": status.as_u16()});
        return (status, axum::Json(body)).into_response();
    }
    let (mut head, body) = request.into_parts();
    // The client's own; the next one has its own.
    for hop in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        head.headers.remove(hop);
    }
    let passed = async {
        let body = to_bytes(body, usize::MAX).await?;
        anyhow::Ok(door.upstream.send(Request::from_parts(head, body.into())).await?)
    };
    match passed.await {
        Ok(answer) => {
            let (mut head, body) = answer.into_parts();
            for hop in [header::CONNECTION, header::TRANSFER_ENCODING] {
                head.headers.remove(hop);
            }
            Response::from_parts(head, Body::new(body))
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

fn config(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}})
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"a": "b"}})
}

/// The ApplySet's members in `namespace`, as `resource/name`.
async fn members(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<String>> {
    let mut all = vec![];
    for resource in ["configmaps", "secrets"] {
        let found = list(cluster, namespace, resource, "applyset.kubernetes.io/part-of").await?;
        all.extend(names(&found).into_iter().map(|name| format!("{resource}/{name}")));
    }
    Ok(all)
}

const ALL: [&str; 4] = ["configmaps/one", "configmaps/three", "configmaps/two", "secrets/key"];

/// A list that fails, by 403 or by 500, of the agent's own reading or of the App user's, is no empty list.
pub(super) async fn a_refused_list_prunes_nothing(
    proxy: &Proxy,
    hub: &mut Hub,
    cluster: &Cluster,
) -> anyhow::Result<()> {
    hub.tell("refuse", "web", &[config("one", ""), config("two", ""), config("three", ""), secret()], &[]);
    hub.until("refuse", "web", |e| e.phase() == Phase::Ready).await?;
    let refusals = [
        ("secrets", "Secret", StatusCode::FORBIDDEN),
        ("secrets", "Secret", StatusCode::INTERNAL_SERVER_ERROR),
        ("configmaps", "ConfigMap", StatusCode::FORBIDDEN),
        ("configmaps", "ConfigMap", StatusCode::INTERNAL_SERVER_ERROR),
    ];
    for (number, (resource, kind, status)) in refusals.into_iter().enumerate() {
        let value = number.to_string();
        proxy.set(Rule::Lists(resource, status));
        // Three objects less, and a change of the one that stays.
        hub.tell("refuse", "web", &[config("one", &value)], &[]);
        let says = format!("{kind} could not be listed, so nothing is pruned: list {kind}: {INJECTED}");
        let told =
            |e: &LedgerEntry| e.phase() == Phase::Failed && e.reason == "ListFailed" && e.message.contains(&says);
        hub.until("refuse", "web", told).await?;
        // What is applied meanwhile is applied.
        await_object(cluster, "refuse", ("", "v1", "ConfigMap"), "one", |o| {
            o.is_some_and(|o| o["data"]["a"] == value.as_str())
        })
        .await?;
        // It tries again, and prunes nothing again.
        let seen = proxy.refused(2).await?;
        ensure!(seen.deleted.is_empty(), "{status} to lists of {resource}: deleted {:?}", seen.deleted);
        let left = members(cluster, "refuse").await?;
        ensure!(left == ALL, "{status} to lists of {resource}: left {left:?}");
    }
    proxy.set(Rule::LetThrough);
    hub.until("refuse", "web", |e| e.phase() == Phase::Ready && e.objects == 1).await?;
    ensure!(members(cluster, "refuse").await? == ["configmaps/one"]);
    // An App that goes is held to the same.
    proxy.set(Rule::Lists("secrets", StatusCode::INTERNAL_SERVER_ERROR));
    hub.tell("refuse", "web", &[config("one", ""), secret()], &[]);
    hub.until("refuse", "web", |e| e.reason == "ListFailed").await?;
    hub.remove("refuse", "web");
    let entry = hub.until("refuse", "web", |e| e.phase() == Phase::Removing && e.reason == "ListFailed").await?;
    ensure!(entry.message.contains("nothing is pruned"), "{entry:?}");
    ensure!(proxy.refused(1).await?.deleted.is_empty());
    ensure!(members(cluster, "refuse").await? == ["configmaps/one", "secrets/key"]);
    proxy.set(Rule::LetThrough);
    hub.until("refuse", "web", |e| e.phase() == Phase::Removed).await?;
    ensure!(members(cluster, "refuse").await?.is_empty());
    Ok(())
}

/// The API server fails in the middle of a prune: what was not reached stays, and goes once it answers again.
pub(super) async fn a_prune_that_is_cut_short_is_ended_later(
    proxy: &Proxy,
    hub: &mut Hub,
    cluster: &Cluster,
) -> anyhow::Result<()> {
    hub.tell("cut", "web", &[config("one", ""), config("two", ""), config("three", ""), secret()], &[]);
    hub.until("cut", "web", |e| e.phase() == Phase::Ready).await?;
    // The deletions of one kind alone: the others go.
    proxy.set(Rule::Deletions("secrets", StatusCode::INTERNAL_SERVER_ERROR));
    hub.tell("cut", "web", &[config("one", ""), config("two", "")], &[]);
    let says = format!("prune Secret cut/key: {INJECTED}");
    hub.until("cut", "web", |e| e.phase() == Phase::Failed && e.reason == "ApiError" && e.message.contains(&says))
        .await?;
    ensure!(members(cluster, "cut").await? == ["configmaps/one", "configmaps/two", "secrets/key"]);
    // Between two deletions everything fails, the next lists included.
    hub.tell("cut", "web", &[config("one", ""), config("two", ""), config("three", ""), secret()], &[]);
    proxy.set(Rule::LetThrough);
    hub.until("cut", "web", |e| e.phase() == Phase::Ready && e.objects == 4).await?;
    proxy.set(Rule::AllAfterOneDeletion(StatusCode::INTERNAL_SERVER_ERROR));
    hub.tell("cut", "web", &[config("one", "")], &[]);
    let entry = hub.until("cut", "web", |e| e.phase() == Phase::Failed && e.message.contains(INJECTED)).await?;
    let seen = proxy.refused(2).await?;
    ensure!(seen.deleted.len() == 1, "{:?}", seen.deleted);
    let left = members(cluster, "cut").await?;
    ensure!(left.len() == 3 && left.contains(&"configmaps/one".to_owned()), "{left:?}, told {entry:?}");
    proxy.set(Rule::LetThrough);
    hub.until("cut", "web", |e| e.phase() == Phase::Ready && e.objects == 1).await?;
    ensure!(members(cluster, "cut").await? == ["configmaps/one"]);
    Ok(())
}

/// Somebody changed what the agent keeps: it says what, guesses nothing, and removes nothing.
pub(super) async fn an_altered_memory_removes_nothing(
    mut hub: Hub,
    cluster: &Cluster,
    access: &KubeAccess,
) -> anyhow::Result<Hub> {
    hub.tell("memory", "web", &[config("one", ""), deployment("web", 1)], &[]);
    hub.until("memory", "web", |e| e.phase() == Phase::Ready).await?;
    let uids = async || -> anyhow::Result<Vec<Value>> {
        let mut all = list(cluster, "memory", "configmaps", "applyset.kubernetes.io/part-of").await?;
        all.extend(list(cluster, "memory", "deployments", "").await?);
        Ok(all.iter().map(|o| o["metadata"]["uid"].clone()).collect())
    };
    let (before, number) = (uids().await?, hub.number);
    let renders = hub.renders.clone();
    let apps = hub.apps.clone();
    hub.stop().await?;

    // The head: bytes that are none of ours, and then no bytes at all. The agent does not start; it says what to do.
    let patch = async |data: Value| {
        let patch = json!({"data": data}).to_string();
        let args = ["-n", NAMESPACE, "patch", "secret", "isochrone-kept", "--type=merge", "-p", &patch];
        kubectl(cluster, &args, &Value::Null).await
    };
    for (data, what) in [
        (json!({"head": "/////w=="}), "it does not decode"),
        (json!({"head": ""}), "the state that it names is not there"),
        (json!({"head": null}), "no key `head`"),
    ] {
        patch(data).await?;
        let refusing = Hub::start(access);
        let ended = tokio::time::timeout(PATIENCE, refusing.engine).await.context("it starts without a memory")??;
        let error = format!("{:#}", ended.err().context("it ends well")?);
        let says =
            format!("Secret isochrone-kept holds no memory that this version reads ({what}); delete it to start");
        ensure!(error.contains(&says), "{error}");
        ensure!(uids().await? == before, "objects changed");
    }

    // Its owner does so: without a memory it leaves everything alone until a hub speaks, which asks for the same.
    kubectl(cluster, &["-n", NAMESPACE, "delete", "secret", "isochrone-kept"], &Value::Null).await?;
    let mut hub = Hub::start(access);
    (hub.number, hub.apps, hub.renders) = (number, apps, renders);
    hub.tell("memory", "web", &[config("one", ""), deployment("web", 1)], &[]);
    hub.until("memory", "web", |e| e.phase() == Phase::Ready).await?;
    ensure!(uids().await? == before, "objects were made anew");

    // A piece: its app waits for the hub, and is left as it is meanwhile.
    let (number, renders, apps) = (hub.number, hub.renders.clone(), hub.apps.clone());
    hub.stop().await?;
    let kept = list(cluster, NAMESPACE, "secrets", "isochrone.dev/kept=head").await?;
    ensure!(kept.len() == 1, "the memory was not written anew");
    let desired = apps.get(&("memory".to_owned(), "web".to_owned())).context("told")?;
    let piece = format!("isochrone-kept-{}-0", hex(&desired.render));
    kubectl(cluster, &["-n", NAMESPACE, "delete", "secret", &piece], &Value::Null).await?;
    let other = json!({"apiVersion": "v1", "kind": "Secret", "immutable": true, "stringData": {"piece": "something else"},
        "metadata": {"name": piece, "namespace": NAMESPACE, "labels": {"isochrone.dev/kept": "piece"}}});
    kubectl(cluster, &["create", "-f", "-"], &other).await?;
    kubectl(cluster, &["-n", "memory", "delete", "configmap", "one"], &Value::Null).await?;
    let mut hub = Hub::start(access);
    (hub.number, hub.apps) = (number, apps);
    let waits =
        |e: &LedgerEntry| e.reason == "AwaitingRender" && e.message == "the render has not arrived from the hub";
    hub.until("memory", "web", waits).await?;
    ensure!(names(&list(cluster, "memory", "deployments", "").await?) == ["web"]);
    hub.renders = renders;
    hub.send(agent::engine::Input::Connected);
    hub.until("memory", "web", |e| e.phase() == Phase::Ready).await?;
    await_object(cluster, "memory", ("", "v1", "ConfigMap"), "one", |o| o.is_some()).await?;
    Ok(hub)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
