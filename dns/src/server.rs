//! The sockets: UDP threads and TCP, both over [`crate::answer::answer`].
//!
//! [`Server::start`] binds everything before it serves anything, so that a node either listens everywhere it was told to
//! or says where it cannot. Absent on purpose: what to answer, and encrypted transports.

mod tcp;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use policies::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::snapshot::Store;

/// What to listen on, and how much to allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses for UDP and TCP alike. Each must be specific (no 0.0.0.0 on a machine with several addresses): a reply
    /// leaves from the address that its socket is bound to.
    pub listen: Vec<SocketAddr>,
    /// UDP threads for each address; each has a socket of its own (SO_REUSEPORT).
    pub udp_threads: usize,
    /// TCP connections at one time, over all addresses; above it new ones are closed at once.
    pub tcp_connections: usize,
    /// How long a TCP connection may say nothing, or not take what it is sent.
    pub tcp_idle: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            // One core answers some 300,000 queries a second; two keep one busy thread from being all there is.
            udp_threads: 2,
            // RFC 7766 leaves it to us; a connection costs a few kilobytes here.
            tcp_connections: 1_024,
            // RFC 7766 §6.2.3: "of the order of a few seconds".
            tcp_idle: Duration::from_secs(10),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address could not be bound.
    #[error("listen on {transport} {address}")]
    Bind {
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("start a thread for UDP {address}")]
    Thread {
        /// For which address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A running server. Dropping it stops the UDP threads and TCP without waiting for them.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    udp: Vec<udp::Thread>,
    tcp: Vec<tokio::task::JoinHandle<()>>,
    stop: CancellationToken,
}

impl Server {
    /// Binds and serves. Call it within a tokio runtime, which TCP runs on.
    ///
    /// A port of zero takes a free one, the same for UDP and TCP; see [`Server::addresses`].
    ///
    /// # Errors
    /// When one of the addresses cannot be bound; then none is served.
    pub fn start(store: &Arc<Store>, config: &Config) -> Result<Self, ServerError> {
        let clock = Clock::start();
        let (mut sockets, mut listeners, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for address in &config.listen {
            let (address, listener) = tcp::bind(*address)?;
            for _ in 0..config.udp_threads.max(1) {
                sockets.push((address, udp::bind(address)?));
            }
            listeners.push(listener);
            addresses.push(address);
        }
        let stop = CancellationToken::new();
        let mut server = Self { addresses, udp: Vec::new(), tcp: Vec::new(), stop };
        for (address, socket) in sockets {
            server.udp.push(udp::Thread::start(address, socket, store.clone(), clock)?);
        }
        let limits = Arc::new(tcp::Limits::new(config));
        for listener in listeners {
            let serve = tcp::serve(listener, store.clone(), clock, limits.clone(), server.stop.clone());
            server.tcp.push(tokio::spawn(serve));
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops, and returns when every thread and connection has ended: queries that were read are answered, connections
    /// are closed after the answer that they wait for.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for listener in self.tcp.drain(..) {
            // A task that panicked has nothing left to stop.
            let _ = listener.await;
        }
        let threads = std::mem::take(&mut self.udp);
        let _ = tokio::task::spawn_blocking(move || drop(threads)).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Time since the server started, which is what [`crate::answer::Peer::now`] counts from.
#[derive(Clone, Copy, Debug)]
struct Clock(std::time::Instant);

impl Clock {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn now(self) -> Instant {
        // 584 years fit.
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }
}

#[cfg(test)]
mod tests;
