//! From a request to an answer: who asks, what for, and in which form it goes back.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WARNING};
use http::{HeaderMap, Method, Request, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Api, State, User};
use crate::negotiate::{self, Accept, Form};
use crate::registry::{Registry, Resource, Subresource};
use crate::request::{self, Query};
use crate::status::{Details, Status};
use crate::store::Object;
use crate::table::{Include, Printer};
use crate::watch::Watch;
use crate::{authorize, discovery, read, special, write};

/// A request on a resource.
pub(crate) struct Call<'a> {
    pub(crate) user: &'a User,
    pub(crate) now: Timestamp,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
    pub(crate) query: Query,
    pub(crate) accept: Accept,
    pub(crate) resource: Arc<Resource>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// For the `Warning` headers of the answer.
    pub(crate) warnings: RefCell<Vec<String>>,
}

impl Call<'_> {
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.warnings.borrow_mut().push(text.into());
    }

    /// Where the objects of this request lie: nowhere in particular for cluster-scoped kinds.
    pub(crate) fn storage_namespace(&self) -> &str {
        if self.resource.namespaced { &self.namespace } else { "" }
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, &self.name)
    }
}

/// What a request came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// An object, as it is stored.
    Stored(u16, Arc<Object>),
    /// An object of this resource that is not stored like that.
    Value(u16, Value),
    /// An object of another kind: it has no table.
    Other(u16, Value),
    /// A scale, which has one of its own.
    Scale(Value),
    List(List),
    Text(u16, &'static str, String),
    /// Bytes that are JSON already.
    Json(u16, Bytes),
}

/// Objects, with what a list says of itself.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) items: Vec<Arc<Object>>,
    pub(crate) revision: u64,
    pub(crate) next: Option<String>,
    pub(crate) remaining: Option<usize>,
}

/// What [`Api::handle`] makes a reply of, and the HTTP shell a response.
pub(crate) enum Outcome {
    Whole(Response<Content>),
    Watch(Box<Watch>),
}

/// The body of an answer.
pub(crate) enum Content {
    Bytes(Bytes),
    /// A long list, whose beginning can be on its way before its end is put together.
    Pieces(Pieces),
}

impl Content {
    /// All of it.
    pub(crate) fn joined(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Pieces(pieces) => {
                let mut out = Vec::with_capacity(pieces.length());
                pieces.for_each(|piece| out.extend_from_slice(&piece));
                Bytes::from(out)
            }
        }
    }
}

/// A list, put together from the bytes of its items as far as it is asked for.
pub(crate) struct Pieces {
    /// What stands before the items.
    start: String,
    /// How each item begins.
    head: String,
    items: Vec<Arc<Object>>,
    /// Which item comes next.
    next: usize,
    ended: bool,
}

/// What stands behind the items.
const LIST_END: &[u8] = b"]}\n";

impl Pieces {
    /// As much as one write of TLS takes (rustls buffers so much), so larger ones would only wait.
    const SIZE: usize = 64 * 1024;

    /// Of the whole text.
    fn length(&self) -> usize {
        let items: usize = self.items.iter().map(|item| self.head.len() + item.rest.len()).sum();
        self.start.len() + items + self.items.len().saturating_sub(1) + LIST_END.len()
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = Vec::with_capacity(Self::SIZE + 4096);
        if self.next == 0 {
            out.extend_from_slice(self.start.as_bytes());
        }
        while let Some(item) = self.items.get(self.next) {
            if out.len() >= Self::SIZE {
                return Some(Bytes::from(out));
            }
            if self.next > 0 {
                out.push(b',');
            }
            out.extend_from_slice(self.head.as_bytes());
            out.extend_from_slice(&item.rest);
            self.next += 1;
        }
        self.ended = true;
        out.extend_from_slice(LIST_END);
        Some(Bytes::from(out))
    }
}

/// See [`Api::handle`].
pub(crate) fn handle(
    api: &Arc<Api>,
    request: &Request<Bytes>,
    user: &User,
    now: Timestamp,
    read: impl FnOnce(),
) -> Outcome {
    let path = request.uri().path();
    // A namespace without a name is none: a router that takes it so asks for all.
    let folded = path.replace("/namespaces//", "/");
    let path = folded.as_str();
    if path.contains("//") {
        let within = path.starts_with("/api/") || path.starts_with("/apis/");
        return Outcome::Whole(if within { refused(&unknown_resource()) } else { plain(nowhere(), request.headers()) });
    }
    if has_bad_escape(path) {
        let answer = Answer::Text(400, "text/plain; charset=utf-8", "400 Bad Request".to_owned());
        return Outcome::Whole(plain(answer, request.headers()));
    }
    let query = Query::of(request.uri().query().unwrap_or_default());
    let target = request::target(path);
    // Taken once for all questions: requests wait for each other at each taking.
    let state = api.state();
    let acting = authorize::impersonated(&state, request, target.as_ref(), &query, user);
    let user = match acting {
        Ok(user) => user,
        Err(status) => return Outcome::Whole(refused(&status)),
    };
    let Some(mut target) = target else {
        let result = authorize::path(&state, &user, request.method(), path)
            .and_then(|()| discovery::answer(&state, request, path, &query));
        drop(state);
        return Outcome::Whole(match result {
            Ok(answer) => plain(answer, request.headers()),
            Err(status) => refused(&status),
        });
    };
    let registry = state.registry.clone();
    let allowed = authorize::resource(&state, &user, request.method(), &target, &query);
    drop(state);
    if !registry.has_version(&target.group, &target.version) {
        return match allowed {
            // A group that is there without this version answers for itself.
            Ok(()) if Registry::built_in().groups().iter().any(|(group, _)| *group == target.group) => {
                Outcome::Whole(refused(&unknown_resource()))
            }
            Ok(()) => Outcome::Whole(plain(nowhere(), request.headers())),
            Err(status) => Outcome::Whole(refused(&status)),
        };
    }
    let found = registry.find(&target.group, &target.version, &target.plural).cloned();
    if let Err(status) = allowed {
        return Outcome::Whole(refused(&status));
    }
    let Some(resource) = found else {
        let mut others = registry.of_version(&target.group, &target.version);
        let of_customs = others.all(|resource| resource.custom().is_some());
        return Outcome::Whole(if of_customs {
            plain(nowhere(), request.headers())
        } else {
            refused(&unknown_resource())
        });
    };
    let is_namespace = resource.plural == "namespaces" && resource.group.is_empty();
    if !(resource.namespaced || is_namespace) {
        if !target.namespace.is_empty() {
            return Outcome::Whole(if resource.custom().is_some() {
                plain(nowhere(), request.headers())
            } else {
                refused(&unknown_resource())
            });
        }
        target.namespace.clear();
    }
    if let Some(refusal) = misplaced(&resource, &target) {
        let custom = resource.custom().is_some() && refusal.code == 404;
        return Outcome::Whole(if custom { plain(nowhere(), request.headers()) } else { refused(&refusal) });
    }
    let accept = match Accept::of(request.headers()) {
        Ok(accept) => accept,
        Err(status) => return Outcome::Whole(refused(&status)),
    };
    let call = Call {
        user: &user,
        now,
        method: request.method(),
        headers: request.headers(),
        body: request.body(),
        query,
        accept,
        resource,
        namespace: target.namespace,
        name: target.name,
        subresource: target.subresource,
        warnings: RefCell::default(),
    };
    if call.resource.group.is_empty() && call.resource.plural == "endpoints" {
        call.warn("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
    }
    if let Some(custom) = call.resource.custom()
        && let Some(deprecation) = &custom.deprecation
    {
        call.warn(deprecation.clone());
    }
    // One object is watched by the old path, or by a selector.
    let wants_watch = target.watch || (call.query.flag("watch") && call.name.is_empty());
    if *call.method == Method::GET && wants_watch && call.subresource.is_empty() {
        return match read::watch(api, &call) {
            Ok(watch) => Outcome::Watch(Box::new(watch)),
            Err(status) => Outcome::Whole(refused(&status)),
        };
    }
    let mut state = api.state();
    let answer = dispatch(&mut state, &call);
    // Others need not wait until ten thousand objects are put together.
    drop(state);
    read();
    let mut response = match answer.and_then(|answer| render(&call, answer)) {
        Ok(response) => response,
        Err(status) => refused(&status),
    };
    for warning in call.warnings.borrow().iter() {
        let text = format!("299 - {warning:?}");
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(WARNING, value);
        }
    }
    Outcome::Whole(response)
}

fn has_bad_escape(path: &str) -> bool {
    path.split('%')
        .skip(1)
        .any(|rest| !rest.get(..2).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit())))
}

/// Paths that name what cannot be there.
fn misplaced(resource: &Resource, target: &request::Target) -> Option<Status> {
    let strange = !target.subresource.is_empty() && resource.subresource(&target.subresource).is_none();
    if target.name.contains('/')
        || (!target.rest.is_empty() && target.subresource != "proxy")
        || (resource.custom().is_none() && strange)
        || (!special::stores(resource) && !target.name.is_empty())
    {
        return Some(unknown_resource());
    }
    if matches!(target.name.as_str(), "." | "..") {
        let name = &target.name;
        return Some(Status::bad_request(format!("Name parameter invalid: {name:?}: may not be '{name}'")));
    }
    let nowhere = resource.namespaced && target.namespace.is_empty() && !target.name.is_empty();
    nowhere.then(unknown_resource)
}

fn dispatch(state: &mut State, call: &Call<'_>) -> Result<Answer, Status> {
    if !call.subresource.is_empty() {
        let Some(subresource) = call.resource.subresource(&call.subresource).cloned() else {
            // Custom kinds look for the object's storage before they look what is asked of it.
            return Err(if call.resource.custom().is_some() { call.not_found() } else { unknown_resource() });
        };
        return on_subresource(state, call, &subresource);
    }
    let allowed = |verb: &str| {
        if call.resource.verbs.iter().any(|own| own == verb) { Ok(()) } else { Err(method_not_allowed()) }
    };
    match (call.method, call.name.is_empty()) {
        (&Method::GET, false) => {
            allowed("get")?;
            read::get(state, call)
        }
        (&Method::GET, true) => {
            allowed("list")?;
            read::list(state, call).map(Answer::List)
        }
        (&Method::POST, false) if call.resource.custom().is_some() => write::create(state, call),
        (&Method::POST, true) => {
            allowed("create")?;
            if !special::stores(&call.resource) {
                return special::create(state, call);
            }
            if call.resource.namespaced && call.namespace.is_empty() {
                return Err(method_not_allowed());
            }
            write::create(state, call)
        }
        (&Method::PUT, false) => {
            allowed("update")?;
            write::update(state, call)
        }
        (&Method::PATCH, false) => {
            allowed("patch")?;
            write::patch(state, call)
        }
        (&Method::DELETE, false) => {
            allowed("delete")?;
            write::delete(state, call)
        }
        (&Method::PUT | &Method::PATCH, true) if call.resource.custom().is_some() => {
            Err(Status::bad_request("name must be provided"))
        }
        (&Method::DELETE, true) => {
            allowed("deletecollection")?;
            if call.resource.namespaced && call.namespace.is_empty() {
                return Err(method_not_allowed());
            }
            write::delete_collection(state, call)
        }
        (_, _) => Err(method_not_allowed()),
    }
}

fn on_subresource(state: &mut State, call: &Call<'_>, subresource: &Subresource) -> Result<Answer, Status> {
    let verb = match *call.method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    };
    if !subresource.verbs.iter().any(|own| own == verb) {
        let mut status = method_not_allowed();
        if call.resource.custom().is_some() {
            let (group, plural) = (&call.resource.group, &call.resource.plural);
            status.message = format!("{verb} is not supported on resources of kind \"{plural}.{group}\"");
            status.details =
                Some(Box::new(Details { group: group.clone(), kind: plural.clone(), ..Details::default() }));
        }
        return Err(status);
    }
    match (subresource.name.as_str(), verb) {
        ("status", "get") => read::get(state, call),
        ("status", "update") => write::update(state, call),
        ("status", "patch") => write::patch(state, call),
        (_, _) => special::subresource(state, call, subresource),
    }
}

fn not_acceptable(message: String) -> Status {
    Status { code: 406, reason: "NotAcceptable", message, details: None }
}

/// What a real server says of a path that leads nowhere.
pub(crate) fn nowhere() -> Answer {
    Answer::Text(404, "text/plain; charset=utf-8", "404 page not found\n".to_owned())
}

pub(crate) fn unknown_resource() -> Status {
    Status {
        code: 404,
        reason: "NotFound",
        message: "the server could not find the requested resource".to_owned(),
        details: Some(Box::new(Details::default())),
    }
}

pub(crate) fn method_not_allowed() -> Status {
    Status {
        code: 405,
        reason: "MethodNotAllowed",
        message: "the server does not allow this method on the requested resource".to_owned(),
        details: Some(Box::new(Details::default())),
    }
}

/// Without a type where there is none.
fn respond(code: u16, kind: &str, body: Bytes) -> Response<Content> {
    let mut response = Response::new(Content::Bytes(body));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(kind) = HeaderValue::from_str(kind)
        && !kind.is_empty()
    {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

fn refused(status: &Status) -> Response<Content> {
    let (body, kind) = negotiate::encode(&status.to_json(), false);
    let mut response = respond(status.code, kind, body);
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// An answer that is about no resource.
fn plain(answer: Answer, headers: &HeaderMap) -> Response<Content> {
    let yaml = Accept::of(headers).is_ok_and(|accept| accept.yaml);
    match answer {
        Answer::Value(code, value) | Answer::Other(code, value) => {
            let (body, kind) = negotiate::encode(&value, yaml);
            respond(code, kind, body)
        }
        Answer::Text(code, kind, text) => respond(code, kind, Bytes::from(text)),
        Answer::Json(code, bytes) => respond(code, "application/json", bytes),
        Answer::Stored(code, _) => respond(code, "application/json", Bytes::new()),
        Answer::List(_) | Answer::Scale(_) => respond(500, "text/plain", Bytes::new()),
    }
}

/// `includeObject=`.
pub(crate) fn include(query: &Query) -> Result<Include, Status> {
    let word = query.get("includeObject");
    Include::parse(word).ok_or_else(|| {
        Status::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {word:?}: must be 'Metadata', \
             'Object', 'None', or empty"
        ))
    })
}

/// An answer about a resource, in the form that was asked for.
fn render(call: &Call<'_>, answer: Answer) -> Result<Response<Content>, Status> {
    let resource = &call.resource;
    let accept = call.accept;
    Ok(match answer {
        Answer::Stored(code, object) if accept == Accept::JSON && !crate::convert::differs(resource, &object) => {
            let head = resource.head();
            let mut body = Vec::with_capacity(head.len() + object.rest.len() + 1);
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(&object.rest);
            body.push(b'\n');
            respond(code, "application/json", Bytes::from(body))
        }
        Answer::Stored(code, object) => of_value(call, code, &crate::convert::value(resource, &object))?,
        Answer::Value(code, value) => of_value(call, code, &value)?,
        Answer::Other(code, value) if accept.form == Form::Table && call.subresource == "scale" => {
            let printer = Printer::scale(resource.custom().is_some());
            let table = printer.object(&value, include(&call.query)?, accept.version, true, call.now);
            let (body, kind) = negotiate::encode(&table, accept.yaml);
            respond(code, kind, body)
        }
        Answer::Other(code, value) => {
            let (body, kind) = negotiate::encode(&value, accept.yaml);
            respond(code, kind, body)
        }
        Answer::List(list) => of_list(call, list)?,
        Answer::Scale(value) => {
            let table = accept.form == Form::Table;
            let shown = table.then(|| {
                let printer = Printer::scale(resource.custom().is_some());
                include(&call.query).map(|include| printer.object(&value, include, accept.version, true, call.now))
            });
            let (body, kind) = negotiate::encode(&shown.transpose()?.unwrap_or(value), accept.yaml);
            respond(200, kind, body)
        }
        Answer::Text(code, kind, text) => respond(code, kind, Bytes::from(text)),
        Answer::Json(code, bytes) => respond(code, "application/json", bytes),
    })
}

fn of_value(call: &Call<'_>, code: u16, value: &Value) -> Result<Response<Content>, Status> {
    let shown = match call.accept.form {
        Form::Whole => None,
        Form::Metadata if call.accept.list => return Err(Status::unclassified("content is not a list")),
        Form::Metadata => Some(negotiate::metadata_of(value)),
        Form::Table => {
            let include = include(&call.query)?;
            Some(call.resource.printer().object(value, include, call.accept.version, true, call.now))
        }
    };
    let (body, kind) = negotiate::encode(shown.as_ref().unwrap_or(value), call.accept.yaml);
    Ok(respond(code, kind, body))
}

fn of_list(call: &Call<'_>, list: List) -> Result<Response<Content>, Status> {
    let resource = &call.resource;
    if call.accept.one_object {
        let what = if resource.custom().is_some() {
            "*unstructured.UnstructuredList".to_owned()
        } else {
            format!("*{}.{}", if resource.group.is_empty() { "v1" } else { &resource.version }, resource.list_kind)
        };
        return Err(not_acceptable(format!(
            "you requested PartialObjectMetadata, but the requested object is a list ({what})"
        )));
    }
    let mut meta = json!({"resourceVersion": list.revision.to_string()});
    if resource.custom().is_some() && call.accept.form == Form::Whole {
        // Lists without a type of their own always say it.
        meta["continue"] = json!("");
    }
    if let Some(next) = &list.next {
        meta["continue"] = json!(next);
    }
    if let Some(remaining) = list.remaining {
        meta["remainingItemCount"] = json!(remaining);
    }
    let values = || list.items.iter().map(|object| crate::convert::value(resource, object));
    let value = match call.accept.form {
        Form::Whole
            if !call.accept.yaml && !list.items.iter().any(|object| crate::convert::differs(resource, object)) =>
        {
            return Ok(whole_list(resource, list.items, &meta));
        }
        Form::Whole => {
            let items = values().map(|mut item| {
                if resource.custom().is_none()
                    && let Some(fields) = item.as_object_mut()
                {
                    fields.remove("kind");
                    fields.remove("apiVersion");
                }
                item
            });
            json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": meta,
                   "items": items.collect::<Vec<_>>()})
        }
        Form::Metadata => {
            let items: Vec<Value> = values().map(|item| negotiate::metadata_of(&item)).collect();
            let items = if items.is_empty() { Value::Null } else { Value::Array(items) };
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
                   "items": items})
        }
        Form::Table => {
            let items: Vec<Value> = values().collect();
            resource.printer().list(&items, meta, include(&call.query)?, call.accept.version, call.now)
        }
    };
    let (body, kind) = negotiate::encode(&value, call.accept.yaml);
    Ok(respond(200, kind, body))
}

/// A list of the bytes of its items.
fn whole_list(resource: &Resource, items: Vec<Arc<Object>>, meta: &Value) -> Response<Content> {
    let list_kind = Value::from(resource.list_kind.as_str());
    let version = Value::from(resource.api_version());
    let pieces = Pieces {
        start: format!("{{\"kind\":{list_kind},\"apiVersion\":{version},\"metadata\":{meta},\"items\":["),
        head: if resource.custom().is_some() { resource.head() } else { "{".to_owned() },
        items,
        next: 0,
        ended: false,
    };
    let length = pieces.length();
    if length <= Pieces::SIZE {
        return respond(200, "application/json", Content::Pieces(pieces).joined());
    }
    let mut response = respond(200, "application/json", Bytes::new());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response.map(|_| Content::Pieces(pieces))
}

#[cfg(test)]
mod tests;
