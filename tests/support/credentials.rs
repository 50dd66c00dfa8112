//! Credentials of every kind for the tests, made as an operator makes them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client_failover::access::AuthOptions;
use client_failover::access::bearer::OidcOptions;
use client_failover::tls::TlsOptions;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::{Duration as Span, OffsetDateTime};

use crate::support::helpers::{TestDatabase, remove_after_the_run, scratch_dir};
use crate::support::program::{program, run, run_with};

/// A folder for one test's files.
pub fn new_dir() -> PathBuf {
    let dir = scratch_dir("credentials");
    remove_after_the_run(&dir);
    dir
}

/// Every kind of credentials at once, certificates left aside.
pub fn all_but_certificates(oidc: OidcOptions, users_file: PathBuf) -> AuthOptions {
    AuthOptions {
        oidc: Some(oidc),
        users_file: Some(users_file),
        api_keys: true,
        clients_create_groups: true,
        ..AuthOptions::default()
    }
}

/// A new API key's number and text.
pub async fn create_key(database: &TestDatabase, name: &str, arguments: &[&str]) -> (i64, String) {
    let mut command = program();
    command.args(["keys", "create", name]).args(arguments).env("DATABASE_URL", database.url());
    let ran = run(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    // The key alone, as a script takes it.
    let text = ran.out.strip_suffix('\n').expect("a line");
    assert!(text.starts_with("cfk_") && text.len() == 47, "{ran:?}");
    let number = ran
        .err
        .lines()
        .find_map(|line| line.strip_prefix("This is key "))
        .and_then(|rest| rest.split('.').next())
        .expect("its number");
    (number.parse().expect("a number"), text.to_owned())
}

pub async fn revoke_key(database: &TestDatabase, key: i64) {
    let mut command = program();
    command.args(["keys", "revoke", &key.to_string()]).env("DATABASE_URL", database.url());
    assert!(run(command).await.ok().contains("is revoked"));
}

/// Adds a user to a file.
pub async fn add_user(file: &Path, name: &str, password: &str, arguments: &[&str]) {
    let mut command = program();
    command.args(["users", "add", "--file"]).arg(file).arg(name).args(arguments);
    run_with(command, &format!("{password}\n")).await.ok();
}

pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// An authority, and the certificates it makes.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Certificate {
    pub certificate: String,
    pub key: String,
    pub serial: SerialNumber,
}

/// What a certificate is for, and from when to when it is good, in days from now.
pub struct Wanted<'a> {
    pub common_name: &'a str,
    pub alternative_names: &'a [&'a str],
    pub days: (i64, i64),
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("they are good");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "An authority of the tests");
        let key = KeyPair::generate().expect("a key can be made");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("it signs") }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server on loopback.
    pub fn server(&self, days: (i64, i64)) -> Certificate {
        self.make(&Wanted { common_name: "server", alternative_names: &["127.0.0.1", "localhost"], days })
    }

    pub fn make(&self, wanted: &Wanted<'_>) -> Certificate {
        let names: Vec<String> = wanted.alternative_names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("they are good");
        params.distinguished_name.push(DnType::CommonName, wanted.common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // As whole seconds: a certificate has no others. The tests' own clock is the calendar's.
        let now = OffsetDateTime::from_unix_timestamp(client_failover::access::unix_now()).expect("a time");
        params.not_before = now + Span::days(wanted.days.0);
        params.not_after = now + Span::days(wanted.days.1);
        let serial = SerialNumber::from(fastrand::u64(1..1 << 62));
        params.serial_number = Some(serial.clone());
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it signs");
        Certificate { certificate: certificate.pem(), key: key.serialize_pem(), serial }
    }

    /// A list of what it has revoked.
    pub fn revocations(&self, revoked: &[&Certificate]) -> rcgen::CertificateRevocationList {
        let now = OffsetDateTime::from_unix_timestamp(client_failover::access::unix_now()).expect("a time");
        let revoked = revoked.iter().map(|certificate| RevokedCertParams {
            serial_number: certificate.serial.clone(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now - Span::days(1),
            next_update: now + Span::days(1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("it signs")
    }
}

impl Certificate {
    /// Writes the two files into a folder, whole new files in the place of those before.
    pub fn write(&self, dir: &Path) -> TlsOptions {
        let file = |name: &str, text: &str| {
            let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
            std::fs::write(&new, text).expect("it can be written");
            std::fs::rename(&new, &path).expect("it can be moved");
            path
        };
        TlsOptions {
            certificate: file("server.crt", &self.certificate),
            key: file("server.key", &self.key),
            client_ca: None,
            client_crl: None,
        }
    }

    /// As a client shows it.
    pub fn identity(&self) -> reqwest::Identity {
        reqwest::Identity::from_pem(format!("{}{}", self.certificate, self.key).as_bytes()).expect("it is one")
    }
}

/// A client that believes that authority alone.
pub fn https(authority: &Authority, identity: Option<reqwest::Identity>) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("it is one");
    let builder = reqwest::Client::builder().tls_certs_only([root]);
    let builder = match identity {
        Some(identity) => builder.identity(identity),
        None => builder,
    };
    builder.build().expect("a client can be made")
}
