//! Opening: whose database it is, what is missing in it, and which lane is free.

use adjutant_core::time::Timestamp;
use tokio_postgres::error::SqlState;

use super::Failure;
use super::codec::column;
use super::connect::Config;
use super::session::Session;

/// The schema, step by step. A step leaves alone what servers of the version before need, because they may go on while
/// this one starts.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
];
/// One server at a time brings the schema up to date and chooses a lane: "adjutant" in ASCII, cut to a number.
pub(super) const ENTRANCE: i64 = 0x0061_646a_7574_616e;
/// A server that was not heard of for so long loses its lane when all are taken: longer than it looks for the outcome of
/// a commit, and short enough for one that is started again and again.
const LANE_REST: i64 = 120 * 1_000_000;
/// A server that was not heard of for so long is forgotten.
const SERVER_REST: i64 = 24 * 3_600 * 1_000_000;

/// Why a database cannot be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be read.
    #[error("{0}")]
    Url(String),
    /// The database cannot be reached, or does not let us in.
    #[error("the database {database} cannot be used: {why}")]
    Unreachable {
        /// Where it is.
        database: String,
        /// What it, or the network, said.
        why: String,
    },
    /// It is too old.
    #[error("PostgreSQL {found} is too old: 15 or newer is needed")]
    Old {
        /// Its version.
        found: String,
    },
    /// A newer version of this program has changed it.
    #[error(
        "the database {database} was brought to schema {found} by a newer version (this program knows {known})"
    )]
    Newer {
        /// Where it is.
        database: String,
        /// Its schema.
        found: usize,
        /// The newest schema that this program knows.
        known: usize,
    },
    /// A server uses it that is too old for what it would be brought to.
    #[error(
        "a server that knows schema {oldest} uses the database {database}, which would be brought to schema {known}: \
         only servers one step behind may go on"
    )]
    Outpaced {
        /// Where it is.
        database: String,
        /// The schema that the oldest server knows.
        oldest: i32,
        /// The newest schema that this program knows.
        known: usize,
    },
    /// Something else uses it.
    #[error("the database {database} has tables of something else: {why}; name an empty database")]
    Foreign {
        /// Where it is.
        database: String,
        /// What is there.
        why: String,
    },
    /// All lanes are taken.
    #[error("256 servers use the database {database} already")]
    Crowded {
        /// Where it is.
        database: String,
    },
}

pub(super) fn unreachable(config: &Config, failure: &Failure) -> OpenError {
    if let Failure::Crowded { database, why } = failure {
        return OpenError::Unreachable {
            database: database.clone(),
            why: why.clone(),
        };
    }
    let advice = match failure {
        Failure::Database(error) => match error.code() {
            Some(code) if *code == SqlState::INVALID_PASSWORD => "; look at user and password in the URL",
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => "; make it with `createdb`",
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
                "; another process starts on it, or moves a store (`adjutant migrate-store`): wait for its end"
            }
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                "; the user must own the database, or be granted CREATE on its schema"
            }
            Some(_) => "",
            None if error.to_string().contains("password missing") => "; give the password in the URL",
            None => "; is PostgreSQL running there, and may this machine reach it?",
        },
        Failure::Away(_) => "; is PostgreSQL running there, and may this machine reach it?",
        _ => "",
    };
    OpenError::Unreachable {
        database: config.place(),
        why: format!("{failure}{advice}"),
    }
}

/// What a server starts with.
pub(super) struct Entered {
    pub(super) server: i64,
    pub(super) lane: u8,
    pub(super) now: Timestamp,
    pub(super) last_seq: u64,
}

/// Brings the schema up to date, and enters this server into the list.
pub(super) fn enter(session: &mut Session, config: &Config) -> Result<Entered, OpenError> {
    let told = |failure: Failure| unreachable(config, &failure);
    check_version(session, config)?;
    run(session, "BEGIN").map_err(told)?;
    let entered = migrate(session, config).and_then(|()| take_lane(session, config));
    run(session, if entered.is_ok() { "COMMIT" } else { "ROLLBACK" }).map_err(told)?;
    entered
}

/// Connects, and looks whether the database has what this program needs.
pub(super) fn check_version(session: &mut Session, config: &Config) -> Result<(), OpenError> {
    let version = session
        .run(|live| async {
            let row = live.client.query_one("SHOW server_version_num", &[]).await?;
            let number: String = column(&row, 0)?;
            let row = live.client.query_one("SHOW server_version", &[]).await?;
            Ok((number, column::<String>(&row, 0)?))
        })
        .map_err(|failure| unreachable(config, &failure))?;
    if version.0.parse::<u32>().unwrap_or(0) < 150_000 {
        return Err(OpenError::Old { found: version.1 });
    }
    Ok(())
}

fn run(session: &Session, sql: &str) -> Result<(), Failure> {
    session.go_on(|live| async { Ok(live.client.batch_execute(sql).await?) })
}

/// Brings the schema up to date, in a transaction. From here to its end no server comes in.
pub(super) fn migrate(session: &Session, config: &Config) -> Result<(), OpenError> {
    let told = |failure: Failure| unreachable(config, &failure);
    session
        .go_on(|live| async {
            // Another server may be about to do the same for as long as it takes.
            live.client
                .batch_execute("SET LOCAL lock_timeout = '120s'; SET LOCAL statement_timeout = 0")
                .await?;
            Ok(live
                .client
                .execute("SELECT pg_advisory_xact_lock($1)", &[&ENTRANCE])
                .await?)
        })
        .map_err(told)?;
    let found = identify(session, config)?;
    if found > 0 && found < MIGRATIONS.len() {
        refuse_to_outpace(session, config)?;
    }
    for step in &MIGRATIONS[found..] {
        run(session, step).map_err(told)?;
    }
    if found == MIGRATIONS.len() {
        return Ok(());
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| OpenError::Url(format!("the system gives no random bytes: {error}")))?;
    session
        .go_on(|live| async {
            let put = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            let schema = MIGRATIONS.len().to_string().into_bytes();
            live.client.execute(put, &[&"adjutant schema", &schema]).await?;
            let keep = "INSERT INTO meta (name, value) VALUES ('secret', $1) ON CONFLICT (name) DO NOTHING";
            live.client.execute(keep, &[&secret.as_slice()]).await?;
            Ok(())
        })
        .map_err(told)
}

/// A step leaves alone what the version before needs, and no more than that.
fn refuse_to_outpace(session: &Session, config: &Config) -> Result<(), OpenError> {
    let oldest = session
        .go_on(|live| async {
            let oldest = "SELECT min(version) FROM server WHERE lane IS NOT NULL \
                          AND vouched_at > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1";
            column::<Option<i32>>(&live.client.query_one(oldest, &[&LANE_REST]).await?, 0)
        })
        .map_err(|failure| unreachable(config, &failure))?;
    match oldest {
        Some(oldest) if usize::try_from(oldest).is_ok_and(|oldest| oldest + 1 < MIGRATIONS.len()) => {
            Err(OpenError::Outpaced {
                database: config.place(),
                oldest,
                known: MIGRATIONS.len(),
            })
        }
        _ => Ok(()),
    }
}

/// Finds out whose database it is, and how many steps of the schema it has taken: none when it is empty.
pub(super) fn identify(session: &Session, config: &Config) -> Result<usize, OpenError> {
    let (tables, meta) = session
        .go_on(|live| async {
            let tables = "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                          WHERE nspname = current_schema() AND relkind IN ('r', 'p')";
            let rows = live.client.query(tables, &[]).await?;
            let tables: Vec<String> = rows.iter().map(|row| column(row, 0)).collect::<Result<_, _>>()?;
            let meta = if tables.iter().any(|table| table == "meta") {
                let ours = "SELECT value FROM meta WHERE name = 'adjutant schema'";
                let row = live.client.query_opt(ours, &[]).await;
                row.ok()
                    .flatten()
                    .map(|row| column::<Vec<u8>>(&row, 0))
                    .transpose()?
            } else {
                None
            };
            Ok((tables, meta))
        })
        .map_err(|failure| unreachable(config, &failure))?;
    let found = match meta.map(String::from_utf8) {
        Some(Ok(text)) => text.parse().unwrap_or(usize::MAX),
        Some(Err(_)) => usize::MAX,
        None if tables.is_empty() => 0,
        None => {
            let mut some = tables;
            some.truncate(3);
            return Err(OpenError::Foreign {
                database: config.place(),
                why: some.join(", "),
            });
        }
    };
    if found > MIGRATIONS.len() {
        return Err(OpenError::Newer {
            database: config.place(),
            found,
            known: MIGRATIONS.len(),
        });
    }
    Ok(found)
}

/// The smallest lane that nobody has, or else that of the server that was silent for the longest time.
fn take_lane(session: &Session, config: &Config) -> Result<Entered, OpenError> {
    let entered = session
        .go_on(|live| async {
            let now = "SELECT greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, at), seq FROM event_head";
            let row = live.client.query_one(now, &[]).await?;
            let (now, seq): (i64, i64) = (column(&row, 0)?, column(&row, 1)?);
            let free = "SELECT lane FROM generate_series(0, 255) AS lane \
                        WHERE NOT EXISTS (SELECT FROM server WHERE server.lane = lane.lane) ORDER BY lane LIMIT 1";
            let lane = if let Some(row) = live.client.query_opt(free, &[]).await? {
                i16::try_from(column::<i32>(&row, 0)?).unwrap_or(0)
            } else {
                    let silent = "UPDATE server SET lane = NULL WHERE id = (SELECT id FROM server \
                                  WHERE lane IS NOT NULL AND vouched_at < $1 ORDER BY vouched_at LIMIT 1) \
                                  RETURNING (SELECT old.lane FROM server AS old WHERE old.id = server.id)";
                    let Some(row) = live.client.query_opt(silent, &[&(now - LANE_REST)]).await? else {
                        return Ok(None);
                    };
                    column(&row, 0)?
            };
            // Servers that ended, however, are of no use once nobody can have been heard by them lately.
            let old = "DELETE FROM server WHERE vouched_at < $1";
            live.client.execute(old, &[&(now - SERVER_REST)]).await?;
            let enter = "INSERT INTO server (lane, version, started_at, vouched_at) VALUES ($1, $2, $3, $3) RETURNING id";
            let version = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
            let row = live.client.query_one(enter, &[&lane, &version, &now]).await?;
            Ok(Some(Entered {
                server: column(&row, 0)?,
                lane: u8::try_from(lane).unwrap_or(0),
                now: Timestamp::from_micros(now),
                last_seq: seq.unsigned_abs(),
            }))
        })
        .map_err(|failure| unreachable(config, &failure))?;
    entered.ok_or_else(|| OpenError::Crowded {
        database: config.place(),
    })
}
