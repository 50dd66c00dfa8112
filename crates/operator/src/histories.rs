//! The histories of the database, as far as operators have to know of them: a new one may lack the
//! end of the one before.

use client_failover_client::{Scope, Service, parse};
use serde::Deserialize;

use super::OperatorError;
use super::output::{instant, printable};

/// For how long the present one is worth a word to whoever looks at something else.
const NEWS_MS: i64 = 24 * 60 * 60 * 1_000;

/// A history of the database.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct History {
    /// When it was noticed.
    pub time: String,
    /// What it was noticed by.
    pub reason: String,
    /// From when on what was answered may be lost.
    pub last_sign_at: Option<String>,
    /// The id of its event; 0 where it has none.
    pub base: i64,
    is_trusted: bool,
    age_ms: i64,
}

impl History {
    /// Those that something may have been lost at, the latest first. A service of an earlier
    /// version knows of none.
    pub async fn list_fenced(service: &Service, scope: Scope<'_>) -> Result<Vec<History>, OperatorError> {
        let found = service.find_raw(&scope.path(&["histories"])).await?;
        let mut found: Vec<History> = found.map_or_else(|| Ok(Vec::new()), |raw| parse(raw.get()))?;
        found.retain(|history| history.base > 0);
        Ok(found)
    }

    /// What is said of it, unless it is old.
    pub fn news(&self, groups_in_doubt: i64) -> Option<String> {
        let in_doubt = match groups_in_doubt {
            0 => String::new(),
            1 => "; 1 group is in doubt".to_owned(),
            several => format!("; {several} groups are in doubt"),
        };
        (self.age_ms < NEWS_MS || groups_in_doubt > 0).then(|| self.said() + &in_doubt)
    }

    /// What is said of it.
    pub fn said(&self) -> String {
        let comes_to = match (self.is_trusted, &self.last_sign_at) {
            (true, _) => "nothing was lost, as the setting database-history says".to_owned(),
            (false, Some(at)) => format!("what was answered after {} UTC may be lost", instant(at)),
            (false, None) => "what was answered last before may be lost".to_owned(),
        };
        let (since, reason) = (instant(&self.time), printable(&self.reason));
        format!("the database has a new history since {since} UTC ({reason}): {comes_to}")
    }
}
