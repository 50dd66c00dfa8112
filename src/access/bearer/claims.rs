//! What a token says of itself in its claims.

use serde_json::{Map, Value};

/// Whether a token with that `typ` in its header may be one for access: by RFC 9068, or by what
/// older issuers write of all their tokens. Those for logging out, for events and for proofs have
/// types of their own.
pub fn is_type_of_access(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.strip_prefix("application/").unwrap_or(&name), "at+jwt" | "jwt")
}

/// Whether claims say what the header did not: an id token has a hash of another token with it,
/// Keycloak and Cognito name the kind in a claim, and a token of events holds them.
pub fn is_of_another_kind(claims: &Map<String, Value>) -> bool {
    ["at_hash", "c_hash", "s_hash", "events"].iter().any(|claim| claims.contains_key(*claim))
        || [("typ", "bearer"), ("token_use", "access")].iter().any(|(claim, access)| {
            claims.get(*claim).is_some_and(|kind| kind.as_str().is_none_or(|kind| !kind.eq_ignore_ascii_case(access)))
        })
}

/// A claim by its name, or by a path of names with dots between (`realm_access.roles`).
pub fn find_claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    find_claim(claims.get(first)?.as_object()?, rest)
}

/// A text as its words (as OAuth's `scope` has them), or an array of texts.
pub fn words_of(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        other => names_of(other),
    }
}

/// One name, or an array of names. A name may hold spaces: split, it would be the names of others.
pub fn names_of(value: &Value) -> Vec<String> {
    let name = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    match value {
        Value::Array(values) => values.iter().filter_map(name).collect(),
        one => name(one).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_token_for_another_purpose_is_told_by_its_type_and_its_claims() {
        for good in ["JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT"] {
            assert!(is_type_of_access(good), "{good}");
        }
        for bad in ["", "logout+jwt", "dpop+jwt", "secevent+jwt", "id_token", "at+jwt+x", "JOSE"] {
            assert!(!is_type_of_access(bad), "{bad}");
        }
        assert!(!is_of_another_kind(&claims(json!({"sub": "me", "nonce": "n"}))));
        assert!(!is_of_another_kind(&claims(json!({"typ": "Bearer"}))));
        for other in [
            json!({"typ": "ID"}),
            json!({"typ": "Refresh"}),
            json!({"typ": 1}),
            json!({"token_use": "id"}),
            json!({"at_hash": "x"}),
            json!({"events": {}}),
        ] {
            assert!(is_of_another_kind(&claims(other.clone())), "{other}");
        }
    }
}
