"""The official Python client at work, in the cluster that the kubeconfig names.

Each check runs in a namespace of its own and says its name once it holds. The first that does not hold ends this with
an error. Nothing here knows which server it talks to: what holds on a real kube-apiserver must hold on kubeworld.
"""

import contextlib
import json
import sys
import threading

import yaml
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError, UnprocessibleEntityError

SERVER_SIDE_APPLY = "application/apply-patch+yaml"
# Longer than anything takes on busy cores: a watch that misses something ends then, and its check fails.
WATCH_SECONDS = 30

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def config_map(name, data=None, **meta):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, **meta), data=data)


@contextlib.contextmanager
def refused(status, reason):
    """What the server says no to: the status of HTTP, and the reason of the Status in the body."""
    said = {}
    try:
        yield said
    except ApiException as error:
        body = json.loads(error.body)
        said.update(body)
        told = (error.status, body["kind"], body["status"], body["code"], body.get("reason"))
        assert told == (status, "Status", "Failure", status, reason), told
    else:
        raise AssertionError(f"was not refused with {status} {reason}")


@check
def lists_in_pages_and_by_selectors(namespace):
    core = client.CoreV1Api()
    for name, tier in [("a", "web"), ("b", "web"), ("c", "db")]:
        core.create_namespaced_config_map(namespace, config_map(name, labels={"tier": tier}))
    listed = core.list_namespaced_config_map(namespace, label_selector="tier=web")
    assert [one.metadata.name for one in listed.items] == ["a", "b"]
    listed = core.list_namespaced_config_map(namespace, field_selector="metadata.name=c")
    assert [one.metadata.name for one in listed.items] == ["c"]
    page = core.list_namespaced_config_map(namespace, limit=2, label_selector="tier")
    assert [one.metadata.name for one in page.items] == ["a", "b"] and page.metadata._continue
    assert page.metadata.remaining_item_count is None  # not told with a selector
    rest = core.list_namespaced_config_map(
        namespace, limit=2, label_selector="tier", _continue=page.metadata._continue
    )
    assert [one.metadata.name for one in rest.items] == ["c"] and not rest.metadata._continue
    assert rest.metadata.resource_version == page.metadata.resource_version


@check
def creates_reads_and_replaces(namespace):
    apps = client.AppsV1Api()
    labels = {"app": "web"}
    container = client.V1Container(name="web", image="nginx:1.29", resources=client.V1ResourceRequirements(
        requests={"cpu": "0.5", "memory": "1024Mi"}))
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(
        replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template
    )
    made = apps.create_namespaced_deployment(
        namespace, client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    )
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo and made.metadata.generation == 1
    # What is left out comes back as the server's defaults, and quantities in their one form.
    assert made.spec.strategy.type == "RollingUpdate" and made.spec.progress_deadline_seconds == 600
    assert made.spec.template.spec.containers[0].resources.requests == {"cpu": "500m", "memory": "1Gi"}

    read = apps.read_namespaced_deployment("web", namespace)
    # Without a revision it is taken whatever happened meanwhile.
    read.metadata.resource_version = None
    read.spec.replicas = 3
    replaced = apps.replace_namespaced_deployment("web", namespace, read)
    assert replaced.metadata.generation == 2
    assert replaced.metadata.managed_fields[0].manager == "OpenAPI-Generator"
    scale = apps.read_namespaced_deployment_scale("web", namespace)
    assert (scale.spec.replicas, scale.status.selector) == (3, "app=web")
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 5}})
    read = apps.read_namespaced_deployment("web", namespace)
    assert (read.spec.replicas, read.metadata.generation) == (5, 3)
    with refused(409, "Conflict"):
        apps.replace_namespaced_deployment("web", namespace, replaced)
    dry = apps.patch_namespaced_deployment("web", namespace, {"spec": {"replicas": 7}}, dry_run="All")
    assert dry.spec.replicas == 7 and apps.read_namespaced_deployment("web", namespace).spec.replicas == 5


@check
def patches_in_each_way(namespace):
    core = client.CoreV1Api()
    core.create_namespaced_config_map(namespace, config_map("a", {"x": "1", "y": "1"}))
    # A dict goes as a strategic merge patch, a list as a JSON patch.
    patched = core.patch_namespaced_config_map("a", namespace, {"data": {"x": None, "z": "2"}})
    assert patched.data == {"y": "1", "z": "2"}
    patched = core.patch_namespaced_config_map(
        "a", namespace, [{"op": "test", "path": "/data/z", "value": "2"}, {"op": "remove", "path": "/data/z"}]
    )
    assert patched.data == {"y": "1"}
    patched = core.patch_namespaced_config_map(
        "a", namespace, {"metadata": {"annotations": {"a/b": "c"}}}, _content_type="application/merge-patch+json"
    )
    assert patched.metadata.annotations == {"a/b": "c"}
    with refused(422, "Invalid"):
        core.patch_namespaced_config_map("a", namespace, [{"op": "test", "path": "/data/y", "value": "9"}])
    with refused(415, "UnsupportedMediaType"):
        core.patch_namespaced_config_map("a", namespace, {}, _content_type="application/json")


@check
def applies_on_the_server(namespace):
    core = client.CoreV1Api()

    def apply(data, manager, **more):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}
        return core.patch_namespaced_config_map(
            "a", namespace, body, field_manager=manager, _content_type=SERVER_SIDE_APPLY, **more
        )

    assert apply({"x": "1"}, "first").data == {"x": "1"}
    assert apply({"y": "1"}, "second").data == {"x": "1", "y": "1"}
    with refused(409, "Conflict") as status:
        apply({"x": "2"}, "second")
    causes = status["details"]["causes"]
    assert [(one["reason"], one["field"]) for one in causes] == [("FieldManagerConflict", ".data.x")], causes
    taken = apply({"x": "2"}, "second", force=True)
    assert taken.data == {"x": "2"}
    managers = {one.manager: (one.operation, one.fields_v1) for one in taken.metadata.managed_fields}
    assert managers == {"second": ("Apply", {"f:data": {"f:x": {}}})}, managers
    with refused(422, "Invalid") as status:
        apply({}, None)
    assert [one["field"] for one in status["details"]["causes"]] == ["fieldManager"], status


@check
def watches_from_a_revision(namespace):
    core = client.CoreV1Api()
    core.create_namespaced_config_map(namespace, config_map("before"))
    since = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, config_map("a", {"x": "1"}))
    core.patch_namespaced_config_map("a", namespace, {"data": {"x": "2"}})

    # The rest happens while the watch is open.
    seen_both = threading.Event()

    def go_on():
        if seen_both.wait(WATCH_SECONDS):
            core.delete_namespaced_config_map("a", namespace)

    beside = threading.Thread(target=go_on)
    beside.start()
    seen = []
    watching = watch.Watch()
    for event in watching.stream(
        core.list_namespaced_config_map, namespace, resource_version=since, timeout_seconds=WATCH_SECONDS
    ):
        one = event["object"]
        seen.append((event["type"], one.metadata.name, one.data))
        if len(seen) == 2:
            seen_both.set()
        if event["type"] == "DELETED":
            watching.stop()
    beside.join()
    assert seen == [("ADDED", "a", {"x": "1"}), ("MODIFIED", "a", {"x": "2"}), ("DELETED", "a", {"x": "2"})], seen

    # Without a revision it begins with what is there. `kube-root-ca.crt` comes only where a controller makes it.
    watching = watch.Watch()
    for event in watching.stream(
        core.list_namespaced_config_map, namespace, field_selector="metadata.name=before", timeout_seconds=WATCH_SECONDS
    ):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "before")
        watching.stop()
    # So the real server says it.
    with refused(500, None):
        for _ in watch.Watch().stream(core.list_namespaced_config_map, namespace, resource_version="none"):
            pass


@check
def deletes_with_preconditions_and_finalizers(namespace):
    core = client.CoreV1Api()
    made = core.create_namespaced_config_map(namespace, config_map("a", finalizers=["example.com/hold"]))
    wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    with refused(409, "Conflict"):
        core.delete_namespaced_config_map("a", namespace, body=wrong)
    right = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=made.metadata.uid))
    core.delete_namespaced_config_map("a", namespace, body=right)
    assert core.read_namespaced_config_map("a", namespace).metadata.deletion_timestamp
    core.patch_namespaced_config_map("a", namespace, [{"op": "remove", "path": "/metadata/finalizers"}])
    with refused(404, "NotFound"):
        core.read_namespaced_config_map("a", namespace)
    for name in ["b", "c", "d"]:
        core.create_namespaced_config_map(namespace, config_map(name, labels={"go": "yes" if name != "d" else "no"}))
    core.delete_collection_namespaced_config_map(namespace, label_selector="go=yes")
    left = core.list_namespaced_config_map(namespace, label_selector="go")
    assert [one.metadata.name for one in left.items] == ["d"]


@check
def errors_have_their_status_and_reason(namespace):
    core = client.CoreV1Api()
    with refused(404, "NotFound") as status:
        core.read_namespaced_config_map("missing", namespace)
    assert status["details"] == {"name": "missing", "kind": "configmaps"}, status
    core.create_namespaced_config_map(namespace, config_map("a"))
    with refused(409, "AlreadyExists"):
        core.create_namespaced_config_map(namespace, config_map("a"))
    with refused(422, "Invalid") as status:
        core.create_namespaced_config_map(namespace, config_map("Not_A_Name"))
    assert [one["field"] for one in status["details"]["causes"]] == ["metadata.name"], status
    ports = [client.V1ServicePort(port=0)]
    with refused(422, "Invalid") as status:
        core.create_namespaced_service(namespace, client.V1Service(
            metadata=client.V1ObjectMeta(name="a"), spec=client.V1ServiceSpec(ports=ports)))
    assert "spec.ports[0].port" in [one["field"] for one in status["details"]["causes"]], status
    with refused(400, "BadRequest"):
        core.list_namespaced_config_map(namespace, field_selector="data.x=1")
    with refused(404, "NotFound"):
        core.create_namespaced_config_map("nowhere-at-all", config_map("a"))
    with refused(400, "BadRequest"):
        core.create_namespaced_config_map(namespace, config_map("b", namespace="another"))
    stranger = client.ApiClient()
    stranger.set_default_header("Impersonate-User", "jane")
    with refused(403, "Forbidden") as status:
        client.CoreV1Api(stranger).read_namespaced_secret("s", namespace)
    assert 'User "jane" cannot get resource "secrets"' in status["message"], status
    review = client.V1SubjectAccessReview(spec=client.V1SubjectAccessReviewSpec(
        user="jane", resource_attributes=client.V1ResourceAttributes(verb="get", resource="secrets")))
    assert client.AuthorizationV1Api().create_subject_access_review(review).status.allowed is False


FILE = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: busybox}]}}}
"""


@check
def makes_what_a_file_says(namespace):
    utils.create_from_yaml(client.ApiClient(), yaml_objects=yaml.safe_load_all(FILE), namespace=namespace)
    job = client.BatchV1Api().read_namespaced_job("once", namespace)
    assert job.spec.backoff_limit == 6 and job.spec.selector.match_labels


def ships():
    properties = {
        "spec": {
            "type": "object",
            "required": ["port"],
            "properties": {
                "port": {"type": "string"},
                "boats": {"type": "integer", "minimum": 0, "default": 2},
            },
        },
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ships.py.example.com"},
        "spec": {
            "group": "py.example.com",
            "scope": "Namespaced",
            "names": {"kind": "Ship", "plural": "ships", "shortNames": ["sh"]},
            "versions": [{
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
            }],
        },
    }


def until_established(core, name):
    for event in core.watch(field_selector=f"metadata.name={name}", timeout=WATCH_SECONDS):
        conditions = (event["object"].to_dict().get("status") or {}).get("conditions") or []
        if any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            return
    raise AssertionError(f"{name} did not become established")


@check
def serves_custom_kinds_to_the_dynamic_client(namespace):
    talk = dynamic.DynamicClient(client.ApiClient())
    definitions = talk.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    definitions.create(body=ships())
    until_established(definitions, "ships.py.example.com")
    # Asks discovery anew, as it does for a kind that it does not know.
    kind = talk.resources.get(api_version="py.example.com/v1", kind="Ship")
    assert kind.namespaced and kind.short_names == ["sh"] and "status" in kind.subresources

    body = {"apiVersion": "py.example.com/v1", "kind": "Ship", "metadata": {"name": "a"}, "spec": {"port": "oslo"}}
    made = kind.create(body=body, namespace=namespace)
    assert made.spec.boats == 2 and made.metadata.generation == 1
    patched = kind.patch(
        body={"spec": {"boats": 4, "unknown": 1}}, name="a", namespace=namespace,
        content_type="application/merge-patch+json",
    )
    assert patched.spec.to_dict() == {"port": "oslo", "boats": 4} and patched.metadata.generation == 2
    kind.status.patch(
        body={"status": {"phase": "Sailing"}, "spec": {"boats": 9}}, name="a", namespace=namespace,
        content_type="application/merge-patch+json",
    )
    read = kind.get(name="a", namespace=namespace)
    assert (read.status.phase, read.spec.boats, read.metadata.generation) == ("Sailing", 4, 2)

    try:
        kind.server_side_apply(body={**body, "spec": {"port": "bergen"}}, namespace=namespace, field_manager="other")
        raise AssertionError("another's field was taken without force")
    except ConflictError as error:
        assert error.status == 409
    applied = kind.server_side_apply(
        body={**body, "spec": {"port": "bergen"}}, namespace=namespace, field_manager="other", force_conflicts=True
    )
    assert applied.spec.port == "bergen"
    for wrong in [{"boats": 1}, {"port": "a", "boats": -1}, {"port": 5}]:
        try:
            kind.create(body={**body, "metadata": {"name": "b"}, "spec": wrong}, namespace=namespace)
            raise AssertionError(f"{wrong} was taken")
        except UnprocessibleEntityError as error:
            assert (error.status, json.loads(error.body)["reason"]) == (422, "Invalid")
    # The same by the typed client of custom objects, whose patches go as JSON merge patches.
    custom = client.CustomObjectsApi()
    listed = custom.list_namespaced_custom_object("py.example.com", "v1", namespace, "ships")
    assert [one["spec"]["port"] for one in listed["items"]] == ["bergen"] and listed["kind"] == "ShipList"
    since = listed["metadata"]["resourceVersion"]
    seen = kind.watch(namespace=namespace, resource_version=since, timeout=WATCH_SECONDS)
    kind.delete(name="a", namespace=namespace)
    assert next(seen)["type"] == "DELETED"
    try:
        kind.get(name="a", namespace=namespace)
        raise AssertionError("it is still there")
    except NotFoundError as error:
        assert error.status == 404
    definitions.delete(name="ships.py.example.com")


def main():
    config.load_kube_config()
    core = client.CoreV1Api()
    assert client.VersionApi().get_code().major == "1"
    assert "apps" in [group.name for group in client.ApisApi().get_api_versions().groups]
    for function in CHECKS:
        prefix = function.__name__.replace("_", "-") + "-"
        made = core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(generate_name=prefix)))
        function(made.metadata.name)
        print(f"python: {function.__name__}")
    print(f"python: {len(CHECKS)} checks hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
