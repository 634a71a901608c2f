//! A pod's cells: one word for the state of everything in it.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::object::{Object, condition, is_true, list};
use crate::table::duration;

pub(super) fn cells(this: &Object<'_>) -> Vec<Value> {
    let summary = Summary::of(this);
    let restarts = match summary.restarts.last {
        Some(last) if summary.restarts.count != 0 => {
            format!("{} ({} ago)", summary.restarts.count, duration::since(last, this.now))
        }
        _ => summary.restarts.count.to_string(),
    };
    vec![
        this.name(),
        json!(format!("{}/{}", summary.ready, summary.containers)),
        json!(summary.word),
        json!(restarts),
        this.age(),
        json!(this.text_or("/status/podIPs/0/ip", "<none>")),
        json!(this.text_or("/spec/nodeName", "<none>")),
        json!(this.text_or("/status/nominatedNodeName", "<none>")),
        json!(readiness_gates(this)),
    ]
}

/// How often containers were started again, and when one of them last ended before that.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count = self.count.saturating_add(container["restartCount"].as_i64().unwrap_or_default());
        let ended = container.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str);
        self.last = self.last.max(ended.and_then(|time| time.parse().ok()));
    }
}

struct Summary {
    word: String,
    ready: usize,
    containers: usize,
    restarts: Restarts,
}

impl Summary {
    fn of(this: &Object<'_>) -> Self {
        let conditions = this.list("/status/conditions");
        let phase = this.text("/status/phase");
        let mut summary = Self {
            word: this.text_or("/status/reason", phase).to_owned(),
            ready: 0,
            containers: this.list("/spec/containers").len(),
            restarts: Restarts::default(),
        };
        if conditions.iter().any(|one| one["type"] == "PodScheduled" && one["reason"] == "SchedulingGated") {
            summary.word = "SchedulingGated".to_owned();
        }
        let is_initializing = summary.add_init_containers(this);
        if !is_initializing || is_true(conditions, "Initialized") {
            summary.add_containers(this);
        }
        if this.is_terminating() && this.text("/status/reason") == "NodeLost" {
            summary.word = "Unknown".to_owned();
        } else if this.is_terminating() && phase != "Succeeded" && phase != "Failed" {
            summary.word = "Terminating".to_owned();
        }
        summary
    }

    /// Takes in the containers that run before the others, and says whether one of them still has to end. Those that
    /// restart are sidecars: they count as containers, and hold up nobody once they have started.
    fn add_init_containers(&mut self, this: &Object<'_>) -> bool {
        let specs = this.list("/spec/initContainers");
        let is_sidecar =
            |name: &Value| specs.iter().any(|one| one["name"] == *name && one["restartPolicy"] == "Always");
        self.containers += specs.iter().filter(|one| one["restartPolicy"] == "Always").count();
        let (mut all, mut sidecars) = (Restarts::default(), Restarts::default());
        let mut is_initializing = false;
        for (i, container) in this.list("/status/initContainerStatuses").iter().enumerate() {
            all.add(container);
            if is_sidecar(&container["name"]) {
                sidecars.add(container);
            }
            let terminated = &container["state"]["terminated"];
            let waits_for = container.pointer("/state/waiting/reason").and_then(Value::as_str).unwrap_or_default();
            if terminated.is_object() && exit_code(terminated) == 0 {
                continue;
            }
            if is_sidecar(&container["name"]) && container["started"] == true {
                self.ready += usize::from(container["ready"] == true);
                continue;
            }
            self.word = if terminated.is_object() {
                format!("Init:{}", ended(terminated))
            } else if !waits_for.is_empty() && waits_for != "PodInitializing" {
                format!("Init:{waits_for}")
            } else {
                format!("Init:{i}/{}", specs.len())
            };
            is_initializing = true;
            break;
        }
        self.restarts =
            if is_initializing && !is_true(this.list("/status/conditions"), "Initialized") { all } else { sidecars };
        is_initializing
    }

    /// Takes in the containers proper. The first one that has something to say has the word.
    fn add_containers(&mut self, this: &Object<'_>) {
        let (mut is_running, mut failure) = (false, None);
        for container in this.list("/status/containerStatuses").iter().rev() {
            self.restarts.add(container);
            let state = &container["state"];
            let waits_for = state.pointer("/waiting/reason").and_then(Value::as_str).unwrap_or_default();
            if !waits_for.is_empty() {
                self.word = waits_for.to_owned();
            } else if state["terminated"].is_object() {
                self.word = ended(&state["terminated"]);
                if exit_code(&state["terminated"]) != 0 {
                    failure = Some(self.word.clone());
                }
            } else if container["ready"] == true && state["running"].is_object() {
                is_running = true;
                self.ready += 1;
            }
        }
        // Some have ended well, but that is not the whole truth.
        if self.word == "Completed" {
            if is_running && is_true_anywhere(this.list("/status/conditions"), "Ready") {
                self.word = "Running".to_owned();
            } else if let Some(failure) = failure {
                self.word = failure;
            } else if is_running {
                self.word = "NotReady".to_owned();
            }
        }
    }
}

fn exit_code(terminated: &Value) -> i64 {
    terminated["exitCode"].as_i64().unwrap_or_default()
}

/// How a container ended.
fn ended(terminated: &Value) -> String {
    let signal = terminated["signal"].as_i64().unwrap_or_default();
    match terminated["reason"].as_str().unwrap_or_default() {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", exit_code(terminated)),
        reason => reason.to_owned(),
    }
}

fn is_true_anywhere(conditions: &[Value], of: &str) -> bool {
    conditions.iter().any(|one| one["type"] == of && one["status"] == "True")
}

fn readiness_gates(this: &Object<'_>) -> String {
    let gates = this.list("/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = list(this.at("/status/conditions"));
    let holds = |gate: &&Value| {
        let of = gate["conditionType"].as_str().unwrap_or_default();
        condition(conditions, of).is_some_and(|condition| condition["status"] == "True")
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}
