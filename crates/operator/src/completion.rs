//! Completion for shells: a script for the shell to load.

use std::io::Write as _;

use clap::{Args, Command};
use clap_complete::Shell;

/// Which shell.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// How to load a script, for `--help`.
pub const EXAMPLES: &str = "\
Examples:
  source <(client-failover completion bash)                            for this shell
  client-failover completion bash > /etc/bash_completion.d/client-failover
  client-failover completion zsh > \"${fpath[1]}/_client-failover\"
  client-failover completion fish > ~/.config/fish/completions/client-failover.fish";

/// Prints the script for a shell. A closed pipe is the reader's wish.
pub fn print(args: &CompletionArgs, command: &mut Command) {
    let _ = std::io::stdout().write_all(script(args.shell, command).as_bytes());
}

/// The program's name, and one without a hyphen.
const NAME: &str = "client-failover";
const PLAIN_NAME: &str = "client_failover";

fn script(shell: Shell, command: &mut Command) -> String {
    // Into memory first: the generator would panic where nobody reads any more.
    let mut script = Vec::new();
    match shell {
        // For a program with a hyphen in its name the generated functions miss their own
        // subcommands (clap-rs/clap#6421). So they are made for a name without, and told at the end
        // which program they are for.
        Shell::Bash => clap_complete::generate(shell, command, PLAIN_NAME, &mut script),
        _ => clap_complete::generate(shell, command, NAME, &mut script),
    }
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => script.replace(&format!("-o default {PLAIN_NAME}\n"), &format!("-o default {NAME}\n")),
        _ => script,
    }
}
