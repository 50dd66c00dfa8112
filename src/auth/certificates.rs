//! Client certificates: TLS has verified that the authority of the settings made them; here a file says who their
//! subjects are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::watched_file::{WatchedFile, toml_fault};
use super::{AuthError, AuthSetupError, Grant, Identity, unix_now};

/// What a connection's client certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject's common name and alternative names, in this order.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970. A connection may outlive it.
    pub expires_at: i64,
}

impl ClientCertificate {
    /// Reads a certificate that TLS has verified; `None` if it cannot be read.
    pub fn read(der: &[u8]) -> Option<ClientCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let mut names: Vec<String> = common.map(str::to_owned).collect();
        if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
            names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                    Some((*name).to_owned())
                }
                _ => None,
            }));
        }
        Some(ClientCertificate { names, expires_at: certificate.validity().not_after.timestamp() })
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
        known.cloned().ok_or(AuthError::Invalid("the subject of the client certificate is not known here"))
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, Arc<Identity>>, String> {
    let file: SubjectsFile = toml::from_str(text).map_err(|error| toml_fault(text, &error))?;
    let identity = |(name, subject): (String, Subject)| {
        if let Some(fault) = subject.grants.iter().find_map(Grant::fault) {
            return Err(format!("subject '{name}': {fault}"));
        }
        let identity = Identity { name: format!("certificate:{name}").into(), grants: subject.grants };
        Ok((name, Arc::new(identity)))
    };
    file.subjects.into_iter().map(identity).collect()
}
