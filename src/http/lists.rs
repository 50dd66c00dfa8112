//! How many long answers a caller has being made at once: each holds a page in memory, and reads
//! the next from the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::errors::ApiError;

/// Shared by all workers.
#[derive(Clone)]
pub struct Lists {
    most: usize,
    open: Arc<Mutex<HashMap<Arc<str>, usize>>>,
}

impl Lists {
    pub fn new(most: usize) -> Lists {
        Lists { most, open: Arc::default() }
    }

    /// Room for another of this caller's, until what comes of this is dropped.
    pub fn enter(&self, who: &Arc<str>) -> Result<OpenList, ApiError> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(who.clone()).or_default();
        if *count >= self.most {
            return Err(ApiError::TooManyRequests { reason: "this caller has as many lists under way as it may have" });
        }
        *count += 1;
        Ok(OpenList { lists: self.clone(), who: who.clone() })
    }
}

/// A long answer under way.
pub struct OpenList {
    lists: Lists,
    who: Arc<str>,
}

impl Drop for OpenList {
    fn drop(&mut self) {
        let mut open = self.lists.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_so_many_and_none_is_kept_in_mind_for_ever() {
        let lists = Lists::new(2);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let first = [lists.enter(&a), lists.enter(&a)].map(Result::unwrap);
        assert!(lists.enter(&a).is_err() && lists.enter(&b).is_ok());
        drop(first);
        assert!(lists.enter(&a).is_ok() && lists.open.lock().unwrap().is_empty());
    }
}
