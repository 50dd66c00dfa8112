//! What an adapter's configuration has as its Endpoint: whether an adapter could go by it.

use reqwest::Url;

use super::super::CALLED_WRONGLY;
use super::super::output::printable;
use super::report::Fault;

/// What the path of an endpoint ends in.
const LAST: &str = "clientfailover";

/// Where an adapter is itself configured: manuals give it for the endpoint as well.
const CONFIGURATION: [&str; 5] = ["api", "v1", "configuration", "system", LAST];

/// Reads an endpoint.
pub fn read(text: &str) -> Result<Url, Fault> {
    let fault = |said: String, to_do: String| Fault { said, to_do, code: CALLED_WRONGLY };
    // What stands before an @ may be a password.
    let shown = printable(text.rsplit('@').next().unwrap_or_default());
    let Some(url) = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    else {
        return Err(fault(
            format!("'{shown}' is no http:// or https:// URL"),
            "Give the whole URL, such as https://failover.plant.example:8443/api/v1/clientfailover.".to_owned(),
        ));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault(
            "the URL holds credentials".to_owned(),
            "Give them as UserName and Password in the adapter's configuration, and here as --user and --password-file."
                .to_owned(),
        ));
    }
    let root = url.origin().ascii_serialization();
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fault(
            format!("'{shown}' has something behind its path"),
            "Leave out the '?' or '#' and what follows it.".to_owned(),
        ));
    }
    let segments: Vec<String> =
        url.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_lowercase).collect();
    if segments.ends_with(&CONFIGURATION.map(str::to_owned)) {
        return Err(fault(
            format!("{} is where an adapter itself is configured; no service has its groups there", url.path()),
            format!("Give {root}/api/v1/{LAST}."),
        ));
    }
    match segments.iter().rposition(|segment| segment == LAST) {
        Some(place) if place + 1 == segments.len() => Ok(url),
        Some(_) => Err(fault(
            format!("the path goes on behind {LAST}, and an adapter adds groups/… itself"),
            format!("Leave out what follows {LAST}."),
        )),
        None => Err(fault(
            format!("the path does not end in {LAST}"),
            format!("Give {root}/api/v1/{LAST}, or {root}/api/v1/Tenants/TENANT/Namespaces/NAMESPACE/ClientFailover/."),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_ends_in_clientfailover_in_any_case_with_or_without_a_slash() {
        for text in [
            "http://host:8180/api/v1/clientfailover",
            "https://host/api/v1/Tenants/T/Namespaces/N/ClientFailover/",
            "https://host/below/a/proxy/clientfailover",
        ] {
            assert!(read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_none_says_what_would_be_one_and_shows_no_password() {
        for (text, said) in [
            ("host:8180/api/v1/clientfailover", "no http"),
            ("ftp://host/clientfailover", "no http"),
            ("http://name:word@host/clientfailover", "UserName"),
            ("name:word@host", "no http"),
            ("http://host/api/v1/clientfailover?x", "'?'"),
            ("http://host/api/v1/clientfailover/groups/", "Leave out what follows"),
            ("http://host:81", "http://host:81/api/v1/clientfailover,"),
            ("http://host/API/v1/configuration/System/ClientFailover/", "Give http://host/api/v1/clientfailover."),
        ] {
            let fault = read(text).expect_err(text);
            let told = format!("{} {}", fault.said, fault.to_do);
            assert!(told.contains(said) && !told.contains("word@"), "{told}");
            assert!(!told.contains(":word"), "{told}");
        }
    }
}
