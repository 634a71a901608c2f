//! A thousand watches that wait: each hears of what happens, none is in the way of others, and a server that stops does
//! not wait for them.

use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use kubeworld::serve::{Config, Server};
use kubeworld::{Api, Options, User};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// As many as a client of Go opens over one connection before it opens the next.
const STREAMS: usize = 100;
const CONNECTIONS: usize = 10;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn connect(server: &Server) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(server.address()).await?;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(
    to: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Response<Incoming>> {
    let body = body.map_or_else(Full::default, |body| Full::from(body.to_string()));
    let request = Request::builder().method(method).uri(format!("http://world{path}"));
    let request = request.header("content-type", "application/json").body(body)?;
    to.ready().await?;
    Ok(to.send_request(request).await?)
}

fn map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_watches_hear_what_happens_and_hold_nothing_up() -> anyhow::Result<()> {
    let api = Api::new(Options::default(), Timestamp::now());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let config = Config { nobody: Some(User::admin()), ..Config::default() };
    let server = Server::start(api, listener, config, Arc::new(Timestamp::now))?;
    let mut writer = connect(&server).await?;
    let list = send(&mut writer, "GET", MAPS, None).await?.into_body().collect().await?.to_bytes();
    let list: Value = serde_json::from_slice(&list)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a revision")?;
    let path = format!("{MAPS}?watch=true&resourceVersion={version}");

    let mut watches = vec![];
    for _ in 0..CONNECTIONS {
        let mut connection = connect(&server).await?;
        for _ in 0..STREAMS {
            let response = send(&mut connection, "GET", &path, None).await?;
            assert_eq!(response.status(), StatusCode::OK);
            watches.push(response.into_body());
        }
    }
    // What is not watched wakes nobody, and is answered as ever.
    let other = json!({ "metadata": { "name": "other" } });
    let other = send(&mut writer, "POST", "/api/v1/namespaces", Some(other)).await?;
    assert_eq!(other.status(), StatusCode::CREATED);
    for name in ["one", "two"] {
        let created = send(&mut writer, "POST", MAPS, Some(map(name))).await?;
        assert_eq!(created.status(), StatusCode::CREATED);
    }
    for watch in &mut watches {
        let mut heard = String::new();
        while heard.lines().count() < 2 {
            let frame = watch.frame().await.context("the watch goes on")??;
            heard += std::str::from_utf8(&frame.into_data().ok().context("data")?)?;
        }
        let events: Vec<Value> = heard.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let names: Vec<_> = events.iter().map(|event| (&event["type"], &event["object"]["metadata"]["name"])).collect();
        assert_eq!(names, [(&json!("ADDED"), &json!("one")), (&json!("ADDED"), &json!("two"))]);
    }
    server.stop().await;
    for watch in watches {
        // It ends, with a word or without, and has nothing more to tell.
        let rest = watch.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        assert!(rest.is_empty(), "{rest:?}");
    }
    Ok(())
}
