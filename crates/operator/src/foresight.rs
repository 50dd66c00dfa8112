//! What would come of a change, asked of the service before anything is done.

use client_failover_client::Service;
use reqwest::Method;
use serde_json::value::RawValue;

use super::OperatorError;
use super::whoami::PATH;

/// What would come of it, as the service says.
///
/// A service of an earlier version ignores what it does not know and would do it. One that tells
/// callers who they are knows what is only to be foreseen.
pub async fn ask(
    service: &Service,
    method: Method,
    path: &[&str],
    query: &[(&str, String)],
    body: Option<String>,
) -> Result<Box<RawValue>, OperatorError> {
    if service.find_raw(&PATH).await?.is_none() {
        return Err(OperatorError::Nothing(
            "the service is of an earlier version, which cannot say what would come of that".to_owned(),
        ));
    }
    let query = [query, &[("dry-run", "true".to_owned())]].concat();
    Ok(service.change_raw(method, path, &query, body).await?)
}
