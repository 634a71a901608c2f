//! Users as they are: each asks a resolver that keeps an answer for its TTL, connects to what it says, gets one page, and
//! comes again. What became of each visit is kept.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use world::resolver::Resolver;

/// From one visit of a user to the next: with the some fifteen users of a test hundreds of visits a second, which two
/// busy cores can serve.
const EVERY: Duration = Duration::from_millis(50);
/// A page that takes longer than this has failed. It takes milliseconds; only a door that is gone is as slow.
const PAGE_WITHIN: Duration = Duration::from_secs(20);

/// One visit.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// When the address was taken from the resolver, just before the connection.
    pub(crate) at: Instant,
    /// The member that is nearest to the user.
    pub(crate) home: String,
    /// The user, counted within a home.
    pub(crate) user: usize,
    /// The cluster that gave the page, or why there was none.
    pub(crate) served: Result<String, String>,
}

/// Where users are, and how many.
pub(crate) struct Place {
    /// The member that is nearest.
    pub(crate) home: String,
    /// Their address, as resolvers tell it.
    pub(crate) client: IpAddr,
    /// How many.
    pub(crate) users: usize,
}

/// Users on their way, until it is dropped.
pub(crate) struct Crowd {
    visits: Arc<Mutex<Vec<Visit>>>,
    _users: JoinSet<()>,
}

impl Crowd {
    /// Sends users to `host` behind doors on `port`; those of one place ask the DNS nodes in turn.
    pub(crate) async fn start(nodes: &[SocketAddr], host: &str, port: u16, places: &[Place]) -> anyhow::Result<Self> {
        let visits = Arc::new(Mutex::new(vec![]));
        let mut users = JoinSet::new();
        for place in places {
            for (user, node) in (0..place.users).zip(nodes.iter().cycle()) {
                let resolver = Cache { resolver: Resolver::new(*node, host).await?, client: place.client, kept: None };
                let (home, visits, host) = (place.home.clone(), Arc::clone(&visits), host.to_owned());
                users.spawn(come_again(resolver, host, port, home, user, visits));
            }
        }
        ensure!(!users.is_empty(), "a crowd of nobody");
        Ok(Self { visits, _users: users })
    }

    /// All visits so far, in the order of their ends.
    pub(crate) fn visits(&self) -> Vec<Visit> {
        lock(&self.visits).clone()
    }

    /// Where each user of a home was served last, among the visits that began at or after this moment.
    pub(crate) fn last_served(&self, home: &str, since: Instant) -> BTreeMap<usize, String> {
        let visits = lock(&self.visits);
        let of_home = visits.iter().filter(|visit| visit.home == home && visit.at >= since);
        of_home.filter_map(|visit| Some((visit.user, visit.served.clone().ok()?))).collect()
    }
}

async fn come_again(
    mut resolver: Cache,
    host: String,
    port: u16,
    home: String,
    user: usize,
    visits: Arc<Mutex<Vec<Visit>>>,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let address = resolver.look_up().await;
        let at = Instant::now();
        let served = match address {
            Ok(address) => page(SocketAddr::new(address, port), &host).await,
            Err(error) => Err(error),
        };
        let served = served.map_err(|error| format!("{error:#}"));
        lock(&visits).push(Visit { at, home: home.clone(), user, served });
    }
}

/// A user's resolver.
struct Cache {
    resolver: Resolver,
    client: IpAddr,
    /// An answer, and until when it is good.
    kept: Option<(IpAddr, Instant)>,
}

impl Cache {
    async fn look_up(&mut self) -> anyhow::Result<IpAddr> {
        if let Some((address, until)) = self.kept
            && Instant::now() < until
        {
            return Ok(address);
        }
        // Counted from before the question: so an answer is never kept longer than its TTL after the node gave it.
        let asked = Instant::now();
        let answer = self.resolver.ask(self.client).await?;
        let address = *answer.addresses.first().context("an answer without an address")?;
        let ttl = Duration::from_secs(answer.ttl.context("an answer without a TTL")?.into());
        self.kept = Some((address, asked + ttl));
        Ok(address)
    }
}

/// One GET on a connection of its own: the cluster that the page says it is of.
async fn page(door: SocketAddr, host: &str) -> anyhow::Result<String> {
    let get = async {
        let mut stream = TcpStream::connect(door).await.with_context(|| format!("connecting to {door}"))?;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.with_context(|| format!("reading from {door}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{door} said {answer}");
        let page: serde_json::Value = serde_json::from_str(body).with_context(|| format!("a page {body:?}"))?;
        Ok(page["cluster"].as_str().context("a page without its cluster")?.to_owned())
    };
    tokio::time::timeout(PAGE_WITHIN, get).await.with_context(|| format!("no page from {door}"))?
}

fn lock(visits: &Mutex<Vec<Visit>>) -> MutexGuard<'_, Vec<Visit>> {
    visits.lock().unwrap_or_else(PoisonError::into_inner)
}
