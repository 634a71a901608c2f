//! The files of a web server whose pod has them from a ConfigMap, as the kubelet would mount them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, Container, Pod, VolumeMount};
use kube::ResourceExt as _;

/// Where the web servers that people mount files into look for them: nginx, Apache and Caddy by their images' defaults.
const ROOTS: [&str; 3] = ["/usr/share/nginx/html", "/usr/local/apache2/htdocs", "/usr/share/caddy"];

/// What a web server in a pod would say to a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The pod is no web server with files of a ConfigMap.
    NoSite,
    /// There is no such file.
    Missing,
    /// A file and its media type.
    File(Vec<u8>, &'static str),
}

/// The content of `path`, which is relative to the root of the site.
pub(super) fn content(pod: &Pod, maps: &[Arc<ConfigMap>], path: &str) -> Content {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut mounts: Vec<(&str, &VolumeMount)> = containers.flat_map(mounted).collect();
    if mounts.is_empty() {
        return Content::NoSite;
    }
    // A mount further in hides what is around it.
    mounts.sort_by_key(|(_, mount)| std::cmp::Reverse(mount.mount_path.len()));
    let path = if path.ends_with('/') { format!("{path}index.html") } else { path.to_owned() };
    for (root, mount) in mounts {
        let whole = format!("{root}{path}");
        let at = mount.mount_path.trim_end_matches('/');
        let Some(map) = config_map(pod, &mount.name) else { continue };
        let key = match &mount.sub_path {
            Some(sub_path) if whole == at => key_of(map, sub_path),
            Some(_) => continue,
            None => match whole.strip_prefix(at).and_then(|rest| rest.strip_prefix('/')) {
                Some(name) => key_of(map, name),
                None => continue,
            },
        };
        let found = maps.iter().find(|found| found.name_any() == map.name && found.namespace() == pod.namespace());
        return match key.and_then(|key| value(found?, &key)) {
            Some(bytes) => Content::File(bytes, media_type(&whole)),
            None => Content::Missing,
        };
    }
    Content::Missing
}

/// The mounts of a container that lie in the root of a web server, with that root.
fn mounted(container: &Container) -> impl Iterator<Item = (&'static str, &VolumeMount)> {
    container.volume_mounts.iter().flatten().filter_map(|mount| {
        let inside = |root: &&&str| {
            mount.mount_path.strip_prefix(**root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        ROOTS.iter().find(inside).map(|root| (*root, mount))
    })
}

fn config_map<'a>(pod: &'a Pod, volume: &str) -> Option<&'a ConfigMapVolumeSource> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    volumes.iter().find(|candidate| candidate.name == volume)?.config_map.as_ref()
}

/// The key that is mounted under a name: the same, unless `items` says otherwise.
fn key_of(map: &ConfigMapVolumeSource, name: &str) -> Option<String> {
    match &map.items {
        None => Some(name.to_owned()),
        Some(items) => items.iter().find(|item| item.path == name).map(|item| item.key.clone()),
    }
}

fn value(map: &ConfigMap, key: &str) -> Option<Vec<u8>> {
    let text = map.data.as_ref().and_then(|data| data.get(key)).map(|text| text.clone().into_bytes());
    text.or_else(|| map.binary_data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone()))
}

/// By the end of the name, as web servers do.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map() -> Vec<Arc<ConfigMap>> {
        let data = json!({ "index.html": "<h1>hello</h1>", "style.css": "h1 {}", "robots": "none" });
        let map = json!({ "metadata": { "namespace": "cdn", "name": "site" }, "data": data });
        vec![Arc::new(serde_json::from_value(map).unwrap())]
    }

    fn pod(mounts: &serde_json::Value, source: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "namespace": "cdn", "name": "web-0" },
            "spec": {
                "containers": [{ "name": "nginx", "image": "nginx", "volumeMounts": mounts }],
                "volumes": [{ "name": "files", "configMap": source }],
            },
        }))
        .unwrap()
    }

    fn html(text: &str) -> Content {
        Content::File(text.as_bytes().to_vec(), "text/html; charset=utf-8")
    }

    #[test]
    fn files_are_those_of_the_mounted_map() {
        let pod = pod(&json!([{ "name": "files", "mountPath": "/usr/share/nginx/html" }]), &json!({ "name": "site" }));
        assert_eq!(content(&pod, &map(), "/"), html("<h1>hello</h1>"));
        assert_eq!(content(&pod, &map(), "/index.html"), html("<h1>hello</h1>"));
        assert_eq!(content(&pod, &map(), "/style.css"), Content::File(b"h1 {}".to_vec(), "text/css; charset=utf-8"));
        for path in ["/nothing", "/../index.html", "", "//", "/index.html/"] {
            assert_eq!(content(&pod, &map(), path), Content::Missing, "{path}");
        }
        assert_eq!(content(&pod, &[], "/"), Content::Missing, "the map is gone");
    }

    #[test]
    fn items_sub_paths_and_inner_directories_are_as_mounted() {
        let items = json!({ "name": "site", "items": [{ "key": "robots", "path": "robots.txt" }] });
        let inner = pod(&json!([{ "name": "files", "mountPath": "/usr/share/nginx/html/meta/" }]), &items);
        let text = Content::File(b"none".to_vec(), "text/plain; charset=utf-8");
        assert_eq!(content(&inner, &map(), "/meta/robots.txt"), text);
        assert_eq!(content(&inner, &map(), "/robots.txt"), Content::Missing);
        assert_eq!(content(&inner, &map(), "/meta/index.html"), Content::Missing, "not among the items");
        let one = json!([{ "name": "files", "mountPath": "/usr/share/caddy/index.html", "subPath": "index.html" }]);
        let one = pod(&one, &json!({ "name": "site" }));
        assert_eq!(content(&one, &map(), "/"), html("<h1>hello</h1>"));
        assert_eq!(content(&one, &map(), "/style.css"), Content::Missing);
    }

    #[test]
    fn a_pod_with_a_map_elsewhere_is_no_web_server() {
        let pod = pod(&json!([{ "name": "files", "mountPath": "/etc/app" }]), &json!({ "name": "site" }));
        assert_eq!(content(&pod, &map(), "/"), Content::NoSite);
    }
}
