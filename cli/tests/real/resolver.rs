//! A resolver's side of DNS, for tests: one question over UDP with a client subnet, and what came back.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinEncodable as _};
use tokio::net::UdpSocket;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The addresses, sorted.
    pub(crate) addresses: Vec<IpAddr>,
    /// SCOPE PREFIX-LENGTH of the client subnet option (RFC 7871).
    pub(crate) scope: Option<u8>,
}

/// Asks one server for the A records of `host` on behalf of `client`.
pub(crate) struct Resolver {
    socket: UdpSocket,
    host: Name,
    next: u16,
}

impl Resolver {
    pub(crate) async fn new(server: SocketAddr, host: &str) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(server).await?;
        Ok(Self { socket, host: Name::from_str(host)?, next: 1 })
    }

    pub(crate) async fn ask(&mut self, client: IpAddr) -> anyhow::Result<Answer> {
        let mut last = None;
        // Loopback loses datagrams only when a buffer is full; a resolver would ask again, too.
        for _ in 0..3 {
            self.next = self.next.wrapping_add(1);
            self.socket.send(&self.query(client)?).await?;
            match tokio::time::timeout(Duration::from_secs(1), self.receive()).await {
                Ok(answer) => return answer,
                Err(late) => last = Some(late),
            }
        }
        Err(last.context("unreachable")?).with_context(|| format!("no answer for {client}"))
    }

    fn query(&self, client: IpAddr) -> anyhow::Result<Vec<u8>> {
        let source = if client.is_ipv4() { 24 } else { 56 };
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(client, source, 0)));
        let mut query = Message::new(self.next, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(self.host.clone(), RecordType::A));
        query.set_edns(edns);
        Ok(query.to_bytes()?)
    }

    async fn receive(&self) -> anyhow::Result<Answer> {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).await?;
            let message = Message::from_bytes(&buffer[..length])?;
            if message.metadata.id != self.next {
                continue;
            }
            if message.metadata.response_code != hickory_proto::op::ResponseCode::NoError {
                bail!("answered {}", message.metadata.response_code);
            }
            let mut addresses: Vec<IpAddr> =
                message.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
            addresses.sort();
            let option = message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
            let scope = if let Some(EdnsOption::Subnet(subnet)) = option { Some(subnet.scope_prefix()) } else { None };
            return Ok(Answer { addresses, scope });
        }
    }
}
