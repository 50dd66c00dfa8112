//! API keys by a running service: made, listed and revoked as one of its admins.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::OperatorError;
use super::connection::{Connection, ConnectionArgs};
use super::service::{Service, parse};
use crate::auth::api_keys::issue::{Lifetime, WantedKey};
use crate::ids::{EVERY_TENANT, TenantId};
use client_failover_wire::timespan;

/// How many keys one request lists.
const PAGE: i64 = 1_000;

/// A key that was made.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MadeKey {
    /// Its number.
    pub key: i64,
    /// Its text.
    pub secret: String,
    /// When it ends.
    pub expires_at: Option<String>,
    /// When the one ends whose place it takes.
    pub replaced_expires_at: Option<String>,
}

/// A service and the tenant whose keys are meant; all tenants' where none is named.
pub struct Keys {
    service: Service,
    tenant: Option<TenantId>,
}

impl Keys {
    /// The keys of a tenant (`None` or `*`: of all) at the service of these arguments.
    pub fn at(connection: &ConnectionArgs, tenant: Option<&str>) -> Result<Keys, OperatorError> {
        let tenant = tenant.filter(|tenant| *tenant != EVERY_TENANT).map(TenantId::parse).transpose();
        let tenant = tenant.map_err(|error| OperatorError::usage(format!("the tenant is not valid: {error}")))?;
        Ok(Keys { service: Connection::settle(connection)?.service()?, tenant })
    }

    /// The segments of the path of the keys, and those below it.
    fn path<'a>(&'a self, below: &[&'a str]) -> Vec<&'a str> {
        let mut path = match &self.tenant {
            None => vec!["api", "v1", "clientfailover", "keys"],
            Some(tenant) => vec!["api", "v1", "tenants", tenant.as_str(), "clientfailover", "keys"],
        };
        path.extend(below);
        path
    }

    /// Makes a key.
    pub async fn create(&self, wanted: &WantedKey) -> Result<MadeKey, OperatorError> {
        let span = |duration: std::time::Duration| {
            timespan::format(i64::try_from(duration.as_nanos() / 100).unwrap_or(i64::MAX))
        };
        let overlap = wanted.replaces.and_then(|replaced| replaced.overlap);
        let body = json!({
            "Name": wanted.name,
            "TenantId": wanted.grant.tenant,
            "Namespaces": wanted.grant.namespaces,
            "Groups": wanted.grant.groups,
            "Role": wanted.grant.role.text(),
            "ValidFor": match wanted.lifetime {
                Lifetime::Ends(duration) => span(duration),
                Lifetime::Never => "never".to_owned(),
            },
            "Replaces": wanted.replaces.map(|replaced| replaced.key),
            "Overlap": overlap.map(span),
        });
        self.service.post(&self.path(&[]), body.to_string()).await
    }

    /// All keys, as the service tells of them.
    pub async fn list(&self) -> Result<Vec<Value>, OperatorError> {
        let mut keys: Vec<Value> = Vec::new();
        loop {
            let query = [("skip", keys.len().to_string()), ("count", PAGE.to_string())];
            let raw: Box<RawValue> = self.service.read_raw(&self.path(&[]), &query).await?;
            let page: Vec<Value> = parse(raw.get())?;
            let is_last = (page.len() as i64) < PAGE;
            keys.extend(page);
            if is_last {
                return Ok(keys);
            }
        }
    }

    /// Revokes a key.
    pub async fn revoke(&self, key: i64) -> Result<(), OperatorError> {
        self.service.delete(&self.path(&[&key.to_string()]), &[]).await
    }
}
