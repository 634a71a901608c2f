//! Names that the agent gives, and labels that it reads: pure, equal for every agent of a cluster.

use policies::id::AppId;
use sha2::{Digest as _, Sha256};

/// Label of an ApplySet's members (KEP-3659).
pub const PART_OF: &str = "applyset.kubernetes.io/part-of";
/// Label of an ApplySet's parent: the set's id.
pub const SET_ID: &str = "applyset.kubernetes.io/id";
/// Annotation of a parent: which tool keeps the set.
pub const TOOLING: &str = "applyset.kubernetes.io/tooling";
/// Our value of [`TOOLING`].
pub const TOOLING_VALUE: &str = "isochrone/v1";
/// Annotation of a parent: kinds of its members, `ConfigMap,Deployment.apps`.
pub const GROUP_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
/// Annotation of a parent: namespaces of its members besides its own.
pub const NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";
/// Label that a cluster's owner puts on a Namespace, with value `refused`, to keep Apps out of it.
pub const DELIVERY: &str = "isochrone.dev/delivery";
/// The ClusterRole bound in each App's namespace.
pub const APP_ROLE: &str = "isochrone:app-default";
/// What every name that the agent impersonates to apply begins with.
pub const APP_USER_PREFIX: &str = "isochrone:app:";
/// What every field manager of ours begins with.
pub const MANAGER_PREFIX: &str = "isochrone:";

/// The user whose rights the Apps of a namespace have. Never without the prefix, so no name with rights of its own
/// (`system:…`) can come out.
pub fn app_user(namespace: &str) -> String {
    format!("{APP_USER_PREFIX}{namespace}")
}

/// The field manager of an app's objects, at most 128 characters (the API server's limit).
pub fn field_manager(app: &AppId) -> String {
    bounded(format!("{MANAGER_PREFIX}{app}"), 128)
}

/// Name of the ConfigMap that is an app's ApplySet parent.
pub fn parent(app: &AppId) -> String {
    // The hash keeps `a-b/c` and `a/b-c` apart.
    let hash = hex(&Sha256::digest(app.to_string()), 4);
    let mut stem = format!("applyset-{}-{}", app.namespace, app.name);
    // Object names are DNS subdomains of 253 characters at most.
    stem.truncate(253 - 9);
    format!("{stem}-{hash}")
}

/// The id of the set whose parent is the ConfigMap `name` in `namespace`, as kubectl computes it.
pub fn set_id(name: &str, namespace: &str) -> String {
    let hashed = Sha256::digest(format!("{name}.{namespace}.ConfigMap."));
    format!("applyset-{}-v1", base64url(&hashed))
}

/// The first `bytes` bytes as lower-case hexadecimal digits.
pub(crate) fn hex(data: &[u8], bytes: usize) -> String {
    data.iter().take(bytes).map(|b| format!("{b:02x}")).collect()
}

/// Cuts `text` to `limit` bytes, with a hash in place of what is lost.
pub(crate) fn bounded(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let hash = hex(&Sha256::digest(&text), 4);
        let cut = (0..=limit - 9).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(cut);
        text = format!("{text}-{hash}");
    }
    text
}

/// RFC 4648 §5 without padding.
fn base64url(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in data.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_rfc_4648() {
        for (plain, coded) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64url(plain.as_bytes()), coded);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn names_keep_their_limits_and_stay_apart() {
        let long = AppId::new("n".repeat(63), "ä".repeat(120));
        assert!(field_manager(&long).len() <= 128);
        assert!(parent(&AppId::new("n".repeat(63), "a".repeat(253))).len() <= 253);
        assert_ne!(parent(&AppId::new("a-b", "c")), parent(&AppId::new("a", "b-c")));
        assert_eq!(field_manager(&AppId::new("shop", "web")), "isochrone:shop/web");
        let id = set_id("p", "ns");
        assert_eq!(id, "applyset-znNVZvwGCMf5_JnqzDGY-O-wY3xxeI0RVndL5w-XkCM-v1", "computed with Python");
        assert!(id.len() <= 63, "a label value");
    }
}
