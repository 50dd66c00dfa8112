//! What packages bring is true of the program: its settings file, its version, the C library that
//! it is said to need. They are installed and used by tests/deploy/packages.py.

use std::path::Path;

use clap::{Arg, Args as _};
use client_failover::config::Given;

const FILE: &str = include_str!("../../deploy/packages/client-failover.toml");

fn settings() -> Vec<Arg> {
    Given::augment_args(clap::Command::new("serve")).get_arguments().cloned().collect()
}

/// The file's paragraphs about one setting: its words, its name, and whether it counts.
fn described() -> Vec<(String, String, bool)> {
    let paragraphs = FILE.split("\n\n").filter_map(|paragraph| {
        let (words, setting) = paragraph.trim_end().rsplit_once('\n')?;
        let is_left_out = setting.starts_with('#');
        let (name, _) = setting.trim_start_matches('#').split_once(" = ")?;
        let words: Vec<&str> = words.lines().map(|line| line.trim_start_matches("# ")).collect();
        Some((name.to_owned(), words.join(" "), !is_left_out))
    });
    paragraphs.filter(|(name, _, _)| !name.starts_with(' ')).collect()
}

#[test]
fn the_installed_settings_file_has_each_setting_once_in_the_words_of_the_help() {
    let mut in_file: Vec<(String, String)> = described().into_iter().map(|(name, words, _)| (name, words)).collect();
    let help = |setting: &Arg| {
        let help = setting.get_help().map(ToString::to_string).unwrap_or_default();
        (setting.get_long().expect("it is a flag").to_owned(), help)
    };
    let mut in_program: Vec<(String, String)> = settings().iter().map(help).collect();
    in_file.sort();
    in_program.sort();
    assert_eq!(in_file, in_program);
}

#[test]
fn the_installed_settings_file_counts_as_it_stands_and_each_of_its_lines_can() {
    let counting: Vec<String> =
        described().into_iter().filter(|(_, _, counts)| *counts).map(|(name, _, _)| name).collect();
    assert_eq!(counting, ["data-dir"]);
    let given: Given = toml::from_str(FILE).expect("it is a file of settings");
    given.settle(None).expect("it is enough");
    let all: Vec<&str> = FILE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).unwrap_or(line))
        .collect();
    let given: Given = toml::from_str(&all.join("\n")).expect("each line is a setting");
    let shown = format!("{given:?}");
    assert!(!shown.contains(": None"), "{shown}");
}

#[test]
fn everything_that_is_released_says_one_version() {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let label = "LABEL org.opencontainers.image.version=";
    let labels: Vec<&str> =
        include_str!("../../Dockerfile").lines().filter_map(|line| line.strip_prefix(label)).collect();
    assert_eq!(labels, [VERSION, VERSION], "the Dockerfile's");
    let description: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/openapi.json")).expect("it is JSON");
    assert_eq!(description["info"]["version"], VERSION, "the description's");
    let heading = format!("## {VERSION} ");
    assert!(include_str!("../../CHANGELOG.md").lines().any(|line| line.starts_with(&heading)), "the changelog's");
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/client-failover/Chart.yaml");
    if let Ok(chart) = std::fs::read_to_string(chart) {
        let version = chart.lines().find_map(|line| line.strip_prefix("appVersion:")).expect("it says one");
        assert_eq!(version.trim().trim_matches('"'), VERSION, "the chart's");
    }
}
