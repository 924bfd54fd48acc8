//! `adjutant`: roll-call, routing and rations for fleets of AI agents, in one binary.
//!
//! This crate puts the others together and translates: flags into settings, answers into tables. It decides nothing.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments of arguments are help texts, and backticks would be printed with them"
)]

mod arguments;
mod commands;
mod configuration;
mod context;
mod dispatch;
#[cfg(test)]
mod examples;
mod failure;
mod fleet;
#[cfg(test)]
mod fuzz;
mod host;
mod logging;
mod open_files;
mod output;
mod safeguards;
mod signals;
mod store_url;
mod submission;
mod table;
mod task_list;
mod text;
mod toml_file;
mod up;
mod values;

use std::process::ExitCode;

use clap::Parser as _;

use crate::configuration::Configuration;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::Printer;

fn main() -> ExitCode {
    if safeguards::is_keeper() {
        safeguards::keep();
        return ExitCode::SUCCESS;
    }
    // Clap itself prints help (0) and usage errors (2).
    let arguments = arguments::Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.code())
        }
    }
}

fn run(arguments: arguments::Arguments) -> Outcome {
    let context = Context {
        configuration: Configuration::load(&arguments.global)?,
        printer: Printer::new(arguments.global.json),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(commands::run(arguments.command, context));
    // What still runs by now is nobody's work any more: a blocking read of stdin, say.
    runtime.shutdown_background();
    outcome
}
