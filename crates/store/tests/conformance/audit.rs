//! The audit of a file: it finds nothing in what the rules wrote, and names whatever else is in it.

use std::path::Path;

use adjutant_store::sqlite::Sqlite;
use adjutant_store::sqlite::audit::{Report, Severity, audit};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::story;
use crate::subject::SqliteFile;

/// A file with the story in it, which nobody has open.
fn told() -> (TempDir, std::path::PathBuf) {
    let (directory, path) = SqliteFile::place();
    let store = Sqlite::open(&path).expect("a new file is opened");
    drop(story::play(store));
    (directory, path)
}

fn audited(path: &Path) -> Report {
    audit(path).expect("the file is opened")
}

#[test]
fn what_the_rules_wrote_is_sound() {
    let (_directory, path) = told();
    let report = audited(&path);
    assert_eq!(report.findings, []);
    assert!(report.is_sound());
    assert_eq!(report.tasks, 15);
    assert!(report.attempts >= 9 && report.lines >= 20, "{report:?}");
    assert_eq!(report.events, report.last_seq);
}

#[test]
fn an_empty_store_is_sound() {
    let (_directory, path) = SqliteFile::place();
    drop(Sqlite::open(&path).expect("a new file is opened"));
    assert_eq!(audited(&path).findings, []);
}

#[test]
fn a_store_is_audited_while_a_server_works_on_it() {
    let (_directory, path) = SqliteFile::place();
    let mut play = story::play(Sqlite::open(&path).expect("a new file is opened"));
    assert_eq!(audited(&path).findings, []);
    play.done(crate::play::submit("one more", |_| ()));
    assert_eq!(audited(&path).tasks, 16);
}

#[test]
fn a_file_that_is_no_store_is_not_audited() {
    let (directory, path) = SqliteFile::place();
    audit(&path).expect_err("there is no file");
    assert!(!path.exists(), "an audit makes nothing");
    std::fs::write(&path, "").expect("a file is written");
    audit(&path).expect_err("it is empty");
    let other = directory.path().join("other.db");
    Connection::open(&other)
        .and_then(|db| db.execute_batch("CREATE TABLE task (id)"))
        .expect("a database is made");
    audit(&other).expect_err("it is of another program");
}

/// Each kind of damage, and what names it: the check, and a part of the message.
const DAMAGE: &[(&str, &str, &str)] = &[
    // Rows.
    (
        "UPDATE task SET status = 9 WHERE id = 'build'",
        "unreadable row",
        "task build cannot be read",
    ),
    (
        "UPDATE attempt SET state = 77 WHERE task_id = 'test'",
        "unreadable row",
        "attempt ",
    ),
    (
        "UPDATE agent SET models = '{' WHERE id = 'bob'",
        "unreadable row",
        "agent bob cannot be read",
    ),
    (
        "UPDATE counter SET tallies = x'00' WHERE scope = 'fleet'",
        "unreadable row",
        "the counter of fleet",
    ),
    (
        "UPDATE policy SET limits = '[3]' WHERE scope = 'fleet'",
        "unreadable row",
        "what is set for fleet",
    ),
    (
        "UPDATE token SET digest = x'01'",
        "unreadable row",
        "access token admin",
    ),
    (
        "UPDATE experience SET samples = '{'",
        "unreadable row",
        "what is known of work with labels",
    ),
    (
        "DELETE FROM meta WHERE name = 'secret'",
        "missing row",
        "the secret of attempt tokens",
    ),
    (
        "DELETE FROM body WHERE task = (SELECT key FROM task WHERE id = 'build')",
        "missing row",
        "task build has no body",
    ),
    ("DELETE FROM class", "missing row", "task build is of class"),
    (
        "DELETE FROM note WHERE number = 1",
        "missing row",
        "task build has 1 notes and 0 rows of them",
    ),
    (
        "DELETE FROM ending",
        "missing row",
        "task build has a result that is not there",
    ),
    (
        "DELETE FROM attempt WHERE task_id = 'build'",
        "missing row",
        "task build is at attempt 1, which does not exist",
    ),
    (
        "UPDATE attempt SET number = 2 WHERE task_id = 'elsewhere'",
        "missing row",
        "job elsewhere has no attempt 1",
    ),
    (
        "INSERT INTO body (task, title, description) VALUES (5, 'x', 'x')",
        "orphaned row",
        "a body of the task with key 5",
    ),
    (
        "INSERT INTO ending (task) VALUES (5)",
        "orphaned row",
        "a result of the task with key 5",
    ),
    (
        "INSERT INTO note VALUES (5, 1, 1, 'a', 'b')",
        "orphaned row",
        "notes of the task with key 5",
    ),
    (
        "INSERT INTO output (task, text) VALUES (5, 'b')",
        "orphaned row",
        "output of the task with key 5",
    ),
    (
        "DELETE FROM task WHERE id = 'doomed'",
        "orphaned row",
        "attempt 3 of task doomed, which does not exist",
    ),
    (
        "UPDATE attempt SET task_id = 'other' WHERE task_id = 'build'",
        "orphaned row",
        "of task other, whose key is that of task build",
    ),
    (
        "UPDATE task SET attempt = 1 WHERE id = 'doomed'",
        "orphaned row",
        "attempt 2 of task doomed, which is at attempt 1",
    ),
    (
        "DELETE FROM job WHERE id = 'elsewhere'",
        "orphaned row",
        "attempt 1 of job elsewhere, which does not exist",
    ),
    (
        "DELETE FROM attempt WHERE task_id = 'doomed' AND number = 2",
        "orphaned row",
        "ledger lines of attempt ",
    ),
    (
        "UPDATE edge SET dependency = dependency + 1",
        "orphaned row",
        "one does not exist",
    ),
    // Tasks.
    (
        "UPDATE task SET claimed_by = 'ada' WHERE id = 'rare'",
        "task state",
        "task rare is pending and claimed",
    ),
    (
        "UPDATE task SET held = 0 WHERE id = 'held'",
        "task state",
        "task held is blocked by nothing",
    ),
    (
        "UPDATE task SET claimed_by = NULL WHERE id = 'release'",
        "task state",
        "task release is in_progress and held by nobody",
    ),
    (
        "UPDATE task SET wakes_at = NULL WHERE id = 'later'",
        "task state",
        "task later wakes at a wrong time",
    ),
    (
        "UPDATE task SET lease_expires_at = 1 WHERE id = 'build'",
        "task state",
        "task build is completed with a lease",
    ),
    // I1
    (
        "UPDATE attempt SET state = 5 WHERE task_id = 'release'",
        "I1 leases",
        "task release is in progress, and its attempt 1 is not live",
    ),
    (
        "UPDATE attempt SET state = 1 WHERE task_id = 'build'",
        "I1 leases",
        "attempt 1 of task build is live, and the task is completed",
    ),
    (
        "UPDATE attempt SET state = 1 WHERE task_id = 'doomed' AND number = 1",
        "I1 leases",
        "attempt 1 of task doomed is live",
    ),
    (
        "UPDATE task SET claimed_by = 'bob' WHERE id = 'release'",
        "I1 leases",
        "task release is claimed by bob, and its attempt is run by ada",
    ),
    ("DELETE FROM lock", "I1 locks", "lock shared of attempt "),
    (
        "INSERT INTO lock VALUES ('stray', 5, 1)",
        "I1 locks",
        "lock stray is stored for attempt 5#1 (missing), which does not hold it",
    ),
    (
        "UPDATE lock SET number = 9",
        "I1 locks",
        "lock shared is stored for attempt ",
    ),
    (
        "UPDATE attempt SET locks = '[\"shared\"]' WHERE task_id = 'release'",
        "I1 locks",
        "lock shared is held by attempts ",
    ),
    ("DELETE FROM want", "wanted locks", "task second waits for lock "),
    (
        "INSERT INTO want VALUES ('x', 2, 5)",
        "wanted locks",
        "lock x is wanted by the task with key 5",
    ),
    // I2
    (
        "DELETE FROM agent WHERE id = 'ada'",
        "I2 loads",
        "agent ada holds 2 attempts and is not registered",
    ),
    (
        "UPDATE agent SET offline = 1 WHERE id = 'ada'",
        "I2 loads",
        "agent ada is offline and holds 2 attempts",
    ),
    // I7
    (
        "UPDATE task SET status = 0 WHERE id = 'announce'",
        "I7 dependencies",
        "task announce is pending with 1 dependencies that are not completed",
    ),
    (
        "UPDATE task SET unmet = 2 WHERE id = 'mourns'",
        "I7 dependencies",
        "task mourns counts 2 open and 1 failed dependencies, and has 1 and 1",
    ),
    (
        "DELETE FROM edge WHERE dependent = (SELECT key FROM task WHERE id = 'announce')",
        "I7 dependencies",
        "task announce counts 1 open",
    ),
    (
        "UPDATE edge SET state = 1 WHERE dependent = (SELECT key FROM task WHERE id = 'mourns') AND state = 2",
        "I7 dependencies",
        "takes its dependency doomed for met, and it is failed",
    ),
    (
        "UPDATE task SET dependents = 0 WHERE id = 'release'",
        "I7 dependencies",
        "task release counts 0 dependents, and has 1",
    ),
    // I9
    (
        "UPDATE line SET jobs = jobs + 1 WHERE scope = 'fleet' AND task = (SELECT key FROM task WHERE id = 'build')",
        "I9 ledger",
        "fleet counts for its total ",
    ),
    (
        "UPDATE line SET tokens_in = tokens_in + 1 WHERE scope = 'fleet' AND task = (SELECT key FROM task WHERE id = 'release')",
        "I9 ledger",
        "fleet counts for its hour ",
    ),
    (
        "UPDATE line SET refunded = 99999",
        "I9 ledger",
        "got 99999 tokens back in agent:ada",
    ),
    (
        "DELETE FROM line WHERE scope = 'repo:owner/name'",
        "I9 ledger",
        "repo:owner/name counts for its total 2 jobs",
    ),
    (
        "DELETE FROM counter WHERE scope = 'model:model'",
        "I9 ledger",
        "model:model has ledger lines and no counter",
    ),
    (
        "UPDATE line SET resets = 5 WHERE scope = 'fleet'",
        "I9 ledger",
        "fleet has lines of a reset that it never had",
    ),
    (
        "UPDATE counter SET active = 9 WHERE scope = 'fleet'",
        "I9 holds",
        "fleet holds 9 active",
    ),
    (
        "UPDATE counter SET held_tokens = 1 WHERE scope = 'fleet'",
        "I9 holds",
        "fleet holds ",
    ),
    (
        "UPDATE attempt SET hold_tokens = 1 WHERE task_id = 'first'",
        "I9 holds",
        "and its live attempts hold ",
    ),
    // Events.
    (
        "DELETE FROM event WHERE seq IN (4, 5)",
        "events",
        "events 4 to 5 are missing",
    ),
    (
        "DELETE FROM event WHERE seq = 1",
        "events",
        "events 1 to 1 are missing",
    ),
    (
        "INSERT INTO event (seq, kind, at) VALUES (0, 'task_created', 1)",
        "events",
        "event 0 stands before the first",
    ),
    (
        "UPDATE event SET kind = 'party' WHERE seq = 3",
        "events",
        "event 3 is of no known kind: party",
    ),
];

#[test]
fn every_kind_of_damage_is_named() {
    let (_directory, path) = told();
    let sound = std::fs::read(&path).expect("the file is read");
    for (damage, check, message) in DAMAGE {
        let (_other, broken) = SqliteFile::place();
        std::fs::write(&broken, &sound).expect("the file is copied");
        let db = Connection::open(&broken).expect("the file is opened");
        let changed = db.execute(damage, []).expect("the damage is done");
        assert!(changed > 0, "{damage}: nothing was changed");
        drop(db);
        let report = audited(&broken);
        let named = report.findings.iter().any(|finding| {
            finding.check == *check
                && finding.severity == Severity::Wrong
                && finding.message.contains(message)
        });
        assert!(named, "{damage}: {check}: {message}: {:#?}", report.findings);
        assert!(!report.is_sound());
    }
}

#[test]
fn what_an_operator_lowered_is_noted_and_is_no_damage() {
    let (_directory, path) = told();
    let db = Connection::open(&path).expect("the file is opened");
    db.execute_batch("UPDATE agent SET max_load = 1 WHERE id = 'ada'")
        .expect("it is lowered");
    let report = audited(&path);
    assert!(report.is_sound());
    let [note] = report.findings.as_slice() else {
        panic!("one note: {report:?}");
    };
    assert_eq!(note.severity, Severity::Note);
    assert_eq!(
        note.message,
        "agent ada holds 2 attempts and has room for 1: was it lowered?"
    );
}

#[test]
fn one_cause_that_breaks_many_rows_is_told_in_a_few_lines() {
    let (_directory, path) = told();
    let db = Connection::open(&path).expect("the file is opened");
    db.execute_batch("UPDATE event SET kind = 'party'")
        .expect("it is broken");
    let report = audited(&path);
    let told: Vec<&str> = report
        .findings
        .iter()
        .filter(|finding| finding.check == "events")
        .map(|finding| finding.message.as_str())
        .collect();
    assert_eq!(told.len(), 21);
    let more = format!("and {} more of this kind", report.events - 20);
    assert_eq!(told.last(), Some(&more.as_str()));
}

/// A page in the middle of the file is overwritten: SQLite itself finds it, and the audit goes on as far as it can.
#[test]
fn a_page_that_was_overwritten_is_found() {
    let (_directory, path) = told();
    let mut bytes = std::fs::read(&path).expect("the file is read");
    let db = Connection::open(&path).expect("the file is opened");
    let root: usize = db
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'task_by_status'",
            [],
            |row| {
                row.get::<_, i64>(0)
                    .map(|page| usize::try_from(page).unwrap_or(1))
            },
        )
        .expect("the index is there");
    drop(db);
    bytes[(root - 1) * 4096..root * 4096].fill(0xAA);
    std::fs::write(&path, bytes).expect("the file is written");
    let report = audited(&path);
    assert!(!report.is_sound());
    assert!(
        report.findings.iter().any(|finding| finding.check == "file"),
        "{:#?}",
        report.findings
    );
}
