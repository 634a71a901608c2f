//! Whose fields they are: autoscalers, what an App ignores, fights, and objects that were there before.

use anyhow::{Context as _, ensure};
use api::wire::{Adopt, Ignore, Phase, Render};
use futures::TryStreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use serde_json::{Value, json};
use world::Cluster;

use super::{Hub, await_object, deployment, kubectl, list};

const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");

fn autoscaler(name: &str, min: u32) -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": {
        "minReplicas": min, "maxReplicas": 9,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}})
}

fn with_note(mut object: Value, note: &str) -> Value {
    object["metadata"]["annotations"] = json!({"note": note});
    object
}

fn replicas(object: &Value) -> u64 {
    object["spec"]["replicas"].as_u64().unwrap_or_default()
}

/// The controller manager's autoscaler, moved by its bounds, is left alone, whether the App brings it or not, and whether
/// it was there before the Deployment or after. Every change of `replicas` is recorded: none may go down.
pub(super) async fn autoscalers_have_their_replicas(hub: &mut Hub, cluster: &Cluster) -> anyhow::Result<()> {
    hub.tell("scale", "web", &[deployment("web", 2)], &[]);
    hub.until("scale", "web", |e| e.phase() == Phase::Ready).await?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"));
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), "scale", &resource);
    let recording = tokio::spawn(async move {
        let mut seen = vec![];
        let mut events = Box::pin(watcher(api, watcher::Config::default()));
        while let Some(event) = events.try_next().await? {
            if let watcher::Event::InitApply(object) | watcher::Event::Apply(object) = event {
                seen.push(replicas(&serde_json::to_value(&object)?));
                if object.metadata.annotations.is_some_and(|a| a.get("note").is_some_and(|note| note == "last")) {
                    return anyhow::Ok(seen);
                }
            }
        }
        anyhow::bail!("the watch ended after {seen:?}")
    });

    // After the Deployment, made by somebody else.
    kubectl(cluster, &["-n", "scale", "apply", "-f", "-"], &autoscaler("web", 4)).await?;
    await_object(cluster, "scale", DEPLOYMENT, "web", |o| o.is_some_and(|o| replicas(o) == 4)).await?;
    // A new version of the App says two, and changes all but that.
    hub.tell("scale", "web", &[with_note(deployment("web", 2), "first")], &[]);
    hub.until("scale", "web", |e| e.phase() == Phase::Ready).await?;
    let noted =
        |note: &'static str| move |o: Option<&Value>| o.is_some_and(|o| o["metadata"]["annotations"]["note"] == note);
    await_object(cluster, "scale", DEPLOYMENT, "web", noted("first")).await?;
    kubectl(cluster, &["-n", "scale", "apply", "-f", "-"], &autoscaler("web", 5)).await?;
    await_object(cluster, "scale", DEPLOYMENT, "web", |o| o.is_some_and(|o| replicas(o) == 5)).await?;
    hub.until("scale", "web", |e| e.phase() == Phase::Ready).await?;

    // The App itself brings one, and no longer says how many there are.
    let mut silent = with_note(deployment("web", 2), "last");
    silent["spec"].as_object_mut().context("a spec")?.remove("replicas");
    kubectl(cluster, &["-n", "scale", "delete", "hpa", "web"], &Value::Null).await?;
    hub.tell("scale", "web", &[silent, autoscaler("web", 2)], &[]);
    hub.until("scale", "web", |e| e.phase() == Phase::Ready && e.objects == 2).await?;
    let seen = recording.await??;
    ensure!(seen.is_sorted() && seen.first() == Some(&2) && seen.last() == Some(&5), "replicas went {seen:?}");

    // A Deployment whose replicas were ours until now: the value stays when we let go of it.
    hub.tell("scale", "own", &[deployment("own", 3)], &[]);
    hub.until("scale", "own", |e| e.phase() == Phase::Ready).await?;
    let mut silent = with_note(deployment("own", 3), "last");
    silent["spec"].as_object_mut().context("a spec")?.remove("replicas");
    hub.tell("scale", "own", &[silent, autoscaler("own", 1)], &[]);
    hub.until("scale", "own", |e| e.phase() == Phase::Ready && e.objects == 2).await?;
    let own = await_object(cluster, "scale", DEPLOYMENT, "own", noted("last")).await?;
    ensure!(replicas(&own) == 3, "{own}");
    Ok(())
}

/// Ignored paths and managers keep what others set; the rest of the object is held.
pub(super) async fn what_the_app_ignores_is_left(hub: &mut Hub, cluster: &Cluster) -> anyhow::Result<()> {
    let ignore = |pointers: &[&str], managers: &[&str]| Ignore {
        group: "apps".into(),
        kind: "Deployment".into(),
        name: String::new(),
        pointers: pointers.iter().map(|p| (*p).to_owned()).collect(),
        managers: managers.iter().map(|m| (*m).to_owned()).collect(),
    };
    let render = |note: &str| Render {
        objects: vec![with_note(deployment("web", 1), note).to_string()],
        ignore: vec![ignore(&["/spec/replicas"], &[]), ignore(&[], &["injector"])],
        ..Render::default()
    };
    hub.tell_render("ignore", "web", render("one"));
    hub.until("ignore", "web", |e| e.phase() == Phase::Ready).await?;
    kubectl(cluster, &["-n", "ignore", "scale", "deployments", "web", "--replicas=3"], &Value::Null).await?;
    let image = |image: &str| {
        format!(r#"{{"spec":{{"template":{{"spec":{{"containers":[{{"name":"web","image":"{image}"}}]}}}}}}}}"#)
    };
    let patch = |manager: &str, name: &str| {
        ["-n", "ignore", "patch", "deployments", "web", "--field-manager", manager, "-p"]
            .map(str::to_owned)
            .into_iter()
            .chain([image(name)])
            .collect::<Vec<_>>()
    };
    let args = patch("injector", "example.com/injected");
    kubectl(cluster, &args.iter().map(String::as_str).collect::<Vec<_>>(), &Value::Null).await?;
    hub.tell_render("ignore", "web", render("two"));
    hub.until("ignore", "web", |e| e.phase() == Phase::Ready).await?;
    let noted = |o: Option<&Value>| o.is_some_and(|o| o["metadata"]["annotations"]["note"] == "two");
    let web = await_object(cluster, "ignore", DEPLOYMENT, "web", noted).await?;
    ensure!(replicas(&web) == 3, "{web}");
    ensure!(web["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/injected", "{web}");
    // The same field, set by a manager that is not on the list, is taken back by the next version.
    let args = patch("stranger", "example.com/strange");
    kubectl(cluster, &args.iter().map(String::as_str).collect::<Vec<_>>(), &Value::Null).await?;
    hub.tell_render("ignore", "web", render("three"));
    hub.until("ignore", "web", |e| e.phase() == Phase::Ready).await?;
    let back = |o: Option<&Value>| {
        o.is_some_and(|o| o["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/web")
    };
    let web = await_object(cluster, "ignore", DEPLOYMENT, "web", back).await?;
    ensure!(replicas(&web) == 3, "{web}");
    Ok(())
}

/// A field taken back five times is reported with its taker's name, and left.
pub(super) async fn a_fight_is_reported_and_ended(hub: &mut Hub, cluster: &Cluster) -> anyhow::Result<()> {
    hub.tell("fight", "web", &[deployment("web", 1)], &[]);
    hub.until("fight", "web", |e| e.phase() == Phase::Ready).await?;
    let scale = ["-n", "fight", "scale", "deployments", "web", "--replicas=3"];
    for _ in 0..policies::plan::fields::TAKEN_BACK {
        kubectl(cluster, &scale, &Value::Null).await?;
        await_object(cluster, "fight", DEPLOYMENT, "web", |o| o.is_some_and(|o| replicas(o) == 1)).await?;
    }
    let entry = hub.until("fight", "web", |e| e.reason == "Contested").await?;
    ensure!(entry.phase() == Phase::Ready && entry.message.contains("/spec/replicas: kubectl took it"), "{entry:?}");
    kubectl(cluster, &scale, &Value::Null).await?;
    hub.tell("fight", "web", &[with_note(deployment("web", 1), "later")], &[]);
    hub.until("fight", "web", |e| e.phase() == Phase::Ready).await?;
    let noted = |o: Option<&Value>| o.is_some_and(|o| o["metadata"]["annotations"]["note"] == "later");
    let web = await_object(cluster, "fight", DEPLOYMENT, "web", noted).await?;
    ensure!(replicas(&web) == 3, "{web}");
    Ok(())
}

/// What was there before is taken over as the App says.
pub(super) async fn adoption_is_as_the_app_says(hub: &mut Hub, cluster: &Cluster) -> anyhow::Result<()> {
    kubectl(cluster, &["create", "namespace", "adopt"], &Value::Null).await?;
    let config = |name: &str, value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}});
    for (name, value) in [("same", "ours"), ("other", "theirs")] {
        kubectl(cluster, &["-n", "adopt", "create", "-f", "-"], &config(name, value)).await?;
    }
    let render = |adopt: Adopt| Render {
        objects: ["same", "other"].map(|name| config(name, "ours").to_string()).into(),
        adopt: adopt.into(),
        ..Render::default()
    };
    let of_set = async || list(cluster, "adopt", "configmaps", "applyset.kubernetes.io/part-of").await;
    hub.tell_render("adopt", "web", render(Adopt::Never));
    hub.until("adopt", "web", |e| e.reason == "ForeignObject" && e.message.contains("adopt/same")).await?;
    ensure!(of_set().await?.is_empty());
    hub.tell_render("adopt", "web", render(Adopt::IfIdentical));
    hub.until("adopt", "web", |e| {
        e.reason == "ForeignObject" && e.message.contains("adopt/other") && !e.message.contains("adopt/same")
    })
    .await?;
    let taken = of_set().await?;
    ensure!(taken.len() == 1 && taken[0]["metadata"]["name"] == "same", "{taken:?}");
    hub.tell_render("adopt", "web", render(Adopt::Always));
    hub.until("adopt", "web", |e| e.phase() == Phase::Ready).await?;
    let taken = of_set().await?;
    ensure!(taken.len() == 2 && taken.iter().all(|o| o["data"]["a"] == "ours"), "{taken:?}");
    Ok(())
}
