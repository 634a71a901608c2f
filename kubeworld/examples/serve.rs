//! Serves an empty world over plain HTTP on loopback: `cargo run -p kubeworld --example serve -- 8001`, and then
//! `kubectl --server http://127.0.0.1:8001 get namespaces`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kubeworld::controllers::{Controllers, Settings};
use kubeworld::serve::{Config, Server};
use kubeworld::{Api, Options, User};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8001);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let tokens = BTreeMap::from([("admin".to_owned(), User::admin())]);
    let api = Api::new(Options::default(), Timestamp::now());
    let server = Server::start(api.clone(), listener, Config { tls: None, tokens }, Arc::new(Timestamp::now))?;
    let settings = Settings { load_balancers: vec![std::net::Ipv4Addr::LOCALHOST.into()], ..Settings::default() };
    server.control(Controllers::new(api, settings), Arc::new(Timestamp::now));
    eprintln!("serving on http://{}; the token of the admin is `admin`", server.address());
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}
