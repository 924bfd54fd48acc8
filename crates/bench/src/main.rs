//! Measures the real server: starts the binary on a temporary directory, drives it over HTTP on the loopback
//! interface, and prints one line per figure.
//!
//! It knows no part of the program: what it measures is what a client meets. The load generator is one thread with
//! plain HTTP/1.1 on connections that stay open, so that it takes as little as possible from the server beside it.
//! Everything is bounded in count and time; the server that was started is ended, and its directory removed, however
//! a run ends.
//!
//! # Not here
//! What routing alone costs: the benchmark `route` of the core. What the figures mean: `docs/performance.md`.

mod arguments;
mod figures;
mod http;
mod measure;
mod party;
mod process;
mod server;

use std::process::ExitCode;

use crate::arguments::{Arguments, USAGE};
use crate::figures::Figures;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}\nhint: adjutant-bench --help");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut figures = Figures::new(arguments.json);
    let result = runtime.and_then(|runtime| runtime.block_on(measure::run(&arguments, &mut figures)));
    figures.finish();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
