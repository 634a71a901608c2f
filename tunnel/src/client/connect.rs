//! The sockets of a link, and one attempt to reach an address by them: resolve, choose the family, shake hands.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::Timing;
use crate::identity::SERVER_NAME;
use crate::message::{Kind, StreamHead};
use crate::transport::quic::{bind_udp, client_endpoint, ending};
use crate::transport::{Connection, Ending, Stream, StreamError, write_frame};

/// One socket per address family, made when first needed.
pub(super) struct Endpoints {
    /// The address to speak from, for its family.
    source: Option<IpAddr>,
    v4: Option<quinn::Endpoint>,
    v6: Option<quinn::Endpoint>,
}

impl Endpoints {
    pub(super) fn new(source: Option<IpAddr>) -> Self {
        Self { source, v4: None, v6: None }
    }

    pub(super) fn for_peer(&mut self, peer: SocketAddr) -> io::Result<quinn::Endpoint> {
        let from = self.any_port(peer.is_ipv6());
        let slot = if peer.is_ipv6() { &mut self.v6 } else { &mut self.v4 };
        match slot {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(slot.insert(client_endpoint(from)?).clone()),
        }
    }

    /// Takes new sockets in place of those that are open.
    pub(super) fn rebind(&self) -> io::Result<()> {
        for endpoint in self.all() {
            endpoint.rebind(bind_udp(self.any_port(endpoint.local_addr()?.is_ipv6()))?)?;
        }
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<quinn::Endpoint> {
        [&self.v4, &self.v6].into_iter().flatten().cloned().collect()
    }

    fn any_port(&self, v6: bool) -> SocketAddr {
        let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        SocketAddr::new(self.source.filter(|source| source.is_ipv6() == v6).unwrap_or(any), 0)
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot resolve {hub}")]
    Resolve {
        hub: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("cannot open a socket")]
    Socket(#[source] io::Error),
    #[error("cannot dial")]
    Dial(#[source] quinn::ConnectError),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("no connection")]
    Ended(#[source] Ending),
}

pub(super) async fn connect(
    hub: &str,
    round: usize,
    config: quinn::ClientConfig,
    timing: &Timing,
    endpoint: impl Fn(SocketAddr) -> io::Result<quinn::Endpoint>,
) -> Result<quinn::Connection, ConnectError> {
    let work = async {
        let resolved = tokio::net::lookup_host(hub).await;
        let addresses: Vec<SocketAddr> =
            resolved.map_err(|source| ConnectError::Resolve { hub: hub.to_owned(), source })?.collect();
        let address = addresses.get(round % addresses.len().max(1)).copied();
        let address = address.ok_or_else(|| ConnectError::NoAddress(hub.to_owned()))?;
        let connecting = endpoint(address)
            .map_err(ConnectError::Socket)?
            .connect_with(config, address, SERVER_NAME)
            .map_err(ConnectError::Dial)?;
        connecting.await.map_err(|error| ConnectError::Ended(ending(error)))
    };
    tokio::time::timeout(timing.handshake, work).await.map_err(|_| ConnectError::Late(timing.handshake))?
}

/// A stream on a connection, with its head.
pub(super) async fn open(connection: &dyn Connection, kind: Kind) -> Result<Stream, StreamError> {
    let mut stream = connection.open_bi().await.map_err(StreamError::Connection)?;
    write_frame(&mut *stream.send, &StreamHead::of(kind)).await?;
    Ok(stream)
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
