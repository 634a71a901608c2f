//! Bearer tokens of service accounts.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::json;

use crate::api::{Random, User};

/// Tokens that were issued, by their text.
///
/// They look like JSON Web Tokens, since tools take them apart to see whose they are; what makes one valid is that it
/// is in here, and that its time is not over.
#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeMap<String, Token>);

#[derive(Debug)]
struct Token {
    namespace: String,
    name: String,
    uid: String,
    ends: Timestamp,
}

impl Tokens {
    pub(crate) fn issue(
        &mut self,
        namespace: &str,
        name: &str,
        uid: &str,
        ends: Timestamp,
        random: &mut Random,
    ) -> String {
        let head = json!({"alg": "HS256", "typ": "JWT"});
        let claims = json!({
            "iss": "https://kubernetes.default.svc.cluster.local", "exp": ends.as_second(),
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        });
        let signature = format!("{}{}", random.uid(), random.uid());
        let parts = [head.to_string(), claims.to_string(), signature];
        let token = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let own = Token { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned(), ends };
        self.0.insert(token.clone(), own);
        token
    }

    /// Whose token it is, while it is valid.
    pub(crate) fn user(&self, token: &str, now: Timestamp) -> Option<User> {
        let token = self.0.get(token).filter(|token| now < token.ends)?;
        Some(User {
            name: format!("system:serviceaccount:{}:{}", token.namespace, token.name),
            uid: token.uid.clone(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", token.namespace),
                "system:authenticated".to_owned(),
            ],
            extra: BTreeMap::new(),
        })
    }
}
