//! The benchmark itself: that it runs, counts what it says, and loses no heartbeat.

use std::process::{Command, Stdio};

use client_failover_workshop::needs;
use serde_json::Value;

#[needs("pgbench")]
#[test]
fn every_part_is_measured_and_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let (json, plot) = (folder.path().join("report.json"), folder.path().join("latency.svg"));
    let [by_size, by_group] = ["scale.svg", "groups.svg"].map(|name| folder.path().join(name));
    let output = Command::new(env!("CARGO_BIN_EXE_client-failover-bench"))
        .args([
            "--parts",
            "idle,throughput,latency,connections,forms,replicas,writers,list,scale,groups",
            "--settle",
            "500ms",
        ])
        .args(["--connection-counts", "4,8", "--group-sizes", "2,20"])
        .args(["--sessions", "400", "--sizes", "100,300", "--connections", "8", "--pgbench-clients", "2"])
        .args(["--round", "1s", "--rounds", "1", "--json"])
        .arg(&json)
        .arg("--plot")
        .arg(&plot)
        .arg("--plot-scale")
        .arg(&by_size)
        .arg("--plot-groups")
        .arg(&by_group)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let table = String::from_utf8_lossy(&output.stdout);
    for what in [
        "one client",
        "full load, 8 clients",
        "50% of the full load",
        "the released form",
        "two replicas, any takes any",
        "four writers",
        "4 clients",
        "HTTP alone",
        "300 sessions, 2 in a group",
        "400 sessions, 20 in a group",
        "A list of 200 groups",
    ] {
        assert!(table.contains(what), "{what}: {table}");
    }
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(&json).expect("the report is there")).expect("it is JSON");
    let outcomes = [
        &report["idle"]["service"],
        &report["throughput"]["service"],
        &report["latency"][2]["outcome"],
        &report["forms"]["released"],
        &report["replicas"][1]["outcome"],
        &report["writers"][2]["outcome"],
        &report["scale"][1]["outcome"],
        &report["groups"][1]["outcome"],
        &report["connection_counts"][1]["service"],
        &report["connection_counts"][1]["http"],
    ];
    for outcome in outcomes {
        assert!(outcome["answered"].as_u64().is_some_and(|count| count > 0), "{outcome}");
        assert_eq!(outcome["refused"], serde_json::json!({}), "{outcome}");
        assert_eq!(outcome["broken"], 0, "{outcome}");
    }
    assert!(report["throughput"]["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0));
    assert_eq!(report["scale"][0]["counters"]["role_changes"], 0);
    assert!(report["connection_counts"][0]["http_costs"]["service_us"].as_f64().is_some_and(|cost| cost > 0.0));
    for plot in [plot, by_size, by_group] {
        assert!(std::fs::read_to_string(&plot).expect("the plot is there").contains("<svg"), "{}", plot.display());
    }
}
