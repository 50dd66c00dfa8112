//! Finds the server's programs and settles which of several versions to use.
//!
//! Only looks and asks for versions; it never installs or downloads anything.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tracing::{debug, warn};

use super::PostgresError;

/// The oldest version that is accepted.
const MINIMUM: u32 = 14;

/// The folders of the distributions that carry a version in their name: parent, start of the
/// name before the number, and where below it the programs are.
const VERSIONED: [(&str, &str, &str); 6] = [
    // Debian, Ubuntu and Gentoo-like.
    ("/usr/lib/postgresql", "", "bin"),
    // The PostgreSQL project's packages for Fedora and Red Hat.
    ("/usr", "pgsql-", "bin"),
    // openSUSE.
    ("/usr/lib", "postgresql", "bin"),
    // Alpine.
    ("/usr/libexec", "postgresql", ""),
    // Homebrew on Apple silicon and on Intel.
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

/// A folder with `postgres` and `initdb` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    pub dir: PathBuf,
    pub version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    /// As the program says it, with the packager's remark.
    pub text: String,
}

impl Binaries {
    pub fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }
}

/// All that can be used, most preferred first, one at least. Changes nothing: whoever has none is
/// told so before anything is made.
pub fn find(preferred: Option<&Path>) -> Result<Vec<Binaries>, PostgresError> {
    let mut found = Vec::new();
    let mut looked_in = Vec::new();
    if let Some(preferred) = preferred {
        looked_in.push(preferred.display().to_string());
        let given = probe(preferred);
        if given.is_none() {
            warn!(
                folder = %preferred.display(),
                "the given folder has no usable PostgreSQL programs, looking elsewhere"
            );
        }
        found.extend(given);
    }
    looked_in.push("PATH".to_owned());
    found.extend(on_path().iter().filter_map(|folder| probe(folder)));
    for (parent, start, below) in VERSIONED {
        looked_in.push(Path::new(parent).join(format!("{start}*")).join(below).display().to_string());
    }
    found.extend(versioned().iter().filter_map(|folder| probe(folder)));
    usable(found, &looked_in.join(", "))
}

fn usable(found: Vec<Binaries>, looked_in: &str) -> Result<Vec<Binaries>, PostgresError> {
    let (usable, old): (Vec<_>, Vec<_>) = found.into_iter().partition(|binaries| binaries.version.major >= MINIMUM);
    match (usable.is_empty(), old.first()) {
        (false, _) => Ok(usable),
        (true, Some(old)) => Err(PostgresError::TooOld { found: described(old), minimum: MINIMUM }),
        (true, None) => Err(PostgresError::NotFound { looked_in: looked_in.to_owned() }),
    }
}

/// The programs to use for the data in `dir`, which `made_by` (the content of its `PG_VERSION`)
/// made: the first of the usable that fits; `None` for data that is yet to be made.
pub fn choose(usable: &[Binaries], dir: &Path, made_by: Option<&str>) -> Result<Binaries, PostgresError> {
    let fits = |binaries: &&Binaries| made_by.is_none_or(|made_by| binaries.version.major.to_string() == made_by);
    usable.iter().find(fits).cloned().ok_or_else(|| PostgresError::VersionMismatch {
        dir: dir.to_owned(),
        made_by: made_by.unwrap_or_default().to_owned(),
        found: usable.iter().map(described).collect::<Vec<_>>().join(", "),
    })
}

fn described(binaries: &Binaries) -> String {
    format!("{} in {}", binaries.version.text, binaries.dir.display())
}

fn on_path() -> Vec<PathBuf> {
    let Some(path) = env::var_os("PATH") else {
        return Vec::new();
    };
    // A relative entry would make the choice depend on where the service was started.
    env::split_paths(&path).filter(|folder| folder.is_absolute()).collect()
}

fn versioned() -> Vec<PathBuf> {
    let mut folders: Vec<(u32, PathBuf)> = VERSIONED
        .iter()
        .flat_map(|(parent, start, below)| {
            fs::read_dir(parent).into_iter().flatten().flatten().filter_map(move |entry| {
                let name = entry.file_name();
                let number = name.to_str()?.strip_prefix(start)?.parse().ok()?;
                Some((number, entry.path().join(below)))
            })
        })
        .collect();
    folders.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    folders
        .into_iter()
        .map(|(_, folder)| folder)
        // Built from source, which has no version in its name.
        .chain([PathBuf::from("/usr/local/pgsql/bin")])
        .collect()
}

fn probe(folder: &Path) -> Option<Binaries> {
    let dir = home(folder)?;
    let postgres = dir.join("postgres");
    let output = match Command::new(&postgres).arg("--version").output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            debug!(program = %postgres.display(), status = %output.status, "does not say its version");
            return None;
        }
        Err(error) => {
            debug!(program = %postgres.display(), %error, "cannot be run");
            return None;
        }
    };
    let version = parse_version(&String::from_utf8_lossy(&output.stdout))?;
    Some(Binaries { dir, version })
}

/// Where the programs really are: the folder may have only links to some of them. Always absolute,
/// since the programs are not run from where the service was started.
fn home(folder: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(folder).ok()?;
    let target = fs::canonicalize(folder.join("postgres")).ok()?;
    let is_home = |dir: &Path| dir.join("postgres").is_file() && dir.join("initdb").is_file();
    target.parent().filter(|dir| is_home(dir)).map(Path::to_path_buf).or_else(|| is_home(&folder).then_some(folder))
}

/// From `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`; also `18beta1`, `17devel`.
fn parse_version(line: &str) -> Option<Version> {
    let (_, text) = line.trim().split_once("(PostgreSQL) ")?;
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    Some(Version { major: digits.parse().ok()?, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binaries(major: u32) -> Binaries {
        Binaries { dir: PathBuf::from(format!("/{major}")), version: Version { major, text: format!("{major}.1") } }
    }

    fn chosen(found: &[u32], made_by: Option<&str>) -> Result<u32, String> {
        let found = found.iter().copied().map(binaries).collect();
        usable(found, "PATH, /opt")
            .and_then(|usable| choose(&usable, Path::new("/data/pg"), made_by))
            .map(|binaries| binaries.version.major)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn versions_are_read_as_packagers_write_them() {
        let major = |line| parse_version(line).map(|version| version.major);
        assert_eq!(major("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("postgres (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(major("something else 15"), None);
    }

    #[test]
    fn links_to_the_programs_lead_to_their_folder() {
        let top = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(top.path()).unwrap();
        let (real, links) = (top.join("real"), top.join("links"));
        for dir in [&real, &links] {
            fs::create_dir(dir).unwrap();
        }
        for name in ["postgres", "initdb"] {
            fs::write(real.join(name), "").unwrap();
            std::os::unix::fs::symlink(real.join(name), links.join(name)).unwrap();
        }
        assert_eq!(home(&links), Some(real.clone()));
        assert_eq!(home(&real), Some(real));
        assert_eq!(home(&top), None);
    }

    #[test]
    fn the_first_is_taken_unless_the_data_needs_another() {
        assert_eq!(chosen(&[16, 17], None), Ok(16));
        assert_eq!(chosen(&[17, 16, 15], Some("15")), Ok(15));
        assert_eq!(chosen(&[13, 15], None), Ok(15));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_way_out() {
        let error = chosen(&[17, 16], Some("14")).unwrap_err();
        assert!(error.contains("made by PostgreSQL 14"), "{error}");
        assert!(error.contains("17.1 in /17, 16.1 in /16"), "{error}");
        assert!(error.contains("postgresql-14"), "{error}");

        let error = chosen(&[13], None).unwrap_err();
        assert!(error.contains("13.1 in /13, which is older than 14"), "{error}");

        let error = chosen(&[], None).unwrap_err();
        assert!(error.contains("in PATH, /opt"), "{error}");
        assert!(error.contains("--database-url") && error.contains("DATABASE_URL"), "{error}");
        assert!(error.contains("postgresql-server"), "{error}");
    }
}
