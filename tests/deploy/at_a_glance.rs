//! Each question and each act of docs/operations.md is one command and one request, and these do
//! what they are said to do.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::helpers::{Answer, TestApp, TestReplica};
use crate::support::program::{program, run_with};

const PAGE: &str = include_str!("../../docs/operations.md");
const MINUTE: i64 = 60_000;

/// A row of one of the two tables.
struct Row {
    what: &'static str,
    command: Vec<&'static str>,
    method: Method,
    path: &'static str,
    body: Option<Value>,
}

/// The rows of the tables, in order.
fn rows() -> Vec<Row> {
    let (_, section) = PAGE.split_once("## At a glance").expect("there is such a section");
    let (section, _) = section.split_once("\n## ").expect("another follows");
    let is_row = |line: &&str| line.starts_with('|') && line.contains("`client-failover ");
    section.lines().filter(is_row).map(read_row).collect()
}

fn read_row(line: &'static str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let [what, _, command, request] = cells[..] else { panic!("{line} has four cells") };
    let code = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>();
    let command = code(command)[0].split_whitespace().skip(1).collect();
    let request = code(request);
    let (method, path) = request[0].split_once(" …").expect("a method and a path");
    Row {
        what,
        command,
        method: method.parse().expect("a method"),
        path,
        body: request.get(1).map(|body| serde_json::from_str(body).expect("JSON")),
    }
}

/// A namespace with the group of the examples: a Primary `a`, a standby `b`, and `c`, which was
/// never heard of.
struct Namespace<'a> {
    app: &'a TestReplica,
    path: String,
}

impl Namespace<'_> {
    async fn set_up<'a>(app: &'a TestReplica, name: &str) -> Namespace<'a> {
        let path = format!("{}/api/v1/tenants/plant/namespaces/{name}/clientfailover", app.url);
        let namespace = Namespace { app, path };
        namespace.ask(Method::PUT, "/groups/pump", Some(json!({"Milliseconds": MINUTE}))).await;
        for session in ["a", "b", "c"] {
            namespace.ask(Method::POST, "/groups/pump/clientsessions", Some(json!({"Id": session}))).await;
        }
        assert_eq!(namespace.beat("a", 0).await, 1);
        assert_eq!(namespace.beat("b", 0).await, 0);
        namespace
    }

    async fn ask(&self, method: Method, below: &str, body: Option<Value>) -> Answer {
        let mut request = self.app.http.request(method, format!("{}{below}", self.path));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = Answer::of(request).await;
        assert!([StatusCode::OK, StatusCode::ACCEPTED].contains(&answer.status), "{below}: {answer:?}");
        answer
    }

    async fn beat(&self, session: &str, acts_as: i64) -> i64 {
        let request = self.app.http.post(format!("{}/groups/pump/clientsessions/{session}", self.path));
        let request = request.header("Failover-Role", acts_as).json(&json!({"PercentHealthyStreams": 100}));
        Answer::of(request).await.expect_ok()["Role"].as_i64().expect("a role is a number")
    }

    /// Clients that say at once what they do, for as long as this is waited for.
    async fn keep_beating(&self) {
        let mut roles = [1, 0];
        loop {
            for (session, role) in ["a", "b"].into_iter().zip(&mut roles) {
                *role = self.beat(session, i64::from(*role == 1)).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the act of that row has come to.
    async fn check(&self, what: &str) {
        let status = self.ask(Method::GET, "/groups/pump/status", None).await.body;
        let sessions = status["Sessions"].as_array().expect("a list").clone();
        let wish =
            |id: &str| sessions.iter().find(|session| session["SessionId"] == id).map(|s| s["Wish"]["Wish"].clone());
        match what {
            "Have another be Primary" => assert_eq!(status["Primary"], "b"),
            "Keep one Primary" => assert_eq!(wish("b"), Some(json!("Forced"))),
            "Keep one out" => assert_eq!(wish("a"), Some(json!("Excluded"))),
            "End what was wished" => assert_eq!(wish("a"), Some(Value::Null)),
            "Remove a dead session" => assert_eq!(wish("c"), None),
            question => {
                assert!(question.ends_with('?'), "{question} is an act, and nobody looks at what came of it");
                assert_eq!((&status["Primary"], sessions.len()), (&json!("a"), 3), "a question changes nothing");
            }
        }
    }
}

#[tokio::test]
async fn every_question_and_every_act_is_one_command_and_one_request() {
    let app = TestApp::start().await;
    let rows = rows();
    assert_eq!(rows.len(), 10);
    for (number, row) in rows.iter().enumerate() {
        let by_command = format!("c{number}");
        let namespace = Namespace::set_up(&app, &by_command).await;
        let mut command = program();
        command.args(&row.command).envs([
            ("CLIENT_FAILOVER_SERVER", app.url.as_str()),
            ("CLIENT_FAILOVER_TENANT", "plant"),
            ("CLIENT_FAILOVER_NAMESPACE", &by_command),
        ]);
        let ran = tokio::select! {
            ran = run_with(command, "") => ran,
            () = namespace.keep_beating() => unreachable!("it goes on for ever"),
        };
        println!("{}: {}", row.what, ran.ok());
        namespace.check(row.what).await;

        let namespace = Namespace::set_up(&app, &format!("r{number}")).await;
        tokio::select! {
            _ = namespace.ask(row.method.clone(), row.path, row.body.clone()) => {}
            () = namespace.keep_beating() => unreachable!("it goes on for ever"),
        }
        namespace.check(row.what).await;
    }
}
