//! `isochrone explain`: a DNS node's own words, asked over its admin port or through the hub, or read from its state
//! directory.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::print;
use crate::args::ExplainArgs;

pub(super) async fn run(args: ExplainArgs) -> Result<()> {
    let explanation = match &args.state {
        Some(dir) => {
            let explained = ::dns::runtime::explain_offline(dir, &args.host, args.client, &args.assume);
            serde_json::to_value(explained.with_context(|| format!("cannot explain from {}", dir.display()))?)?
        }
        None => ask(&args).await?,
    };
    print::value(&explanation, args.output, || table(&explanation))
}

async fn ask(args: &ExplainArgs) -> Result<Value> {
    let mut pairs = vec![("host", args.host.clone()), ("client", args.client.to_string())];
    pairs.extend(args.assume.iter().map(|assume| ("assume", assume.clone())));
    pairs.extend(args.at.iter().map(|name| ("node", name.clone())));
    let query = serde_urlencoded::to_string(pairs)?;
    let (option, address) = args.hub.as_ref().map_or(("--node", &args.node), |hub| ("--hub", hub));
    let uri = format!("http://{address}/explain?{query}").parse();
    let uri = uri.with_context(|| format!("{option} is no HOST:PORT"))?;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let hint = || match &args.hub {
        Some(hub) => format!("no hub answers at {hub}: write --hub HOST:PORT of the hub's admin port"),
        None => format!(
            "no DNS node answers at {address}: write --node HOST:PORT of a node's admin port, --hub HOST:PORT of the \
             hub's, or --state DIR of a node's state"
        ),
    };
    let response = client.get(uri).await.with_context(hint)?;
    let status = response.status();
    let body = response.into_body().collect().await.with_context(hint)?.to_bytes();
    if !status.is_success() {
        bail!("{}", String::from_utf8_lossy(&body).trim());
    }
    serde_json::from_slice(&body).with_context(|| format!("{address} is no admin port of a DNS node or hub"))
}

/// For people: the answer first, then who stood for election.
fn table(said: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| {
        let all: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    let at = &said["location"];
    let place = if at.is_null() {
        text(&said["note"])
    } else {
        format!("{} {}, {} (by {})", text(&at["country"]), at["latitude"], at["longitude"], text(&at["prefix"]))
    };
    let head = [
        ("Host", format!("{} of App {}", text(&said["host"]), text(&said["app"]))),
        ("Client", format!("{}, and everybody in {}", text(&said["client"]), text(&said["prefix"]))),
        ("Place", place),
        ("A", list(&said["ipv4"])),
        ("AAAA", list(&said["ipv6"])),
        ("TTL", format!("{} s", said["ttlS"])),
        ("Why", text(&said["why"])),
        ("Said by", format!("{}, snapshot {}", text(&said["node"]), said["snapshot"])),
    ];
    let mut out: String = head.iter().map(|(name, value)| format!("{name:<8} {value}\n")).collect();
    out.push('\n');
    let unit = |value: &Value, unit: &str| {
        if value.is_null() { "unknown".to_owned() } else { format!("{value} {unit}") }
    };
    let rows: Vec<Vec<String>> = said["candidates"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| {
            vec![
                text(&c["cluster"]),
                text(&c["region"]),
                unit(&c["distanceKm"], "km"),
                unit(&c["estimateMs"], "ms"),
                text(&c["class"]),
                if c["kept"] == true { "yes" } else { "no" }.to_owned(),
                text(&c["reason"]),
            ]
        })
        .collect();
    out += &print::table(&["CLUSTER", "REGION", "DISTANCE", "ESTIMATE", "CLASS", "ANSWERS", "REASON"], &rows);
    let seen: Vec<Vec<String>> = said["candidates"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|c| c["observed"].is_object())
        .map(|c| {
            let votes = c["observed"]["votes"].as_object().into_iter().flatten();
            let votes: Vec<String> = votes.map(|(region, vote)| format!("{region} {}", text(vote))).collect();
            let few = if c["observed"]["fewObservers"] == true { " (too few to take it down)" } else { "" };
            vec![text(&c["cluster"]), format!("{}{few}", votes.join(", ")), text(&c["observed"]["probe"])]
        })
        .collect();
    if !seen.is_empty() {
        out.push('\n');
        out += &print::table(&["CLUSTER", "VOTES", "LAST PROBE"], &seen);
    }
    out
}
