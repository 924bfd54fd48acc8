//! What servers that share the store in memory do to each other: whoever holds a row, or its absence, keeps it from
//! the others until its turn ends.
//!
//! What is left out because another server holds it: [`crate::skipping`].

use std::sync::Arc;

use adjutant_core::agent::Agent;
use adjutant_core::attempt::Attempt;
use adjutant_core::counter::Counter;
use adjutant_core::ledger::Account;
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::set::rows::{Changes, Replay, ReplayAnswer, ReplayKey, Rows, Wanted};
use adjutant_core::task::{Class, DependencyState, TaskKey};
use adjutant_store::memory::Memory;
use adjutant_store::{Store, StoreError};

use crate::rows::{agent, at, attempt, attempt_key, key, task};
use crate::write::write;

pub(crate) fn wanted(ask: impl FnOnce(&mut Wanted)) -> Wanted {
    let mut wanted = Wanted::default();
    ask(&mut wanted);
    wanted
}

pub(crate) fn load(server: &mut Memory, ask: impl FnOnce(&mut Wanted)) -> Rows {
    server.load(&wanted(ask)).expect("rows are given")
}

pub(crate) fn is_busy(server: &mut Memory, wanted: &Wanted) -> bool {
    match server.load(wanted) {
        Ok(_) => false,
        Err(StoreError::Busy(_)) => true,
        Err(error) => panic!("not what a lock says: {error}"),
    }
}

pub(crate) fn three() -> [Memory; 3] {
    let first = Memory::shared();
    let (second, third) = (first.another(), first.another());
    [first, second, third]
}

pub(crate) fn class(server: &mut Memory) -> Arc<Class> {
    let rows = load(server, |wanted| {
        wanted.demands = vec![adjutant_core::task::Demand::default()];
    });
    server.abandon();
    Arc::clone(&rows.classes[0])
}

fn replay_key() -> ReplayKey {
    ReplayKey {
        token: "token".into(),
        key: "key".into(),
    }
}

/// One row of each kind, by each way to ask for it.
fn one_of_each() -> Vec<(&'static str, Wanted)> {
    let key_of = attempt_key(1, 1);
    vec![
        (
            "a task by id",
            wanted(|wanted| wanted.task_ids = ["task_1".into()].into()),
        ),
        ("a task by key", wanted(|wanted| wanted.tasks = [key(1)].into())),
        ("an attempt", wanted(|wanted| wanted.attempts = [key_of].into())),
        ("an account", wanted(|wanted| wanted.accounts = [key_of].into())),
        (
            "an agent",
            wanted(|wanted| wanted.agents = ["agent".into()].into()),
        ),
        ("a scope", wanted(|wanted| wanted.scopes = [Scope::Fleet].into())),
        ("a lock", wanted(|wanted| wanted.locks = ["main".into()].into())),
        (
            "an idempotency key",
            wanted(|wanted| wanted.idempotency = [replay_key()].into()),
        ),
        ("a job", wanted(|wanted| wanted.jobs = ["job".into()].into())),
    ]
}

/// Writes one row of each kind.
fn write_one_of_each(server: &mut Memory) {
    let class = class(server);
    let replay = Replay {
        digest: [0; 32],
        at: at(0),
        answer: ReplayAnswer::Done,
    };
    let changes = write()
        .task(&task(1, &class))
        .attempt(&attempt(attempt_key(1, 1)))
        .account(None, &Account::new(attempt_key(1, 1)))
        .agent(None, &agent("agent"))
        .policy(&Scope::Fleet, None, &Policy::default())
        .counter(None, &Counter::new(Scope::Fleet))
        .lock("main", None, Some(attempt_key(1, 1)))
        .replay(replay_key(), replay)
        .job("job", attempt_key(1, 1))
        .changes();
    server.commit(&changes).expect("a turn is committed");
}

fn each_is_held_until_the_turn_ends(servers: &mut [Memory; 3]) {
    let [first, second, third] = servers;
    for (what, wanted) in one_of_each() {
        assert!(!is_busy(first, &wanted), "{what} is free");
        assert!(is_busy(second, &wanted), "{what} is held");
        assert!(is_busy(third, &wanted), "{what} is held");
        assert!(
            !is_busy(first, &wanted),
            "{what} is not held against its own holder"
        );
        first.abandon();
        assert!(!is_busy(third, &wanted), "{what} is free again");
        assert!(is_busy(first, &wanted), "{what} has another holder");
        third.abandon();
    }
}

#[test]
fn a_row_that_one_server_holds_is_refused_to_another() {
    let mut servers = three();
    write_one_of_each(&mut servers[1]);
    each_is_held_until_the_turn_ends(&mut servers);
}

#[test]
fn the_absence_of_a_row_is_held_as_well() {
    each_is_held_until_the_turn_ends(&mut three());
}

#[test]
fn different_rows_are_held_by_different_servers() {
    let mut servers = three();
    write_one_of_each(&mut servers[0]);
    let [first, second, third] = &mut servers;
    let all = one_of_each();
    for (index, (what, wanted)) in all.iter().enumerate() {
        // A task is one row by id and by key, an attempt and its account too.
        let same = [[0, 1], [2, 3]].iter().find(|pair| pair.contains(&index));
        first.load(wanted).expect("the row is free");
        for (other_index, (other, also)) in all.iter().enumerate() {
            let expected = other_index == index || same.is_some_and(|pair| pair.contains(&other_index));
            assert_eq!(is_busy(second, also), expected, "{other} while {what} is held");
            second.abandon();
        }
        first.abandon();
    }
    first.load(&all[0].1).expect("the row is free");
    second.load(&all[4].1).expect("the row is free");
    third.load(&all[5].1).expect("the row is free");
}

#[test]
fn a_turn_that_is_refused_holds_nothing() {
    let [mut first, mut second, mut third] = three();
    let (held, other) = (one_of_each()[4].1.clone(), one_of_each()[6].1.clone());
    first.load(&held).expect("the row is free");
    second.load(&other).expect("the row is free");
    assert!(is_busy(&mut third, &other));
    assert!(is_busy(&mut second, &held));
    assert!(!is_busy(&mut third, &other), "what the refused turn had is free");
}

#[test]
fn locks_end_with_a_commit() {
    let [mut first, mut second, _third] = three();
    for (what, wanted) in one_of_each() {
        first.load(&wanted).expect("the row is free");
        assert!(is_busy(&mut second, &wanted), "{what}");
        first.commit(&Changes::default()).expect("a turn is committed");
        assert!(!is_busy(&mut second, &wanted), "{what}");
        let changes = write().event(crate::rows::event(1)).changes();
        second.commit(&changes).expect("a turn is committed");
        assert!(!is_busy(&mut first, &wanted), "{what}");
        first.abandon();
    }
}

#[test]
fn locks_end_with_the_server() {
    let [first, mut second, _third] = three();
    for (what, wanted) in one_of_each() {
        let mut gone = first.another();
        gone.load(&wanted).expect("the row is free");
        assert!(is_busy(&mut second, &wanted), "{what}");
        drop(gone);
        assert!(!is_busy(&mut second, &wanted), "{what}");
        second.abandon();
    }
}

#[test]
fn readers_and_a_census_wait_for_nobody() {
    let [mut first, mut second, _third] = three();
    write_one_of_each(&mut first);
    for (_, wanted) in one_of_each() {
        first.load(&wanted).expect("the row is free");
    }
    assert_eq!(second.census().expect("a census is given").agents.len(), 1);
    let mut reader = second.reader().expect("a reader is given");
    assert!(reader.task(&"task_1".into()).expect("a task is read").is_some());
}

#[test]
fn a_page_of_dependents_holds_them() {
    let [mut first, mut second, _third] = three();
    let class = class(&mut first);
    let changes = write()
        .task(&task(1, &class))
        .task(&task(2, &class))
        .edge((key(1), key(2)), None, DependencyState::Waiting)
        .changes();
    first.commit(&changes).expect("a turn is committed");
    let page = wanted(|wanted| {
        wanted.dependents.insert(key(1), TaskKey(0));
    });
    second
        .load(&wanted(|wanted| wanted.tasks = [key(2)].into()))
        .expect("the row is free");
    assert!(
        is_busy(&mut first, &page),
        "dependents are told for sure, never skipped"
    );
    second.abandon();
    assert!(!is_busy(&mut first, &page));
    assert!(is_busy(
        &mut second,
        &wanted(|wanted| wanted.tasks = [key(2)].into())
    ));
}

#[test]
fn what_no_store_on_disk_keeps_is_seen_by_the_other_servers() {
    let [mut first, mut second, _third] = three();
    let told = Attempt {
        delivered_at: Some(at(1)),
        stop_told: true,
        ..attempt(attempt_key(1, 1))
    };
    let quiet = Agent {
        mute: true,
        last_n: Some(7),
        ..agent("agent")
    };
    let changes = write().attempt(&told).agent(None, &quiet).changes();
    first.commit(&changes).expect("a turn is committed");
    let rows = load(&mut second, |wanted| {
        wanted.attempts = [told.key].into();
        wanted.agents = ["agent".into()].into();
    });
    assert_eq!((&*rows.attempts[0], &*rows.agents[0]), (&told, &quiet));
}

#[test]
fn each_server_has_a_lane_of_its_own() {
    let servers = three();
    assert_eq!(servers.each_ref().map(Store::lane), [0, 1, 2]);
    assert!(servers.iter().all(Store::is_shared));
    assert!(!Memory::alone().is_shared());
}
