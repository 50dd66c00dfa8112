//! Names as people give them, and as .NET's client asks for them.

use client_failover::http::TenantApi;

use super::adapter::{Configuration, Event, Mode};
use super::plant::{Running, Service, Site};
use crate::support::helpers::eventually;

/// What becomes of an adapter with these names: its heartbeats are answered, or why not.
async fn becomes_of(site: &Site, group: &str, id: &str) -> Result<(), String> {
    let configuration = Configuration { group: group.to_owned(), ..site.configuration(id, Mode::Hot) };
    let adapter = Running::start(configuration, site.destination.clone());
    let end = || {
        adapter.events().into_iter().find_map(|event| match event {
            Event::Took(_) => Some(Ok(())),
            Event::LoggedError(why) => Some(Err(why)),
            _ => None,
        })
    };
    eventually(&format!("{group} is served or refused"), async || end().is_some()).await;
    end().expect("it has come")
}

#[tokio::test]
async fn a_name_that_is_escaped_in_part_works_or_is_refused_by_its_character() {
    let service = Service::start(TenantApi::Released, 1).await;
    for site in service.sites() {
        let fine =
            ["Line 1", "Anlage Süd", "a;b=c", "a+b", "a&b", "a[1]", "a|b^c", "<a>{b}", "a:b@c", "50% of it", "50%"];
        for name in fine {
            assert_eq!(
                becomes_of(&site, &format!("{name} {}", site.group), name).await,
                Ok(()),
                "{name} {}",
                site.name
            );
        }
        for (name, character) in [("a#b", "'#'"), ("a?b", "'?'"), ("a%20b", "'%'"), ("a/b", "slash"), ("a\\b", "slash")]
        {
            for (group, id) in [(name, "HOST-A1.OpcUa"), (site.group.as_str(), name)] {
                let what = becomes_of(&site, group, id).await;
                let refused = what.as_ref().is_err_and(|why| why.contains("status: 400") && why.contains(character));
                assert!(refused, "{name} {}: {what:?}", site.name);
            }
        }
    }
}
