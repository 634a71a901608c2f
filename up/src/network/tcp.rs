//! A relay of connections: HTTP, TLS, and DNS over TCP.
//!
//! What is cut is held back, as TCP would send it again and again: a client of a cut server has a connection that says
//! nothing, and goes on where it was once the way is mended. One that gives up meanwhile leaves nothing behind.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Served, Way, known_by};

/// What is read at one time.
const CHUNK: usize = 16 * 1024;
/// Chunks on their way in one direction: a megabyte, which at 200 ms makes 5 MB/s.
const ON_THE_WAY: usize = 64;

/// A relay that does not relay yet.
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
    address: SocketAddr,
    served: Served,
}

impl Relay {
    /// Listens at `listen`, where clients look for the server.
    ///
    /// # Errors
    /// When the address is taken, or not there.
    pub async fn bind(listen: SocketAddr, served: Served) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        Ok(Self { address: listener.local_addr()?, listener, served })
    }

    /// Where it listens.
    #[cfg(test)]
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Relays until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            while tasks.try_join_next().is_some() {}
            match accepted {
                Ok((stream, client)) => {
                    let from = known_by(client, self.address);
                    tasks.spawn(connection(stream, from, self.served.way(from), self.served.address));
                }
                Err(error) => {
                    // Too many open files, most likely; others may close some.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn connection(client: TcpStream, from: IpAddr, way: Way, server: SocketAddr) {
    // The kernel has answered the client's SYN at once; the first bytes are late by what that would have taken.
    let opened = Instant::now() + way.delay * 2;
    let Ok(server) = connected(from, server).await else { return };
    for stream in [&client, &server] {
        // Bytes are passed on as they come.
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = carry(&way, opened, true, from_client, to_server);
    let back = carry(&way, Instant::now(), false, from_server, to_client);
    // Each direction ends by itself; one that fails ends both.
    let _ = tokio::try_join!(there, back);
}

async fn connected(from: IpAddr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(server).await
}

/// Carries one direction to its end. Fails when the client gives up while the way is cut: the server shall not learn of
/// it before that is mended, but nobody waits for that any more.
async fn carry(
    way: &Way,
    not_before: Instant,
    from_client: bool,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    let (sent, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let read = async move {
        loop {
            let mut bytes = vec![0; CHUNK];
            let length = from.read(&mut bytes).await?;
            if length == 0 {
                let given_up = from_client && !way.is_open();
                return if given_up { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) };
            }
            bytes.truncate(length);
            let at = Instant::now().max(not_before) + way.delay;
            if sent.send((at, bytes)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some((at, bytes)) = arriving.recv().await {
            sleep_until(at).await;
            way.open().await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}
