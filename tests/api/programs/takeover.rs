//! A takeover with a client that a public generator has made from the description of the API.
//!
//! Usage: takeover URL, as an example of the generated package `failover_api`.

use std::time::{Duration, Instant};

use chrono::Datelike as _;
use failover_api::apis::client_sessions_api::{register_session, send_heartbeat};
use failover_api::apis::configuration::Configuration;
use failover_api::apis::groups_api::put_group;
use failover_api::apis::released_form_api::{
    add_client_session_on_premises, add_group_on_premises, post_heartbeat_on_premises,
};
use failover_api::models::{
    ClientRole, ClientSessionRegistration, FailoverHeartbeat, GroupConfiguration, PutGroupOnPremises200Response,
    ReleasedHeartbeatBody,
};

// What is odd in a name has to be encoded. No space: this generator writes it as forms do, and in a
// path that is a plus.
const TENANT: &str = "plant";
const NAMESPACE: &str = "line1";
const GROUP: &str = "pump&7%";

async fn beat(service: &Configuration, session: &str, acting_as: ClientRole) -> ClientRole {
    let heartbeat = FailoverHeartbeat { percent_healthy_streams: Some(Some(99.5)), ..FailoverHeartbeat::new() };
    let answer = send_heartbeat(service, TENANT, NAMESPACE, GROUP, session, heartbeat, Some(acting_as), None, None).await;
    let answer = answer.expect("a heartbeat is answered");
    assert_eq!(answer.last_data_send_time.year(), 1, "nobody has said until when data was sent");
    answer.role
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let base_path = std::env::args().nth(1).expect("the URL is given");
    let service = Configuration { base_path, ..Configuration::new() };
    let configuration = GroupConfiguration { milliseconds: Some(Some(1_000.0)), ..GroupConfiguration::new() };
    let group = put_group(&service, TENANT, NAMESPACE, GROUP, configuration, None, None).await.expect("it is created");
    assert_eq!(group, PutGroupOnPremises200Response::Id(GROUP.to_owned()));
    for session in ["a", "b"] {
        let registration =
            ClientSessionRegistration { id: Some(Some(session.to_owned())), ..ClientSessionRegistration::new() };
        let registered = register_session(&service, TENANT, NAMESPACE, GROUP, registration, None).await;
        assert_eq!(registered.expect("it is registered"), session);
    }
    assert_eq!(beat(&service, "a", ClientRole::Secondary).await, ClientRole::Primary);
    let mut role = beat(&service, "b", ClientRole::Secondary).await;
    assert_eq!(role, ClientRole::Secondary);

    // Now a falls silent, and b goes on.
    let began = Instant::now();
    while role != ClientRole::Primary {
        assert!(began.elapsed() < Duration::from_secs(20), "b did not take over");
        tokio::time::sleep(Duration::from_millis(100)).await;
        role = beat(&service, "b", role).await;
    }
    assert_eq!(beat(&service, "a", ClientRole::Secondary).await, ClientRole::Secondary);
    println!("b took over after {:?}", began.elapsed());
    take_over_in_the_released_form(&service).await;
}

/// On the premises, where there is no tenant in a path.
async fn take_over_in_the_released_form(service: &Configuration) {
    let configuration = GroupConfiguration {
        id: Some(Some(GROUP.to_owned())),
        failover_timeout: Some(Some("00:00:01".to_owned())),
        ..GroupConfiguration::new()
    };
    let group = add_group_on_premises(service, configuration, None).await.expect("it is created");
    assert_eq!(group.failover_timeout, "00:00:01");
    for session in ["a", "b"] {
        let registration =
            ClientSessionRegistration { id: Some(Some(session.to_owned())), ..ClientSessionRegistration::new() };
        let registered = add_client_session_on_premises(service, GROUP, registration, None).await;
        assert!(!registered.expect("it is registered").heartbeat_posted);
    }
    let beat = async |session: &str| {
        let body = ReleasedHeartbeatBody { failover_score: Some(Some(100.0)), ..ReleasedHeartbeatBody::new() };
        let answer = post_heartbeat_on_premises(service, GROUP, session, body, None, None, None).await;
        answer.expect("a heartbeat is answered").role
    };
    assert_eq!(beat("a").await, ClientRole::Primary);
    let began = Instant::now();
    while beat("b").await != ClientRole::Primary {
        assert!(began.elapsed() < Duration::from_secs(20), "b did not take over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("on the premises b took over after {:?}", began.elapsed());
}
