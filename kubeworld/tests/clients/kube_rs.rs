//! kube-rs, as our hub and agent use it.

mod custom;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::core::Status;
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event as Finalize, finalizer};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt as _, conditions, wait};
use kube::{Api, Client, Config, Resource as _, ResourceExt as _};
use lease::{Leadership, LeaseError};
use serde_json::json;

use crate::world::{TOKEN, World};

/// Nothing here takes longer, even on busy cores; what does hangs.
const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn objects_typed_and_dynamic() -> anyhow::Result<()> {
    let world = World::start().await?;
    let client = client(&world)?;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let made = api.create(&PostParams::default(), &config_map("a", "1")).await?;
    assert!(made.uid().is_some() && made.creation_timestamp().is_some());

    // The same, by kind and name alone.
    let kind = ApiResource::erase::<ConfigMap>(&());
    let dynamic: Api<DynamicObject> = Api::default_namespaced_with(client, &kind);
    let read = dynamic.get("a").await?;
    assert_eq!(read.data["data"], json!({ "x": "1" }));
    let patch = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "y": "2" } });
    let applied = dynamic.patch("a", &PatchParams::apply("second"), &Patch::Apply(&patch)).await?;
    assert_eq!(applied.data["data"], json!({ "x": "1", "y": "2" }));
    let managers: Vec<_> = applied.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
    assert!(managers.contains(&"second"), "{managers:?}");

    let merged = api.patch("a", &PatchParams::default(), &Patch::Merge(json!({ "data": { "x": null } }))).await?;
    assert_eq!(merged.data, Some(BTreeMap::from([("y".to_owned(), "2".to_owned())])));
    let strategic = json!({ "metadata": { "finalizers": ["example.com/hold"] } });
    let held = api.patch("a", &PatchParams::default(), &Patch::Strategic(strategic)).await?;
    assert_eq!(held.finalizers(), ["example.com/hold"]);

    assert!(api.delete("a", &DeleteParams::default()).await?.is_left(), "a finalizer holds it");
    let operations = serde_json::from_value(json!([{ "op": "remove", "path": "/metadata/finalizers" }]))?;
    api.patch("a", &PatchParams::default(), &Patch::Json::<()>(operations)).await?;
    assert!(api.get_opt("a").await?.is_none());

    let deployments: Api<Deployment> = Api::default_namespaced(api.into_client());
    deployments.create(&PostParams::default(), &deployment("web")?).await?;
    let scaled = json!({ "spec": { "replicas": 3 } });
    let scale = deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(scaled)).await?;
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(3));
    let status = json!({ "status": { "replicas": 3 }, "spec": { "replicas": 9 } });
    let written = deployments.patch_status("web", &PatchParams::default(), &Patch::Merge(status)).await?;
    assert_eq!(written.status.and_then(|status| status.replicas), Some(3));
    assert_eq!(written.spec.replicas, Some(3));
    Ok(())
}

#[tokio::test]
async fn refusals_are_status_objects() -> anyhow::Result<()> {
    let world = World::start().await?;
    let api: Api<ConfigMap> = Api::default_namespaced(client(&world)?);
    let (post, apply) = (PostParams::default(), PatchParams::apply("one"));
    let made = api.create(&post, &config_map("a", "1")).await?;
    refused(api.create(&post, &config_map("a", "1")).await, 409, "AlreadyExists")?;
    api.replace("a", &post, &config_map("a", "2")).await?;
    let stale = ConfigMap { data: None, ..made };
    refused(api.replace("a", &post, &stale).await, 409, "Conflict")?;
    let said = refused(api.create(&post, &config_map("Not A Name", "1")).await, 422, "Invalid")?;
    assert_eq!(said.details.context("details")?.causes[0].field, "metadata.name");
    api.patch("a", &apply.clone().force(), &Patch::Apply(config_map("a", "3"))).await?;
    let other = PatchParams::apply("two");
    let said = refused(api.patch("a", &other, &Patch::Apply(config_map("a", "4"))).await, 409, "Conflict")?;
    assert!(said.message.contains("conflict with \"one\": .data.x"), "{}", said.message);
    assert_eq!(said.details.context("details")?.causes[0].reason, "FieldManagerConflict");
    refused(api.get("missing").await, 404, "NotFound")?;
    let delete = DeleteParams::default().preconditions(kube::api::Preconditions {
        uid: Some("00000000-0000-4000-8000-000000000000".to_owned()),
        ..kube::api::Preconditions::default()
    });
    refused(api.delete("a", &delete).await, 409, "Conflict")?;
    Ok(())
}

#[tokio::test]
async fn lists_have_pages_and_selectors() -> anyhow::Result<()> {
    let world = World::start().await?;
    let api: Api<ConfigMap> = Api::default_namespaced(client(&world)?);
    for number in 0..10 {
        let mut made = config_map(&format!("c{number}"), "1");
        made.labels_mut().insert("even".to_owned(), (number % 2 == 0).to_string());
        api.create(&PostParams::default(), &made).await?;
    }
    let (mut names, mut params, mut pages) = (Vec::new(), ListParams::default().limit(3), 0);
    loop {
        let page = api.list(&params).await?;
        names.extend(page.items.iter().map(ConfigMap::name_any));
        pages += 1;
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
        // What is made meanwhile belongs to a later time.
        api.create(&PostParams::default(), &config_map(&format!("d{pages}"), "1")).await?;
    }
    assert_eq!((names.len(), pages), (10, 4), "{names:?}");
    let even = api.list(&ListParams::default().labels("even=true")).await?;
    assert_eq!(even.items.len(), 5);
    let one = api.list(&ListParams::default().fields("metadata.name=c3")).await?;
    assert_eq!(one.items.len(), 1);
    let meta = api.list_metadata(&ListParams::default().labels("even")).await?;
    assert_eq!(
        (meta.items.len(), meta.items[0].types.as_ref().map(|t| t.kind.as_str())),
        (10, Some("PartialObjectMetadata"))
    );
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels("even")).await?;
    assert!(api.list(&ListParams::default()).await?.items.iter().all(|map| map.name_any().starts_with('d')));
    Ok(())
}

#[tokio::test]
async fn watchers_follow() -> anyhow::Result<()> {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let world = World::start().await?;
        let api: Api<ConfigMap> = Api::default_namespaced(client(&world)?);
        api.create(&PostParams::default(), &config_map("a", "1")).await?;
        let (reader, writer) = reflector::store();
        let mut events = watcher(api.clone(), config.labels("!hidden")).reflect(writer).boxed();
        let mut next = async || Ok::<_, anyhow::Error>(within(events.try_next()).await??.context("it ended")?);
        assert!(matches!(next().await?, Event::Init));
        assert!(matches!(next().await?, Event::InitApply(map) if map.name_any() == "a"));
        assert!(matches!(next().await?, Event::InitDone));

        api.create(&PostParams::default(), &config_map("b", "1")).await?;
        assert!(matches!(next().await?, Event::Apply(map) if map.name_any() == "b"));
        let label = |value: Option<&str>| Patch::Merge(json!({ "metadata": { "labels": { "hidden": value } } }));
        // What leaves the selection is deleted, for this watcher.
        api.patch("a", &PatchParams::default(), &label(Some("yes"))).await?;
        assert!(matches!(next().await?, Event::Delete(map) if map.name_any() == "a"));
        api.patch("a", &PatchParams::default(), &label(None)).await?;
        assert!(matches!(next().await?, Event::Apply(map) if map.name_any() == "a"));
        api.delete("b", &DeleteParams::default()).await?;
        assert!(matches!(next().await?, Event::Delete(map) if map.name_any() == "b"));
        let kept: Vec<_> = reader.state().iter().map(|map| map.name_any()).collect();
        assert_eq!(kept, ["a"]);
        assert!(reader.get(&ObjectRef::new("a").within("default")).is_some());
    }
    Ok(())
}

/// A watch is told how far it is, and one from a forgotten past learns that it must list again.
#[tokio::test]
async fn bookmarks_and_the_forgotten_past() -> anyhow::Result<()> {
    let world = World::start().await?;
    let api: Api<ConfigMap> = Api::default_namespaced(client(&world)?);
    let made = api.create(&PostParams::default(), &config_map("a", "1")).await?;
    let past = made.resource_version().context("no version")?;
    let params = WatchParams::default().timeout(4);
    let mut watch = api.watch(&params, &past).await?.boxed();
    api.create(&PostParams::default(), &config_map("b", "1")).await?;
    let mut bookmarks = 0;
    let mut added = Vec::new();
    while let Some(event) = within(watch.try_next()).await?? {
        match event {
            WatchEvent::Added(map) => added.push(map.name_any()),
            WatchEvent::Bookmark(bookmark) => {
                assert!(!bookmark.metadata.resource_version.is_empty());
                bookmarks += 1;
            }
            other @ (WatchEvent::Modified(_) | WatchEvent::Deleted(_) | WatchEvent::Error(_)) => bail!("{other:?}"),
        }
    }
    assert_eq!(added, ["b"]);
    assert!(bookmarks > 0, "a watch gets a bookmark before it ends");

    world.api.compact();
    let status = match api.watch(&params, &past).await {
        // The real server may say it either way.
        Err(kube::Error::Api(status)) => *status,
        Err(error) => bail!("{error}"),
        Ok(watch) => match within(watch.boxed().try_next()).await?? {
            Some(WatchEvent::Error(status)) => *status,
            other => bail!("{other:?}"),
        },
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(status.message.starts_with("too old resource version: "), "{}", status.message);
    Ok(())
}

/// A watcher that was away for too long lists again, and misses nothing.
#[tokio::test]
async fn watchers_recover() -> anyhow::Result<()> {
    let world = World::start().await?;
    let api: Api<ConfigMap> = Api::default_namespaced(client(&world)?);
    api.create(&PostParams::default(), &config_map("a", "1")).await?;
    let (reader, writer) = reflector::store();
    // Each watch of it lasts a second, and then it comes back with what it saw last.
    let events = watcher(api.clone(), watcher::Config::default().disable_bookmarks().timeout(1));
    // How often it began anew, and how often the past was gone; each event is told.
    let (told, mut heard) = tokio::sync::watch::channel((0, 0));
    let watching = tokio::spawn({
        events.default_backoff().reflect(writer).for_each(move |event| {
            match event {
                Ok(Event::Init) => told.send_modify(|(restarts, _)| *restarts += 1),
                Ok(Event::Apply(_) | Event::Delete(_) | Event::InitApply(_) | Event::InitDone) => {
                    told.send_modify(|_| {})
                }
                Err(error) => {
                    let gone = match &error {
                        watcher::Error::WatchError(status) => status.code == 410,
                        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
                        watcher::Error::InitialListFailed(_)
                        | watcher::Error::WatchStartFailed(_)
                        | watcher::Error::WatchFailed(_)
                        | watcher::Error::NoResourceVersion => false,
                    };
                    assert!(gone, "{error}");
                    told.send_modify(|(_, expired)| *expired += 1);
                }
            }
            futures::future::ready(())
        })
    });
    within(reader.wait_until_ready()).await??;
    let other: Api<Namespace> = Api::all(api.clone().into_client());
    within(async {
        // Others move on, then the past is forgotten: what the watcher saw last is in it.
        let made = Namespace { metadata: named("other"), ..Namespace::default() };
        other.create(&PostParams::default(), &made).await?;
        world.api.compact();
        heard.wait_for(|(restarts, expired)| *expired > 0 && *restarts > 1).await?;
        api.create(&PostParams::default(), &config_map("b", "1")).await?;
        heard.wait_for(|_| reader.state().len() == 2).await?;
        Ok::<_, anyhow::Error>(())
    })
    .await??;
    assert!(!watching.is_finished(), "an error other than 410 came");
    watching.abort();
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct ReconcileError(#[from] kube::runtime::finalizer::Error<kube::Error>);

/// A controller that copies, and takes its copy away at the end.
#[tokio::test]
async fn controllers_reconcile_and_finalize() -> anyhow::Result<()> {
    let world = World::start().await?;
    let client = client(&world)?;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let controller = Controller::new(api.clone(), watcher::Config::default().labels("copy=yes"))
        .owns(Api::<ConfigMap>::default_namespaced(client), watcher::Config::default());
    let context = Arc::new(api.clone());
    let mut running = tokio::spawn(controller.run(reconcile, look_again, context).for_each(async |_| {}));

    let mut original = config_map("a", "1");
    original.labels_mut().insert("copy".to_owned(), "yes".to_owned());
    api.create(&PostParams::default(), &original).await?;
    let copied = |map: Option<&ConfigMap>| map.is_some();
    within(wait::await_condition(api.clone(), "a-copy", copied)).await??;
    // An owned one comes back.
    let copy = api.get("a-copy").await?;
    assert_eq!(copy.owner_references()[0].controller, Some(true));
    api.delete("a-copy", &DeleteParams::default()).await?;
    let old = copy.uid();
    within(wait::await_condition(api.clone(), "a-copy", move |map: Option<&ConfigMap>| {
        map.is_some_and(|map| map.uid() != old)
    }))
    .await??;

    let original = api.get("a").await?;
    assert_eq!(original.finalizers(), ["example.com/copy"]);
    api.delete("a", &DeleteParams::default()).await?;
    let uid = original.uid().context("no uid")?;
    within(wait::await_condition(api.clone(), "a", conditions::is_deleted(&uid))).await??;
    assert!(api.get_opt("a-copy").await?.is_none());
    if let Some(ended) = (&mut running).now_or_never() {
        bail!("the controller ended: {ended:?}");
    }
    running.abort();
    Ok(())
}

/// What a controller does about an error: with a cache that is behind, its patch of finalizers meets an object that is
/// gone (404) or has other finalizers (422) by now. Any other error is a fault of the server.
fn look_again(_: Arc<ConfigMap>, error: &ReconcileError, _: Arc<Api<ConfigMap>>) -> Action {
    use kube::runtime::finalizer::Error::{AddFinalizer, RemoveFinalizer};
    let (AddFinalizer(cause) | RemoveFinalizer(cause)) = &error.0 else { panic!("{error:?}") };
    let behind = matches!(cause, kube::Error::Api(status) if matches!(status.code, 404 | 422));
    assert!(behind, "{cause:?}");
    Action::await_change()
}

async fn reconcile(map: Arc<ConfigMap>, api: Arc<Api<ConfigMap>>) -> Result<Action, ReconcileError> {
    let name = format!("{}-copy", map.name_any());
    let step = async |event: Finalize<ConfigMap>| match event {
        Finalize::Apply(map) => {
            let mut copy = config_map(&name, "copied");
            copy.metadata.owner_references = map.controller_owner_ref(&()).map(|owner| vec![owner]);
            let apply = PatchParams::apply("copier").force();
            api.patch(&name, &apply, &Patch::Apply(&copy)).await?;
            Ok(Action::await_change())
        }
        Finalize::Cleanup(_) => {
            match api.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => _ = other?,
            }
            Ok(Action::await_change())
        }
    };
    Ok(finalizer(&api, "example.com/copy", map, step).await?)
}

#[tokio::test]
async fn discovery_of_both_kinds() -> anyhow::Result<()> {
    let world = World::start().await?;
    let client = client(&world)?;
    let old = Discovery::new(client.clone()).run().await?;
    let new = Discovery::new(client.clone()).run_aggregated().await?;
    for discovery in [&old, &new] {
        let (pod, can) =
            discovery.resolve_gvk(&kube::core::gvk::GroupVersionKind::gvk("", "v1", "Pod")).context("pods")?;
        assert_eq!((pod.plural.as_str(), can.scope.clone()), ("pods", Scope::Namespaced));
        assert!(can.supports_operation(verbs::WATCH) && can.subresources.iter().any(|(one, _)| one.plural == "log"));
        assert!(discovery.has_group("coordination.k8s.io"));
    }
    let kinds = |discovery: &Discovery| -> Vec<String> {
        let groups = discovery.groups_alphabetical();
        let all = groups.into_iter().flat_map(kube::discovery::ApiGroup::recommended_resources);
        let mut all: Vec<_> = all.map(|(kind, _)| format!("{} {}", kind.api_version, kind.kind)).collect();
        all.sort();
        all
    };
    assert_eq!(kinds(&old), kinds(&new));
    assert!(kinds(&old).len() > 50, "{:?}", kinds(&old));
    let version = client.apiserver_version().await?;
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "37"));
    Ok(())
}

#[tokio::test]
async fn who_may_do_what() -> anyhow::Result<()> {
    let world = World::start().await?;
    let admin = client(&world)?;
    let mut config = config(&world)?;
    config.auth_info.impersonate = Some("jane".to_owned());
    let jane = Client::try_from(config.clone())?;
    let pods: Api<Pod> = Api::default_namespaced(jane.clone());
    let said = refused(pods.list(&ListParams::default()).await, 403, "Forbidden")?;
    assert_eq!(
        said.message,
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    assert!(!may(&jane, "list").await? && may(&admin, "list").await?);

    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "jane" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane" }],
    });
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::default_namespaced(admin);
    bindings.create(&PostParams::default(), &serde_json::from_value(role)?).await?;
    assert!(may(&jane, "list").await? && !may(&jane, "delete").await?);
    pods.list(&ListParams::default()).await?;

    let nobody = Client::try_from(Config::new(format!("http://{}", world.address()).parse()?))?;
    refused(Api::<Pod>::default_namespaced(nobody).list(&ListParams::default()).await, 403, "Forbidden")?;
    (config.auth_info.impersonate, config.auth_info.token) = (None, Some("wrong".to_owned().into()));
    let wrong = Client::try_from(config)?;
    refused(Api::<Pod>::default_namespaced(wrong).list(&ListParams::default()).await, 401, "Unauthorized")?;
    Ok(())
}

async fn may(client: &Client, verb: &str) -> anyhow::Result<bool> {
    let asked = ResourceAttributes {
        namespace: Some("default".to_owned()),
        verb: Some(verb.to_owned()),
        resource: Some("pods".to_owned()),
        ..ResourceAttributes::default()
    };
    let spec =
        SelfSubjectAccessReviewSpec { resource_attributes: Some(asked), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.context("no answer")?.allowed)
}

/// One of two leads, and the other when the first gives it up.
#[tokio::test]
async fn leases_elect() -> anyhow::Result<()> {
    let world = World::start().await?;
    let client = client(&world)?;
    let (mut first, terms) = within(Leadership::acquire(client.clone(), "default", "hub", "one")).await??;
    assert_eq!(terms.current(), 1);
    let second = tokio::spawn({
        let client = client.clone();
        async move { Leadership::acquire(client, "default", "hub", "two").await.map(|(_, terms)| terms.current()) }
    });
    // A wanted term is written at once.
    terms.want(5);
    let mut terms = terms;
    tokio::select! {
        lost = first.keep() => bail!("{lost}"),
        risen = within(terms.risen()) => risen?,
    }
    assert_eq!(terms.current(), 5);
    assert!(!second.is_finished());
    first.release().await;
    assert_eq!(within(second).await???, 6);
    let lease = Api::<Lease>::default_namespaced(client.clone()).get("hub").await?;
    assert_eq!(lease.spec.and_then(|spec| spec.holder_identity).as_deref(), Some("two"));

    let nowhere = within(Leadership::acquire(client, "nowhere", "hub", "one")).await?;
    assert!(matches!(nowhere, Err(LeaseError::Kube { .. })));
    Ok(())
}

fn config(world: &World) -> anyhow::Result<Config> {
    let mut config = Config::new(format!("http://{}", world.address()).parse()?);
    config.auth_info.token = Some(TOKEN.to_owned().into());
    Ok(config)
}

fn client(world: &World) -> anyhow::Result<Client> {
    Ok(Client::try_from(config(world)?)?)
}

async fn within<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(WITHIN, future).await.context("it took too long")
}

/// The Status of an answer that must be a refusal of this kind.
fn refused<T>(answer: Result<T, kube::Error>, code: u16, reason: &str) -> anyhow::Result<Status> {
    match answer {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (code, reason), "{}", status.message);
            Ok(*status)
        }
        Err(error) => bail!("not a Status: {error}"),
        Ok(_) => bail!("not refused, but to be {code} {reason}"),
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn config_map(name: &str, x: &str) -> ConfigMap {
    let data = Some(BTreeMap::from([("x".to_owned(), x.to_owned())]));
    ConfigMap { metadata: named(name), data, ..ConfigMap::default() }
}

fn deployment(name: &str) -> anyhow::Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "web", "image": "nginx:1.29" }] },
            },
        },
    }))?)
}
