//! `adjutant completions`: completion scripts of shells.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::failure::Outcome;
use crate::output::put;

/// Print the completion script of a shell
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant completions bash > ~/.local/share/bash-completion/completions/adjutant")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints it.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    let mut command = crate::arguments::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "adjutant", &mut script);
    put(&String::from_utf8_lossy(&script))
}
