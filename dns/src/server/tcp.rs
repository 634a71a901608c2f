//! TCP (RFC 7766): messages framed by two bytes of length, any number on one connection, answered in order.
//!
//! Answering takes microseconds and never waits, so in order is as fast as out of order. What a client can hold is
//! bounded: the number of connections, the time each may be silent or refuse to read, and one message of buffer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Clock, Config, ServerError};
use crate::answer::{Peer, Scratch, Transport, answer};
use crate::snapshot::Store;

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 256;

/// How long to wait after accepting failed (out of file descriptors): the next attempt would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all listeners share.
#[derive(Debug)]
pub(super) struct Limits {
    connections: Arc<Semaphore>,
    idle: Duration,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        Self { connections: Arc::new(Semaphore::new(config.tcp_connections)), idle: config.tcp_idle }
    }
}

/// Binds, and returns the address with the port that it got.
pub(super) fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), ServerError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for old connections to be forgotten.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok((listener.local_addr()?, listener))
    };
    bind().map_err(|source| ServerError::Bind { transport: "TCP", address, source })
}

pub(super) async fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    clock: Clock,
    limits: Arc<Limits>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, addr)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Above the limit the connection is dropped here: its client asks another server.
        let Ok(permit) = limits.connections.clone().try_acquire_owned() else {
            continue;
        };
        let (store, stop, idle) = (store.clone(), stop.clone(), limits.idle);
        connections.spawn(async move {
            // Whatever ends a connection is its client's doing.
            let _ = connection(stream, addr, &store, clock, idle, &stop).await;
            drop(permit);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: TcpStream,
    addr: SocketAddr,
    store: &Store,
    clock: Clock,
    idle: Duration,
    stop: &CancellationToken,
) -> io::Result<()> {
    // Small replies must not wait for more to come.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let mut stream = BufReader::new(stream);
    let (mut query, mut reply, mut scratch) = (Vec::new(), vec![0; 2 + usize::from(u16::MAX)], Scratch::default());
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            read = timeout(idle, message(&mut stream, &mut query)) => read??,
        }
        let peer = Peer { addr, local, transport: Transport::Tcp, now: clock.now() };
        let length = answer(&store.view(), &peer, &mut scratch, &query, &mut reply[2..]);
        if length == 0 {
            // What deserves no reply over UDP deserves no connection.
            return Ok(());
        }
        // A reply has at most 65,535 bytes.
        reply[..2].copy_from_slice(&(length as u16).to_be_bytes());
        timeout(idle, stream.get_mut().write_all(&reply[..2 + length])).await??;
    }
}

/// Reads one message; the end of the stream is an error like any other.
async fn message(stream: &mut BufReader<TcpStream>, query: &mut Vec<u8>) -> io::Result<()> {
    let length = stream.read_u16().await?;
    query.resize(usize::from(length), 0);
    stream.read_exact(query).await.map(drop)
}
