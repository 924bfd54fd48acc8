//! Transfers: what was in one store is in the other, whatever it is; and what is refused is refused before anything is
//! changed.

#[allow(dead_code, reason = "the conformance suite uses the rest")]
#[path = "conformance/play.rs"]
mod play;
#[allow(dead_code, reason = "the conformance suite uses the rest")]
#[path = "conformance/rows.rs"]
mod rows;
#[allow(dead_code, reason = "the conformance suite uses the rest")]
#[path = "conformance/story.rs"]
mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adjutant_core::access::Role;
use adjutant_core::agent::Agent;
use adjutant_core::attempt::{Attempt, AttemptKey};
use adjutant_core::command::AccessToken;
use adjutant_core::experience::{Experience, Kind};
use adjutant_core::ledger::{Account, Line};
use adjutant_core::limit::Scope;
use adjutant_core::name::TaskId;
use adjutant_core::retention::Retention;
use adjutant_core::set::rows::{Changes, Ending, Replay, ReplayAnswer, ReplayKey, Rows, Wanted};
use adjutant_core::set::table::Change;
use adjutant_core::task::{
    Body, Class, Demand, DependencyState, Gate, Note, Priority, Status, Task, TaskKey, TaskResult,
};
use adjutant_core::time::Span;
use adjutant_postgres_fixture::Database;
use adjutant_store::postgres::Postgres;
use adjutant_store::sqlite::audit::audit;
use adjutant_store::sqlite::backup::CopyError;
use adjutant_store::sqlite::{self, Sqlite};
use adjutant_store::transfer::{Moved, Problem, Side, TransferError, postgres_to_sqlite, sqlite_to_postgres};
use adjutant_store::{Store, TaskFilter, postgres};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use crate::play::{Play, submit};
use crate::rows::{
    NAME, agent, at, attempt, attempt_key, event, full_agent, full_attempt, full_counter, full_line,
    full_policy, full_task, key, scopes, task,
};

/// A directory, and a database in a cluster that this machine may lack.
struct Places {
    directory: TempDir,
    database: Database,
}

impl Places {
    fn new() -> Option<Self> {
        Some(Self {
            database: adjutant_postgres_fixture::shared()?.database(),
            directory: tempfile::tempdir().expect("a directory is made"),
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn url(&self) -> &str {
        self.database.url()
    }

    /// How many tables the database has.
    fn tables(&self) -> String {
        self.database.sql(
            "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        )
    }

    /// Whether somebody keeps servers from starting on the database.
    fn is_entered(&self) -> bool {
        let locks = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database \
                     WHERE locktype = 'advisory' AND datname = current_database()";
        self.database.sql(locks).trim() != "0"
    }

    /// Files in the directory, apart from the empty ones that are locked.
    fn files(&self) -> BTreeSet<String> {
        fs::read_dir(self.directory.path())
            .expect("the directory is read")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| Path::new(name).extension().is_none_or(|ending| ending != "lock"))
            .collect()
    }
}

fn open(path: &Path) -> Sqlite {
    Sqlite::open(path).expect("the file is opened")
}

fn open_database(url: &str) -> Postgres {
    Postgres::open(url).expect("the database is opened")
}

/// There, looked at with `look`, and back: the second file is the first one, row by row.
fn there_and_back(places: &Places, first: &Path) -> Moved {
    let (before, bytes) = (dump(first), fs::read(first).expect("it is read"));
    let seen = picture(&mut open_copy(places, first));
    let there = sqlite_to_postgres(first, places.url()).expect("it is moved");
    assert_eq!(
        fs::read(first).expect("it is read"),
        bytes,
        "a source was changed"
    );
    {
        let mut store = open_database(places.url());
        assert_same(&seen, &picture(&mut store));
    }
    let second = places.file("second.db");
    let back = postgres_to_sqlite(places.url(), &second).expect("it is moved back");
    assert_eq!(there, back);
    let after = dump(&second);
    for (table, rows) in &before {
        assert_same(rows, &after[table]);
    }
    assert_eq!(before.len(), after.len());
    assert_same(&seen, &picture(&mut open(&second)));
    there
}

/// Opening a file begins a run in it: what is compared byte by byte is not opened.
fn open_copy(places: &Places, file: &Path) -> Sqlite {
    let copy = places.file("copy.db");
    fs::copy(file, &copy).expect("it is copied");
    open(&copy)
}

#[track_caller]
fn assert_same(expected: &[String], found: &[String]) {
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.len(), found.len());
}

/// Every row of every table, but what a file says of its runs.
fn dump(path: &Path) -> BTreeMap<String, Vec<String>> {
    let db = Connection::open(path).expect("the file is opened");
    let mut tables = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        .expect("it is asked");
    let names: Vec<String> = tables
        .query_map([], |row| row.get(0))
        .expect("it is answered")
        .collect::<Result<_, _>>()
        .expect("they are names");
    let mut dump = BTreeMap::new();
    for table in names {
        let sql = match table.as_str() {
            "meta" => "SELECT * FROM meta WHERE name NOT IN ('run', 'quiet') ORDER BY 1".to_owned(),
            // Their numbers say no more than their order.
            "output" => {
                "SELECT row_number() OVER (ORDER BY id), task, text FROM output ORDER BY id".to_owned()
            }
            other => format!("SELECT * FROM {other} ORDER BY 1, 2"),
        };
        let mut find = db.prepare(&sql).expect("it is asked");
        let columns = find.column_count();
        let mut rows: Vec<String> = find
            .query_map([], |row| {
                let values: Vec<Value> = (0..columns)
                    .map(|index| row.get(index))
                    .collect::<Result<_, _>>()?;
                Ok(format!("{table}: {values:?}"))
            })
            .expect("it is answered")
            .collect::<Result<_, _>>()
            .expect("it is read");
        rows.sort();
        dump.insert(table, rows);
    }
    dump
}

/// Everything that can be read through the traits, a line for each row.
fn picture(store: &mut dyn Store) -> Vec<String> {
    let mut lines = Vec::new();
    let mut reader = store.reader().expect("a reader is given");
    let mut wanted = Wanted::default();
    let mut filter = TaskFilter {
        limit: 300,
        ..TaskFilter::default()
    };
    loop {
        let page = reader.tasks(&filter).expect("tasks are read");
        for stored in page.tasks {
            let key = stored.task.key;
            lines.push(format!("{stored:?}"));
            lines.push(format!("{:?}", reader.task_events(key, 0, 1_000)));
            lines.push(format!("{:?}", reader.output(key)));
            wanted.tasks.insert(key);
            for number in 1..=stored.task.attempt.min(9) {
                wanted.attempts.insert(AttemptKey { task: key, number });
                wanted.accounts.insert(AttemptKey { task: key, number });
            }
            if wanted.dependents.len() < 50 {
                wanted.dependents.insert(key, TaskKey(i64::MIN));
            }
        }
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    let events = reader.events(0, 100_000).expect("events are read");
    lines.extend(events.iter().map(|event| format!("{event:?}")));
    lines.push(format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        reader.counts(),
        reader.last_seq(),
        reader.tokens(),
        reader.webhooks(),
        reader.deliveries("chat", 0, 100),
        reader.secret()
    ));
    let census = store.census().expect("a census is given");
    wanted.wanters = census
        .wants
        .iter()
        .map(|(name, _)| (name.clone(), None))
        .collect();
    wanted.windows = census
        .queues
        .iter()
        .map(|(queue, _)| (queue.clone(), None))
        .collect();
    wanted.experiences = census.experiences.iter().map(|(kind, _)| kind.clone()).collect();
    wanted.classes = census.classes.iter().map(|class| class.id).collect();
    wanted.jobs = ["elsewhere", "elsewhere-too", "job"].map(TaskId::from).into();
    wanted.idempotency = ["once", NAME, ""]
        .map(|key| ReplayKey {
            token: "admin".into(),
            key: key.into(),
        })
        .into();
    for attempt in &census.attempts {
        wanted.attempts.insert(attempt.key);
        wanted.accounts.insert(attempt.key);
    }
    tell(census, true, &mut lines);
    let rows = store.load(&wanted).expect("rows are given");
    store.abandon();
    tell(rows, false, &mut lines);
    lines
}

fn tell(mut rows: Rows, is_census: bool, lines: &mut Vec<String>) {
    let mut sorted = |rows: Vec<String>| {
        let mut rows = rows;
        rows.sort();
        // A census may tell of a task once for each of its attempts.
        rows.dedup();
        lines.extend(rows);
    };
    for account in &mut rows.accounts {
        let mut lines = account.lines.clone();
        lines.sort_by_key(|line| (line.scope.to_string(), line.hour, line.resets, line.model.clone()));
        *account = Arc::new(Account {
            attempt: account.attempt,
            lines,
        });
    }
    rows.accounts.retain(|account| !account.lines.is_empty());
    macro_rules! each {
        ($($kind:ident),*) => {
            $(sorted(rows.$kind.iter().map(|row| format!("{}: {row:?}", stringify!($kind))).collect());)*
        };
    }
    each!(
        attempts,
        accounts,
        experiences,
        wanters,
        classes,
        idempotency,
        jobs,
        windows,
        dependents
    );
    if is_census {
        // A load gives also what came along, and the time.
        each!(tasks, agents, policies, counters, locks, wants, queues);
        lines.push(format!("{:?} {:?}", rows.newest, rows.latest));
    }
}

fn new<K, V>(key: K, row: V) -> Change<K, V> {
    Change {
        key,
        before: None,
        now: Some(Arc::new(row)),
    }
}

fn class_of(store: &mut dyn Store, labels: &[&str]) -> Arc<Class> {
    let wanted = Wanted {
        demands: vec![Demand {
            labels: labels.iter().map(|label| (*label).into()).collect(),
            ..Demand::default()
        }],
        ..Wanted::default()
    };
    let rows = store.load(&wanted).expect("a class is given");
    store.abandon();
    Arc::clone(&rows.classes[0])
}

/// A row of every kind with every field set, and enough of them for several stretches.
fn fill(store: &mut dyn Store) {
    let classes = [
        class_of(store, &[]),
        class_of(store, &[NAME]),
        class_of(store, &["a", "b"]),
    ];
    let mut changes = Changes::default();
    for number in 0..2_500 {
        let class = &classes[usize::try_from(number % 3).expect("it is small")];
        let mut task = match number % 7 {
            0 => full_task(number, class),
            _ => task(number, class),
        };
        if number % 7 != 0 {
            task.status = Status::ALL[usize::try_from(number % 6).expect("it is small")];
            task.priority = Priority::ALL[usize::try_from(number % 4).expect("it is small")];
            task.attempt = 2;
            task.notes = u32::from(number % 5 == 0);
        }
        if number % 12 == 0 && task.status == Status::Pending {
            task.locks = [NAME.into(), "main".into()].into();
            task.gate = Some(Gate::Lock("main".into()));
        }
        add_task(&mut changes, &task, number);
    }
    add_rest(&mut changes);
    for number in 0..3_000 {
        let mut event = event(number);
        if number % 2 == 0 {
            event.task = Some((key(number), format!("task_{number}").into()));
            event.agent = Some(NAME.into());
            event.payload = vec![("text", adjutant_core::set::rows::Value::Text(NAME.into()))];
        }
        changes.events.push(event);
    }
    store.commit(&changes).expect("it is committed");
    store.commit(&second_turn()).expect("it is committed");
}

fn add_task(changes: &mut Changes, task: &Task, number: i64) {
    let key = task.key;
    changes.bodies.push((
        key,
        Arc::new(Body {
            title: NAME.into(),
            description: "\0 and so on\n".repeat(1 + usize::try_from(number % 50).expect("it is small")),
            payload: (number % 2 == 0).then(|| "{ \"é\":1.0e3 ,\n\"é\": [] }".into()),
            files: vec![NAME.into(), String::new()],
            dependencies: vec![NAME.into()],
        }),
    ));
    changes.endings.push(Ending {
        task: key,
        result: (number % 2 == 0).then(|| TaskResult {
            success: true,
            output: NAME.into(),
            artifacts: vec![NAME.into()],
            error_message: String::new(),
        }),
        fail_reason: (number % 3 == 0).then(|| NAME.into()),
    });
    for text in ["first", "second"] {
        let note = Note {
            at: at(number),
            author: NAME.into(),
            text: text.into(),
        };
        changes.notes.push((key, note));
        changes.outputs.push((key, format!("{text} {NAME}").into()));
    }
    for of in 1..=2 {
        let of = attempt_key(number, of);
        let row: Attempt = match number % 7 {
            0 => Attempt {
                external: false,
                ..full_attempt(of)
            },
            _ => Attempt {
                occupies: number % 50 == 1,
                registered: true,
                agent: "agent-3".into(),
                ..attempt(of)
            },
        };
        changes.attempts.push(new(of, row));
        let mut lines = vec![full_line(&Scope::Fleet), full_line(&Scope::Project(NAME.into()))];
        lines.push(Line::new(Scope::Fleet, at(number).hour(), 0, None));
        changes.accounts.push(new(of, Account { attempt: of, lines }));
    }
    changes.edges.push(new(
        (self::key(number - 1), key),
        [
            DependencyState::Waiting,
            DependencyState::Met,
            DependencyState::Failed,
        ][usize::try_from(number % 3).expect("it is small")],
    ));
    changes.tasks.push(new(key, task.clone()));
}

fn add_rest(changes: &mut Changes) {
    let occupying = Agent {
        max_load: 1,
        ..agent("agent-3")
    };
    for row in [agent("agent-1"), full_agent("agent-2"), occupying] {
        changes.agents.push(new(row.id.clone(), row));
    }
    for (index, scope) in scopes().into_iter().enumerate() {
        // Some have what is set, some what was used, some both.
        if index % 3 != 0 {
            changes.policies.push(new(scope.clone(), full_policy()));
        }
        if index % 3 != 1 {
            changes.counters.push(new(scope.clone(), full_counter(&scope)));
        }
    }
    for (labels, model) in [
        (vec![NAME.into(), "a".into()], Some(NAME.into())),
        (Vec::new(), None),
    ] {
        let kind = Kind {
            labels: labels.into(),
            model,
        };
        let experience = Experience {
            samples: vec![0, 7, u64::from(u32::MAX)],
        };
        changes.experiences.push(new(kind, experience));
    }
    changes.locks.push(new("main".into(), attempt_key(1, 2)));
    changes.locks.push(new(NAME.into(), attempt_key(3, 1)));
    let job = Attempt {
        external: true,
        ..full_attempt(attempt_key(9_000, 1))
    };
    changes.attempts.push(new(job.key, job));
    changes.jobs.push(("job".into(), attempt_key(9_000, 1)));
    for key in ["", NAME] {
        let key = ReplayKey {
            token: "admin".into(),
            key: key.into(),
        };
        let replay = Replay {
            digest: [9; 32],
            at: at(3),
            answer: ReplayAnswer::Scope(Scope::Model(NAME.into())),
        };
        changes.idempotency.push((key, replay));
    }
    for name in ["admin", "other"] {
        let token = AccessToken {
            name: name.into(),
            digest: [7; 32],
            roles: [Role::Admin].into(),
            created_at: at(1),
        };
        changes.tokens.push((name.into(), Some(token)));
    }
}

/// Output that came later, to the first task.
fn second_turn() -> Changes {
    let mut changes = Changes::default();
    for number in 0..40 {
        changes.outputs.push((key(0), format!("{number}\n").into()));
    }
    changes
}

/// A store after the story, and after some of it was forgotten.
fn forgetful_story(path: &Path) -> Play<Sqlite> {
    let mut play = story::play(open(path));
    play.wait(Span::HOUR);
    let retention = Retention {
        finished_age: Some(Span::DAY.times(2)),
        event_count: Some(30),
        ..Retention::default()
    };
    play.skip(Span::DAY.times(3));
    let now = play.now;
    while play.store.forget(&retention, now).expect("it is forgotten").more {}
    play
}

#[track_caller]
fn refused(outcome: Result<Moved, TransferError>) -> (Side, Problem) {
    let error = outcome.expect_err("it is refused");
    (error.side, error.problem)
}

#[test]
fn every_row_goes_there_and_back() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    fill(&mut open(&file));
    let moved = there_and_back(&places, &file);
    let expected = Moved {
        tasks: 2_500,
        attempts: 5_001,
        lines: 15_000,
        events: 3_000,
        agents: 3,
        last_seq: 3_000,
    };
    assert_eq!(moved, expected);
    let rights = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(places.file("second.db"))
            .expect("it is there")
            .permissions(),
    );
    assert_eq!(rights & 0o777, 0o600);
    assert!(!places.files().contains("second.db.part"));
}

#[test]
fn a_store_that_lived_is_sound_and_goes_on() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    let now = story::play(open(&file)).now;
    let moved = there_and_back(&places, &file);
    assert_eq!(moved.tasks, 15);
    let second = places.file("second.db");
    assert_eq!(audit(&second).expect("it is opened").findings, []);
    let mut play = Play::on(open(&second), now);
    play.done(submit("new", |_| ()));
    let mut reader = play.store.reader().expect("a reader is given");
    assert!(reader.last_seq().expect("it is read") > moved.last_seq);
    drop(play);
    assert_eq!(audit(&second).expect("it is opened").findings, []);
}

#[test]
fn what_was_forgotten_stays_so_and_events_keep_their_numbers() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    drop(forgetful_story(&file));
    let before = dump(&file);
    assert!(
        !before["archive"].is_empty() && before["event"].len() < 40,
        "{before:?}"
    );
    assert!(
        before["meta"].iter().any(|row| row.contains("first_event")),
        "{:?}",
        before["meta"]
    );
    let moved = there_and_back(&places, &file);
    assert!(moved.last_seq > moved.events);
    assert_eq!(
        audit(places.file("second.db")).expect("it is opened").findings,
        []
    );
}

#[test]
fn a_database_that_was_moved_to_goes_on() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    fill(&mut open(&file));
    sqlite_to_postgres(&file, places.url()).expect("it is moved");
    let mut store = open_database(places.url());
    // New classes do not get numbers of old ones, events go on.
    let class = class_of(&mut store, &["new"]);
    assert!(
        store
            .census()
            .expect("it is given")
            .classes
            .iter()
            .filter(|other| other.id == class.id)
            .count()
            == 1
    );
    let task = task(20_000, &class);
    let mut changes = Changes::default();
    changes.tasks.push(new(task.key, task));
    changes.events.push(event(1));
    assert_eq!(store.commit(&changes).expect("it is committed"), 3_001);
    // Agents have room or not as they had it, and no server stands for them.
    let room = places
        .database
        .sql("SELECT string_agg(id || room || home, ' ' ORDER BY id) FROM agent");
    assert_eq!(room.trim(), "agent-1true0 agent-2false0 agent-3false0");
}

#[test]
fn an_empty_store_is_moved_as_well() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    drop(open(&file));
    // A database that a server has once opened is an empty one.
    drop(open_database(places.url()));
    let moved = there_and_back(&places, &file);
    assert_eq!(moved, Moved::default());
    assert_eq!(
        audit(places.file("second.db")).expect("it is opened").findings,
        []
    );
}

#[test]
fn a_source_in_use_is_refused() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    let server = open(&file);
    let refusal = refused(sqlite_to_postgres(&file, places.url()));
    assert!(
        matches!(
            refusal,
            (Side::From, Problem::File(sqlite::OpenError::InUse { .. }))
        ),
        "{refusal:?}"
    );
    assert_eq!(places.tables().trim(), "0");
    drop(server);
    sqlite_to_postgres(&file, places.url()).expect("it is moved");
    let servers = [open_database(places.url()), open_database(places.url())];
    let refusal = refused(postgres_to_sqlite(places.url(), places.file("second.db")));
    assert!(
        matches!(refusal, (Side::From, Problem::Running(2))),
        "{refusal:?}"
    );
    drop(servers);
    // One that was killed is one that was not heard of for a while.
    let killed = open_database(places.url());
    places
        .database
        .sql("UPDATE server SET vouched_at = vouched_at - 31000000");
    postgres_to_sqlite(places.url(), places.file("second.db")).expect("it is moved");
    drop(killed);
}

#[test]
fn a_source_that_is_none_is_refused() {
    let Some(places) = Places::new() else { return };
    let refusal = refused(sqlite_to_postgres(places.file("none.db"), places.url()));
    assert!(
        matches!(
            refusal,
            (Side::From, Problem::File(sqlite::OpenError::Unusable { .. }))
        ),
        "{refusal:?}"
    );
    let refusal = refused(postgres_to_sqlite(places.url(), places.file("second.db")));
    assert!(
        matches!(refusal, (Side::From, Problem::Missing(_))),
        "{refusal:?}"
    );
    let file = places.file("first.db");
    drop(open(&file));
    let db = Connection::open(&file).expect("the file is opened");
    db.execute_batch("PRAGMA user_version = 2").expect("it is set");
    drop(db);
    let refusal = refused(sqlite_to_postgres(&file, places.url()));
    assert!(
        matches!(refusal, (Side::From, Problem::Older { found: 2, .. })),
        "{refusal:?}"
    );
    assert_eq!(places.tables().trim(), "0");
}

#[test]
fn a_target_with_something_in_it_is_refused() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    fill(&mut open(&file));
    sqlite_to_postgres(&file, places.url()).expect("it is moved");
    let refusal = refused(sqlite_to_postgres(&file, places.url()));
    assert!(
        matches!(&refusal, (Side::To, Problem::NotEmpty(what)) if what.starts_with("tasks, agents, events, tokens")),
        "{refusal:?}"
    );
    let refusal = refused(postgres_to_sqlite(places.url(), &file));
    assert!(
        matches!(refusal, (Side::To, Problem::Place(CopyError::Exists { .. }))),
        "{refusal:?}"
    );

    let Some(foreign) = Places::new() else { return };
    foreign.database.sql("CREATE TABLE something (id int)");
    let refusal = refused(sqlite_to_postgres(&file, foreign.url()));
    assert!(
        matches!(
            refusal,
            (Side::To, Problem::Database(postgres::OpenError::Foreign { .. }))
        ),
        "{refusal:?}"
    );

    let Some(busy) = Places::new() else { return };
    let server = open_database(busy.url());
    let refusal = refused(sqlite_to_postgres(&file, busy.url()));
    assert!(matches!(refusal, (Side::To, Problem::Running(1))), "{refusal:?}");
    drop(server);
}

#[test]
fn a_server_that_starts_meanwhile_waits_for_the_end() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    fill(&mut open(&file));
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| sqlite_to_postgres(&file, places.url()).expect("it is moved"));
        while !places.is_entered() && !transfer.is_finished() {}
        let mut reader = open_database(places.url()).reader().expect("a reader is given");
        assert_eq!(reader.last_seq().expect("it is read"), 3_000);
        assert_eq!(reader.counts().expect("they are read").iter().sum::<u64>(), 2_500);
    });
}

/// One that was frozen for so long that nobody counts it any more, and wakes up.
#[test]
fn a_server_that_works_on_the_source_meanwhile_is_found_out() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    fill(&mut open(&file));
    sqlite_to_postgres(&file, places.url()).expect("it is moved");
    let mut server = open_database(places.url());
    places
        .database
        .sql("UPDATE server SET vouched_at = vouched_at - 31000000");
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| postgres_to_sqlite(places.url(), places.file("second.db")));
        while !places.is_entered() && !transfer.is_finished() {}
        let mut changes = Changes::default();
        changes.events.push(event(1));
        server.commit(&changes).expect("it is committed");
        let refusal = refused(transfer.join().expect("it ends"));
        // It woke up before the first look at who is there, or after it.
        assert!(
            matches!(refusal, (Side::From, Problem::Disturbed | Problem::Running(1))),
            "{refusal:?}"
        );
    });
    assert!(
        !places.files().iter().any(|name| name.starts_with("second")),
        "{:?}",
        places.files()
    );
}

#[test]
fn what_breaks_on_the_way_leaves_nothing() {
    let Some(places) = Places::new() else { return };
    let file = places.file("first.db");
    fill(&mut open(&file));
    sqlite_to_postgres(&file, places.url()).expect("it is moved");
    let db = Connection::open(&file).expect("the file is opened");
    db.execute_batch("UPDATE event SET kind = 'nonsense' WHERE seq = 2999")
        .expect("it is set");
    drop(db);
    let Some(other) = Places::new() else { return };
    let refusal = refused(sqlite_to_postgres(&file, other.url()));
    assert!(matches!(refusal, (Side::From, Problem::Failed(_))), "{refusal:?}");
    // It is rolled back when the connection is gone: whoever comes next waits for that.
    drop(open_database(other.url()));
    assert_eq!(other.database.sql("SELECT count(*) FROM task").trim(), "0");

    places
        .database
        .sql("UPDATE event SET kind = 'nonsense' WHERE seq = 2999");
    let refusal = refused(postgres_to_sqlite(places.url(), places.file("second.db")));
    assert!(matches!(refusal, (Side::From, Problem::Failed(_))), "{refusal:?}");
    assert!(
        !places.files().iter().any(|name| name.starts_with("second")),
        "{:?}",
        places.files()
    );
}
