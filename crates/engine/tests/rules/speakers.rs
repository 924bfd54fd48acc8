//! Speakers: what depends on who says it. What a token may say at all is the edge's business.

use adjutant_core::access::{Actor, Power, Role};
use adjutant_core::command::Command;
use adjutant_core::rejection::Slug;
use adjutant_core::task::Status;

use crate::harness::*;

fn attempt_token(id: &str, number: u32) -> Actor {
    Actor {
        name: "child".into(),
        power: Power::Attempt {
            task: id.into(),
            number,
        },
    }
}

fn with_roles<const N: usize>(name: &str, roles: [Role; N]) -> Actor {
    Actor {
        name: name.into(),
        power: Power::Roles(roles.into()),
    }
}

fn running() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(agent("a"));
    for id in ["x", "y"] {
        fleet.submit(task(id)).unwrap();
    }
    fleet.take("a");
    fleet.claim("y", "b").unwrap();
    fleet
}

#[test]
fn an_attempts_token_ends_its_own_attempt_and_no_other() {
    let mut fleet = running();
    let child = attempt_token("x", 1);
    let other = fleet.call_as(&child, done("y").attempt(1).into()).unwrap_err();
    assert_eq!(
        (other.slug, fleet.status("y")),
        (Slug::StaleAttempt, Status::InProgress)
    );
    assert!(fleet.call_as(&attempt_token("x", 2), done("x").into()).is_err());
    fleet
        .call_as(&child, Command::Report(spent("a", "x", 1, 1).into()))
        .unwrap();
    fleet.call_as(&child, done("x").into()).unwrap();
    assert_eq!(fleet.status("x"), Status::Completed);
}

#[test]
fn an_attempts_token_is_worth_nothing_once_its_attempt_has_ended() {
    let mut fleet = running();
    fleet.sync(roll("a"));
    let child = attempt_token("x", 1);
    assert!(fleet.call_as(&child, done("x").attempt(1).into()).is_err());
    assert!(
        fleet
            .call_as(&child, Command::Report(spent("a", "x", 1, 1).attempt(1).into()))
            .is_err()
    );
    let output = Command::Output {
        id: "x".into(),
        attempt: Some(1),
        agent: None,
        text: "x".into(),
    };
    assert!(fleet.call_as(&child, output).is_err());
    assert_eq!((fleet.status("x"), fleet.tokens("agent:a")), (Status::Pending, 0));
}

#[test]
fn an_agents_token_speaks_only_for_that_agent() {
    let mut fleet = running();
    let token = with_roles("b's", [Role::Agent("b".into())]);
    assert_eq!(
        fleet.call_as(&token, done("x").into()).unwrap_err().slug,
        Slug::NotHolder
    );
    let claim = |id: &str, agent: &str| Command::Claim {
        id: id.into(),
        agent: Some(agent.into()),
    };
    assert_eq!(
        fleet.call_as(&token, claim("x", "a")).unwrap_err().slug,
        Slug::Forbidden
    );
    fleet.call_as(&token, done("y").into()).unwrap();
    assert_eq!(
        fleet.statuses(["x", "y"]),
        [Status::InProgress, Status::Completed]
    );
}

#[test]
fn a_claim_that_names_nobody_is_the_tokens() {
    let mut fleet = Fleet::new();
    fleet.submit(task("x")).unwrap();
    let token = with_roles("client", [Role::Submit, Role::Agent("client".into())]);
    fleet
        .call_as(
            &token,
            Command::Claim {
                id: "x".into(),
                agent: None,
            },
        )
        .unwrap();
    assert_eq!(fleet.holder("x").as_deref(), Some("client"));
    fleet.call_as(&token, done("x").into()).unwrap();
}

#[test]
fn only_who_may_submit_may_cancel() {
    let mut fleet = running();
    let cancel = || Command::Cancel {
        id: "x".into(),
        cascade: false,
    };
    let agent = with_roles("a", [Role::Agent("a".into())]);
    assert_eq!(fleet.call_as(&agent, cancel()).unwrap_err().slug, Slug::Forbidden);
    let client = with_roles("client", [Role::Submit]);
    fleet.call_as(&client, cancel()).unwrap();
    assert_eq!(fleet.status("x"), Status::Cancelled);
}

#[test]
fn tokens_spent_for_another_agent_are_not_booked_by_a_stranger() {
    // A token that does not speak for an agent cannot charge it.
    let mut fleet = running();
    fleet.sync(roll("a"));
    let token = with_roles("b", [Role::Agent("b".into())]);
    fleet
        .call_as(&token, done("x").attempt(1).tokens(1_000, 0).into())
        .unwrap_err();
    fleet
        .call_as(
            &token,
            Command::Report(spent("a", "x", 1_000, 0).attempt(1).into()),
        )
        .ok();
    assert_eq!(fleet.counter("agent:b").total.tokens, 0);
}
