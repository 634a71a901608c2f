//! A relay of datagrams: DNS and QUIC.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Served, Way, known_by};

/// A client that says nothing for so long has gone. QUIC connections of ours beat far more often; a question by DNS is
/// over in seconds.
const IDLE: Duration = Duration::from_secs(60);
/// Clients at one time: each has a socket. A world for trying things has some dozens.
const CLIENTS_MAX: usize = 512;
/// Datagrams on their way in one direction; more are lost, as in any network. At 100 ms of delay that is as many as
/// 10,000 a second.
const ON_THE_WAY: usize = 1024;
/// The largest datagram of IPv4.
const DATAGRAM_MAX: usize = 65_535;

/// A relay that does not relay yet.
#[derive(Debug)]
pub struct Relay {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    served: Served,
}

/// A datagram and when it arrives.
type Sent = (Instant, Vec<u8>);

impl Relay {
    /// Listens at `listen`, where clients look for the server.
    ///
    /// # Errors
    /// When the address is taken, or not there.
    pub async fn bind(listen: SocketAddr, served: Served) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(listen).await?);
        Ok(Self { address: socket.local_addr()?, socket, served })
    }

    /// Where it listens.
    #[cfg(test)]
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Relays until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut flows: HashMap<SocketAddr, mpsc::Sender<Sent>> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let (length, client) = tokio::select! {
                () = stop.cancelled() => return,
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok(received) => received,
                    // An earlier datagram met a closed port; the next one may not.
                    Err(_) => continue,
                },
            };
            while tasks.try_join_next().is_some() {}
            let from = known_by(client, self.address);
            let way = self.served.way(from);
            if !way.is_open() {
                continue;
            }
            let sent = (Instant::now() + way.delay, buffer[..length].to_vec());
            let sent = match flows.get(&client).map(|flow| flow.try_send(sent)) {
                Some(Ok(()) | Err(mpsc::error::TrySendError::Full(_))) => continue,
                Some(Err(mpsc::error::TrySendError::Closed(sent))) => sent,
                None => (Instant::now() + way.delay, buffer[..length].to_vec()),
            };
            flows.retain(|_, flow| !flow.is_closed());
            if flows.len() >= CLIENTS_MAX {
                tracing::warn!(%client, "too many clients at one time; a datagram is lost");
                continue;
            }
            let Ok(to_server) = connected(from, self.served.address).await else {
                tracing::debug!(%client, server = %self.served.address, "no way to the server");
                continue;
            };
            let (flow, forth) = mpsc::channel(ON_THE_WAY);
            if flow.try_send(sent).is_ok() {
                flows.insert(client, flow);
                tasks.spawn(carry(way, self.socket.clone(), client, Arc::new(to_server), forth));
            }
        }
    }
}

async fn connected(from: IpAddr, server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// Carries what one client and the server say to each other, until neither says anything any more.
async fn carry(
    way: Way,
    to_client: Arc<UdpSocket>,
    client: SocketAddr,
    to_server: Arc<UdpSocket>,
    mut forth: mpsc::Receiver<Sent>,
) {
    let (answers, mut back) = mpsc::channel::<Sent>(ON_THE_WAY);
    let there = async {
        while let Ok(Some((at, bytes))) = timeout(IDLE, forth.recv()).await {
            sleep_until(at).await;
            if way.is_open() {
                // A closed port is the server's silence.
                let _ = to_server.send(&bytes).await;
            }
        }
    };
    let here = async {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            match to_server.recv(&mut buffer).await {
                Ok(length) if way.is_open() => {
                    let _ = answers.try_send((Instant::now() + way.delay, buffer[..length].to_vec()));
                }
                Ok(_) => {}
                // Nobody listens there at the moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let home = async {
        while let Some((at, bytes)) = back.recv().await {
            sleep_until(at).await;
            if way.is_open() {
                let _ = to_client.send_to(&bytes, client).await;
            }
        }
    };
    tokio::select! { () = there => {}, () = here => {}, () = home => {} }
}
