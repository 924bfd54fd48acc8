//! Transfers from and to a database.
//!
//! A source is read in one transaction, and with the lock that servers take when they start, so that none starts
//! meanwhile. Whether one has worked on it all the same is looked at in the end.
//!
//! A target is filled in one transaction, with its tables: whatever breaks leaves it as it was, and a server that
//! starts meanwhile waits for the end. PostgreSQL keeps nothing in memory for a long transaction, so that size is no
//! reason for several, and there is no half-filled state that servers would have to know.

mod source;
mod target;

pub(crate) use source::Source;
pub(crate) use target::Target;

use super::Failure;
use super::codec::column;
use super::connect::Config;
use super::open::{self, OpenError, unreachable};
use super::session::{Live, Session};

/// A transfer takes as long as it takes; only for others it does not wait forever.
const PATIENT: &str =
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '120s'";
/// A server that was heard of in this time is running.
const RUNNING_MICROS: i64 = 30 * 1_000_000;
/// How many servers are running.
async fn running(live: &Live) -> Result<u64, Failure> {
    let count = "SELECT count(*) FROM server WHERE lane IS NOT NULL \
                 AND vouched_at > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1";
    let row = live.client.query_one(count, &[&RUNNING_MICROS]).await?;
    Ok(column::<i64>(&row, 0)?.unsigned_abs())
}

async fn last_seq(live: &Live) -> Result<u64, Failure> {
    let row = live.client.query_one("SELECT seq FROM event_head", &[]).await?;
    Ok(column::<i64>(&row, 0)?.unsigned_abs())
}

fn execute(session: &Session, sql: &str) -> Result<(), Failure> {
    session.go_on(|live| async { Ok(live.client.batch_execute(sql).await?) })
}

/// A connection to a database that is new enough.
fn connect(url: &str) -> Result<Session, OpenError> {
    let config = Config::read(url)?;
    let told = |failure: Failure| unreachable(&config, &failure);
    let mut session = Session::plain(&config).map_err(told)?;
    session.wait_for(None);
    open::check_version(&mut session, &config)?;
    execute(&session, PATIENT).map_err(told)?;
    Ok(session)
}
