//! The audit trail, for those who may look through it.

use super::{Failover, FailoverError};
use crate::store::audit_search::{self, Page, Search};

impl Failover {
    /// Some entries of the audit trail.
    pub async fn search_audit(&self, search: &Search) -> Result<Page, FailoverError> {
        let found = self.store().read("search_audit", |connection, _| Box::pin(audit_search::read(connection, search)));
        Ok(found.await?)
    }
}
