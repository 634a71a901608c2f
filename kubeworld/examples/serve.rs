//! Serves an empty world over plain HTTP on loopback: `cargo run -p kubeworld --example serve -- 8001`, and then
//! `kubectl --server http://127.0.0.1:8001 get namespaces`.

use std::sync::Arc;

use jiff::Timestamp;
use kubeworld::controllers::{Controllers, Settings};
use kubeworld::serve::{Config, Server};
use kubeworld::{Api, Options, User};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8001);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let api = Api::new(Options::default(), Timestamp::now());
    let config = Config { nobody: Some(User::admin()), ..Config::default() };
    let server = Server::start(api.clone(), listener, config, Arc::new(Timestamp::now))?;
    let settings = Settings { load_balancers: vec![std::net::Ipv4Addr::LOCALHOST.into()], ..Settings::default() };
    server.control(Controllers::new(api, settings), Arc::new(Timestamp::now));
    eprintln!("kubectl --server http://{} get nodes", server.address());
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}
