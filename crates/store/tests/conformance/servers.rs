//! What servers that share a PostgreSQL database do to each other. The store in memory says at once that a row is
//! [held](crate::sharing); here a turn waits for it, or is turned back when it comes to write.
//!
//! Bugs that only a store of many servers can have are looked for here, on a real database: the first counter of a scope is
//! made twice (that of a day: `race` in the tests of the program, at midnight), a dependency is completed elsewhere and its
//! dependents are not told, events overtake each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use adjutant_core::counter::{Booking, Counter};
use adjutant_core::event::EventKind;
use adjutant_core::limit::{Limit, Policy, Scope, Window};
use adjutant_core::set::rows::{Changes, Replay, ReplayAnswer, ReplayKey, Rows, Wanted};
use adjutant_core::task::{Class, Demand, DependencyState, DispatchOrder, Queue};
use adjutant_core::time::{Span, Timestamp};
use adjutant_postgres_fixture::Database;
use adjutant_store::postgres::{OpenError, Postgres};
use adjutant_store::{CommitError, Store as _, StoreError};

use crate::rows::{agent, at, attempt_key, event, key, task};
use crate::sharing::wanted;
use crate::write::{Write, write};

/// Long enough to see that somebody waits, and short beside what anybody waits for.
const MOMENT: Duration = Duration::from_millis(100);

fn database() -> Option<Database> {
    Some(adjutant_postgres_fixture::shared()?.database())
}

fn open(database: &Database) -> Postgres {
    Postgres::open(database.url()).expect("the database is opened")
}

fn load(server: &mut Postgres, ask: impl FnOnce(&mut Wanted)) -> Rows {
    server.load(&wanted(ask)).expect("rows are given")
}

fn commit(server: &mut Postgres, write: Write) -> u64 {
    server.commit(&write.changes()).expect("a turn is committed")
}

fn is_turned_back(server: &mut Postgres, write: Write) -> bool {
    match server.commit(&write.changes()) {
        Ok(_) => false,
        Err(CommitError::RolledBack(StoreError::Busy(_))) => true,
        Err(error) => panic!("not what another server's turn does: {error}"),
    }
}

fn class(server: &mut Postgres) -> Arc<Class> {
    let rows = load(server, |wanted| wanted.demands = vec![Demand::default()]);
    server.abandon();
    Arc::clone(&rows.classes[0])
}

fn booked(scope: &Scope, before: &Counter, jobs: u64) -> Counter {
    let mut counter = before.clone();
    let booking = Booking {
        jobs,
        ..Booking::default()
    };
    assert_eq!(counter.scope, *scope);
    counter.book(Timestamp::EPOCH, counter.resets, booking, Timestamp::EPOCH);
    counter
}

fn counter(server: &mut Postgres, scope: &Scope) -> Option<Counter> {
    let rows = load(server, |wanted| wanted.scopes = [scope.clone()].into());
    server.abandon();
    rows.counters.first().map(|counter| (**counter).clone())
}

#[test]
fn who_needs_a_row_waits_until_the_turn_that_has_it_is_over() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let class = class(&mut first);
    let (before, now) = (
        task(1, &class),
        adjutant_core::task::Task {
            progress: 50,
            ..task(1, &class)
        },
    );
    commit(&mut first, write().task(&before));
    load(&mut first, |wanted| wanted.tasks = [key(1)].into());
    let (tell, told) = channel();
    let waits = thread::spawn(move || {
        let rows = load(&mut second, |wanted| wanted.tasks = [key(1)].into());
        tell.send(rows.tasks[0].progress).expect("somebody listens");
    });
    assert!(told.recv_timeout(MOMENT).is_err(), "the row is held");
    commit(&mut first, write().changed_task(&before, &now));
    assert_eq!(told.recv().expect("it is given"), 50, "as it was committed");
    waits.join().expect("nothing broke");
}

#[test]
fn a_row_that_a_turn_finds_late_is_not_waited_for() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let class = class(&mut first);
    commit(&mut first, write().task(&task(1, &class)).task(&task(2, &class)));
    load(&mut first, |wanted| wanted.tasks = [key(2)].into());
    load(&mut second, |wanted| wanted.tasks = [key(1)].into());
    // Each wants what the other one has.
    let late = second.load(&wanted(|wanted| wanted.tasks = [key(2)].into()));
    assert!(matches!(late, Err(StoreError::Busy(_))), "{late:?}");
    load(&mut first, |wanted| wanted.tasks = [key(1)].into());
}

#[test]
fn tasks_that_others_hold_behind_the_last_one_given_are_told_to_who_asks_for_more() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let class = class(&mut first);
    let tasks: Vec<_> = (1..=3).map(|number| task(number, &class)).collect();
    commit(&mut first, write().tasks(&tasks));
    load(&mut first, |wanted| wanted.tasks = [key(3)].into());
    let queue = Queue {
        class: class.id,
        gate: None,
    };
    let mut window = |after: Option<DispatchOrder>| {
        let rows = load(&mut second, |wanted| {
            wanted.windows.insert(queue.clone(), after);
        });
        let (_, orders, complete) = rows.windows[0].clone();
        (orders, complete, rows.skipped)
    };
    let given = [tasks[0].order(), tasks[1].order()];
    assert_eq!(window(None), (given.to_vec(), false, false), "there is more");
    assert_eq!(window(Some(given[1])), (vec![], true, true), "it is held");
}

#[test]
fn of_two_who_make_the_same_row_the_second_decides_again() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let class = class(&mut first);
    class_of_same(&mut second, &class);
    let replay = || Replay {
        digest: [0; 32],
        at: at(0),
        answer: ReplayAnswer::Done,
    };
    let replay_key = || ReplayKey {
        token: "token".into(),
        key: "key".into(),
    };
    let same_id = |number| adjutant_core::task::Task {
        id: "the-same".into(),
        ..task(number, &class)
    };
    #[expect(clippy::type_complexity, reason = "a list of what to write twice")]
    let both: Vec<(&str, Box<dyn Fn(i64) -> Write>)> = vec![
        ("a task id", Box::new(|number| write().task(&same_id(number)))),
        ("an agent", Box::new(|_| write().agent(None, &agent("agent")))),
        (
            "a lock",
            Box::new(|number| write().lock("main", None, Some(attempt_key(number, 1)))),
        ),
        (
            "a job",
            Box::new(|number| write().job("job", attempt_key(number, 1))),
        ),
        (
            "an idempotency key",
            Box::new(|_| write().replay(replay_key(), replay())),
        ),
    ];
    for (what, make) in both {
        load(&mut first, |wanted| wanted.tasks = [key(99)].into());
        load(&mut second, |wanted| wanted.tasks = [key(98)].into());
        commit(&mut first, make(1));
        assert!(is_turned_back(&mut second, make(2)), "{what}");
    }
}

fn class_of_same(server: &mut Postgres, expected: &Class) {
    assert_eq!(class(server).id, expected.id, "servers agree on classes");
}

/// The first counter of a scope with a limit: neither of two servers finds one to lock.
#[test]
fn the_first_counter_of_a_limited_scope_is_made_once() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let scope = Scope::Agent("agent".into());
    let one = booked(&scope, &Counter::new(scope.clone()), 1);
    for server in [&mut first, &mut second] {
        let rows = load(server, |wanted| wanted.scopes = [scope.clone()].into());
        assert!(rows.counters.is_empty());
    }
    commit(&mut first, write().counter(None, &one));
    assert!(is_turned_back(&mut second, write().counter(None, &one)));
    // Taken again, it finds what the other one has used.
    let found = load(&mut second, |wanted| wanted.scopes = [scope.clone()].into());
    assert_eq!(*found.counters[0], one);
}

#[test]
fn what_is_used_of_a_scope_without_limits_is_added_up() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let scope = Scope::Fleet;
    let one = booked(&scope, &Counter::new(scope.clone()), 1);
    commit(&mut first, write().counter(None, &one));
    for server in [&mut first, &mut second] {
        load(server, |wanted| wanted.scopes = [scope.clone()].into());
    }
    commit(&mut first, write().counter(Some(&one), &booked(&scope, &one, 2)));
    // Whoever was alone so far is turned back once; from then on it adds to what others have made of it.
    let more = write().counter(Some(&one), &booked(&scope, &one, 4));
    assert!(is_turned_back(&mut second, more));
    second.abandon();
    let three = counter(&mut second, &scope).expect("it is there");
    load(&mut second, |wanted| wanted.scopes = [scope.clone()].into());
    let seven = booked(&scope, &three, 4);
    commit(&mut second, write().counter(Some(&three), &seven));
    for server in [&mut first, &mut second] {
        load(server, |wanted| wanted.scopes = [scope.clone()].into());
    }
    commit(
        &mut first,
        write().counter(Some(&seven), &booked(&scope, &seven, 8)),
    );
    commit(
        &mut second,
        write().counter(Some(&seven), &booked(&scope, &seven, 16)),
    );
    let found = counter(&mut first, &scope).expect("it is there");
    assert_eq!([found.hour.jobs, found.day.jobs, found.total.jobs], [31, 31, 31]);
}

#[test]
fn a_limit_that_is_set_meanwhile_turns_back_who_did_not_know_of_it() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let scope = Scope::Fleet;
    let one = booked(&scope, &Counter::new(scope.clone()), 1);
    commit(&mut first, write().counter(None, &one));
    let policy = Policy {
        limits: vec![Limit {
            jobs: Some(1),
            ..Limit::none(Window::Day)
        }],
        ..Policy::default()
    };
    for server in [&mut first, &mut second] {
        load(server, |wanted| wanted.scopes = [scope.clone()].into());
    }
    commit(&mut first, write().policy(&scope, None, &policy));
    let two = booked(&scope, &one, 1);
    assert!(is_turned_back(&mut second, write().counter(Some(&one), &two)));
    let rows = load(&mut second, |wanted| wanted.scopes = [scope.clone()].into());
    assert_eq!(*rows.policies[0].1, policy);
    assert_eq!(*rows.counters[0], one);
}

#[test]
fn a_limit_on_a_scope_that_nobody_knew_turns_back_who_did_not_know_of_it() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let policy = Policy {
        limits: vec![Limit {
            jobs: Some(1),
            ..Limit::none(Window::Day)
        }],
        ..Policy::default()
    };
    for scope in [Scope::Project("project".into()), Scope::Agent("agent".into())] {
        for server in [&mut first, &mut second] {
            load(server, |wanted| wanted.scopes = [scope.clone()].into());
        }
        commit(&mut first, write().policy(&scope, None, &policy));
        let one = booked(&scope, &Counter::new(scope.clone()), 1);
        assert!(
            is_turned_back(&mut second, write().counter(None, &one)),
            "{scope}"
        );
        load(&mut second, |wanted| wanted.scopes = [scope.clone()].into());
        load(&mut first, |wanted| wanted.tasks = [key(99)].into());
        commit(&mut second, write().counter(None, &one));
        first.abandon();
    }
}

/// A task is submitted that depends on one which is completed at the same moment by another server.
#[test]
fn a_dependency_that_is_completed_elsewhere_knows_all_its_dependents() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let class = class(&mut first);
    let awaited = task(1, &class);
    commit(&mut first, write().task(&awaited));
    // The first one submits: it holds what the new task depends on.
    load(&mut first, |wanted| wanted.task_ids = [awaited.id.clone()].into());
    let (tell, told) = channel();
    let completes = thread::spawn(move || {
        load(&mut second, |wanted| wanted.tasks = [key(1)].into());
        let rows = load(&mut second, |wanted| {
            wanted.dependents.insert(key(1), key(0));
        });
        tell.send(rows.dependents[0].list.clone())
            .expect("somebody listens");
    });
    assert!(told.recv_timeout(MOMENT).is_err(), "the task is held");
    commit(
        &mut first,
        write()
            .task(&task(2, &class))
            .edge((key(1), key(2)), None, DependencyState::Waiting),
    );
    let list = told.recv().expect("it is given");
    assert_eq!(list, [(key(2), DependencyState::Waiting)]);
    completes.join().expect("nothing broke");
}

/// Whoever reads events while others commit never sees one without all before it.
#[test]
fn events_never_overtake_each_other() {
    const SERVERS: usize = 3;
    const TURNS: u64 = 60;
    let Some(database) = database() else { return };
    let over = AtomicBool::new(false);
    let reader = open(&database);
    let mut reader = reader.reader().expect("a reader is given");
    thread::scope(|scope| {
        let servers: Vec<_> = (0..SERVERS)
            .map(|_| {
                let mut server = open(&database);
                scope.spawn(move || {
                    for turn in 0..TURNS {
                        let events = (0..=turn % 3).map(|_| event(1));
                        let write = events.fold(write(), Write::event);
                        commit(&mut server, write);
                    }
                })
            })
            .collect();
        let reads = scope.spawn(|| {
            let mut last = 0;
            while !over.load(Ordering::Relaxed) {
                for event in reader.events(last, 1_000).expect("events are read") {
                    assert_eq!(event.seq, last + 1, "an event was overtaken");
                    last = event.seq;
                }
            }
            last
        });
        for server in servers {
            server.join().expect("nothing broke");
        }
        over.store(true, Ordering::Relaxed);
        reads.join().expect("nothing broke");
    });
    let all = reader.events(0, 10_000).expect("events are read");
    let each: u64 = (0..TURNS).map(|turn| turn % 3 + 1).sum();
    assert_eq!(all.len() as u64, each * SERVERS as u64);
    assert!(all.iter().zip(1..).all(|(event, seq)| event.seq == seq));
}

#[test]
fn a_sign_of_life_is_remembered_by_its_server_and_vouched_for() {
    let Some(database) = database() else { return };
    let (mut home, mut other) = (open(&database), open(&database));
    let start = home.now();
    let before = adjutant_core::agent::Agent {
        last_seen: start,
        ..agent("agent")
    };
    commit(&mut home, write().agent(None, &before));
    let spoke = adjutant_core::agent::Agent {
        last_seen: start + Span::from_secs(3),
        last_n: Some(7),
        ..before.clone()
    };
    load(&mut home, |wanted| wanted.agents = ["agent".into()].into());
    let seq = commit(&mut home, write().agent(Some(&before), &spoke));
    assert_eq!(seq, 0);
    assert_eq!(
        database.sql("SELECT last_seen FROM agent"),
        start.as_micros().to_string(),
        "it was not written"
    );
    let seen = load(&mut home, |wanted| wanted.agents = ["agent".into()].into());
    home.abandon();
    assert_eq!(
        (seen.agents[0].last_seen, seen.agents[0].last_n),
        (spoke.last_seen, Some(7))
    );
    // To the other one it lives as long as its home says that it is there.
    let seen = load(&mut other, |wanted| wanted.agents = ["agent".into()].into());
    assert!(seen.agents[0].last_seen >= start);
    other.abandon();
    database.sql("UPDATE server SET vouched_at = vouched_at - 60000000");
    let vouched: i64 = database
        .sql("SELECT max(vouched_at) FROM server WHERE turn > 0")
        .parse()
        .expect("a number");
    let seen = load(&mut other, |wanted| wanted.agents = ["agent".into()].into());
    let lasts = Span::from_secs(15).as_micros();
    assert_eq!(
        seen.agents[0].last_seen.as_micros(),
        (vouched + lasts).max(start.as_micros())
    );
    // An agent that speaks elsewhere has its home there.
    let moved = adjutant_core::agent::Agent {
        last_seen: seen.agents[0].last_seen + Span::from_secs(1),
        ..(*seen.agents[0]).clone()
    };
    commit(&mut other, write().agent(Some(&seen.agents[0]), &moved));
    let homes = database
        .sql("SELECT count(*) FROM agent JOIN server ON server.id = agent.home WHERE server.lane = 1");
    assert_eq!(homes, "1");
}

/// What a home has vouched for is not what an agent has said, and what the home remembers of it is not to be forgotten.
#[test]
fn who_has_not_heard_an_agent_does_not_speak_for_it() {
    let Some(database) = database() else { return };
    let (mut home, mut other) = (open(&database), open(&database));
    let start = home.now();
    let before = adjutant_core::agent::Agent {
        last_seen: start,
        last_n: Some(3),
        ..agent("agent")
    };
    commit(&mut home, write().agent(None, &before));
    let spoke = adjutant_core::agent::Agent {
        last_seen: start + Span::from_micros(1),
        last_n: Some(7),
        ..before.clone()
    };
    load(&mut home, |wanted| wanted.agents = ["agent".into()].into());
    commit(&mut home, write().agent(Some(&before), &spoke));
    let stored = || database.sql("SELECT last_seen, home FROM agent");
    let (was, state) = (stored(), "SELECT state::json ->> 'last_n' FROM agent");
    let seen = load(&mut other, |wanted| wanted.agents = ["agent".into()].into());
    let seen_there = &seen.agents[0];
    assert!(seen_there.last_seen > spoke.last_seen, "its home vouches for it");
    let drained = adjutant_core::agent::Agent {
        draining: true,
        ..(**seen_there).clone()
    };
    commit(&mut other, write().agent(Some(seen_there), &drained));
    assert_eq!(stored(), was);
    assert_eq!(database.sql(state), "3");
    let seen = load(&mut home, |wanted| wanted.agents = ["agent".into()].into());
    home.abandon();
    let expected = adjutant_core::agent::Agent {
        draining: true,
        ..spoke
    };
    assert_eq!(*seen.agents[0], expected);
}

/// Also while its home vouches for it up to now.
#[test]
fn an_agent_that_speaks_elsewhere_is_heard_there() {
    let Some(database) = database() else { return };
    let (mut home, mut other) = (open(&database), open(&database));
    let before = adjutant_core::agent::Agent {
        last_seen: home.now(),
        ..agent("agent")
    };
    commit(&mut home, write().agent(None, &before));
    let seen = load(&mut other, |wanted| wanted.agents = ["agent".into()].into());
    let now = seen.latest.expect("a turn is told what time it is");
    assert!(seen.agents[0].last_seen < now);
    let moved = adjutant_core::agent::Agent {
        last_seen: now,
        last_n: Some(1),
        ..(*seen.agents[0]).clone()
    };
    commit(&mut other, write().agent(Some(&seen.agents[0]), &moved));
    assert_eq!(
        database.sql(
            "SELECT last_seen, lane, state::json ->> 'last_n' FROM agent JOIN server ON server.id = agent.home"
        ),
        format!("{}|1|1", now.as_micros())
    );
}

/// A turn that was turned back locks all that it reads when it is taken again; the one after it does not.
#[test]
fn a_turn_is_careful_only_after_one_that_was_turned_back() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let scope = Scope::Fleet;
    let one = booked(&scope, &Counter::new(scope.clone()), 1);
    commit(&mut first, write().counter(None, &one));
    let load_scope = |server: &mut Postgres| load(server, |wanted| wanted.scopes = [scope.clone()].into());
    let is_locked =
        || database.sql("SELECT count(*) FROM (SELECT FROM scope FOR UPDATE SKIP LOCKED) AS free") == "0";
    load_scope(&mut second);
    assert!(!is_locked());
    let (policy, reset) = (Policy::default(), counter_after_reset(&one));
    load_scope(&mut first);
    commit(
        &mut first,
        write().policy(&scope, None, &policy).counter(Some(&one), &reset),
    );
    assert!(is_turned_back(
        &mut second,
        write().counter(Some(&one), &booked(&scope, &one, 1))
    ));
    // Whoever gives a turn up says so.
    second.abandon();
    load_scope(&mut second);
    assert!(is_locked(), "the turn that is taken again");
    second.abandon();
    load_scope(&mut second);
    assert!(!is_locked(), "the turn after it");
    second.abandon();
}

fn counter_after_reset(counter: &Counter) -> Counter {
    Counter {
        resets: counter.resets + 1,
        ..Counter::new(counter.scope.clone())
    }
}

/// Readers connect when they are asked first.
#[test]
fn too_few_connections_are_told_with_the_database_and_what_helps() {
    let Some(cluster) = adjutant_postgres_fixture::Cluster::own() else {
        return;
    };
    let database = cluster.database();
    database.sql("CREATE ROLE narrow LOGIN CONNECTION LIMIT 3; GRANT ALL ON SCHEMA public TO narrow");
    let url = database
        .url()
        .replace("postgres://adjutant@", "postgres://narrow@");
    let helps = |message: String| {
        for part in [database.name(), "too many connections", "raise max_connections"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(message.matches("cannot be used").count(), 1, "{message}");
    };
    let server = Postgres::open(&url).expect("there are enough to begin with");
    database.sql("ALTER ROLE narrow CONNECTION LIMIT 0");
    let mut reader = server.reader().expect("it does not connect yet");
    helps(reader.last_seq().expect_err("it is refused").to_string());
    helps(
        Postgres::open(&url)
            .map(drop)
            .expect_err("it is refused")
            .to_string(),
    );
}

#[test]
fn servers_that_live_have_lanes_of_their_own_and_give_them_back() {
    let Some(database) = database() else { return };
    let (first, second) = (open(&database), open(&database));
    assert_eq!([first.lane(), second.lane()], [0, 1]);
    drop(first);
    assert_eq!(open(&database).lane(), 0);
}

#[test]
fn a_server_whose_place_was_taken_does_no_more() {
    let Some(database) = database() else { return };
    let mut server = open(&database);
    database.sql("UPDATE server SET lane = NULL");
    let ended = server.commit(&write().event(event(1)).changes());
    assert!(matches!(ended, Err(CommitError::Unknown(_))), "{ended:?}");
    assert_eq!(database.sql("SELECT count(*) FROM event"), "0");
}

#[test]
fn a_turn_whose_connection_breaks_leaves_nothing_and_the_next_one_goes_on() {
    let Some(database) = database() else { return };
    let mut server = open(&database);
    load(&mut server, |wanted| wanted.agents = ["agent".into()].into());
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()");
    let broken = server.commit(&write().agent(None, &agent("agent")).event(event(1)).changes());
    assert!(
        matches!(
            broken,
            Err(CommitError::RolledBack(
                StoreError::Unavailable(_) | StoreError::Busy(_)
            ))
        ),
        "{broken:?}"
    );
    server.abandon();
    assert_eq!(
        commit(&mut server, write().agent(None, &agent("agent")).event(event(1))),
        1
    );
}

#[test]
fn others_hear_of_a_commit_and_of_whom_it_is_about() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let (tell, told) = channel();
    second.listen(Box::new(move |news| {
        // The test may be over.
        let _ = tell.send(news);
    }));
    let about = adjutant_core::set::rows::NewEvent {
        kind: EventKind::TaskDispatched,
        agent: Some("agent".into()),
        ..event(1)
    };
    // Listening begins some time after the opening: whoever began late hears with the first word of all.
    let mut agents = BTreeSet::new();
    let mut seq = 0;
    for _ in 0..50 {
        seq = commit(&mut first, write().event(about.clone()));
        if let Ok(news) = told.recv_timeout(MOMENT) {
            agents.extend(news.agents.into_iter().flatten());
            break;
        }
    }
    assert_eq!(agents, ["agent".into()].into(), "after event {seq}");
}

#[test]
fn a_database_that_cannot_be_used_is_refused_with_the_reason() {
    let Some(database) = database() else { return };
    let refusal = || {
        Postgres::open(database.url())
            .map(drop)
            .expect_err("it is refused")
            .to_string()
    };
    database.sql("CREATE TABLE invoices (id int)");
    let foreign = refusal();
    assert!(
        foreign.contains("tables of something else: invoices"),
        "{foreign}"
    );
    database.sql("DROP TABLE invoices");
    drop(open(&database));
    database.sql("UPDATE meta SET value = '99' WHERE name = 'adjutant schema'");
    let newer = refusal();
    assert!(newer.contains("schema 99 by a newer version"), "{newer}");
    let nowhere = Postgres::open("postgres://nobody@127.0.0.1:1/none").map(drop);
    assert!(
        matches!(nowhere, Err(OpenError::Unreachable { .. })),
        "{nowhere:?}"
    );
    let garbage = Postgres::open("postgres://host:port/x").map(drop);
    assert!(matches!(garbage, Err(OpenError::Url(_))), "{garbage:?}");
}

#[test]
fn a_turn_that_changes_nothing_writes_nothing() {
    let Some(database) = database() else { return };
    let mut server = open(&database);
    let turns = || database.sql("SELECT sum(turn) FROM server");
    let before = turns();
    load(&mut server, |wanted| wanted.agents = ["agent".into()].into());
    server.commit(&Changes::default()).expect("nothing is committed");
    assert_eq!(turns(), before);
}
