//! Whatever is there: ready tasks and agents with room, those aside that another server holds.

use adjutant_core::agent::Agent;
use adjutant_core::attempt::{Attempt, AttemptState, Outcome};
use adjutant_core::counter::Counter;
use adjutant_core::limit::{Policy, Scope};
use adjutant_core::set::queues::WINDOW_STRETCH;
use adjutant_core::set::rows::{Onlooker, Rows, Wanted};
use adjutant_core::task::{Class, Queue, Task, TaskKey};
use adjutant_store::Store;
use adjutant_store::memory::Memory;

use crate::rows::{agent, at, attempt, attempt_key, full_agent, key, task};
use crate::sharing::{class, is_busy, load, three, wanted};
use crate::write::{Write, write};

fn queue(class: &Class) -> Queue {
    Queue {
        class: class.id,
        gate: None,
    }
}

/// The keys of a queue's first stretch, whether it is complete, and whether something was skipped.
fn window(server: &mut Memory, class: &Class) -> (Vec<TaskKey>, bool, bool) {
    let rows = load(server, |wanted| {
        wanted.windows.insert(queue(class), None);
    });
    let (_, orders, complete) = &rows.windows[0];
    (
        orders.iter().map(|order| order.key).collect(),
        *complete,
        rows.skipped,
    )
}

#[test]
fn a_window_skips_tasks_that_another_server_holds_and_says_so() {
    let [mut first, mut second, _third] = three();
    let class = class(&mut first);
    let tasks: Vec<Task> = (1..=4).map(|number| task(number, &class)).collect();
    first
        .commit(&write().tasks(&tasks).changes())
        .expect("a turn is committed");
    load(&mut first, |wanted| wanted.tasks = [key(1), key(3)].into());
    assert_eq!(window(&mut second, &class), (vec![key(2), key(4)], true, true));
    // What the window gave is held.
    assert!(is_busy(
        &mut first,
        &wanted(|wanted| wanted.tasks = [key(2)].into())
    ));
    // The refused turn held nothing any more: the second one is given the rest.
    assert_eq!(
        window(&mut second, &class),
        (vec![key(1), key(2), key(3), key(4)], true, false)
    );
    assert_eq!(window(&mut first, &class), (vec![], true, true));
    second.abandon();
    assert_eq!(
        window(&mut first, &class),
        ([1, 2, 3, 4].map(key).into(), true, false)
    );
}

#[test]
fn a_window_goes_on_behind_what_it_skips() {
    let [mut first, mut second, mut third] = three();
    let class = class(&mut first);
    let count = i64::try_from(WINDOW_STRETCH).expect("it is small");
    let tasks: Vec<Task> = (1..=2 * count + 1).map(|number| task(number, &class)).collect();
    first
        .commit(&write().tasks(&tasks).changes())
        .expect("a turn is committed");
    let keys = |from: i64, to: i64| -> Vec<TaskKey> { (from..=to).map(key).collect() };
    assert_eq!(window(&mut first, &class), (keys(1, count), false, false));
    assert_eq!(
        window(&mut second, &class),
        (keys(count + 1, 2 * count), false, true)
    );
    assert_eq!(
        window(&mut third, &class),
        (keys(2 * count + 1, 2 * count + 1), true, true)
    );
}

#[test]
fn other_queues_are_given_though_one_is_held() {
    let [mut first, mut second, _third] = three();
    let class = class(&mut first);
    let gated = Task {
        gate: Some(adjutant_core::task::Gate::Fleet),
        ..task(2, &class)
    };
    let changes = write().task(&task(1, &class)).task(&gated).changes();
    first.commit(&changes).expect("a turn is committed");
    window(&mut first, &class);
    let rows = load(&mut second, |wanted| {
        wanted.windows.insert(gated.queue().expect("it is ready"), None);
        wanted.queues = true;
    });
    assert_eq!(rows.windows[0].1, [gated.order()]);
    assert_eq!(rows.queues.len(), 2, "all queues are told, held or not");
    assert!(!rows.skipped);
}

fn ids(rows: &Rows) -> Vec<&str> {
    let mut ids: Vec<&str> = rows.agents.iter().map(|agent| agent.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

fn seen(rows: &Rows) -> Vec<&str> {
    let roomy = rows.roomy.iter();
    let mut ids: Vec<&str> = roomy.map(|onlooker| onlooker.agent.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn agents_with_room_are_seen_with_what_is_set_and_used_and_nobody_is_held() {
    let [mut first, mut second, _third] = three();
    let scope = Scope::Agent("idle".into());
    let base = |id: &str| agent(id);
    let occupied = |id: &str, max_load| Agent {
        max_load,
        attempts: vec![attempt_key(1, 1)],
        ..base(id)
    };
    #[rustfmt::skip]
    let agents = [
        base("idle"),
        occupied("busy", 2),
        occupied("unlimited", 0),
        occupied("full", 1),
        Agent { offline: true, ..base("offline") },
        Agent { draining: true, ..base("draining") },
        Agent { paused_until: Some(at(1)), ..base("paused") },
        Agent { quarantined_until: Some(at(1)), ..base("quarantined") },
        Agent { mute: true, ..base("mute") },
        Agent { paused_models: [("model".into(), at(1))].into(), ..base("picky") },
        full_agent("nothing at all"),
    ];
    let changes = agents
        .iter()
        .fold(write(), |write, agent| write.agent(None, agent))
        .policy(&scope, None, &Policy::default())
        .counter(None, &Counter::new(scope.clone()))
        .changes();
    first.commit(&changes).expect("a turn is committed");
    let rows = load(&mut first, |wanted| wanted.roomy = true);
    assert_eq!(seen(&rows), ["busy", "idle", "picky", "unlimited"]);
    assert!(rows.agents.is_empty() && !rows.skipped);
    let with_rows: Vec<&Onlooker> = rows
        .roomy
        .iter()
        .filter(|onlooker| onlooker.policy.is_some() && onlooker.counter.is_some())
        .collect();
    assert_eq!(with_rows.len(), 1);
    for id in ["busy", "idle", "picky", "unlimited"] {
        assert!(!is_busy(
            &mut second,
            &wanted(|wanted| wanted.agents = [id.into()].into())
        ));
    }
}

#[test]
fn agents_who_are_to_be_given_something_come_with_their_scopes_and_are_held() {
    let [mut first, mut second, _third] = three();
    let scope = Scope::Agent("a".into());
    let changes = ["a", "b", "c"]
        .iter()
        .fold(write(), |write, id| write.agent(None, &agent(id)))
        .policy(&scope, None, &Policy::default())
        .counter(None, &Counter::new(scope.clone()))
        .changes();
    first.commit(&changes).expect("a turn is committed");
    let rows = load(&mut first, |wanted| {
        wanted.takers = ["a".into(), "b".into()].into();
    });
    assert_eq!((ids(&rows), rows.skipped), (vec!["a", "b"], false));
    assert_eq!((rows.policies.len(), rows.counters.len()), (1, 1));
    for id in ["a", "b"] {
        let scope = Scope::Agent(id.into());
        assert!(
            rows.known_scopes.contains(&scope),
            "also that nothing is set for it is known"
        );
        assert!(is_busy(
            &mut second,
            &wanted(|wanted| wanted.agents = [id.into()].into())
        ));
        assert!(is_busy(
            &mut second,
            &wanted(|wanted| wanted.scopes = [scope].into())
        ));
    }
    assert!(!is_busy(
        &mut second,
        &wanted(|wanted| wanted.agents = ["c".into()].into())
    ));
}

#[test]
fn agents_who_are_to_be_given_something_are_skipped_when_another_server_holds_them_or_their_scope() {
    let [mut first, mut second, _third] = three();
    let changes = ["a", "b", "c"]
        .iter()
        .fold(write(), |write, id| write.agent(None, &agent(id)))
        .changes();
    first.commit(&changes).expect("a turn is committed");
    load(&mut first, |wanted| {
        wanted.agents = ["a".into()].into();
        wanted.scopes = [Scope::Agent("c".into())].into();
    });
    let all = |wanted: &mut Wanted| wanted.takers = ["a".into(), "b".into(), "c".into()].into();
    let rows = load(&mut second, all);
    assert_eq!((ids(&rows), rows.skipped), (vec!["b"], true));
    assert_eq!(rows.known_scopes, [Scope::Agent("b".into())]);
    // A turn's own locks are no reason to skip.
    let rows = load(&mut first, all);
    assert_eq!((ids(&rows), rows.skipped), (vec!["a", "c"], true));
    first.abandon();
    let rows = load(&mut second, all);
    assert_eq!((ids(&rows), rows.skipped), (vec!["a", "b", "c"], false));
}

#[test]
fn everyone_is_seen_with_what_is_set_and_used_and_nobody_is_held() {
    let [mut first, mut second, _third] = three();
    let scope = Scope::Agent("a".into());
    let changes = write()
        .agent(None, &agent("a"))
        .agent(None, &full_agent("b"))
        .policy(&scope, None, &crate::rows::full_policy())
        .counter(None, &crate::rows::full_counter(&scope))
        .changes();
    first.commit(&changes).expect("a turn is committed");
    load(&mut first, |wanted| wanted.agents = ["a".into()].into());
    let rows = load(&mut second, |wanted| wanted.everyone = true);
    assert!(rows.agents.is_empty() && !rows.skipped);
    let [a, b] = rows.onlookers.as_slice() else {
        panic!("both agents are seen: {:?}", rows.onlookers);
    };
    assert_eq!((&*a.agent, &*b.agent), (&agent("a"), &full_agent("b")));
    assert_eq!(a.policy.as_deref(), Some(&crate::rows::full_policy()));
    assert_eq!(a.counter.as_deref(), Some(&crate::rows::full_counter(&scope)));
    assert!(b.policy.is_none() && b.counter.is_none());
    assert!(!is_busy(
        &mut first,
        &wanted(|wanted| wanted.agents = ["b".into()].into())
    ));
}

#[test]
fn silent_agents_and_attempts_that_linger_are_told_with_what_is_due() {
    let [mut first, mut second, _third] = three();
    let seen = |id: &str, micros| Agent {
        last_seen: at(micros),
        ..agent(id)
    };
    let gone = Agent {
        offline: true,
        ..seen("gone", 1)
    };
    let lingers = |number, state, occupies, until| Attempt {
        state,
        occupies,
        lingers_until: until,
        ..attempt(attempt_key(number, 1))
    };
    let over = AttemptState::Ended(Outcome::Lost);
    let changes = [
        lingers(1, AttemptState::Offered, false, Some(at(10))),
        lingers(2, over, true, Some(at(9))),
        lingers(3, over, false, Some(at(9))),
        lingers(4, AttemptState::Taken, true, Some(at(11))),
        lingers(5, AttemptState::Taken, true, None),
    ]
    .iter()
    .fold(write(), Write::attempt)
    .agent(None, &seen("silent", 1))
    .agent(None, &seen("heard", 3))
    .agent(None, &gone)
    .changes();
    first.commit(&changes).expect("a turn is committed");
    // Nobody is held by being told.
    load(&mut first, |wanted| wanted.agents = ["silent".into()].into());
    let rows = load(&mut second, |wanted| {
        wanted.due = Some(at(10));
        wanted.silent_since = Some(at(2));
    });
    let due = rows.due.expect("what is due was asked for");
    assert_eq!(due.silent, ["silent".into()]);
    assert_eq!(due.lingering, [attempt_key(1, 1), attempt_key(2, 1)]);
}
