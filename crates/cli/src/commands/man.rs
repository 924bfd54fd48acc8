//! `adjutant man`: manual pages, made from the same words as `--help`.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use serde_json::json;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::put;

/// Print the manual page of adjutant, or write one for each command
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant man | man -l -
  adjutant man --out ~/.local/share/man/man1")]
pub(crate) struct Arguments {
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes.
pub(crate) fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let mut command = crate::arguments::Arguments::command().disable_help_subcommand(true);
    command.build();
    let Some(directory) = &arguments.out else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        return put(&String::from_utf8_lossy(&page));
    };
    let failed = |place: &Path, error: std::io::Error| {
        Failure::new(format!("--out: cannot write {}: {error}", place.display()))
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let mut pages = Vec::new();
    write(&command, directory, &mut pages).map_err(|error| failed(directory, error))?;
    let document = json!({ "pages": pages });
    context.printer.show(&document, || {
        format!("{} pages in {}\n", pages.len(), directory.display())
    })
}

/// Writes the page of a command and of all below it.
fn write(command: &Command, directory: &Path, pages: &mut Vec<String>) -> Result<(), std::io::Error> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write(sub, directory, pages)?;
    }
    let page = Man::new(command.clone());
    page.generate_to(directory)?;
    pages.push(page.get_filename());
    Ok(())
}
