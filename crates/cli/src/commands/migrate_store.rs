//! `adjutant migrate-store`.

use std::time::Instant;

use adjutant_store::sqlite::OpenError;
use adjutant_store::transfer::{self, Moved, Problem, Side, TransferError};
use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::store_url::StoreUrl;
use crate::text::number;

/// Move a whole store into an empty one of another kind
///
/// From a SQLite file into a PostgreSQL database, or back, with nothing lost: numbers of events, idempotency keys, tokens
/// and what runs at the moment come along. Stop every server on the source first; it is only read. The target has
/// everything or nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant migrate-store --from sqlite:adjutant.db --to postgres://adjutant@db/adjutant
  adjutant migrate-store --from postgres://adjutant@db/adjutant --to sqlite:adjutant.db")]
pub(crate) struct Arguments {
    /// The store to move
    #[arg(long, value_name = "STORE")]
    from: String,
    /// Where to: a file that is not there, or an empty database
    #[arg(long, value_name = "STORE")]
    to: String,
}

/// What was moved.
#[derive(Serialize)]
struct Answer {
    from: String,
    to: String,
    tasks: u64,
    attempts: u64,
    ledger_lines: u64,
    events: u64,
    agents: u64,
    last_seq: u64,
    seconds: f64,
}

/// Moves it.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let from = StoreUrl::parse(&arguments.from, "--from")?;
    let to = StoreUrl::parse(&arguments.to, "--to")?;
    let begin = Instant::now();
    let moved = {
        let (from, to) = (from.clone(), to.clone());
        // Both are read and written for as long as it takes, beside the runtime.
        match tokio::task::spawn_blocking(move || migrate(&from, &to)).await {
            Ok(moved) => moved?,
            Err(error) => return Err(Failure::new(format!("the transfer broke: {error}"))),
        }
    };
    let answer = Answer {
        from: from.to_string(),
        to: to.to_string(),
        tasks: moved.tasks,
        attempts: moved.attempts,
        ledger_lines: moved.lines,
        events: moved.events,
        agents: moved.agents,
        last_seq: moved.last_seq,
        seconds: begin.elapsed().as_secs_f64(),
    };
    context.printer.show(&answer, || {
        format!(
            "{}: {} tasks, {} attempts, {} ledger lines, {} events, {} agents, in {:.1} s\n",
            answer.to,
            number(answer.tasks),
            number(answer.attempts),
            number(answer.ledger_lines),
            number(answer.events),
            number(answer.agents),
            answer.seconds
        )
    })
}

fn migrate(from: &StoreUrl, to: &StoreUrl) -> Outcome<Moved> {
    let moved = match (from, to) {
        (StoreUrl::Sqlite(from), StoreUrl::Postgres(to)) => transfer::sqlite_to_postgres(from, to),
        (StoreUrl::Postgres(from), StoreUrl::Sqlite(to)) => transfer::postgres_to_sqlite(from, to),
        (StoreUrl::Sqlite(_), StoreUrl::Sqlite(_)) => {
            return Err(Failure::usage("--to: both stores are sqlite: files")
                .hint("copy a file with `adjutant backup`"));
        }
        (StoreUrl::Postgres(_), StoreUrl::Postgres(_)) => {
            return Err(
                Failure::usage("--to: both stores are databases").hint("copy a database with pg_dump")
            );
        }
    };
    moved.map_err(|error| refused(&error))
}

/// Says why nothing was moved, and how to mend it.
fn refused(error: &TransferError) -> Failure {
    const STOP: &str = "stop every `adjutant serve` and `adjutant up` on it, and run the command again; one that was \
                        killed counts for 30 s";
    let flag = match error.side {
        Side::From => "--from",
        Side::To => "--to",
    };
    let failure = Failure::new(format!("{flag}: {error}"));
    match (&error.problem, error.side) {
        (Problem::File(OpenError::InUse { .. }) | Problem::Running(_) | Problem::Disturbed, _) => failure.hint(STOP),
        (Problem::File(OpenError::Damaged { .. } | OpenError::Behind { .. }), _) => {
            failure.hint("start `adjutant serve` on it, which says how to mend it; nothing was moved")
        }
        (Problem::File(_), Side::From) | (Problem::Missing(_), _) => {
            failure.hint("name the store that servers were started with (their --store)")
        }
        (Problem::File(_) | Problem::Place(_), _) => {
            failure.hint("name a file that is not there, in a directory that is writable; nothing was moved")
        }
        (Problem::Older { .. }, _) => failure.hint(
            "start and stop `adjutant serve` of this version on it, which brings it up to date, and run the command again",
        ),
        (Problem::NotEmpty(_), _) => {
            failure.hint("nothing is overwritten: name an empty database, as `createdb` makes one")
        }
        (Problem::Unknown(_), _) => {
            failure.hint("run the command again: it refuses the target if everything is there already")
        }
        (Problem::Database(_), _) => failure.hint("nothing was moved"),
        (Problem::Incomplete { .. } | Problem::Failed(_), _) => {
            failure.hint("nothing was moved: both stores are as they were")
        }
    }
}
