//! Performs [`policies::plan`] against the cluster's API: looks, plans, acts, until nothing is left to do.
//!
//! Two identities, never mixed. **The agent** writes what is its own: ApplySet parents in its namespace, the App's
//! Namespace, one RoleBinding in it. **The App's user** ([`crate::names::app_user`], by impersonation) writes every
//! member, so an App can do no more in this cluster than its owner bound to that name.
//!
//! Server-side apply, one field manager per App. An object that is ours is forced back; one that does not exist is made
//! *without* force. Between the look and the making, somebody else may make an object of that name: then the two share
//! it, as two appliers would, and the next look finds our label on it. There is no precondition "must not exist" in
//! server-side apply that would close this gap of one round trip.
//!
//! Absent on purpose: choices. What to apply or prune, and whether it may be, is [`policies::plan`]'s; when to run
//! again is [`crate::core`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::api::{Preconditions, PropagationPolicy};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use policies::id::AppId;
use policies::plan::fields::{Contest, Ignore};
use policies::plan::{
    self, Action, GroupKind, Intent, Mark, ObjectDigest, ObjectId, PlanReport, Seen, SetRecord, State, Terms, Wanted,
    plan,
};
use serde_json::{Value, json};

use crate::core::{Failure, Outcome, Work};
use crate::health;
use crate::kinds::{Kind, Kinds};
use crate::members::{Applied, Did, Live, WatchKey, owned};
use crate::names::{self, PART_OF};
use crate::reads;
use crate::render::{Object, Render};
use crate::round;

mod failure;
mod look;
mod parent;
mod release;

use failure::failure;
use round::{ROUNDS, no_such_kind};

/// Longest wait for one answer. The API server's own limit for what is no watch is 60 s; a webhook's is 30 s.
const REQUEST: Duration = Duration::from_secs(40);
/// Longest wait for CRDs to be Established within a run, and for discovery to show their kinds; a later run goes on.
const ESTABLISHED: Duration = Duration::from_secs(30);
/// Pause between looks at discovery: after Established the kinds appear within a second, and nothing tells when.
const DISCOVERY: Duration = Duration::from_millis(200);
/// Longest wait for a new binding to count.
const RIGHTS: Duration = Duration::from_secs(5);
/// Pause between questions whether it does: an authorizer's watch lags by milliseconds.
const RIGHTS_PAUSE: Duration = Duration::from_millis(50);
/// Acts on one cluster for every App.
#[derive(Debug)]
pub struct Applier {
    config: kube::Config,
    own: ClientBox,
    namespace: String,
    kinds: Kinds,
    users: Mutex<BTreeMap<String, ClientBox>>,
    /// Fields that others take from us, by app.
    contests: Mutex<BTreeMap<AppId, Contest>>,
    started: std::time::Instant,
}

/// `Client` has no `Debug`.
#[derive(Clone)]
struct ClientBox(Client);

impl std::fmt::Debug for ClientBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// What a run did, for [`crate::members::Members::handle_run`] and [`crate::core::Core::handle_ran`].
#[derive(Debug, Default)]
pub struct Run {
    /// For the ledger.
    pub outcome: Outcome,
    /// For the watches' store.
    pub did: Did,
    /// What must be watched for this app.
    pub watches: BTreeSet<WatchKey>,
    /// The app was removed, and nothing is left of it.
    pub gone: bool,
}

/// What the run's app is and was.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The app.
    pub app: AppId,
    /// What earlier runs left standing.
    pub applied: BTreeMap<ObjectId, Applied>,
    /// Kinds of objects that carry the set's label as far as watches tell: found even if the parent was deleted.
    pub kinds: BTreeSet<GroupKind>,
}

/// One run's working state.
struct Pass<'a> {
    subject: &'a Subject,
    set: String,
    parent: String,
    user: Client,
    /// Rendered objects by the name that they have in this cluster.
    objects: BTreeMap<ObjectId, Object>,
    wanted: Vec<Wanted>,
    kinds: BTreeMap<GroupKind, Result<Option<Kind>, String>>,
    /// Objects whose presence could not be found out; never made blindly.
    unreadable: BTreeSet<ObjectId>,
    /// Objects that failed in this run, not tried twice in it.
    failed: BTreeSet<ObjectId>,
    /// What may be taken over and away.
    terms: Terms,
    /// Fields that others may set.
    ignore: Vec<Ignore>,
    /// What autoscalers target.
    autoscaled: BTreeSet<ObjectId>,
    /// Objects as last looked at, metadata only.
    metadata: BTreeMap<ObjectId, Value>,
    run: Run,
}

impl Applier {
    /// An applier for the cluster of `config`, as an agent that lives in `namespace`.
    pub fn new(config: kube::Config, namespace: &str) -> kube::Result<Self> {
        let own = ClientBox(Client::try_from(config.clone())?);
        Ok(Self {
            config,
            own,
            namespace: namespace.to_owned(),
            kinds: Kinds::new(),
            users: Mutex::default(),
            contests: Mutex::default(),
            started: std::time::Instant::now(),
        })
    }

    /// The agent's own client.
    pub fn own(&self) -> Client {
        self.own.0.clone()
    }

    /// A client that acts as the user of an App namespace. One each, since impersonation is a header of all requests.
    pub fn user(&self, namespace: &str) -> kube::Result<Client> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = users.get(namespace) {
            return Ok(known.0.clone());
        }
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(names::app_user(namespace));
        // Groups carry rights of their own (system:masters): none is added, whatever the kubeconfig says.
        config.auth_info.impersonate_groups = None;
        let client = Client::try_from(config)?;
        users.insert(namespace.to_owned(), ClientBox(client.clone()));
        Ok(client)
    }

    /// Brings one app where it shall be. Never fails as a whole: what went wrong is in the outcome.
    pub async fn run(&self, subject: &Subject, work: &Work) -> Run {
        let parent = names::parent(&subject.app);
        let set = names::set_id(&parent, &self.namespace);
        let stop = |failure: Failure| Run {
            outcome: Outcome { failures: vec![failure], ..Outcome::default() },
            did: Did { set: set.clone(), applied: subject.applied.clone(), ..Did::default() },
            ..Run::default()
        };
        let user = match self.user(&subject.app.namespace) {
            Ok(user) => user,
            Err(error) => return stop(failure(&format!("make a client for {}", subject.app), &error)),
        };
        let mut pass = Pass {
            subject,
            set: set.clone(),
            parent,
            user,
            objects: BTreeMap::new(),
            wanted: Vec::new(),
            kinds: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            failed: BTreeSet::new(),
            terms: Terms::default(),
            ignore: Vec::new(),
            autoscaled: BTreeSet::new(),
            metadata: BTreeMap::new(),
            run: Run { did: Did { set: set.clone(), ..Did::default() }, ..Run::default() },
        };
        match work {
            Work::Apply(bytes) => {
                let render = match Render::decode(bytes) {
                    Ok(render) => render,
                    Err(error) => return stop(Failure::new("InvalidRender", chain(&error))),
                };
                if let Err(failure) = self.prepare_namespace(&subject.app.namespace).await {
                    return stop(failure);
                }
                pass.run.did.hosts = Some(render.hosts);
                pass.run.outcome.objects = u32::try_from(render.objects.len()).unwrap_or(u32::MAX);
                self.name_objects(&mut pass, render.objects).await;
                (pass.terms, pass.ignore) = (render.terms, render.ignore);
            }
            Work::Remove { cascade } => pass.terms.cascade = *cascade,
        }
        if let Err(failure) = self.rounds(&mut pass, matches!(work, Work::Remove { .. })).await {
            pass.run.outcome.failures.push(failure);
            // Nothing was found out about the rest.
            for (id, applied) in &subject.applied {
                pass.run.did.applied.entry(id.clone()).or_insert_with(|| applied.clone());
            }
        }
        if pass.run.gone {
            self.contests.lock().unwrap_or_else(PoisonError::into_inner).remove(&subject.app);
        }
        pass.run
    }

    /// Rounds until nothing is left to do. An error ends the run before it is known how the app stands.
    async fn rounds(&self, w: &mut Pass<'_>, remove: bool) -> Result<(), Failure> {
        let mut awaited = false;
        let mut state = self.look(w).await?;
        for _ in 0..ROUNDS {
            let wanted = std::mem::take(&mut w.wanted);
            let intent = if remove { Intent::Remove } else { Intent::Run(&wanted) };
            let (actions, report) = plan(intent, w.terms, &state);
            w.wanted = wanted;
            let todo = round::todo(actions, &w.failed, awaited);
            if todo.is_empty() {
                self.conclude(w, remove, &state, &report);
                return Ok(());
            }
            let mut again = false;
            for action in todo {
                again |= matches!(action, Action::Prune { .. });
                awaited |= matches!(action, Action::AwaitEstablished { .. });
                self.act(w, &mut state, action).await?;
            }
            if again {
                state = self.look(w).await?;
            }
        }
        Err(Failure::new("Unsettled", "the cluster changes faster than it can be looked at"))
    }

    /// Performs one action and notes the result in `state`. An error is that of the set's record, without which nothing
    /// may be applied or pruned.
    async fn act(&self, w: &mut Pass<'_>, state: &mut State, action: Action) -> Result<(), Failure> {
        match action {
            Action::Widen(record) | Action::Narrow(record) => {
                self.write_parent(&w.parent, &w.set, &w.subject.app, &record).await?;
                state.set = Some(record);
            }
            Action::Dissolve => {
                self.delete_parent(&w.parent).await?;
                state.set = None;
            }
            Action::AwaitEstablished { crds } => self.await_established(w, &crds).await,
            Action::Apply { id, ours } => match self.apply(w, &id, ours).await {
                Ok((digest, live)) => {
                    let seen =
                        Seen { mark: Mark::Ours, applied: Some(digest), deleting: live.deleting, identical: false };
                    state.objects.insert(id.clone(), seen);
                    w.run.did.applied.insert(id.clone(), Applied { digest, owned: live.owned });
                    w.run.did.live.insert(id, live);
                }
                Err(failure) => {
                    w.failed.insert(id);
                    w.run.outcome.failures.push(failure);
                }
            },
            Action::Prune { id } => {
                if let Err(failure) = self.prune(w, &id).await {
                    w.failed.insert(id);
                    w.run.outcome.failures.push(failure);
                }
            }
        }
        Ok(())
    }

    /// Turns the last report into what the ledger says.
    fn conclude(&self, w: &mut Pass<'_>, remove: bool, state: &State, report: &PlanReport) {
        let version = |id: &ObjectId| w.objects.get(id).map(|o| o.version.clone()).unwrap_or_default();
        let Run { outcome, did, .. } = &mut w.run;
        round::conclude(&w.subject.app, report, &w.subject.applied, version, outcome, did);
        w.run.outcome.contested = self.contested(w);
        w.run.gone = remove && w.run.outcome.settled && state.set.is_none();
        // Also what was refused: an earlier version of it may be there, and serve.
        for id in w.objects.keys() {
            if let Some(Ok(Some(kind))) = w.kinds.get(&id.kind) {
                w.run.watches.insert(watch_key(&w.subject.app, id, kind));
            }
        }
    }

    /// The App's Namespace, and in it the binding that gives the App's user its usual rights.
    async fn prepare_namespace(&self, namespace: &str) -> Result<(), Failure> {
        if let Some(why) = plan::refuse_namespace(namespace, &self.namespace) {
            return Err(Failure::new("NamespaceRefused", why));
        }
        let doing = format!("prepare namespace {namespace}");
        let all: Api<Namespace> = Api::all(self.own());
        let found = bounded(&doing, all.get_opt(namespace)).await?;
        if let Some(found) = found {
            if found.labels().get(names::DELIVERY).is_some_and(|v| v == "refused") {
                let why = format!("the label {}=refused on namespace {namespace} keeps Apps out", names::DELIVERY);
                return Err(Failure::new("NamespaceRefused", why));
            }
            if found.metadata.deletion_timestamp.is_some() {
                return Err(Failure::new("NamespaceTerminating", format!("namespace {namespace} is being deleted")));
            }
        } else {
            let make = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            create(&doing, &all, make).await?;
        }
        let user = names::app_user(namespace);
        let bindings: Api<RoleBinding> = Api::namespaced(self.own(), namespace);
        if bounded(&doing, bindings.get_opt(&user)).await?.is_none() {
            let group = "rbac.authorization.k8s.io";
            let make = json!({
                "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
                "metadata": {"name": user, "namespace": namespace},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": names::APP_ROLE},
                "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
            });
            create(&doing, &bindings, make).await?;
            self.await_rights(namespace).await;
        }
        Ok(())
    }

    /// The API server's authorizer learns of a new binding a moment later. Without this wait every first delivery
    /// would begin with a refusal.
    async fn await_rights(&self, namespace: &str) {
        let Ok(user) = self.user(namespace) else { return };
        let attributes = json!({"namespace": namespace, "verb": "patch", "resource": "configmaps"});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}});
        let Ok(review) = serde_json::from_value::<SelfSubjectAccessReview>(review) else {
            return;
        };
        let ask = async {
            let reviews: Api<SelfSubjectAccessReview> = Api::all(user);
            loop {
                let answer = reviews.create(&PostParams::default(), &review).await;
                if answer.is_ok_and(|r| r.status.is_some_and(|s| s.allowed)) {
                    return;
                }
                tokio::time::sleep(RIGHTS_PAUSE).await;
            }
        };
        // Not in time, or never, since the owner changed the role: then the refusals of the objects say so.
        let _ = tokio::time::timeout(RIGHTS, ask).await;
    }

    /// Gives every object the name that it has in this cluster.
    async fn name_objects(&self, w: &mut Pass<'_>, objects: Vec<Object>) {
        let defined: BTreeMap<GroupKind, bool> =
            objects.iter().filter_map(|o| o.defines.as_ref()).map(|d| (d.kind.clone(), d.namespaced)).collect();
        for object in objects {
            if !w.kinds.contains_key(&object.kind) {
                let found = self.kinds.resolve(&w.user, &object.kind, &object.version).await;
                w.kinds.insert(object.kind.clone(), found.map_err(|e| chain(&e)));
            }
            let namespaced = match w.kinds.get(&object.kind) {
                Some(Ok(Some(kind))) => kind.namespaced,
                Some(Ok(None)) | None => defined.get(&object.kind).copied().unwrap_or(true),
                Some(Err(error)) => {
                    let text = format!("cannot ask the API server for kind {}: {error}", object.kind);
                    w.run.outcome.failures.push(Failure::new("DiscoveryFailed", text));
                    continue;
                }
            };
            let id = object.id(namespaced, &w.subject.app.namespace);
            w.wanted.push(Wanted {
                id: id.clone(),
                digest: object.digest,
                defines: object.defines.as_ref().map(|d| d.kind.clone()),
            });
            w.objects.entry(id).or_insert(object);
        }
    }

    async fn await_established(&self, w: &mut Pass<'_>, crds: &[String]) {
        let resource = kube::core::ApiResource {
            group: "apiextensions.k8s.io".into(),
            version: "v1".into(),
            api_version: "apiextensions.k8s.io/v1".into(),
            kind: "CustomResourceDefinition".into(),
            plural: "customresourcedefinitions".into(),
        };
        let api: Api<DynamicObject> = Api::all_with(self.own(), &resource);
        let deadline = tokio::time::Instant::now() + ESTABLISHED;
        // Nobody waits for what the API server refused: its owner is told why at once, and not at the deadline. An
        // earlier version of it may be there all the same, so its kind is looked for.
        let refused = |o: &Wanted| w.failed.contains(&o.id);
        let awaited: BTreeSet<&str> =
            w.wanted.iter().filter(|o| o.defines.is_some() && !refused(o)).map(|o| o.id.name.as_str()).collect();
        for name in crds.iter().filter(|name| awaited.contains(name.as_str())) {
            let established = |o: Option<&DynamicObject>| o.is_some_and(|o| health::established(&as_json(o)));
            // Not in time, or not readable: then the kind is not there either, and that is what is reported.
            let _ = tokio::time::timeout_at(deadline, await_condition(api.clone(), name, established)).await;
        }
        let defined: BTreeMap<GroupKind, bool> =
            w.wanted.iter().filter_map(|o| Some((o.defines.clone()?, refused(o)))).collect();
        for (kind, refused) in defined {
            let version = w.objects.values().find(|o| o.kind == kind).map(|o| o.version.clone());
            let Some(version) = version else { continue };
            loop {
                let found = self.kinds.resolve(&w.user, &kind, &version).await;
                let waits = !refused && matches!(found, Ok(None)) && tokio::time::Instant::now() < deadline;
                w.kinds.insert(kind.clone(), found.map_err(|e| chain(&e)));
                if !waits {
                    break;
                }
                tokio::time::sleep(DISCOVERY).await;
            }
        }
    }

    async fn apply(&self, w: &Pass<'_>, id: &ObjectId, ours: bool) -> Result<(ObjectDigest, Live), Failure> {
        let Some(object) = w.objects.get(id) else {
            return Err(Failure::new("Bug", format!("{id} is to be applied, and is not in the render")));
        };
        let Some(Ok(Some(served))) = w.kinds.get(&id.kind) else {
            return Err(no_such_kind(id, &object.version));
        };
        let mut body = prepared(object, id, &w.set);
        let mut params = PatchParams::apply(&names::field_manager(&w.subject.app));
        if ours {
            params = params.force();
            body = self.less_what_is_left(w, id, served, body).await.map_err(|f| self.with_hint(w, id, served, f))?;
        }
        let api = api(w.user.clone(), id, served);
        let answer = bounded(&format!("apply {id}"), api.patch(&id.name, &params, &Patch::Apply(&body))).await;
        let answer = answer.map_err(|f| self.with_hint(w, id, served, f))?;
        Ok((object.digest, Live::of(&as_json(&answer))))
    }

    async fn prune(&self, w: &Pass<'_>, id: &ObjectId) -> Result<(), Failure> {
        let Some(Ok(Some(served))) = w.kinds.get(&id.kind) else {
            return Err(no_such_kind(id, "any version"));
        };
        let reader = if reads::as_agent(&id.kind) { self.own() } else { w.user.clone() };
        let (reader, writer) = (api(reader, id, served), api(w.user.clone(), id, served));
        let doing = format!("prune {id}");
        // The list is seconds old: look once more, and delete only that very state, so that an object which another
        // tool took over or made anew in between survives. A status that changes meanwhile is looked at again.
        for _ in 0..3 {
            let Some(meta) = get_metadata(&doing, &reader, &id.name).await? else {
                return Ok(());
            };
            if see(w, id, &as_json(&meta)).mark != Mark::Ours {
                return Ok(());
            }
            let preconditions = Preconditions {
                uid: meta.metadata.uid.clone(),
                resource_version: meta.metadata.resource_version.clone(),
            };
            let params = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Background),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            match tokio::time::timeout(REQUEST, writer.delete(&id.name, &params)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(()),
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
                Ok(Err(error)) => return Err(self.with_hint(w, id, served, failure(&doing, &error))),
                Err(_) => return Err(failure::timed_out(&doing)),
            }
        }
        Err(Failure::new("Conflict", format!("{doing}: it changes faster than it can be deleted")))
    }

    /// Adds to a refusal for want of rights what the cluster's owner may do about it.
    fn with_hint(&self, w: &Pass<'_>, id: &ObjectId, served: &Kind, mut failure: Failure) -> Failure {
        let object = w.objects.get(id).map_or(&Value::Null, |object| &object.json);
        if failure.reason == "Forbidden"
            && let Some(hint) = failure::hint(&w.subject.app.namespace, id, &served.resource, object, &failure.message)
        {
            failure.message = format!("{}. The cluster's owner may allow it: {hint}", failure.message);
        }
        failure
    }
}

/// The object as it is sent: in its namespace, with the set's label.
fn prepared(object: &Object, id: &ObjectId, set: &str) -> Value {
    let mut body = object.json.clone();
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        match &id.namespace {
            Some(namespace) => drop(metadata.insert("namespace".into(), json!(namespace))),
            None => drop(metadata.remove("namespace")),
        }
        // Refused by server-side apply, and never part of what somebody wants.
        metadata.remove("managedFields");
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        match labels.as_object_mut() {
            Some(labels) => drop(labels.insert(PART_OF.into(), json!(set))),
            None => *labels = json!({PART_OF: set}),
        }
    }
    body
}

fn see(w: &Pass<'_>, id: &ObjectId, meta: &Value) -> Seen {
    let label = meta.pointer("/metadata/labels").and_then(|l| l.get(PART_OF)).and_then(Value::as_str);
    let known = w.run.did.applied.get(id).or_else(|| w.subject.applied.get(id));
    let deleting = meta.pointer("/metadata/deletionTimestamp").is_some();
    round::see(label.unwrap_or_default(), &w.set, owned(meta), deleting, known)
}

fn watch_key(app: &AppId, id: &ObjectId, kind: &Kind) -> WatchKey {
    let own = reads::as_agent(&id.kind);
    WatchKey {
        kind: id.kind.clone(),
        version: kind.resource.version.clone(),
        plural: kind.resource.plural.clone(),
        user: (!own).then(|| app.namespace.clone()),
        namespace: if own { None } else { id.namespace.clone() },
    }
}

fn api(client: Client, id: &ObjectId, served: &Kind) -> Api<DynamicObject> {
    match &id.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &served.resource),
        None => Api::all_with(client, &served.resource),
    }
}

async fn get_metadata(
    doing: &str,
    api: &Api<DynamicObject>,
    name: &str,
) -> Result<Option<PartialObjectMeta<DynamicObject>>, Failure> {
    bounded(doing, api.get_metadata_opt(name)).await
}

async fn create<K>(doing: &str, api: &Api<K>, object: Value) -> Result<(), Failure>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(object).map_err(|e| Failure::new("Bug", format!("{doing}: {e}")))?;
    match tokio::time::timeout(REQUEST, api.create(&PostParams::default(), &object)).await {
        Ok(Ok(_)) => Ok(()),
        // Somebody was faster.
        Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => Ok(()),
        Ok(Err(error)) => Err(failure(doing, &error)),
        Err(_) => Err(failure::timed_out(doing)),
    }
}

async fn bounded<T>(doing: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failure(doing, &error)),
        Err(_) => Err(failure::timed_out(doing)),
    }
}

fn as_json(object: &impl serde::Serialize) -> Value {
    // Objects that came as JSON go back to JSON.
    serde_json::to_value(object).unwrap_or_default()
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}
