//! What is written down about services: profiles, and files with one secret. Those who could read a
//! secret are named.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use client_failover_wire::Secret;
use serde::Deserialize;

use super::OperatorError;
use super::output::{complain, printable};

/// The profile that is meant where none is named.
const DEFAULT: &str = "default";

/// A service and how to reach it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Profile {
    /// The service.
    pub server: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// An API key or another bearer token.
    pub token: Option<Secret>,
    /// The file with it.
    pub token_file: Option<PathBuf>,
    /// The name for Basic authentication.
    pub user: Option<String>,
    /// The password to it.
    pub password: Option<Secret>,
    /// The file with it.
    pub password_file: Option<PathBuf>,
    /// The authority of the service's certificate (PEM).
    pub ca_file: Option<PathBuf>,
    /// The certificate that is shown to the service (PEM).
    pub client_cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub client_key: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfilesFile {
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

/// The profile of that name in that file; where neither is given, the default one, if there is one.
pub fn find(file: Option<&Path>, name: Option<&str>) -> Result<Profile, OperatorError> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => match usual_path() {
            Some(path) if path.exists() || name.is_some() => path,
            Some(_) => return Ok(Profile::default()),
            None if name.is_none() => return Ok(Profile::default()),
            None => {
                return Err(OperatorError::usage(
                    "there is no home folder with profiles: name their file with --profiles",
                ));
            }
        },
    };
    let (text, metadata) = read_file(&path)?;
    let mut profiles = toml::from_str::<ProfilesFile>(&text)
        .map_err(|error| {
            // The message alone: the parser's own text shows the line, and the line may hold a
            // secret. So may a message about a value: it quotes the value.
            let at = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            let wrong = match error.message() {
                message if message.starts_with("invalid") => {
                    "a value is of the wrong kind; texts stand in quotes".to_owned()
                }
                message => printable(message),
            };
            OperatorError::usage(format!("the file {}, line {at}: {wrong}", path.display()))
        })?
        .profiles;
    let has_secret = |profile: &Profile| profile.token.is_some() || profile.password.is_some();
    if profiles.values().any(has_secret)
        && let Some(remedy) = others_may_open(&path, &metadata, 0o077)
    {
        return Err(OperatorError::usage(format!(
            "the file {} holds secrets, and other accounts may open it: {remedy}",
            path.display()
        )));
    }
    let wanted = name.unwrap_or(DEFAULT);
    match (profiles.remove(wanted), name) {
        (Some(profile), _) => Ok(profile.beside(&path)),
        (None, None) => Ok(Profile::default()),
        (None, Some(name)) => {
            let names: Vec<String> = profiles.into_keys().collect();
            let others = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let (path, name) = (path.display(), printable(name));
            Err(OperatorError::usage(format!("the file {path} has no profile '{name}'; it has {others}")))
        }
    }
}

impl Profile {
    /// Files that are named in a profile without a folder lie beside it.
    fn beside(mut self, profiles: &Path) -> Profile {
        let folder = profiles.parent().unwrap_or(Path::new("."));
        let files = [
            &mut self.token_file,
            &mut self.password_file,
            &mut self.ca_file,
            &mut self.client_cert,
            &mut self.client_key,
        ];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
        self
    }
}

fn usual_path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_system = || if cfg!(windows) { set("APPDATA") } else { Some(set("HOME")?.join(".config")) };
    let config = set("XDG_CONFIG_HOME").or_else(of_system)?;
    Some(config.join("client-failover/client.toml"))
}

/// Whether others may open a file, by these bits of its mode; if so, what to do about it.
#[cfg(unix)]
fn others_may_open(_path: &Path, metadata: &Metadata, bits: u32) -> Option<&'static str> {
    use std::os::unix::fs::PermissionsExt as _;
    (metadata.permissions().mode() & bits != 0).then_some("chmod 600 it")
}

/// Whether others may open a file; if so, what to do about it. Its list of rights is not read here:
/// what counts is whether it lies in the folder of the account, which Windows closes to others.
#[cfg(windows)]
fn others_may_open(path: &Path, _metadata: &Metadata, _bits: u32) -> Option<&'static str> {
    let home = std::env::var_os("USERPROFILE").and_then(|home| fs::canonicalize(home).ok());
    let path = fs::canonicalize(path).ok();
    let is_inside = home.zip(path).is_some_and(|(home, path)| path.starts_with(home));
    (!is_inside).then_some("move it to a folder below %USERPROFILE%")
}

fn read_file(path: &Path) -> Result<(String, Metadata), OperatorError> {
    let read = || {
        let file = fs::File::open(path)?;
        let metadata = file.metadata()?;
        Ok((io::read_to_string(file)?, metadata))
    };
    read().map_err(|error: io::Error| {
        OperatorError::usage(format!("the file {} cannot be read: {error}", path.display()))
    })
}

/// The secret in a file: its first line.
pub fn read_secret(path: &Path) -> Result<Secret, OperatorError> {
    let (text, metadata) = read_file(path)?;
    // A pipe, as a shell makes one, is nobody else's.
    if metadata.is_file() && others_may_open(path, &metadata, 0o004).is_some() {
        complain(&format!("warning: every account on this machine may read the secret in {}", path.display()));
    }
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::from(line.to_owned())),
        None => Err(OperatorError::usage(format!("the file {} does not begin with a secret", path.display()))),
    }
}
