//! The environment, before anything is read from it: variables that look like settings and are
//! none. A slip in a name would leave a setting at its default without a word.

use clap::Command;
use client_failover_operator::suggest;

/// What the names of our variables begin with.
const PREFIX: &str = "CLIENT_FAILOVER_";

/// Variables that no flag is for: credentials, what the agent tells its program, and those of this
/// project's tests, benchmark, image and compose file.
const WITHOUT_FLAG: [&str; 12] = [
    "BENCH_DATABASE_URL",
    "COMMIT",
    "TOKEN",
    "TOKEN_FILE",
    "USER",
    "PASSWORD",
    "PASSWORD_FILE",
    "IMAGE",
    "PORT",
    "ROLE",
    "TERM",
    "MODE",
];

/// What the names of others begin with. Kubernetes sets those of a service called client-failover
/// for every pod beside it.
const OF_OTHERS: [&str; 3] = ["FAULTS_", "SERVICE_", "PORT_"];

/// A variable that is the name of no setting, and is like that of one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment has {name}, which is no setting; did you mean '{meant}'?")]
pub struct Misspelt {
    /// As it stands there.
    pub name: String,
    /// What is like it.
    pub meant: String,
}

/// Looks through the names of an environment: those that are like a setting's name and are none are
/// an error; warnings about others that have our prefix are returned.
pub fn check(command: &Command, names: impl Iterator<Item = String>) -> Result<Vec<String>, Misspelt> {
    let mut known: Vec<String> = WITHOUT_FLAG.iter().map(|name| format!("{PREFIX}{name}")).collect();
    collect(command, &mut known);
    let mut warnings = Vec::new();
    for name in names {
        let ours = name.strip_prefix(PREFIX);
        let is_fine = match ours {
            Some(rest) => OF_OTHERS.iter().any(|prefix| rest.starts_with(prefix)) || rest.ends_with("_IMAGE"),
            None => !name.to_uppercase().starts_with("CLIENT"),
        };
        if is_fine || known.contains(&name) {
            continue;
        }
        let meant = match ours {
            // By what is behind the prefix: of names that begin alike all would be alike.
            Some(rest) => suggest::nearest(rest, known.iter().filter_map(|name| name.strip_prefix(PREFIX)))
                .map(|rest| format!("{PREFIX}{rest}")),
            None => suggest::nearest(&name, known.iter().map(String::as_str)).map(str::to_owned),
        };
        match (meant, ours) {
            (Some(meant), _) => return Err(Misspelt { name, meant }),
            (None, Some(_)) => warnings.push(format!("the environment has {name}, which is no setting")),
            (None, None) => {}
        }
    }
    Ok(warnings)
}

/// The variables of a command's flags and of those beneath it.
fn collect(command: &Command, known: &mut Vec<String>) {
    for argument in command.get_arguments() {
        known.extend(argument.get_env().map(|name| name.to_string_lossy().into_owned()));
    }
    for beneath in command.get_subcommands() {
        collect(beneath, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn checked(names: &[&str]) -> Result<Vec<String>, Misspelt> {
        let flag = |name| Arg::new(name).long(name);
        let beneath = Command::new("status").arg(flag("tenant").env("CLIENT_FAILOVER_TENANT"));
        let command = Command::new("x").arg(flag("listen").env("CLIENT_FAILOVER_LISTEN")).subcommand(beneath);
        check(&command, names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn a_slip_is_an_error_and_what_is_not_ours_is_none() {
        for (name, meant) in [
            ("CLIENT_FAILOVER_LISTN", "CLIENT_FAILOVER_LISTEN"),
            ("CLIENT_FAILOVER_TENNANT", "CLIENT_FAILOVER_TENANT"),
            ("CLIENT_FAILOVER_TOKENFILE", "CLIENT_FAILOVER_TOKEN_FILE"),
            ("CLIENT_FAILVER_LISTEN", "CLIENT_FAILOVER_LISTEN"),
            ("client_failover_listen", "CLIENT_FAILOVER_LISTEN"),
        ] {
            assert_eq!(checked(&[name]), Err(Misspelt { name: name.to_owned(), meant: meant.to_owned() }));
        }
        let fine = [
            "CLIENT_FAILOVER_LISTEN",
            "CLIENT_FAILOVER_PASSWORD",
            "CLIENT_FAILOVER_BENCH_DATABASE_URL",
            "CLIENT_FAILOVER_FAULTS_MINUTES",
            "CLIENT_FAILOVER_POSTGRES_IMAGE",
            // As Kubernetes sets them.
            "CLIENT_FAILOVER_SERVICE_HOST",
            "CLIENT_FAILOVER_PORT",
            "CLIENT_FAILOVER_PORT_8080_TCP_ADDR",
            "CLIENTNAME",
            "HOME",
        ];
        assert_eq!(checked(&fine), Ok(vec![]));
        let warnings = checked(&["CLIENT_FAILOVER_WHATEVER"]).expect("it is like none");
        assert_eq!(warnings, ["the environment has CLIENT_FAILOVER_WHATEVER, which is no setting"]);
    }
}
