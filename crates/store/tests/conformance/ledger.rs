//! The ledger: lines are added, and those that are there are raised in place.

use adjutant_core::attempt::{Attempt, AttemptKey, AttemptState, Outcome};
use adjutant_core::ledger::{Account, Line};
use adjutant_core::limit::Scope;
use adjutant_core::money::Money;
use adjutant_core::time::Timestamp;

use crate::rows::{NAME, at, attempt, attempt_key, full_line, scopes};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    every_field_of_a_ledger_line_survives,
    lines_of_every_scope_hour_reset_and_model_stand_apart,
    lines_accumulate_and_are_raised_in_place,
    accounts_of_different_attempts_do_not_mix,
    attempts_that_were_charged_nothing_have_no_lines,
    a_census_brings_the_accounts_of_live_attempts,
];

fn sorted(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by_key(|line| format!("{line:?}"));
    lines
}

/// The account as a turn is given it. One without lines says as much as none.
fn given(store: &mut dyn Subject, key: AttemptKey) -> Option<Account> {
    let rows = store.load(|wanted| {
        wanted.accounts.insert(key);
    });
    assert!(rows.accounts.len() <= 1, "one account was asked for");
    let account = rows.accounts.first().map(|account| (**account).clone());
    account.filter(|account| !account.lines.is_empty())
}

fn survives(store: &mut dyn Subject, account: &Account) {
    store.now_and_after_a_crash(|store| {
        let given = given(store, account.attempt).expect("an account with lines is given");
        assert_eq!(given.attempt, account.attempt);
        assert_eq!(sorted(given.lines), sorted(account.lines.clone()));
    });
}

fn account(key: AttemptKey, lines: impl IntoIterator<Item = Line>) -> Account {
    Account {
        attempt: key,
        lines: lines.into_iter().collect(),
    }
}

fn line(scope: Scope) -> Line {
    Line::new(scope, at(0).hour(), 0, None)
}

fn every_field_of_a_ledger_line_survives(store: &mut dyn Subject) {
    let bare = Line::new(Scope::Fleet, Timestamp::EPOCH, 0, None);
    let account = account(
        attempt_key(1, u32::MAX),
        scopes().iter().map(full_line).chain([bare]),
    );
    write().account(None, &account).commit(store);
    survives(store, &account);
}

fn lines_of_every_scope_hour_reset_and_model_stand_apart(store: &mut dyn Subject) {
    let mut lines = Vec::new();
    for scope in scopes() {
        for hour in [at(0).hour(), Timestamp::EPOCH] {
            for resets in [0, 1] {
                for model in [None, Some("model".into()), Some(NAME.into())] {
                    let mut line = Line::new(scope.clone(), hour, resets, model);
                    line.jobs = u64::try_from(lines.len()).expect("they are few");
                    lines.push(line);
                }
            }
        }
    }
    let account = account(attempt_key(1, 1), lines);
    write().account(None, &account).commit(store);
    survives(store, &account);
}

/// Each turn decides on the account as it was given.
fn lines_accumulate_and_are_raised_in_place(store: &mut dyn Subject) {
    let key = attempt_key(1, 1);
    let mut now = account(key, [line(Scope::Fleet)]);
    write().account(None, &now).commit(store);
    survives(store, &now);
    for (step, scope) in (1..).zip(scopes()) {
        let before = given(store, key).expect("it is given");
        now = before.clone();
        for line in &mut now.lines {
            line.tokens.tokens_in += step;
            line.cost += Money::from_nanos(1);
        }
        let added = now.line(&scope, at(0).hour(), 1, Some(&"model".into()));
        added.jobs += 1;
        write().account(Some(&before), &now).commit(store);
        survives(store, &now);
    }
    assert_eq!(now.lines.len(), 1 + scopes().len());
    // One line alone is raised, whichever it is.
    for index in 0..now.lines.len() {
        let before = given(store, key).expect("it is given");
        now = before.clone();
        now.lines[index].refunded += 1;
        write().account(Some(&before), &now).commit(store);
        survives(store, &now);
    }
}

fn accounts_of_different_attempts_do_not_mix(store: &mut dyn Subject) {
    let keys = [attempt_key(1, 1), attempt_key(1, 2), attempt_key(2, 1)];
    let accounts: Vec<Account> = (1..)
        .zip(keys)
        .map(|(jobs, key)| {
            let mut line = line(Scope::Fleet);
            line.jobs = jobs;
            account(key, [line])
        })
        .collect();
    accounts
        .iter()
        .fold(write(), |write, account| write.account(None, account))
        .commit(store);
    for account in &accounts {
        survives(store, account);
    }
    let rows = store.load(|wanted| wanted.accounts = keys.into());
    assert_eq!(rows.accounts.len(), 3);
}

fn attempts_that_were_charged_nothing_have_no_lines(store: &mut dyn Subject) {
    let key = attempt_key(1, 1);
    write()
        .attempt(&attempt(key))
        .account(None, &Account::new(key))
        .commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(given(store, key), None);
        assert_eq!(given(store, attempt_key(2, 1)), None);
    });
}

fn a_census_brings_the_accounts_of_live_attempts(store: &mut dyn Subject) {
    let (live, ended) = (attempt_key(1, 1), attempt_key(2, 1));
    let over = Attempt {
        state: AttemptState::Ended(Outcome::Completed),
        ..attempt(ended)
    };
    let charged = account(live, [line(Scope::Fleet), line(Scope::Agent("agent-1".into()))]);
    write()
        .attempt(&attempt(live))
        .attempt(&over)
        .account(None, &charged)
        .account(None, &account(ended, [line(Scope::Fleet)]))
        .commit(store);
    store.now_and_after_a_crash(|store| {
        let accounts = store.census().accounts;
        let own = accounts.iter().find(|account| account.attempt == live);
        let lines = own.expect("the live one is there").lines.clone();
        assert_eq!(sorted(lines), sorted(charged.lines.clone()));
    });
}
