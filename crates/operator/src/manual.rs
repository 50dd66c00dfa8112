//! Manual pages, one for each command, as packages install them.

use std::io;
use std::path::PathBuf;

use clap::{Args, Command};

/// Where to.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// A folder that is there
    folder: PathBuf,
}

/// Writes the pages. They depend on the program and on nothing else.
pub fn write(args: &ManualArgs, command: Command) -> io::Result<()> {
    clap_mangen::generate_to(command, &args.folder)
}
