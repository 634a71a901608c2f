//! Acting as another: `kubectl --as`, and what stands behind a proxy.
//!
//! A server tries several modes, from the narrow to the wide, and takes the first that is allowed. The narrow ones ask
//! twice: may the requestor do *this* while he acts in this mode (`impersonate-on:user-info:list` pods), and may he act
//! as *that one* in this mode (`impersonate:user-info`). The wide one, the only one of old, asks the second question
//! only, with the plain verb `impersonate`.
//!
//! When nothing is allowed, the refusal is that of the mode that was tried first: so a server that remembers which mode
//! served a user last, and tries it first, refuses with other words than before. The memory is the caller's.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::{Access, Attributes, Target};
use crate::api::User;
use crate::status::Status;

/// A way to act as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A service account as the node that its pod runs on.
    AssociatedNode,
    /// As any node.
    ArbitraryNode,
    /// As a service account.
    ServiceAccount,
    /// As anybody else.
    UserInfo,
    /// As anybody, for any request: the only mode before there were others.
    Legacy,
}

/// In the order in which they are tried.
const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

/// Groups of this API have the users and groups of the narrow modes; those of old are in the core group.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// From how many groups or values on the narrow modes first ask for all at once.
const MANY: usize = 4;

/// Where a service account's user says which node its pod runs on.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Whom a request wants to act as, from its headers; none if it does not.
///
/// # Errors
/// 400 when it names anything but no user.
pub(crate) fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let first = |name: &str| headers.get(name).map(text).unwrap_or_default();
    let groups: Vec<String> = headers.get_all("impersonate-group").iter().map(text).collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            extra.entry(unescape(key)).or_default().push(text(value));
        }
    }
    let user = User { name: first("impersonate-user"), uid: first("impersonate-uid"), groups, extra };
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty() {
        return Ok(None);
    }
    Err(Status::bad_request(format!("requested {} without impersonating a user name", go_syntax(&user))))
}

impl Access {
    /// The user that a request goes on as, and how it came to be allowed. `last` is the mode that served the requestor
    /// last, which is tried first.
    ///
    /// # Errors
    /// 403, in the real server's words.
    pub(crate) fn impersonate(
        &self,
        requestor: &User,
        wanted: &User,
        attributes: &Attributes<'_>,
        last: Option<Mode>,
    ) -> Result<(User, Mode), Status> {
        let mut refusal = None;
        for mode in last.into_iter().chain(MODES.into_iter().filter(|mode| Some(*mode) != last)) {
            match self.try_mode(mode, requestor, wanted, attributes) {
                Some(Ok(user)) => return Ok((user, mode)),
                Some(Err(status)) => refusal = refusal.or(Some(status)),
                None => {}
            }
        }
        // The last mode is for everybody, so there is a refusal.
        Err(refusal.unwrap_or_else(|| Status::forbidden("", "users", &wanted.name, "no mode applies")))
    }

    /// None when the mode is not for such a user.
    fn try_mode(
        &self,
        mode: Mode,
        requestor: &User,
        wanted: &User,
        attributes: &Attributes<'_>,
    ) -> Option<Result<User, Status>> {
        if !mode.is_for(requestor, wanted) {
            return None;
        }
        Some(self.ask(mode, requestor, wanted, attributes))
    }

    fn ask(&self, mode: Mode, requestor: &User, wanted: &User, attributes: &Attributes<'_>) -> Result<User, Status> {
        if let Some(name) = mode.name() {
            let verb = format!("impersonate-on:{name}:{}", attributes.verb);
            self.check(requestor, &Attributes { verb: &verb, target: attributes.target })?;
        }
        let verb = mode.name().map_or_else(|| "impersonate".to_owned(), |name| format!("impersonate:{name}"));
        let may = |group: &str, resource: &str, subresource: &str, name: &str, namespace: &str| {
            let target = Target::Resource { group, resource, subresource, name, namespace };
            self.check(requestor, &Attributes { verb: &verb, target })
        };
        let group_of_users = if mode == Mode::Legacy { "" } else { AUTHENTICATION };
        let mut user = wanted.clone();
        if let Some((namespace, name)) = service_account(&wanted.name) {
            if wanted.groups.is_empty() {
                user.groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
            may(group_of_users, "serviceaccounts", "", name, namespace)?;
        } else if let Some(node) = node(&wanted.name).filter(|_| mode != Mode::Legacy) {
            user.groups = vec!["system:nodes".to_owned()];
            // An associated node is not asked for by name: it is the only one that there can be.
            may(group_of_users, "nodes", "", if mode == Mode::AssociatedNode { "*" } else { node }, "")?;
        } else {
            may(group_of_users, "users", "", &wanted.name, "")?;
        }
        if !wanted.uid.is_empty() {
            may(AUTHENTICATION, "uids", "", &wanted.uid, "")?;
        }
        let refuse = |resource: &str, name: &str, why: &str| {
            let group = if resource == "groups" { group_of_users } else { AUTHENTICATION };
            let target = Target::Resource { group, resource, subresource: "", name, namespace: "" };
            Attributes { verb: &verb, target }.refusal(requestor, why)
        };
        if mode != Mode::Legacy {
            if wanted.groups.iter().any(String::is_empty) {
                return Err(refuse("groups", "", "impersonating the empty string group is not allowed"));
            }
            if wanted.groups.iter().any(|group| group == super::MASTERS) {
                return Err(refuse("groups", super::MASTERS, "impersonating the system:masters group is not allowed"));
            }
            if let Some(why) = fault_of_extra(&wanted.extra) {
                return Err(refuse("userextras", "", &why));
            }
        }
        let all_groups = mode != Mode::Legacy && wanted.groups.len() >= MANY;
        if !(all_groups && may(group_of_users, "groups", "", "*", "").is_ok()) {
            for group in &wanted.groups {
                may(group_of_users, "groups", "", group, "")?;
            }
        }
        let values: usize = wanted.extra.values().map(Vec::len).sum();
        let all_extra = mode != Mode::Legacy && (wanted.extra.len() >= MANY || values >= MANY);
        if !(all_extra && may(AUTHENTICATION, "userextras", "*", "*", "").is_ok()) {
            for (key, values) in &wanted.extra {
                for value in values {
                    may(AUTHENTICATION, "userextras", key, value, "")?;
                }
            }
        }
        let has = |user: &User, name: &str| user.groups.iter().any(|group| group == name);
        let group = if user.name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
        if !has(&user, group) && !has(&user, "system:unauthenticated") {
            user.groups.push(group.to_owned());
        }
        Ok(user)
    }
}

impl Mode {
    /// As verbs have it; none for the mode that is in no verb.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::AssociatedNode => Some("associated-node"),
            Self::ArbitraryNode => Some("arbitrary-node"),
            Self::ServiceAccount => Some("serviceaccount"),
            Self::UserInfo => Some("user-info"),
            Self::Legacy => None,
        }
    }

    fn is_for(self, requestor: &User, wanted: &User) -> bool {
        let is_name_only = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (wanted_node, wanted_account) = (node(&wanted.name), service_account(&wanted.name));
        match self {
            Self::AssociatedNode => {
                let own = requestor.extra.get(NODE_NAME).map(Vec::as_slice);
                let own = own.and_then(|names| if let [name] = names { Some(name.as_str()) } else { None });
                let is_own = wanted_node.is_some() && wanted_node == own;
                is_name_only && is_own && service_account(&requestor.name).is_some()
            }
            Self::ArbitraryNode => is_name_only && wanted_node.is_some(),
            Self::ServiceAccount => is_name_only && wanted_account.is_some(),
            Self::UserInfo => wanted_node.is_none() && wanted_account.is_none(),
            Self::Legacy => true,
        }
    }
}

/// Namespace and name of a service account's user.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (is_label(namespace) && namespace.len() <= 63 && is_subdomain(name)).then_some((namespace, name))
}

/// The name of a node's user.
fn node(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| is_subdomain(name))
}

fn is_label(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// What the narrow modes do not accept of further attributes.
fn fault_of_extra(extra: &BTreeMap<String, Vec<String>>) -> Option<String> {
    extra.iter().find_map(|(key, values)| {
        if key.is_empty() {
            return Some("impersonating the empty string key in extra is not allowed".to_owned());
        }
        let is_path = key.split_once('/').is_some_and(|(domain, path)| is_subdomain(domain) && !path.is_empty());
        if !is_path {
            let why = "extra.key: Invalid value: ";
            return Some(format!(
                "impersonating an invalid key in extra is not allowed: {why}{key:?}: must be a domain-prefixed path \
                 (such as \"acme.io/foo\")"
            ));
        }
        if values.iter().any(String::is_empty) {
            return Some("impersonating the empty string value in extra is not allowed".to_owned());
        }
        None
    })
}

/// Resolves `%2f` and the like; what is no such escape makes all of it stand as it is.
fn unescape(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, others @ ..] = rest {
        rest = others;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let hex = others.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let Some(byte) = hex.filter(|hex| !hex.starts_with('+')).and_then(|hex| u8::from_str_radix(hex, 16).ok())
        else {
            return key.to_owned();
        };
        out.push(byte);
        rest = &others[2..];
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A user as Go prints its struct.
fn go_syntax(user: &User) -> String {
    let list = |texts: &[String]| {
        let texts = texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
        format!("[]string{{{texts}}}")
    };
    let groups = if user.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&user.groups) };
    let extra = user.extra.iter().map(|(key, values)| format!("{key:?}:{}", list(values)));
    let extra = match extra.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "map[string][]string(nil)".to_owned(),
        some => format!("map[string][]string{{{some}}}"),
    };
    format!("&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:{extra}}}", user.name, user.uid)
}
