//! Client certificates: TLS has verified that the authority of the settings made them; here a file
//! says who their subjects are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::watched_file::{WatchedFile, toml_fault};
use super::{AuthError, AuthSetupError, Grant, Identity, Kind, unix_now};
use crate::tls::ClientTrust;

/// What the names of kinds begin with in the file of subjects. A name without one is a name of DNS,
/// or of a certificate that has none but its common name.
const COMMON: &str = "cn:";
const DNS: &str = "dns:";
const URI: &str = "uri:";
const EMAIL: &str = "email:";

/// What a connection's client certificate says.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// What its subject is called in the file of subjects: its common name first, then its
    /// alternative names.
    names: Vec<String>,
    /// Its common name, where it is not to be taken for a name without a kind.
    only_common: Option<String>,
    /// When it ends, in seconds since 1970. A connection may outlive it.
    expires_at: i64,
    /// As it was shown, with those between it and its authority.
    chain: Arc<[CertificateDer<'static>]>,
    /// The state of the authority and its revocations in which it was last found good; for all
    /// requests of the connection.
    good_in: Arc<AtomicU64>,
}

impl ClientCertificate {
    /// Reads a certificate that TLS has verified, the first of its chain; `None` if it cannot be
    /// read.
    pub fn read(chain: &[CertificateDer<'static>]) -> Option<ClientCertificate> {
        let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
        let common: Vec<&str> =
            certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
        let mut names: Vec<String> = common.iter().map(|name| format!("{COMMON}{name}")).collect();
        // An authority may look closely at one kind of name and not at another, so none is taken
        // for another.
        let may_be_bare = |name: &str| ![COMMON, DNS, URI, EMAIL].iter().any(|kind| name.starts_with(kind));
        let alternative = certificate.subject_alternative_name();
        let mut only_common = None;
        match alternative {
            Ok(None) => names.extend(common.iter().filter(|name| may_be_bare(name)).map(|name| (*name).to_owned())),
            _ => only_common = common.first().map(|name| (*name).to_owned()),
        }
        for name in alternative.ok().flatten().iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => {
                    names.push(format!("{DNS}{name}"));
                    names.extend(may_be_bare(name).then(|| (*name).to_owned()));
                }
                GeneralName::URI(name) => names.push(format!("{URI}{name}")),
                GeneralName::RFC822Name(name) => names.push(format!("{EMAIL}{name}")),
                _ => {}
            }
        }
        Some(ClientCertificate {
            names,
            only_common,
            expires_at: certificate.validity().not_after.timestamp(),
            chain: chain.into(),
            good_in: Arc::default(),
        })
    }

    /// Whether it is good by the present authority and its revocations. Verified once for each
    /// state of these: a connection stays for as long as its client wants, and so would a
    /// certificate that was revoked.
    pub fn is_good(&self, trust: &ClientTrust) -> bool {
        let generation = trust.generation();
        if self.good_in.load(Ordering::Acquire) == generation {
            return true;
        }
        let is_good = trust.verifies(&self.chain);
        if is_good {
            self.good_in.store(generation, Ordering::Release);
        }
        is_good
    }
}

/// Who the subjects of certificates are.
pub struct Subjects {
    file: WatchedFile<BTreeMap<String, Arc<Identity>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectsFile {
    #[serde(default)]
    subjects: BTreeMap<String, Subject>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    grants: Vec<Grant>,
}

impl Subjects {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Subjects, AuthSetupError> {
        Ok(Subjects { file: WatchedFile::open(path, parse)? })
    }

    /// Looks whether the file changed.
    pub fn reread_if_changed(&self) {
        self.file.reread_if_changed();
    }

    /// Who that is.
    pub fn recognise(&self, certificate: &ClientCertificate) -> Result<Arc<Identity>, AuthError> {
        if certificate.expires_at < unix_now() {
            return Err(AuthError::Invalid("the client certificate has expired"));
        }
        let subjects = self.file.get();
        let known = certificate.names.iter().find_map(|name| subjects.get(name));
        if let Some(known) = known {
            return Ok(known.clone());
        }
        Err(AuthError::Invalid(match &certificate.only_common {
            Some(name) if subjects.contains_key(name) => {
                "the subjects have the certificate's common name without 'cn:', and it has alternative names"
            }
            _ => "the subject of the client certificate is not known here",
        }))
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, Arc<Identity>>, String> {
    let file: SubjectsFile = toml::from_str(text).map_err(|error| toml_fault(text, &error))?;
    let identity = |(name, subject): (String, Subject)| {
        if let Some(fault) = subject.grants.iter().find_map(Grant::fault) {
            return Err(format!("subject '{name}': {fault}"));
        }
        let name_of_identity = format!("certificate:{name}").into();
        let identity = Identity { name: name_of_identity, kind: Kind::Certificate, grants: subject.grants };
        Ok((name, Arc::new(identity)))
    };
    file.subjects.into_iter().map(identity).collect()
}
