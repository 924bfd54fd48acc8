//! A commit that is under way, and the turn that is taken on top of it meanwhile.

use std::thread;
use std::time::{Duration, Instant};

use adjutant_core::counter::Counter;
use adjutant_core::limit::Scope;
use adjutant_core::set::rows::Wanted;
use adjutant_store::postgres::Postgres;
use adjutant_store::{Commit, CommitError, Store as _, StoreError};

use crate::rows::{agent, event};
use crate::servers::{booked, commit, database, load, open};
use crate::write::{Write, write};

fn begin(server: &mut Postgres, write: Write) {
    let begun = server.begin_commit(&write.changes());
    assert!(matches!(begun, Ok(Commit::UnderWay)), "{begun:?}");
}

fn of_fleet(wanted: &mut Wanted) {
    wanted.scopes = [Scope::Fleet].into();
}

/// A server with something used of the fleet's scope.
fn used(server: &mut Postgres) -> Counter {
    let used = booked(&Scope::Fleet, &Counter::new(Scope::Fleet), 1);
    commit(server, write().counter(None, &used));
    used
}

#[test]
fn a_commit_goes_on_by_itself() {
    let Some(database) = database() else { return };
    let mut server = open(&database);
    load(&mut server, |wanted| wanted.agents = ["agent".into()].into());
    begin(&mut server, write().agent(None, &agent("agent")).event(event(1)));
    let began = Instant::now();
    // Nobody looks after it.
    while database.sql("SELECT count(*) FROM agent") != "1" {
        assert!(began.elapsed() < Duration::from_secs(10), "it was not sent");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.end_commit().expect("it is committed"), 1);
}

#[test]
fn the_next_turn_reads_what_is_under_way_as_it_will_be() {
    let Some(database) = database() else { return };
    let mut server = open(&database);
    let one = used(&mut server);
    let two = booked(&Scope::Fleet, &one, 1);
    load(&mut server, of_fleet);
    begin(&mut server, write().counter(Some(&one), &two));
    // It may be committed by now or not.
    let rows = load(&mut server, of_fleet);
    assert_eq!(*rows.counters[0], two);
    server.end_commit().expect("it is committed");
    let three = booked(&Scope::Fleet, &two, 1);
    begin(&mut server, write().counter(Some(&two), &three));
    server.end_commit().expect("it is committed");
    let rows = load(&mut server, of_fleet);
    assert_eq!(*rows.counters[0], three);
}

#[test]
fn a_row_that_a_commit_writes_is_waited_for_by_the_turn_on_top_of_it() {
    let Some(database) = database() else { return };
    let mut server = open(&database);
    let before = agent("agent");
    commit(&mut server, write().agent(None, &before));
    for load_number in 1..=20 {
        let rows = load(&mut server, |wanted| wanted.agents = ["agent".into()].into());
        let mut now = (*rows.agents[0]).clone();
        assert_eq!(now.max_load, before.max_load + load_number - 1);
        if load_number > 1 {
            server.end_commit().expect("it is committed");
        }
        let known = now.clone();
        now.max_load += 1;
        begin(&mut server, write().agent(Some(&known), &now));
    }
    server.end_commit().expect("it is committed");
}

#[test]
fn a_commit_that_fails_takes_the_turn_on_top_of_it_along() {
    let Some(database) = database() else { return };
    let (mut first, mut second) = (open(&database), open(&database));
    let one = used(&mut first);
    load(&mut first, of_fleet);
    load(&mut second, of_fleet);
    commit(
        &mut second,
        write().counter(Some(&one), &booked(&Scope::Fleet, &one, 1)),
    );
    begin(
        &mut first,
        write()
            .counter(Some(&one), &booked(&Scope::Fleet, &one, 1))
            .agent(None, &agent("agent")),
    );
    // A turn is begun on top of it, and has locked something.
    commit(&mut second, write().agent(None, &agent("other")));
    load(&mut first, |wanted| wanted.agents = ["other".into()].into());
    let ended = first.end_commit();
    assert!(
        matches!(ended, Err(CommitError::RolledBack(StoreError::Busy(_)))),
        "{ended:?}"
    );
    let rows = load(&mut second, |wanted| {
        wanted.agents = ["other".into(), "agent".into()].into();
    });
    assert_eq!(
        rows.agents.len(),
        1,
        "what it had locked is free, and what it wrote is not there"
    );
    second.abandon();
    // It goes on, with what the other one made of it.
    let rows = load(&mut first, of_fleet);
    assert_eq!(rows.counters[0].total.jobs, 2);
    let three = booked(&Scope::Fleet, &rows.counters[0], 1);
    commit(&mut first, write().counter(Some(&rows.counters[0]), &three));
}

#[test]
fn only_one_commit_is_under_way() {
    let Some(database) = database() else { return };
    let mut server = open(&database);
    load(&mut server, |wanted| wanted.agents = ["agent".into()].into());
    begin(&mut server, write().agent(None, &agent("agent")));
    let again = server.begin_commit(&write().agent(None, &agent("other")).changes());
    assert!(again.is_err(), "{again:?}");
    server.end_commit().expect("it is committed");
    assert!(server.end_commit().is_err(), "there is none");
}
