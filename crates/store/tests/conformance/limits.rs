//! Policies, counters and locks: rows by scope and by name.

use std::sync::Arc;

use adjutant_core::attempt::AttemptKey;
use adjutant_core::counter::Counter;
use adjutant_core::limit::{Limit, Policy, Scope, Window};
use adjutant_core::money::Money;
use adjutant_core::name::LockName;
use adjutant_core::time::Span;

use crate::rows::{NAME, attempt_key, full_counter, full_policy, scopes};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    every_field_of_a_policy_survives_in_every_scope,
    a_changed_policy_takes_the_place_of_the_old_one,
    every_field_of_a_counter_survives_in_every_scope,
    a_changed_counter_takes_the_place_of_the_old_one,
    scopes_of_which_nothing_is_known_are_not_given,
    locks_are_taken_handed_over_and_freed,
];

/// All policies by scope, in whatever way the store gives them.
fn policies(store: &mut dyn Subject) -> Vec<(Scope, Arc<Policy>)> {
    let mut policies = store.census().policies;
    policies.sort_by_key(|(scope, _)| scope.clone());
    if store.store().is_shared() {
        let mut rows =
            store.load(|wanted| wanted.scopes = policies.iter().map(|(scope, _)| scope.clone()).collect());
        rows.policies.sort_by_key(|(scope, _)| scope.clone());
        assert_eq!(rows.policies, policies, "a turn is given what a census says");
    }
    policies
}

/// All counters by scope, in whatever way the store gives them.
fn counters(store: &mut dyn Subject) -> Vec<Arc<Counter>> {
    let mut counters = store.census().counters;
    counters.sort_by_key(|counter| counter.scope.clone());
    if store.store().is_shared() {
        let mut rows = store.load(|wanted| {
            wanted.scopes = counters.iter().map(|counter| counter.scope.clone()).collect();
        });
        rows.counters.sort_by_key(|counter| counter.scope.clone());
        assert_eq!(rows.counters, counters, "a turn is given what a census says");
    }
    counters
}

fn policies_are(store: &mut dyn Subject, expected: &[(Scope, Policy)]) {
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(scope, policy)| (scope.clone(), Arc::new(policy.clone())))
        .collect();
    expected.sort_by_key(|(scope, _)| scope.clone());
    store.now_and_after_a_crash(|store| assert_eq!(policies(store), expected));
}

fn counters_are(store: &mut dyn Subject, expected: &[Counter]) {
    let mut expected: Vec<_> = expected.iter().cloned().map(Arc::new).collect();
    expected.sort_by_key(|counter| counter.scope.clone());
    store.now_and_after_a_crash(|store| assert_eq!(counters(store), expected));
}

fn every_field_of_a_policy_survives_in_every_scope(store: &mut dyn Subject) {
    let set: Vec<(Scope, Policy)> = scopes()
        .into_iter()
        .enumerate()
        .map(|(index, scope)| {
            let policy = if index % 2 == 0 {
                full_policy()
            } else {
                Policy::default()
            };
            (scope, policy)
        })
        .collect();
    set.iter()
        .fold(write(), |write, (scope, policy)| {
            write.policy(scope, None, policy)
        })
        .commit(store);
    policies_are(store, &set);
}

fn a_changed_policy_takes_the_place_of_the_old_one(store: &mut dyn Subject) {
    let full = full_policy();
    let limit = |limit: Limit| Policy {
        limits: vec![limit],
        ..Policy::default()
    };
    let none = || Limit::none(Window::Day);
    #[rustfmt::skip]
    let variants = [
        full.clone(),
        Policy::default(),
        limit(none()),
        limit(Limit { tokens: Some(1), ..none() }),
        limit(Limit { cost: Some(Money::from_nanos(1)), ..none() }),
        limit(Limit { cost: Some(Money::MAX), ..none() }),
        limit(Limit { jobs: Some(1), ..none() }),
        limit(Limit { concurrent: Some(1), ..none() }),
        limit(Limit { pull_requests: Some(1), ..none() }),
        limit(Limit { issues: Some(1), ..none() }),
        limit(Limit { hard: false, ..none() }),
        Policy { model_allowlist: vec!["model".into()], ..Policy::default() },
        Policy { max_job_duration: Some(Span::from_micros(1_500_000)), ..Policy::default() },
        Policy { prices: full.prices, ..Policy::default() },
        Policy { cooldown_after_failure: Span::from_micros(1), ..Policy::default() },
    ];
    let mut before = None;
    for variant in &variants {
        write().policy(&Scope::Fleet, before, variant).commit(store);
        policies_are(store, &[(Scope::Fleet, variant.clone())]);
        before = Some(variant);
    }
}

fn every_field_of_a_counter_survives_in_every_scope(store: &mut dyn Subject) {
    let used: Vec<Counter> = scopes()
        .into_iter()
        .enumerate()
        .map(|(index, scope)| {
            if index % 2 == 0 {
                full_counter(&scope)
            } else {
                Counter::new(scope)
            }
        })
        .collect();
    used.iter()
        .fold(write(), |write, counter| write.counter(None, counter))
        .commit(store);
    counters_are(store, &used);
}

fn a_changed_counter_takes_the_place_of_the_old_one(store: &mut dyn Subject) {
    let (full, empty) = (full_counter(&Scope::Fleet), Counter::new(Scope::Fleet));
    #[rustfmt::skip]
    let variants = [
        full.clone(),
        empty.clone(),
        Counter { resets: 1, ..empty.clone() },
        Counter { hour: full.hour, ..empty.clone() },
        Counter { day: full.day, ..empty.clone() },
        Counter { total: full.total, ..empty.clone() },
        Counter { held_tokens: 1, ..empty.clone() },
        Counter { held_cost: Money::from_nanos(1), ..empty.clone() },
        Counter { held_pull_requests: 1, ..empty.clone() },
        Counter { held_issues: 1, ..empty.clone() },
        Counter { active: 1, ..empty.clone() },
        Counter { cooldown_until: full.hour.start, ..empty.clone() },
    ];
    let mut before = None;
    for variant in &variants {
        write().counter(before, variant).commit(store);
        counters_are(store, std::slice::from_ref(variant));
        before = Some(variant);
    }
}

fn scopes_of_which_nothing_is_known_are_not_given(store: &mut dyn Subject) {
    let (set, used) = (Scope::Model("a".into()), Scope::Project("a".into()));
    write()
        .policy(&set, None, &full_policy())
        .counter(None, &full_counter(&used))
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let rows = if store.store().is_shared() {
            store.load(|wanted| {
                wanted.scopes = [set.clone(), used.clone(), Scope::Repo("a".into()), Scope::Fleet].into();
            })
        } else {
            store.census()
        };
        assert_eq!(rows.policies, [(set.clone(), full_policy().into())]);
        assert_eq!(rows.counters, [full_counter(&used).into()]);
    });
}

/// All locks that are taken, in whatever way the store gives them.
fn locks(store: &mut dyn Subject) -> Vec<(LockName, AttemptKey)> {
    let mut locks = store.census().locks;
    locks.sort();
    if store.store().is_shared() {
        let mut rows = store.load(|wanted| wanted.locks = [NAME.into(), "main".into(), "Main".into()].into());
        rows.locks.sort();
        assert_eq!(rows.locks, locks, "a turn is given what a census says");
    }
    locks
}

fn locks_are_taken_handed_over_and_freed(store: &mut dyn Subject) {
    let (first, second) = (attempt_key(1, 1), attempt_key(2, u32::MAX));
    assert_eq!(locks(store), []);
    write()
        .lock(NAME, None, Some(first))
        .lock("main", None, Some(first))
        .commit(store);
    let taken = [("main".into(), first), (NAME.into(), first)];
    store.now_and_after_a_crash(|store| assert_eq!(locks(store), taken));
    write()
        .lock("main", Some(first), Some(second))
        .lock(NAME, Some(first), None)
        .commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(locks(store), [("main".into(), second)]));
    write().lock("main", Some(second), None).commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(locks(store), []));
}
