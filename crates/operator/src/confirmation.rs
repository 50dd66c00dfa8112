//! Asks before something is deleted, or somebody else is to be Primary.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use super::OperatorError;

/// Whether to ask.
#[derive(Clone, Copy, Debug, Args)]
pub struct ConfirmArgs {
    /// Do not ask; nobody is asked either where there is no terminal
    #[arg(short, long)]
    yes: bool,
}

impl ConfirmArgs {
    /// Whether anybody will be asked.
    pub fn asks(self) -> bool {
        !self.yes && io::stdin().is_terminal()
    }

    /// Asks whoever sits at the terminal whether to delete something.
    pub fn ask(self, question: &str) -> Result<(), OperatorError> {
        self.ask_whether("deleted", question)
    }

    /// The same of another change.
    pub fn ask_to_change(self, question: &str) -> Result<(), OperatorError> {
        self.ask_whether("changed", question)
    }

    fn ask_whether(self, to_be: &'static str, question: &str) -> Result<(), OperatorError> {
        if !self.asks() {
            return Ok(());
        }
        let fault = |cause| OperatorError::Io { what: "the answer cannot be read".to_owned(), cause };
        write!(io::stderr(), "{question} [y/N] ").map_err(fault)?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(fault)?;
        match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(OperatorError::Declined(to_be)),
        }
    }
}
