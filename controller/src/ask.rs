//! Questions of operators to DNS nodes, passed on over the tunnel, since nobody but the hub may be able to reach a node:
//! `GET /explain?host=HOST&client=IP` on the hub's admin port, with `node=NAME` for one of them.

use std::collections::BTreeMap;
use std::time::Duration;

use api::wire::Explained;
use axum::Router;
use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};

/// How long an operator waits: a node answers in milliseconds, the way there and back is at most some hundred.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions that wait for the hub to begin to lead.
const WAITING: usize = 16;

/// One question, for the loop that has the sessions.
pub(crate) struct Asked {
    /// Which node; `None`: any.
    pub(crate) node: Option<String>,
    /// The query as it came, for the node to read.
    pub(crate) query: String,
    /// Where the answer goes: an HTTP status and a body.
    pub(crate) reply: oneshot::Sender<(u16, String)>,
}

/// The route, and the questions that come by it.
pub(crate) fn route() -> (Router, mpsc::Receiver<Asked>) {
    let (asks, asked) = mpsc::channel(WAITING);
    let answer = async move |RawQuery(query): RawQuery| {
        let query = query.unwrap_or_default();
        let named = query.split('&').find_map(|pair| pair.strip_prefix("node="));
        let node = named.filter(|name| !name.is_empty()).map(str::to_owned);
        let (reply, answered) = oneshot::channel();
        let passed = asks.send(Asked { node, query, reply });
        let answered = async { passed.await.ok().map(|()| answered)?.await.ok() };
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Some((status, body))) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                let kind = if status.is_success() { "application/json" } else { "text/plain; charset=utf-8" };
                (status, [(header::CONTENT_TYPE, kind)], body).into_response()
            }
            Ok(None) | Err(_) => {
                let text = "no DNS node answered: see /readyz whether this hub leads, and `isochrone status`\n";
                (StatusCode::GATEWAY_TIMEOUT, text).into_response()
            }
        }
    };
    (Router::new().route("/explain", get(answer)), asked)
}

/// Questions under way, each with the node that may answer it.
#[derive(Default)]
pub(crate) struct Pending {
    last: u64,
    waiting: BTreeMap<u64, (String, oneshot::Sender<(u16, String)>)>,
}

impl Pending {
    /// A question went to this node; its id.
    pub(crate) fn add(&mut self, node: &str, reply: oneshot::Sender<(u16, String)>) -> u64 {
        self.waiting.retain(|_, (_, reply)| !reply.is_closed());
        self.last += 1;
        self.waiting.insert(self.last, (node.to_owned(), reply));
        self.last
    }

    /// A node answered; what was not asked of it is nobody's answer.
    pub(crate) fn answer(&mut self, node: &str, explained: Explained) {
        let Explained { id, status, body } = explained;
        if self.waiting.get(&id).is_some_and(|(asked, _)| asked == node)
            && let Some((_, reply)) = self.waiting.remove(&id)
        {
            // Whoever asked may have gone.
            let _ = reply.send((u16::try_from(status).unwrap_or_default(), body));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_node_that_was_asked_answers_and_once() {
        let mut pending = Pending::default();
        let (reply, mut answered) = oneshot::channel();
        let id = pending.add("ns1", reply);
        let explained = |body: &str| Explained { id, status: 200, body: body.to_owned() };
        pending.answer("ns2", explained("forged"));
        assert!(answered.try_recv().is_err());
        pending.answer("ns1", Explained { id: id + 1, ..explained("another's") });
        assert!(answered.try_recv().is_err());
        pending.answer("ns1", explained("right"));
        assert_eq!(answered.try_recv(), Ok((200, "right".to_owned())));
        pending.answer("ns1", explained("late"));
        // Those whose asker has gone are forgotten with the next one.
        let (reply, gone) = oneshot::channel();
        pending.add("ns1", reply);
        drop(gone);
        let (reply, _still_there) = oneshot::channel();
        pending.add("ns1", reply);
        assert_eq!(pending.waiting.len(), 1);
    }
}
