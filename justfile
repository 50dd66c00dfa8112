# Short names for the commands of README.md, CONTRIBUTING.md and docs/. `just` lists them.

_default:
    @just --list --unsorted

# the service, on a private PostgreSQL
run *arguments:
    cargo run --release -- {{ arguments }}

# a takeover to watch
demo:
    cargo run --release -- demo

# all tests, or those with a word in their name
test *words:
    cargo test {{ if words == "" { "" } else { "--test suite -- " + words } }}

# formatting, prose, the page's scripts, clippy
lint:
    cargo fmt --check
    .ci/prose
    .ci/page
    cargo clippy --workspace --all-targets -- -D warnings

# formats everything that a tool formats
format:
    cargo fmt
    .ci/prose --wrap
    .ci/page --format

# licences, advisories, unused dependencies
dependencies:
    .ci/dependencies

# everything that CI runs
ci:
    .ci/run

# the protocol in a model checker, at its widest
model:
    cargo test --release --test model -- --include-ignored

# faults for so many minutes
faults minutes="10" seed="1":
    CLIENT_FAILOVER_FAULTS_MINUTES={{ minutes }} CLIENT_FAILOVER_FAULTS_SEED={{ seed }} \
        cargo test --release --test faults faults::runs::long -- --ignored --nocapture

# heartbeats a second and latency on this machine
bench *arguments:
    cargo run --release --bin client-failover-bench -- {{ arguments }}

# which lines the tests run, of the library alone or of what cargo test is told
coverage *arguments:
    .ci/coverage {{ arguments }}

# the documentation as a site with a search: target/site/index.html
site *out:
    .ci/site {{ out }}

# the pictures in docs/images, but the measured one, which --measure makes
pictures *arguments:
    .ci/pictures {{ arguments }}

# docs/openapi.json, after a change of the API
description:
    RENEW_DESCRIPTION=1 cargo test --test suite description::the_description_in_the_repository

# deploy/kubernetes and the table of the chart's values, after a change of the chart
chart:
    tests/deploy/chart.py renew

# everything that a release has, into target/release-artifacts
release *arguments:
    deploy/release {{ arguments }}
