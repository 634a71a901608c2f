//! UDP: each thread has a socket of its own, reads one query, answers it, and goes on.
//!
//! Blocking threads rather than tasks: there is nothing to do between two datagrams, and a thread that owns its socket
//! needs no lock and no wake-up. The kernel spreads resolvers over the sockets (SO_REUSEPORT).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use socket2::{Domain, Protocol, Socket, Type};

use super::{Clock, ServerError};
use crate::answer::{Peer, REPLY_UDP, Scratch, Transport, answer};
use crate::snapshot::Store;

/// Queries larger than this are cut by the kernel and fail to parse, which is the right answer to them: real ones have
/// less than 500 bytes.
const QUERY_MAX: usize = 4_096;

/// Receive buffer asked for. The default of 208 KiB overflows when a thread is off its core for a few milliseconds; the
/// kernel grants what `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 4 << 20;

pub(super) fn bind(address: SocketAddr) -> Result<UdpSocket, ServerError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A smaller buffer than asked for serves as well.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.bind(&address.into())?;
        Ok(UdpSocket::from(socket))
    };
    bind().map_err(|source| ServerError::Bind { transport: "UDP", address, source })
}

/// A thread that answers; dropping it stops and joins it.
#[derive(Debug)]
pub(super) struct Thread {
    socket: UdpSocket,
    stopping: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    pub(super) fn start(
        address: SocketAddr,
        socket: UdpSocket,
        store: Arc<Store>,
        clock: Clock,
    ) -> Result<Self, ServerError> {
        let start = || {
            let (stopping, own) = (Arc::new(AtomicBool::new(false)), socket.try_clone()?);
            let seen = stopping.clone();
            let run = move || run(&socket, address, &store, clock, &seen);
            let handle = std::thread::Builder::new().name(format!("dns-udp-{}", address.port())).spawn(run)?;
            Ok(Self { socket: own, stopping, handle: Some(handle) })
        };
        start().map_err(|source| ServerError::Thread { address, source })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread out of its read; an unconnected socket reports an error and does it all the same.
        let _ = socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Both);
        if let Some(handle) = self.handle.take() {
            // It ends by itself whatever happened in it.
            let _ = handle.join();
        }
    }
}

fn run(socket: &UdpSocket, local: SocketAddr, store: &Store, clock: Clock, stopping: &AtomicBool) {
    let (mut query, mut reply, mut scratch) = ([0; QUERY_MAX], [0; REPLY_UDP], Scratch::default());
    while !stopping.load(Ordering::Acquire) {
        let (length, addr) = match socket.recv_from(&mut query) {
            Ok(received) => received,
            // Errors of earlier replies (nobody listens there any more) come up here, and are nobody's concern; a
            // broken socket would spin, so each one yields.
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    std::thread::yield_now();
                }
                continue;
            }
        };
        let peer = Peer { addr, local, transport: Transport::Udp, now: clock.now() };
        let length = answer(&store.view(), &peer, &mut scratch, &query[..length], &mut reply);
        if length > 0 {
            // A reply that cannot be sent is a lost datagram; the resolver asks again.
            let _ = socket.send_to(&reply[..length], addr);
        }
    }
}
