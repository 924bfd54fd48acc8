//! The invariants of the contract, checked on everything that is committed.

use std::collections::{BTreeMap, BTreeSet};

use adjutant_core::attempt::AttemptKey;
use adjutant_core::counter::Counter;
use adjutant_core::ledger::scopes;
use adjutant_core::limit::{Scope, Window};
use adjutant_core::name::LockName;
use adjutant_core::task::{DependencyState, Status, TaskKey};
use adjutant_store::memory::Snapshot;

/// Checks I1, I2, I3, I7, I9 and the gapless order of events.
pub(crate) fn check(world: &Snapshot) {
    leases(world);
    loads(world);
    locks(world);
    dependencies(world);
    ledger(world);
    for (event, seq) in world.events.iter().zip(1..) {
        assert_eq!(event.seq, seq, "events have gaps");
    }
}

// I1, I5
fn leases(world: &Snapshot) {
    let mut live: BTreeMap<TaskKey, Vec<AttemptKey>> = BTreeMap::new();
    for attempt in world
        .attempts
        .iter()
        .filter(|attempt| attempt.is_live() && !attempt.external)
    {
        live.entry(attempt.key.task).or_default().push(attempt.key);
    }
    for task in &world.tasks {
        let own = live.remove(&task.key).unwrap_or_default();
        let expected = match task.status {
            Status::InProgress => vec![AttemptKey {
                task: task.key,
                number: task.attempt,
            }],
            _ => Vec::new(),
        };
        assert_eq!(
            own, expected,
            "I1: live attempts of {:?} ({:?})",
            task.id, task.status
        );
    }
    assert!(live.is_empty(), "attempts of tasks that do not exist: {live:?}");
}

// I2
fn loads(world: &Snapshot) {
    let mut occupied: BTreeMap<&str, BTreeSet<AttemptKey>> = BTreeMap::new();
    for attempt in world
        .attempts
        .iter()
        .filter(|attempt| attempt.occupies && attempt.registered)
    {
        occupied
            .entry(attempt.agent.as_str())
            .or_default()
            .insert(attempt.key);
    }
    for agent in &world.agents {
        let own: BTreeSet<AttemptKey> = agent.attempts.iter().copied().collect();
        let expected = occupied.remove(agent.id.as_str()).unwrap_or_default();
        assert_eq!(own, expected, "I2: attempts of {:?}", agent.id);
        assert!(
            agent.max_load == 0 || agent.load() <= agent.max_load,
            "I2: {:?} is overloaded",
            agent.id
        );
        if agent.offline {
            assert!(own.is_empty(), "an agent that is offline holds {own:?}");
        }
    }
    assert!(
        occupied.is_empty(),
        "attempts that occupy agents which do not exist: {occupied:?}"
    );
}

// I1: no two tasks in progress share a lock
fn locks(world: &Snapshot) {
    let mut held: BTreeMap<LockName, AttemptKey> = BTreeMap::new();
    for attempt in world.attempts.iter().filter(|attempt| attempt.occupies) {
        for lock in attempt.locks.iter() {
            let other = held.insert(lock.clone(), attempt.key);
            assert_eq!(other, None, "I1: lock {lock:?} is held twice");
        }
    }
    assert_eq!(held, world.locks, "locks and who holds them");
}

// I7
fn dependencies(world: &Snapshot) {
    let tasks: BTreeMap<TaskKey, _> = world.tasks.iter().map(|task| (task.key, task)).collect();
    for task in &world.tasks {
        let states: Vec<(TaskKey, DependencyState)> = world
            .edges
            .iter()
            .filter(|((_, dependent), _)| *dependent == task.key)
            .map(|((of, _), state)| (*of, *state))
            .collect();
        let count = |wanted: fn(DependencyState) -> bool| {
            u32::try_from(states.iter().filter(|(_, state)| wanted(*state)).count()).unwrap()
        };
        assert_eq!(
            task.unmet,
            count(|state| state != DependencyState::Met),
            "unmet of {:?}",
            task.id
        );
        let failed = count(|state| state == DependencyState::Failed);
        assert_eq!(
            task.failed_dependencies, failed,
            "failed dependencies of {:?}",
            task.id
        );
        for (of, state) in states {
            if tasks[&of].fanout.is_none() {
                assert_eq!(
                    state,
                    DependencyState::of(tasks[&of].status),
                    "{:?} of {:?}",
                    of,
                    task.id
                );
            }
        }
        if matches!(task.status, Status::InProgress | Status::Pending) {
            assert_eq!(task.unmet, 0, "I7: {:?} is {:?}", task.id, task.status);
        }
    }
}

// I3, I9
fn ledger(world: &Snapshot) {
    let mut expected: BTreeMap<Scope, Counter> = world
        .counters
        .keys()
        .map(|scope| (scope.clone(), Counter::new(scope.clone())))
        .collect();
    for attempt in world.attempts.iter().filter(|attempt| attempt.is_live()) {
        for scope in scopes(attempt, attempt.model.as_ref()) {
            let counter = expected
                .entry(scope.clone())
                .or_insert_with(|| Counter::new(scope));
            counter.active += 1;
            counter.held_tokens += attempt.hold.tokens;
            counter.held_cost += attempt.hold.cost;
        }
    }
    for (scope, counter) in &world.counters {
        let held = &expected[scope];
        assert_eq!(
            (counter.active, counter.held_tokens, counter.held_cost),
            (held.active, held.held_tokens, held.held_cost),
            "I9: active and held of {scope}"
        );
        for window in Window::ALL {
            let tally = match window {
                Window::Hour => counter.hour,
                Window::Day => counter.day,
                Window::Total => counter.total,
            };
            let mut jobs = 0;
            let mut tokens = 0;
            for line in world.accounts.iter().flat_map(|account| &account.lines) {
                assert!(
                    line.refunded <= line.tokens.counted(),
                    "a refund beyond its charge: {line:?}"
                );
                if line.scope == *scope
                    && line.resets == counter.resets
                    && window.start(line.hour) == tally.start
                {
                    jobs += line.jobs;
                    tokens += line.net_tokens();
                }
            }
            assert_eq!(
                (tally.jobs, tally.tokens),
                (jobs, tokens),
                "I9: {scope} {}",
                window.name()
            );
            if let Some(bound) = world
                .policies
                .get(scope)
                .and_then(|policy| policy.limit(window)?.jobs)
            {
                assert!(
                    tally.jobs <= bound,
                    "I3: {scope} {}: {} of {bound}",
                    window.name(),
                    tally.jobs
                );
            }
        }
    }
}
