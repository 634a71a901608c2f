//! How a server ends.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::api::Options;
use crate::cluster::{Cluster, ClusterSpec};
use crate::controllers::Settings;

use super::*;

/// Nothing here takes time; this only ends a test that would never end.
const PATIENCE: Duration = Duration::from_secs(30);

async fn cluster() -> Cluster {
    let spec = ClusterSpec {
        name: "test".to_owned(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        reached_at: None,
        options: Options::default(),
        settings: Settings::default(),
    };
    Cluster::start(spec, Arc::new(Timestamp::now)).await.unwrap()
}

/// Whether the other side hangs up.
async fn is_hung_up(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.is_ok_and(|read| read.unwrap_or(0) == 0)
}

#[tokio::test]
async fn who_never_says_a_word_does_not_hold_up_the_end() {
    let cluster = cluster().await;
    let mut silent = TcpStream::connect(cluster.address()).await.unwrap();
    // Connections are taken in order, so with another one served this one is taken.
    let mut other = TcpStream::connect(cluster.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut other, b"no TLS\r\n\r\n").await.unwrap();
    tokio::time::timeout(PATIENCE, other.read(&mut [0])).await.unwrap().unwrap();
    tokio::time::timeout(PATIENCE, cluster.stop()).await.unwrap();
    assert!(is_hung_up(&mut silent).await);
}

#[tokio::test]
async fn a_dropped_server_serves_nobody() {
    let cluster = cluster().await;
    let address = cluster.address();
    let mut there = TcpStream::connect(address).await.unwrap();
    drop(cluster);
    assert!(is_hung_up(&mut there).await);
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
}
