//! Every link in the Markdown files that stays in this repository leads to a file that is there,
//! and to a heading that it has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The text outside of blocks and spans of code.
fn prose(page: &str) -> String {
    let mut is_code = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What `[text](target)` and `![text](target)` lead to.
fn targets(page: &str) -> Vec<String> {
    let text = prose(page);
    let without_spans: String = text.split('`').step_by(2).collect();
    let ends = without_spans.split("](").skip(1);
    ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The names by which headings are linked to, as forges make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// What is wrong with the link, if anything.
fn fault(page: &Path, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { page.to_owned() } else { page.parent()?.join(file) };
    if !path.exists() {
        return Some(format!("there is no {file}"));
    }
    let anchor = anchor?;
    let text = std::fs::read_to_string(&path).ok()?;
    (!anchors(&text).contains(anchor)).then(|| format!("{} has no heading for #{anchor}", path.display()))
}

/// The Markdown files of the repository, without what is not ours or is made by a build.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = !["target", ".git", "node_modules", "swagger-ui"].contains(&name.as_str());
        if path.is_dir() && is_ours {
            found.extend(pages(&path));
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_link_between_pages_leads_to_a_file_and_a_heading_that_are_there() {
    let mut faults = Vec::new();
    let mut links = 0;
    for page in pages(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let text = std::fs::read_to_string(&page).expect("it can be read");
        for target in targets(&text).iter().filter(|target| !target.contains("://")) {
            links += 1;
            faults.extend(fault(&page, target).map(|fault| format!("{}: {target}: {fault}", page.display())));
        }
    }
    assert_eq!(faults, Vec::<String>::new());
    assert!(links > 60, "{links}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    assert_eq!(fault(&page, "docs/clients.md#the-trust-rule"), None);
    assert!(fault(&page, "docs/clients.md#no-such-rule").is_some());
    assert!(fault(&page, "docs/no-such-page.md").is_some());
    assert_eq!(targets("[a](b.md#c) `[no](x)`\n```\n[no](y)\n```\n![d](e.png)"), ["b.md#c", "e.png"]);
    assert!(anchors("# The API, described\n## `migrate --reader`").contains("the-api-described"));
}
