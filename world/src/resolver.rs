//! A resolver's side of DNS: one question over UDP with a client subnet (RFC 7871), and what came back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinEncodable as _};
use serde::Serialize;
use tokio::net::UdpSocket;

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The response code; 0 is NOERROR.
    pub code: u16,
    /// The addresses, sorted.
    pub addresses: Vec<IpAddr>,
    /// The time to live of the first record, in seconds.
    pub ttl: Option<u32>,
    /// SCOPE PREFIX-LENGTH of the client subnet option.
    pub scope: Option<u8>,
}

/// Asks one server for the A records of a host on behalf of clients.
#[derive(Debug)]
pub struct Resolver {
    socket: UdpSocket,
    host: Name,
    next: u16,
}

impl Resolver {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// When `host` is no name, or there is no way to the server.
    pub async fn new(server: SocketAddr, host: &str) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.context("opening a socket")?;
        socket.connect(server).await.with_context(|| format!("a way to {server}"))?;
        Ok(Self { socket, host: Name::from_str(host).with_context(|| format!("{host:?} is no name"))?, next: 1 })
    }

    /// Asks up to three times, as a resolver does.
    ///
    /// # Errors
    /// When no answer comes, or one that is no NOERROR.
    pub async fn ask(&mut self, client: IpAddr) -> anyhow::Result<Answer> {
        let mut last = None;
        // Loopback loses datagrams only when a buffer is full; a resolver would ask again, too.
        for _ in 0..3 {
            match tokio::time::timeout(Duration::from_secs(1), self.ask_once(client)).await {
                Ok(answer) => {
                    let answer = answer?;
                    ensure!(answer.code == 0, "answered with code {}", answer.code);
                    return Ok(answer);
                }
                Err(late) => last = Some(late),
            }
        }
        Err(last.context("unreachable")?).with_context(|| format!("no answer for {client}"))
    }

    /// Asks once and waits for ever; whatever the response code, it is an answer.
    ///
    /// # Errors
    /// When what comes is no DNS, or the server's host refuses.
    pub async fn ask_once(&mut self, client: IpAddr) -> anyhow::Result<Answer> {
        self.next = self.next.wrapping_add(1);
        self.socket.send(&self.query(client)?).await?;
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).await?;
            let message = Message::from_bytes(&buffer[..length])?;
            // Another number is the late answer to an earlier question.
            if message.metadata.id == self.next {
                return Ok(read(&message));
            }
        }
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
}

fn read(message: &Message) -> Answer {
    let mut addresses: Vec<IpAddr> = message.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
    addresses.sort();
    let option = message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
    let scope = if let Some(EdnsOption::Subnet(subnet)) = option { Some(subnet.scope_prefix()) } else { None };
    let ttl = message.answers.first().map(|record| record.ttl);
    Answer { code: message.metadata.response_code.into(), addresses, ttl, scope }
}
