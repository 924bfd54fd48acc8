//! The books: what the rows of a database say when nothing runs any more.

use std::collections::BTreeMap;

use adjutant_postgres_fixture::Database;

pub(crate) const COMPLETED: &str = "3";

/// Windows that differ from their ledger. A counter has seven numbers of its own, then seven for each window: start,
/// jobs, tokens, cost, pull requests, issues, told. What was forgotten of the ledger is in the archive, which counts
/// for the total.
const WRONG_TALLIES: &str = "
    WITH tally AS (
        SELECT name AS scope, counter[1] AS resets, kind.*, counter[kind.at] AS start,
               counter[kind.at + 1] AS jobs, counter[kind.at + 2] AS tokens, counter[kind.at + 3] AS cost,
               counter[kind.at + 4] AS pull_requests, counter[kind.at + 5] AS issues
        FROM scope CROSS JOIN (VALUES ('hour', 8, 3600000000), ('day', 15, 86400000000), ('total', 22, NULL))
            AS kind (kind, at, length)
        WHERE counter IS NOT NULL),
    entry AS (
        SELECT scope, resets, hour, jobs, tokens_in + tokens_out - refunded AS tokens, cost, pull_requests, issues,
               false AS forgotten FROM line
        UNION ALL
        SELECT scope, resets, hour, jobs, tokens_in + tokens_out - refunded, cost, pull_requests, issues, true
        FROM archive),
    sums AS (
        SELECT tally.scope, kind, tally.jobs AS told_jobs, tally.tokens AS told_tokens, tally.cost AS told_cost,
               tally.pull_requests AS told_pull_requests, tally.issues AS told_issues,
               coalesce(sum(entry.jobs), 0) AS jobs, coalesce(sum(entry.tokens), 0) AS tokens,
               coalesce(sum(entry.cost), 0) AS cost, coalesce(sum(entry.pull_requests), 0) AS pull_requests,
               coalesce(sum(entry.issues), 0) AS issues
        FROM tally LEFT JOIN entry ON entry.scope = tally.scope AND entry.resets = tally.resets
            AND (length IS NULL OR (entry.hour >= start AND entry.hour < start + length AND NOT forgotten))
        GROUP BY tally.scope, kind, tally.jobs, tally.tokens, tally.cost, tally.pull_requests, tally.issues)
    SELECT scope, kind, 'told', told_jobs, told_tokens, told_cost, told_pull_requests, told_issues,
           'ledger', jobs, tokens, cost, pull_requests, issues
    FROM sums WHERE (told_jobs, told_tokens, told_cost, told_pull_requests, told_issues)
        IS DISTINCT FROM (jobs, tokens, cost, pull_requests, issues)";

/// Tasks in progress without a live attempt, and live attempts without a task in progress.
const TORN_LEASES: &str = "
    WITH live AS (SELECT task, number FROM attempt WHERE (state::jsonb ->> 'state')::int < 2 AND NOT external),
    held AS (SELECT key AS task, (state::jsonb ->> 'attempt')::bigint AS number FROM task WHERE status = 2)
    (TABLE live EXCEPT TABLE held) UNION ALL (TABLE held EXCEPT TABLE live)";

/// A task as it is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) attempt: i64,
}

/// Asserts what must hold of any database at rest.
#[track_caller]
pub(crate) fn check(database: &Database) {
    let nothing = |what: &str, sql: &str| assert_eq!(database.sql(sql), "", "{what}");
    assert_eq!(
        database.sql("SELECT count(*) - coalesce(max(seq), 0), coalesce(min(seq), 1) FROM event"),
        "0|1",
        "events have no gaps"
    );
    assert_eq!(
        database.sql("SELECT seq - (SELECT coalesce(max(seq), 0) FROM event) FROM event_head"),
        "0",
        "the head is at the last event"
    );
    nothing("I9: counters equal the ledger", WRONG_TALLIES);
    nothing(
        "I9: every scope of the ledger has a counter",
        "SELECT DISTINCT scope FROM line WHERE NOT EXISTS \
         (SELECT FROM scope WHERE scope.name = line.scope AND counter IS NOT NULL)",
    );
    nothing(
        "I1: a task is in progress exactly while its attempt is live",
        TORN_LEASES,
    );
    nothing(
        "I10: completed once",
        "SELECT task_id, count(*) FROM event WHERE kind = 'task_completed' GROUP BY task_id HAVING count(*) > 1",
    );
    nothing(
        "ids are of one task each",
        "SELECT id FROM task GROUP BY id HAVING count(*) > 1",
    );
    nothing(
        "each start is told once",
        "SELECT id, state::jsonb -> 'attempt' FROM task WHERE coalesce((state::jsonb ->> 'attempt')::int, 0) <> \
         (SELECT count(*) FROM event WHERE event.task = key AND kind IN ('task_dispatched', 'task_claimed'))",
    );
}

/// Asserts that nothing is held when nothing runs.
#[track_caller]
pub(crate) fn check_rest(database: &Database) {
    let held =
        "SELECT name, counter[2:6] FROM scope WHERE counter IS NOT NULL AND counter[2:6] <> '{0,0,0,0,0}'";
    assert_eq!(database.sql(held), "", "nothing is held when all is over");
    assert_eq!(
        database.sql("SELECT name, task FROM lock"),
        "",
        "no lock is taken"
    );
    assert_eq!(
        database.sql("SELECT task, number, agent FROM attempt WHERE open"),
        "",
        "no attempt is open"
    );
}

/// All tasks by their titles. Tests give each task a title of its own.
#[track_caller]
pub(crate) fn by_title(database: &Database) -> BTreeMap<String, Vec<Stored>> {
    let sql = "SELECT doc::jsonb ->> 'title', id, status, coalesce((state::jsonb ->> 'attempt')::bigint, 0) \
               FROM task JOIN body ON body.task = task.key";
    let mut found: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
    for line in database.sql(sql).lines() {
        let [title, id, status, attempt] = line.split('|').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        found.entry(title.to_owned()).or_default().push(Stored {
            id: id.to_owned(),
            status: status.to_owned(),
            attempt: attempt.parse().unwrap(),
        });
    }
    found
}

/// The most jobs that a scope has started in one day between two resets.
#[track_caller]
pub(crate) fn most_jobs_in_a_day(database: &Database, scope: &str) -> i64 {
    let sql = format!(
        "SELECT coalesce(max(jobs), 0) FROM (SELECT sum(jobs) AS jobs FROM line WHERE scope = '{scope}' \
         GROUP BY resets, hour / 86400000000) AS day"
    );
    database.sql(&sql).parse().unwrap()
}
