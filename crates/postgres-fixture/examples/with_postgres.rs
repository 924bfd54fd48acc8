//! Runs a command beside a throw-away cluster: `with_postgres COMMAND ARGUMENT…`. The command finds a database of it in
//! `ADJUTANT_TEST_POSTGRES`; the cluster goes when the command ends.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("error: name a command to run");
        return ExitCode::from(2);
    };
    let Some(cluster) = adjutant_postgres_fixture::shared() else {
        return ExitCode::FAILURE;
    };
    let database = cluster.database();
    let status = Command::new(&program)
        .args(words)
        .env("ADJUTANT_TEST_POSTGRES", database.url())
        .status();
    match status {
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            eprintln!("error: {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}
