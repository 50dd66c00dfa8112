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
    // Into memory first: the generator would panic where nobody reads any more.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "client-failover", &mut script);
    let _ = std::io::stdout().write_all(&script);
}
