//! Faults that a test asks the store in memory for: they do what they say, once.

use adjutant_core::set::rows::Wanted;
use adjutant_store::memory::{Fault, Memory};
use adjutant_store::{CommitError, Reader, Store, StoreError};

use crate::rows::{agent, event};
use crate::write::write;

fn both() -> [Memory; 2] {
    [Memory::alone(), Memory::shared()]
}

/// Commits an agent with an event.
fn commit(server: &mut Memory, id: &str) -> Result<u64, CommitError> {
    let changes = write().agent(None, &agent(id)).event(event(1)).changes();
    server.commit(&changes)
}

fn reader(server: &Memory) -> Box<dyn Reader> {
    server.reader().expect("a reader is given")
}

fn agents(server: &mut Memory) -> usize {
    server.census().expect("a census is given").agents.len()
}

#[test]
fn a_store_that_is_full_rolls_back_and_goes_on() {
    for mut server in both() {
        server.fail_next(Fault::Full);
        let refused = commit(&mut server, "a");
        assert!(
            matches!(refused, Err(CommitError::RolledBack(StoreError::Full(_)))),
            "{refused:?}"
        );
        assert_eq!(agents(&mut server), 0);
        assert_eq!(reader(&server).last_seq().expect("it is read"), 0);
        assert_eq!(commit(&mut server, "b").expect("the next one is committed"), 1);
        assert_eq!(agents(&mut server), 1);
    }
}

#[test]
fn an_answer_lost_before_the_commit_leaves_nothing() {
    for mut server in both() {
        server.fail_next(Fault::LostBefore);
        let lost = commit(&mut server, "a");
        assert!(matches!(lost, Err(CommitError::Unknown(_))), "{lost:?}");
        let mut next = server.another();
        assert_eq!(agents(&mut next), 0);
        assert_eq!(commit(&mut next, "b").expect("the next one is committed"), 1);
    }
}

#[test]
fn an_answer_lost_after_the_commit_leaves_all_of_it() {
    for mut server in both() {
        server.fail_next(Fault::LostAfter);
        let lost = commit(&mut server, "a");
        assert!(matches!(lost, Err(CommitError::Unknown(_))), "{lost:?}");
        let mut next = server.another();
        assert_eq!(agents(&mut next), 1);
        assert_eq!(reader(&next).last_seq().expect("it is read"), 1);
        assert_eq!(commit(&mut next, "b").expect("the next one is committed"), 2);
    }
}

#[test]
fn a_commit_that_fails_ends_the_turn() {
    let wanted = Wanted {
        agents: ["a".into()].into(),
        ..Wanted::default()
    };
    for fault in [Fault::Full, Fault::LostBefore, Fault::LostAfter] {
        let mut first = Memory::shared();
        let mut second = first.another();
        first.load(&wanted).expect("the row is free");
        second.load(&wanted).expect_err("the row is held");
        first.fail_next(fault);
        commit(&mut first, "a").expect_err("a commit that is to fail does");
        second.load(&wanted).expect("the row is free again");
    }
}

#[test]
fn a_fault_is_that_of_one_server_alone() {
    let mut first = Memory::shared();
    let mut second = first.another();
    first.fail_next(Fault::Full);
    assert_eq!(commit(&mut second, "a").expect("the other one commits"), 1);
    commit(&mut first, "b").expect_err("a commit that is to fail does");
    assert_eq!(commit(&mut first, "b").expect("only the next one fails"), 2);
}
