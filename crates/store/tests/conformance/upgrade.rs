//! Files and databases of earlier versions: each is brought up to date, holds what it held, and work on it goes on.
//!
//! `tests/fixtures/vN.sql` is the [story](crate::story) as the program wrote it when the schema had taken N steps, as
//! SQL text. To make the next one, before a migration is added:
//!
//! ```sh
//! ADJUTANT_WRITE_FIXTURE=1 cargo test -p adjutant-store --test conformance upgrade
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use adjutant_core::command::{Command, UsageEvent};
use adjutant_core::name::TaskId;
use adjutant_core::task::Status;
use adjutant_core::time::Span;
use adjutant_postgres_fixture::Database;
use adjutant_store::postgres::{OpenError, Postgres};
use adjutant_store::sqlite::Sqlite;
use adjutant_store::sqlite::audit::audit;
use adjutant_store::{Reader, Store};
use rusqlite::Connection;

use crate::play::{Play, complete, submit, sync, usage};
use crate::story::{self, heartbeats};
use crate::subject::SqliteFile;
use crate::write::write;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A whole database as SQL text: schema, rows, versions.
fn dump(db: &Connection) -> rusqlite::Result<String> {
    let mut text = String::from("-- Written by the test `upgrade`, which says how. Never changed by hand.\n");
    let mut objects = db.prepare(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL \
         ORDER BY type <> 'table', name",
    )?;
    let objects: Vec<(String, String, String)> = objects
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (kind, name, sql) in &objects {
        let _ = writeln!(text, "{sql};");
        if kind != "table" {
            continue;
        }
        let columns: Vec<String> = db
            .prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?
            .query_map([name], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let values: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        // What is put together is one column: rows come in the order of their text.
        let sql = format!("SELECT {} FROM {name} ORDER BY 1", values.join(" || ', ' || "));
        let mut rows = db.prepare(&sql)?;
        let rows = rows.query_map([], |row| row.get::<_, String>(0))?;
        for row in rows {
            let _ = writeln!(text, "INSERT INTO {name} VALUES ({});", row?);
        }
    }
    for pragma in ["user_version", "application_id"] {
        let value: i64 = db.pragma_query_value(None, pragma, |row| row.get(0))?;
        let _ = writeln!(text, "PRAGMA {pragma} = {value};");
    }
    Ok(text)
}

/// The story as this version writes it.
#[test]
fn this_version_has_a_fixture() {
    let (_directory, path) = SqliteFile::place();
    drop(story::play(Sqlite::open(&path).expect("a new file is opened")));
    let db = Connection::open(&path).expect("the file is opened");
    // What is random, and what belongs to one run.
    db.execute_batch(
        "UPDATE meta SET value = zeroblob(32) WHERE name = 'secret'; DELETE FROM meta WHERE name = 'run'",
    )
    .expect("it is made the same every time");
    let version: i64 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .expect("the version is read");
    let fixture = fixtures().join(format!("v{version}.sql"));
    if std::env::var_os("ADJUTANT_WRITE_FIXTURE").is_some() {
        fs::write(&fixture, dump(&db).expect("it is dumped")).expect("the fixture is written");
    }
    assert!(
        fixture.exists(),
        "write it before the next step of the schema, as the head of this file says: {}",
        fixture.display()
    );
}

#[test]
fn a_file_of_every_version_is_brought_up_to_date_and_work_goes_on() {
    let mut versions = 0;
    for entry in fs::read_dir(fixtures()).expect("there are fixtures") {
        let fixture = entry.expect("a fixture is there").path();
        if fixture.extension().is_none_or(|ending| ending != "sql") {
            continue;
        }
        versions += 1;
        let text = fs::read_to_string(&fixture).expect("it is read");
        let (_directory, path) = SqliteFile::place();
        Connection::open(&path)
            .and_then(|db| db.execute_batch(&text))
            .unwrap_or_else(|error| panic!("{}: {error}", fixture.display()));
        assert_eq!(
            audit(&path).expect("it is opened").findings,
            [],
            "{}",
            fixture.display()
        );
        goes_on(&path);
    }
    assert!(versions > 0);
}

/// A database as the first step of the schema left it, with what the second must leave alone.
#[test]
fn a_database_of_the_first_schema_is_brought_up_to_date() {
    let Some(cluster) = adjutant_postgres_fixture::shared() else {
        return;
    };
    let database = cluster.database();
    database.sql(include_str!("../../src/postgres/migrations/0001.sql"));
    database.sql(
        "INSERT INTO meta (name, value) VALUES ('adjutant schema', '1'), \
         ('secret', decode(repeat('07', 32), 'hex'))",
    );
    let mut store = Postgres::open(database.url()).expect("an older database is opened");
    let schema = "SELECT convert_from(value, 'UTF8') FROM meta WHERE name = 'adjutant schema'";
    assert_eq!(database.sql(schema), "2");
    let mut reader = store.reader().expect("a reader is given");
    assert_eq!(reader.secret().expect("it is read"), [7; 32]);
    assert_eq!(reader.webhooks().expect("they are read"), []);
    let webhook = crate::webhooks::webhook("w");
    store
        .commit(&write().webhook(None, Some(&webhook)).changes())
        .expect("work goes on");
    drop(store);
    let store = Postgres::open(database.url()).expect("it is opened again");
    let mut reader = store.reader().expect("a reader is given");
    assert_eq!(reader.webhooks().expect("they are read"), [webhook]);
}

/// A database whose schema is a step behind, with all that the [story] leaves.
fn one_step_behind() -> Option<Database> {
    let database = adjutant_postgres_fixture::shared()?.database();
    drop(story::play(
        Postgres::open(database.url()).expect("a new database is opened"),
    ));
    database.sql("DROP TABLE webhook, delivery; UPDATE meta SET value = '1' WHERE name = 'adjutant schema'");
    Some(database)
}

#[test]
fn a_database_is_brought_up_to_date_in_the_middle_of_a_turn_of_an_older_server() {
    let Some(database) = one_step_behind() else { return };
    let mut before = Postgres::open(database.url()).expect("it is opened");
    let tasks = before.census().expect("a census is given").tasks.len();
    assert!(tasks > 0);
    drop(before);
    let database = one_step_behind().expect("there is another one");
    database.sql(
        "INSERT INTO server (lane, version, started_at, vouched_at) \
         SELECT 200, 1, 0, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    );
    let turn = "BEGIN; SELECT count(*) FROM (SELECT FROM task FOR UPDATE) AS locked; \
                UPDATE event_head SET seq = seq; SELECT pg_sleep(5); COMMIT";
    let is_in_its_turn = || {
        let turns = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
        database.sql(turns) == "1"
    };
    std::thread::scope(|scope| {
        scope.spawn(|| database.sql(turn));
        while !is_in_its_turn() {
            std::thread::yield_now();
        }
        let mut newer = Postgres::open(database.url()).expect("it is brought up to date");
        assert!(is_in_its_turn(), "nobody waited for its end");
        let mut reader = newer.reader().expect("a reader is given");
        assert_eq!(reader.webhooks().expect("they are read"), []);
        assert_eq!(newer.census().expect("a census is given").tasks.len(), tasks);
    });
}

#[test]
fn a_database_that_a_server_two_steps_behind_uses_is_left_as_it_is() {
    let Some(database) = one_step_behind() else { return };
    database.sql(
        "INSERT INTO server (lane, version, started_at, vouched_at) \
         SELECT 200, 0, 0, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    );
    let refused = Postgres::open(database.url()).expect_err("it is refused");
    assert!(
        matches!(
            refused,
            OpenError::Outpaced {
                oldest: 0,
                known: 2,
                ..
            }
        ),
        "{refused}"
    );
    let schema = "SELECT convert_from(value, 'UTF8') FROM meta WHERE name = 'adjutant schema'";
    assert_eq!(database.sql(schema), "1");
    // One that is gone is in nobody's way.
    database.sql("UPDATE server SET vouched_at = vouched_at - 121000000 WHERE lane = 200");
    drop(Postgres::open(database.url()).expect("it is opened"));
    assert_eq!(database.sql(schema), "2");
}

fn status(reader: &mut dyn Reader, id: &str) -> Status {
    let stored = reader.task(&TaskId::from(id)).expect("it is read");
    stored.expect("it is there").task.status
}

fn goes_on(path: &Path) {
    let store = Sqlite::open(path).expect("an older file is opened");
    let mut reader = store.reader().expect("a reader is given");
    // What it held.
    assert_eq!(reader.counts().expect("they are counted"), [3, 4, 3, 2, 1, 2]);
    for (id, expected) in [
        ("build", Status::Completed),
        ("doomed", Status::Failed),
        ("obsolete-too", Status::Cancelled),
        ("release", Status::InProgress),
        ("announce", Status::Blocked),
        ("later", Status::Pending),
    ] {
        assert_eq!(status(&mut *reader, id), expected, "{id}");
    }
    let build = reader
        .task(&"build".into())
        .expect("it is read")
        .expect("it is there");
    assert_eq!(build.details.notes.len(), 1);
    assert_eq!(
        build.details.result.map(|result| result.output).as_deref(),
        Some("what came out")
    );
    assert_eq!(reader.output(build.task.key).expect("it is read"), "a line\n");
    assert_eq!(reader.tokens().expect("they are read").len(), 1);
    let last = reader.last_seq().expect("it is read");
    assert_eq!(
        reader.events(0, 10_000).expect("they are read").len() as u64,
        last
    );
    // What goes on.
    let mut play = Play::on(store, story::begin() + Span::HOUR.times(6));
    play.done(sync("ada", &[("release", 1), ("first", 1)]));
    play.done(usage("release", "ada", UsageEvent::Usage, 5_000));
    play.done(complete("release", "ada", true));
    play.done(complete("first", "ada", true));
    assert_eq!(
        status(&mut *reader, "second"),
        Status::InProgress,
        "the lock is free"
    );
    play.done(Command::Retry("doomed".into()));
    play.done(submit("new", |task| crate::play::after(task, &["announce"])));
    heartbeats(&mut play, Span::from_secs(40));
    drop(play);
    drop(reader);
    assert_eq!(audit(path).expect("it is opened").findings, []);
}
