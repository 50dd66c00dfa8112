//! API keys by a running service: made, listed and revoked as one of its admins.

use std::time::Duration;

use client_failover_client::{Service, parse};
use client_failover_wire::ids::{EVERY_TENANT, TenantId};
use client_failover_wire::timespan;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::OperatorError;
use super::connection::{Connection, ConnectionArgs};

/// How many keys one request lists.
const PAGE: i64 = 1_000;

/// A key to be made.
pub struct WantedKey {
    /// A name for people.
    pub name: String,
    /// The tenant; `*` for all.
    pub tenant: String,
    /// The namespaces; `None` for all.
    pub namespaces: Option<Vec<String>>,
    /// Patterns of the groups there; `None` for all.
    pub groups: Option<Vec<String>>,
    /// The role.
    pub role: &'static str,
    /// How long it is good; `None` until it is revoked.
    pub valid_for: Option<Duration>,
    /// The number of the key whose place it takes.
    pub replaces: Option<i64>,
    /// For how long that one is still good; `None` to leave its end as it is.
    pub overlap: Option<Duration>,
}

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
        let span = |duration: Duration| timespan::format(i64::try_from(duration.as_nanos() / 100).unwrap_or(i64::MAX));
        let body = json!({
            "Name": wanted.name,
            "TenantId": wanted.tenant,
            "Namespaces": wanted.namespaces,
            "Groups": wanted.groups,
            "Role": wanted.role,
            "ValidFor": wanted.valid_for.map_or_else(|| "never".to_owned(), span),
            "Replaces": wanted.replaces,
            "Overlap": wanted.overlap.map(span),
        });
        Ok(self.service.post_for(&self.path(&[]), body.to_string()).await?)
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
        Ok(self.service.delete(&self.path(&[&key.to_string()]), &[]).await?)
    }
}
