//! What is asked of a server, and what it took.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::client::{Client, JSON};
use super::report::Sample;
use super::server::Server;
use crate::bench::process::processor_time;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    /// ConfigMaps of a kilobyte, each of another name.
    Create { clients: usize },
    /// A Deployment of each client, applied again and again, each time with another image and number of replicas.
    Apply { clients: usize },
    /// All ConfigMaps of a namespace at once.
    List { objects: usize },
    /// ConfigMaps are made while many watch; until all of them have all events.
    Watch { watchers: usize, events: usize },
}

/// How many lists a round takes, each after the other.
const LISTS: usize = 10;

/// How many write while others watch: enough that the server and not the way there and back bounds it.
const WRITERS: usize = 16;

/// Ends a round that would never end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where lie what is listed, what is watched, and what is written.
const LISTED: &str = "listed";
const WATCHED: &str = "watched";
const WRITTEN: &str = "written";

/// What is made in each server before anything is measured.
pub(super) const NAMESPACES: [&str; 3] = [LISTED, WATCHED, WRITTEN];

impl Measure {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Create { clients: 1 } => "creates, 1 client".to_owned(),
            Self::Create { clients } => format!("creates, {clients} clients"),
            Self::Apply { clients: 1 } => "applies, 1 client".to_owned(),
            Self::Apply { clients } => format!("applies, {clients} clients"),
            Self::List { objects } => format!("list of {objects}"),
            Self::Watch { watchers, .. } => format!("events to {watchers} watchers"),
        }
    }

    /// Whether a store that syncs makes it slower.
    pub(super) fn writes(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Apply { .. })
    }

    pub(super) async fn take(self, server: &Server, round: usize, lasts: Duration) -> anyhow::Result<Sample> {
        let taken = async {
            match self {
                Self::Create { clients } => {
                    let prefix = format!("r{round}-of-{clients}");
                    writes(server, clients, lasts, move |client, number| creation(WRITTEN, &prefix, client, number))
                        .await
                }
                Self::Apply { clients } => {
                    writes(server, clients, lasts, move |client, number| {
                        // Never what it was, not even in the next round.
                        application(client, round * 1_000_000 + number)
                    })
                    .await
                }
                Self::List { objects } => lists(server, objects).await,
                Self::Watch { watchers, events } => watch(server, round, watchers, events).await,
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.context("it does not end")?
    }
}

/// A request that writes.
struct Write {
    method: Method,
    target: String,
    kind: &'static str,
    body: Bytes,
}

fn creation(namespace: &str, prefix: &str, client: usize, number: usize) -> Write {
    // With its name and what a server adds, a kilobyte.
    const TEXT: &str = "Equal text, so that a store could compress it; neither of the two does. ";
    let text = TEXT.repeat(12);
    let body = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"{prefix}-{client}-{number}\",\
         \"labels\":{{\"app\":\"bench\"}}}},\"data\":{{\"number\":\"{number}\",\"text\":\"{text}\"}}}}"
    );
    let target = format!("/api/v1/namespaces/{namespace}/configmaps?fieldManager=bench");
    Write { method: Method::POST, target, kind: JSON, body: body.into() }
}

/// Of the form and size that a tool renders: labels, a selector, a container with ports, variables, probes, resources.
fn application(client: usize, number: usize) -> Write {
    let replicas = number % 7;
    let body = format!(
        r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"app-{client}","namespace":"{WRITTEN}",
"labels":{{"app.kubernetes.io/name":"app","app.kubernetes.io/instance":"app-{client}"}},
"annotations":{{"example.com/number":"{number}"}}}},
"spec":{{"replicas":{replicas},"selector":{{"matchLabels":{{"app":"app-{client}"}}}},
"template":{{"metadata":{{"labels":{{"app":"app-{client}"}}}},
"spec":{{"containers":[{{"name":"app","image":"registry.example.com/app:{number}",
"args":["--listen=:8080","--verbose"],
"ports":[{{"name":"http","containerPort":8080}},{{"name":"metrics","containerPort":9090}}],
"env":[{{"name":"NUMBER","value":"{number}"}},{{"name":"MODE","value":"production"}}],
"resources":{{"requests":{{"cpu":"100m","memory":"64Mi"}},"limits":{{"memory":"128Mi"}}}},
"readinessProbe":{{"httpGet":{{"path":"/readyz","port":"http"}},"periodSeconds":5}},
"volumeMounts":[{{"name":"config","mountPath":"/etc/app"}}]}}],
"volumes":[{{"name":"config","configMap":{{"name":"app-{client}"}}}}]}}}}}}}}"#
    );
    let target = format!("/apis/apps/v1/namespaces/{WRITTEN}/deployments/app-{client}?fieldManager=bench&force=true");
    Write { method: Method::PATCH, target, kind: "application/apply-patch+yaml", body: body.into() }
}

/// As many objects as that, and no less.
pub(super) async fn fill(server: &Server, objects: usize, clients: usize) -> anyhow::Result<()> {
    let clients: Vec<Client> = try_join_all((0..clients).map(|_| server.access.connect())).await?;
    let count = clients.len();
    try_join_all(clients.into_iter().enumerate().map(|(at, mut client)| async move {
        for number in (at..objects).step_by(count) {
            let write = creation(LISTED, "object", 0, number);
            client.done(write.method, &write.target, write.kind, write.body).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}

/// Writes of so many clients at once, each after its last was answered, for a time.
async fn writes(
    server: &Server,
    clients: usize,
    lasts: Duration,
    write: impl Fn(usize, usize) -> Write,
) -> anyhow::Result<Sample> {
    let connected: Vec<Client> = try_join_all((0..clients).map(|_| server.access.connect())).await?;
    let write = &write;
    timed(server, async {
        let until = Instant::now() + lasts;
        let done = connected.into_iter().enumerate().map(|(at, mut client)| async move {
            let (mut count, mut bytes) = (0, 0);
            while Instant::now() < until {
                let write = write(at, count);
                bytes += client.done(write.method, &write.target, write.kind, write.body).await?;
                count += 1;
            }
            anyhow::Ok((count as u64, bytes))
        });
        let done = try_join_all(done).await?;
        Ok((done.iter().map(|(count, _)| count).sum(), done.iter().map(|(_, bytes)| bytes).sum()))
    })
    .await
}

async fn lists(server: &Server, objects: usize) -> anyhow::Result<Sample> {
    let mut client = server.access.connect().await?;
    let target = format!("/api/v1/namespaces/{LISTED}/configmaps");
    let sample = timed(server, async {
        let mut bytes = 0;
        for _ in 0..LISTS {
            bytes += client.done(Method::GET, &target, JSON, Bytes::new()).await?;
        }
        Ok((LISTS as u64, bytes))
    })
    .await?;
    // Whatever a server leaves out, it could leave out all of it.
    ensure!(sample.bytes > (LISTS * objects * 1000) as u64, "the list is too short: {} bytes", sample.bytes);
    Ok(sample)
}

async fn watch(server: &Server, round: usize, watchers: usize, events: usize) -> anyhow::Result<Sample> {
    let mut client = server.access.connect().await?;
    let path = format!("/api/v1/namespaces/{WATCHED}/configmaps");
    let list = client.get(&format!("{path}?limit=1")).await?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("a list without a revision")?;
    let target = format!("{path}?watch=1&resourceVersion={revision}");
    let mut watching = vec![];
    for _ in 0..watchers {
        let mut client = server.access.connect().await?;
        let response = client.send(Method::GET, &target, JSON, Bytes::new()).await?;
        ensure!(response.status() == StatusCode::OK, "{target}: {}", response.status());
        watching.push((client, response.into_body()));
    }
    let mut writers: Vec<Client> = try_join_all((0..WRITERS).map(|_| server.access.connect())).await?;
    timed(server, async {
        let prefix = format!("r{round}");
        let write = writers.iter_mut().enumerate().map(|(at, client)| {
            let prefix = &prefix;
            async move {
                for number in (at..events).step_by(WRITERS) {
                    let write = creation(WATCHED, prefix, at, number);
                    client.done(write.method, &write.target, write.kind, write.body).await?;
                }
                anyhow::Ok(())
            }
        });
        // Each in a task of its own: polled together, all would be looked at whenever one has something.
        let read: Vec<_> = watching
            .into_iter()
            .map(|(client, body)| tokio::spawn(async move { lines(body, events, client).await }))
            .collect();
        try_join_all(write).await?;
        let mut bytes = 0;
        for read in read {
            bytes += read.await.context("a watcher ended")??;
        }
        Ok(((watchers * events) as u64, bytes))
    })
    .await
}

/// Reads so many lines, each of which is an event, and says how many bytes they had.
async fn lines(mut body: Incoming, wanted: usize, _client: Client) -> anyhow::Result<u64> {
    let (mut lines, mut bytes) = (0, 0);
    while lines < wanted {
        let frame = body.frame().await.with_context(|| format!("a watch ended after {lines} events"))?;
        let frame = frame.context("reading a watch")?;
        let data = frame.data_ref().map(Bytes::as_ref).unwrap_or_default();
        lines += memchr::memchr_iter(b'\n', data).count();
        bytes += data.len() as u64;
    }
    Ok(bytes)
}

/// What happens meanwhile: how much was done, and in how many bytes.
async fn timed(server: &Server, work: impl Future<Output = anyhow::Result<(u64, u64)>>) -> anyhow::Result<Sample> {
    let (own, of_server) = (processor_time(std::process::id())?, server.processor_time()?);
    let started = Instant::now();
    let (operations, bytes) = work.await?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Sample {
        operations,
        bytes,
        seconds,
        server_cpu_seconds: server.processor_time()? - of_server,
        client_cpu_seconds: processor_time(std::process::id())? - own,
    })
}
