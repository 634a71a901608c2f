//! `isochrone up`: the program's own lines, run as somebody would who pastes them, are true. Which region answers is
//! looked at each time, and what a region that falls silent does to its users.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use world::assets_from_env;

use crate::delivery::until;
use crate::{ISOCHRONE, ONE_WORLD};

/// Another network than the default world's, which a person may have running here.
const NETWORK: &str = "127.31";
const HOST: &str = "shop.gslb.example.com";
/// The users of the lines, by city, with the region that is theirs.
const USERS: [(&str, &str, &str); 3] =
    [("Berlin", "127.31.101.1", "fra"), ("New York", "127.31.102.1", "iad"), ("Jakarta", "127.31.103.1", "sin")];

#[tokio::test(flavor = "multi_thread")]
async fn real_up_prints_lines_that_are_true() -> anyhow::Result<()> {
    let _alone = ONE_WORLD.lock().await;
    whole_story(vec![]).await
}

/// The same where loopback has one address, as on macOS, and gets those by hand that the program asks for.
#[tokio::test(flavor = "multi_thread")]
async fn real_network_up_on_addresses_given_by_hand() -> anyhow::Result<()> {
    let _alone = ONE_WORLD.lock().await;
    let machine = Machine::start().await?;
    let Err(error) = Shell::start(machine.enter()).await else { bail!("it runs on addresses that are not there") };
    let said = error.to_string();
    let by_hand = said.split('`').nth(1).with_context(|| format!("nothing to run in {said}"))?;
    ensure!(by_hand.contains("sudo ifconfig lo0 alias") && said.trim().lines().count() == 1, "{said}");
    // Linux does that by another program.
    let translated = r#"sudo() { "$@"; }; ifconfig() { ip address add "$3/32" dev lo; }; "#;
    let given = command(&machine.enter(), "bash").args(["-ec", &format!("{translated}{by_hand}")]).output().await?;
    ensure!(given.status.success(), "{by_hand}: {}", String::from_utf8_lossy(&given.stderr));
    whole_story(machine.enter()).await
}

async fn whole_story(enter: Vec<String>) -> anyhow::Result<()> {
    let mut shell = Shell::start(enter).await?;
    let done = story(&mut shell).await;
    let ended = shell.end().await;
    done.and(ended)
}

async fn story(shell: &mut Shell) -> anyhow::Result<()> {
    for word in ["fra", "iad", "sin", "shop/shop", "3/3", HOST] {
        ensure!(shell.run("isochrone status").await?.contains(word), "no {word} in the status");
    }
    ensure!(shell.run("get -n shop regionpolicies").await?.contains("app.isochrone.dev/shop"), "no app");
    ensure!(shell.run("get -n shop deployments").await?.contains("deployment.apps/web   2/2"), "not delivered");
    for (city, address, region) in USERS {
        let dig = shell.line(&format!("dig -b {address}"))?;
        ensure!(shell.run_whole(&dig).await?.trim() == door(region), "users in {city} are not sent to {region}");
        let curl = shell.line(&format!("curl -sS --interface {address}"))?;
        let said = shell.run_whole(&curl).await?;
        ensure!(said.contains(&format!(r#""client":"{address}:"#)), "{said} does not name the user in {city}");
        ensure!(said.contains(&format!(r#""cluster":"{region}""#)), "{said} is not of {region}");
    }
    distance_is_felt(shell).await?;
    ensure!(shell.run("isochrone explain").await?.contains("the nearest cluster is healthy"), "not explained");
    a_region_falls_silent(shell).await.context("a region that falls silent")?;
    users_leave_first(shell).await.context("a graceful stop")?;
    cut_off_from_the_hub(shell).await.context("a region that is cut off from the hub")?;
    content_everywhere(shell).await.context("the CDN")?;
    what_is_wrong_is_said(shell).await
}

/// Where the door of a region is.
fn door(region: &str) -> String {
    let number = 1 + ["fra", "iad", "sin"].iter().position(|name| *name == region).unwrap_or(usize::MAX - 1);
    format!("{NETWORK}.{number}.1")
}

/// A far region answers later than light could have gone there and back twice; a near one is not held to any time.
async fn distance_is_felt(shell: &Shell) -> anyhow::Result<()> {
    let far = format!("curl -sS --interface 127.31.102.1 -H 'Host: {HOST}' http://{}:8080/", door("sin"));
    let begun = Instant::now();
    ensure!(shell.run_whole(&far).await?.contains(r#""cluster":"sin""#), "Singapore does not answer New York");
    // 15,300 km: 102 ms at the speed of light in a vacuum, once there and back.
    ensure!(begun.elapsed() > Duration::from_millis(204), "it took {:?}", begun.elapsed());
    Ok(())
}

async fn a_region_falls_silent(shell: &Shell) -> anyhow::Result<()> {
    let curl = shell.line("curl -sS --interface 127.31.102.1")?;
    shell.run("isochrone world --world 127.31.0.1:7490 stop iad").await?;
    // Silent, not refused: curl gives up by itself (28), rather than being turned away (7).
    for address in [format!("{}:8080", door("iad")), format!("{NETWORK}.2.6:6443")] {
        let ask = format!("curl -s -m 1 -o /dev/null http://{address}/");
        let ended = shell.try_run(&ask).await?.0;
        ensure!(ended == Some(28), "{ask} ended with {ended:?}");
    }
    let (_, moved) = until("users in New York are served by Frankfurt", async || {
        let state = shell.state().await?;
        Ok((served_by(&state, "New York") == ["fra"]).then_some((0, state)))
    })
    .await?;
    for (city, region) in [("Berlin", "fra"), ("Jakarta", "sin")] {
        ensure!(served_by(&moved, city) == [region], "users in {city} moved, too");
    }
    let status = shell.run("isochrone world --world 127.31.0.1:7490 status").await?;
    ensure!(status.contains("stopped"), "{status}");
    // Silent for its fellows as well: what its node finds does not count any more.
    let explain = shell.line("isochrone explain")?.replace("127.31.2.53", "127.31.1.53");
    until("nobody hears the DNS node of iad", async || {
        let said: Value = serde_json::from_str(&shell.run_whole(&format!("{explain} -o json")).await?)?;
        let candidates = said["candidates"].as_array().context("candidates")?;
        let fra = candidates.iter().find(|candidate| candidate["cluster"] == "fra").context("Frankfurt")?;
        let voters = fra["observed"]["votes"].as_object().context("votes")?;
        Ok((!voters.contains_key("us-east") && voters.contains_key("ap-southeast")).then_some(()))
    })
    .await?;
    // By a node that is there: that of the region is as silent as the rest of it.
    let elsewhere = curl.replace("@127.31.2.53", "@127.31.1.53");
    ensure!(shell.run_whole(&elsewhere).await?.contains(r#""cluster":"fra""#), "Frankfurt does not serve New York");

    shell.run("isochrone world --world 127.31.0.1:7490 start iad").await?;
    at_home_again(shell).await?;
    ensure!(shell.run_whole(&curl).await?.contains(r#""cluster":"iad""#), "Virginia does not serve New York again");
    Ok(())
}

/// Users come all the time while their region is drained and stopped; nobody notices.
async fn users_leave_first(shell: &Shell) -> anyhow::Result<()> {
    let curl = shell.line("curl -sS --interface 127.31.102.1")?.replace("@127.31.2.53", "@127.31.1.53");
    let mut stopping = Box::pin(shell.run("isochrone world --world 127.31.0.1:7490 stop iad --graceful"));
    let mut visits = 0;
    loop {
        let said = shell.run_whole(&curl);
        tokio::select! {
            stopped = stopping.as_mut() => break stopped.map(drop)?,
            said = said => ensure!(said?.contains(r#""cluster":""#), "a user was not served"),
        }
        visits += 1;
    }
    ensure!(visits > 0, "no user came meanwhile");
    ensure!(shell.run_whole(&curl).await?.contains(r#""cluster":"fra""#), "Frankfurt does not serve New York");
    shell.run("isochrone world --world 127.31.0.1:7490 start iad").await?;
    at_home_again(shell).await
}

async fn at_home_again(shell: &Shell) -> anyhow::Result<()> {
    until("everybody is served at home, and the hub hears everybody", async || {
        let state = shell.state().await?;
        let home = USERS.iter().all(|(city, _, region)| served_by(&state, city) == [*region]);
        Ok((home && connected(&state, "iad")).then_some(()))
    })
    .await
}

async fn cut_off_from_the_hub(shell: &Shell) -> anyhow::Result<()> {
    shell.run("isochrone world --world 127.31.0.1:7490 partition iad").await?;
    let before = last_event(&shell.state().await?);
    until("the hub does not hear iad", async || Ok((!connected(&shell.state().await?, "iad")).then_some(()))).await?;
    shell.run("isochrone world --world 127.31.0.1:7490 heal iad").await?;
    until("the hub hears iad", async || Ok(connected(&shell.state().await?, "iad").then_some(()))).await?;
    let moved = events_after(before, &shell.state().await?);
    ensure!(!moved.iter().any(|what| what.starts_with("users")), "somebody moved: {moved:?}");
    Ok(())
}

async fn content_everywhere(shell: &Shell) -> anyhow::Result<()> {
    shell.run("cdn.yaml").await?;
    shell.run("kubectl --context hub wait -n cdn").await?;
    let line = shell.lines.iter().rfind(|line| line.contains("cdn.gslb.example.com")).context("a line")?;
    let seen_everywhere = async |words: &str| {
        for (number, (city, address, region)) in (1..).zip(USERS) {
            let curl =
                line.replace("127.31.102.1", address).replace("@127.31.2.53", &format!("@{NETWORK}.{number}.53"));
            until(&format!("users in {city} see {words:?} of {region}"), async || {
                let said = shell.run_whole(&format!("{curl} -i")).await?;
                let of = said.contains(&format!("isochrone-cluster: {region}")) && said.contains("text/html");
                Ok((of && said.contains(words)).then_some(()))
            })
            .await?;
        }
        anyhow::Ok(())
    };
    seen_everywhere("<h1>Hello from the edge</h1>").await?;
    shell.run("sed 's/Hello/Good morning/'").await?;
    seen_everywhere("<h1>Good morning from the edge</h1>").await
}

async fn what_is_wrong_is_said(shell: &Shell) -> anyhow::Result<()> {
    let (isochrone, config) = (ISOCHRONE, shell.dir.join("world.yaml"));
    let wrong = shell.dir.join("wrong.yaml");
    std::fs::write(&wrong, "regions: [{name: FRA, region: a, city: Cairo}]")?;
    for (args, words) in [
        (format!("up --config {}", config.display()), "cannot listen on 127.31.0.1:7490: does another world run?"),
        (format!("up --config {}", wrong.display()), "regions[0].name: \"FRA\" is no DNS label: write lower-case"),
        ("up --config /nonexistent".to_owned(), "cannot read /nonexistent"),
        (format!("up --watch --config {} | cat", config.display()), "--watch wants a terminal"),
        ("world --world 127.31.0.1:7490 stop rome".to_owned(), "there is no region rome: write one of fra, iad, sin"),
        ("world --world 127.31.0.1:7490 start iad".to_owned(), "iad is not stopped"),
        ("world --world 127.31.0.1:7490 stop a/b".to_owned(), "there is no region a/b"),
        ("world --world 127.31.0.1:1 status".to_owned(), "no world runs at 127.31.0.1:1: start one by `isochrone up`"),
    ] {
        let (ended, said) = shell.try_run(&format!("set -o pipefail; {isochrone} {args}")).await?;
        ensure!(ended == Some(1) && said.contains(words), "isochrone {args} ended with {ended:?} and said {said}");
        let one_line = said.trim().lines().filter(|line| !line.starts_with('[')).count();
        ensure!(one_line == 1, "isochrone {args} says it in {one_line} lines: {said}");
    }
    // What a page in a browser could send.
    let post = "curl -s -o /dev/null -w '%{http_code}' -X POST http://127.31.0.1:7490/act";
    for (more, code) in [("", "415"), ("-H 'Content-Type: application/json' -H 'Host: evil.example'", "421")] {
        let said = shell.run_whole(&format!("{post} {more} -d '{{}}'")).await?;
        ensure!(said == code, "{said} for {more}");
    }
    Ok(())
}

fn served_by(state: &Value, city: &str) -> Vec<String> {
    let users = state["users"].as_array().into_iter().flatten();
    let user = users.into_iter().find(|user| user["city"] == city);
    let clusters = user.and_then(|user| user["servedBy"].as_array()).into_iter().flatten();
    clusters.filter_map(|cluster| cluster.as_str().map(str::to_owned)).collect()
}

fn connected(state: &Value, region: &str) -> bool {
    let regions = state["regions"].as_array().into_iter().flatten();
    regions.into_iter().any(|found| found["name"] == region && found["connected"] == "yes")
}

/// The number of the last event. Only so many are kept, so their count says nothing.
fn last_event(state: &Value) -> u64 {
    state["events"].as_array().and_then(|events| events.last()?["number"].as_u64()).unwrap_or_default()
}

fn events_after(number: u64, state: &Value) -> Vec<String> {
    let events = state["events"].as_array().into_iter().flatten();
    let events = events.filter(|event| event["number"].as_u64().is_some_and(|own| own > number));
    events.map(|event| event["what"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A program, behind the words by which one enters where it shall run.
fn command(enter: &[String], program: &str) -> Command {
    let mut words = enter.iter().map(String::as_str).chain([program]);
    let mut command = Command::new(words.next().unwrap_or(program));
    command.args(words).kill_on_drop(true);
    command
}

/// A network namespace whose loopback has 127.0.0.1 alone. It goes with this.
struct Machine {
    holder: Child,
}

impl Machine {
    async fn start() -> anyhow::Result<Self> {
        let one_address = "ip link set lo up; ip address del 127.0.0.1/8 dev lo; ip address add 127.0.0.1/32 dev lo";
        let mut holder = Command::new("unshare")
            .args(["--net", "bash", "-ec", &format!("{one_address}; echo done; read -r")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let done = BufReader::new(holder.stdout.take().context("a pipe")?).lines().next_line().await?;
        ensure!(done.is_some(), "cannot make a network namespace");
        Ok(Self { holder })
    }

    fn enter(&self) -> Vec<String> {
        let process = self.holder.id().unwrap_or_default();
        ["nsenter".to_owned(), format!("--net=/proc/{process}/ns/net"), "--".to_owned()].into()
    }
}

/// A shell beside the program, with the lines that it printed.
struct Shell {
    /// Where both run.
    enter: Vec<String>,
    program: Child,
    /// Kept open: a program that cannot write would end.
    _stdout: Lines<BufReader<ChildStdout>>,
    lines: Vec<String>,
    dir: PathBuf,
    errors: PathBuf,
    kubectl: PathBuf,
    _vanishing: tempfile::TempDir,
}

impl Shell {
    async fn start(enter: Vec<String>) -> anyhow::Result<Self> {
        let kubectl = assets_from_env()?.program("kubectl");
        let vanishing = tempfile::tempdir()?;
        let dir = vanishing.path().to_owned();
        std::fs::write(dir.join("world.yaml"), format!("network: {NETWORK}.0.0/16\n"))?;
        let errors = dir.join("stderr");
        let mut program = command(&enter, ISOCHRONE)
            .args(["up", "--config"])
            .arg(dir.join("world.yaml"))
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&errors)?)
            .spawn()?;
        let mut stdout = BufReader::new(program.stdout.take().context("a pipe")?).lines();
        let mut lines = vec![];
        let printed = async {
            while let Some(line) = stdout.next_line().await? {
                let last = line.starts_with("sed ");
                if !line.is_empty() && !line.starts_with('#') {
                    lines.push(line);
                }
                if last {
                    return anyhow::Ok(());
                }
            }
            bail!("it ended: {}", std::fs::read_to_string(&errors)?)
        };
        tokio::time::timeout(Duration::from_secs(90), printed).await.context("no lines to paste")??;
        Ok(Self { enter, program, _stdout: stdout, lines, dir, errors, kubectl, _vanishing: vanishing })
    }

    /// The first of the lines that has these words.
    fn line(&self, words: &str) -> anyhow::Result<String> {
        let found = self.lines.iter().find(|line| line.contains(words));
        found.cloned().with_context(|| format!("no line with {words:?} among {:#?}", self.lines))
    }

    /// Runs that line; what it prints.
    async fn run(&self, words: &str) -> anyhow::Result<String> {
        self.run_whole(&self.line(words)?).await
    }

    async fn run_whole(&self, line: &str) -> anyhow::Result<String> {
        let (ended, said) = self.try_run(line).await?;
        ensure!(ended == Some(0), "{line}\nended with {ended:?} and said {said}");
        Ok(said)
    }

    /// How a line ends, and what it prints, to stderr too when it fails.
    async fn try_run(&self, line: &str) -> anyhow::Result<(Option<i32>, String)> {
        let export = self.lines.first().context("the first line")?;
        ensure!(export.starts_with("export KUBECONFIG="), "{export}");
        let path = std::env::var("PATH")?;
        let tools = self.kubectl.parent().map(Path::display).context("a directory")?;
        let mut command = command(&self.enter, "bash");
        command.args(["-c", &format!("{export}\n{line}")]).env("PATH", format!("{tools}:{path}"));
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        let output = output.with_context(|| format!("{line} does not end"))??;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            said += &String::from_utf8_lossy(&output.stderr);
        }
        Ok((output.status.code(), said))
    }

    async fn state(&self) -> anyhow::Result<Value> {
        let ask = format!("{ISOCHRONE} world --world 127.31.0.1:7490 status -o json");
        Ok(serde_json::from_str(&self.run_whole(&ask).await?)?)
    }

    /// Ctrl-C: it ends by itself, with nothing to complain of and nothing left.
    async fn end(mut self) -> anyhow::Result<()> {
        let export = self.lines.first().cloned().unwrap_or_default();
        let kubeconfig = export.split_once('=').map(|(_, path)| PathBuf::from(path)).context("a kubeconfig")?;
        let pid = self.program.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it runs")?;
        kill_process(pid, Signal::INT)?;
        let ended = tokio::time::timeout(Duration::from_secs(30), self.program.wait()).await;
        let said = std::fs::read_to_string(&self.errors)?;
        let ended = ended.with_context(|| format!("it does not end\n{said}"))??;
        ensure!(ended.success(), "it ended with {ended}\n{said}");
        ensure!(!kubeconfig.exists(), "{} is left behind", kubeconfig.display());
        ensure!(!said.contains("ERROR") && !said.contains("panicked"), "{said}");
        let ask = format!("{ISOCHRONE} world --world 127.31.0.1:7490 status");
        let (ended, said) = self.try_run(&ask).await?;
        ensure!(ended == Some(1) && said.contains("no world runs at 127.31.0.1:7490"), "{ended:?}: {said}");
        Ok(())
    }
}
