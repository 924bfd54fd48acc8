//! Agents that a server speaks for: who may say where they are, and which server has them.

use std::sync::Arc;

use adjutant_core::access::{Actor, Power, Role};
use adjutant_core::agent::{Agent, Peer};
use adjutant_core::command::{Answer, Command};
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::task::Status;

use crate::harness::*;

use Status::{InProgress, Pending};

const HERE: &str = "https://peer.example/";
const THERE: &str = "https://other.example/";

fn at(url: &str) -> Crew {
    agent("p").at(Peer {
        url: url.into(),
        addresses: ["192.0.2.1".parse().unwrap()].into(),
        token_env: None,
    })
}

fn own_token() -> Actor {
    Actor {
        name: "p".into(),
        power: Power::Roles([Role::AnyAgent].into()),
    }
}

impl Fleet {
    fn as_agent(&mut self, crew: Crew) -> Result<Arc<Agent>, Rejection> {
        match self.call_as(&own_token(), crew.command())? {
            Answer::Agent(agent) => Ok(agent),
            other => panic!("{other:?}"),
        }
    }

    fn adopt(&mut self, session: &str, alone: bool) -> Result<(), Slug> {
        let command = Command::Adopt {
            agent: "p".into(),
            session: session.into(),
            alone,
        };
        self.call(command).map(drop).map_err(|no| no.slug)
    }

    fn abandon(&mut self, session: &str) -> Result<(), Slug> {
        let command = Command::Abandon {
            agent: "p".into(),
            session: session.into(),
        };
        self.call(command).map(drop).map_err(|no| no.slug)
    }

    fn roll_of(&mut self, session: &str) -> Result<Vec<(String, u32)>, Slug> {
        let answer = self.try_sync(roll("p").session(session));
        answer.map(|answer| starts(&answer)).map_err(|no| no.slug)
    }
}

/// A peer that a server speaks for, and that has taken `x`.
fn at_work() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.join(at(HERE));
    fleet.adopt("one", false).unwrap();
    fleet.submit(task("x")).unwrap();
    fleet.roll_of("one").unwrap();
    fleet.sync(roll("p").session("one").running([("x", 1)]));
    fleet
}

#[test]
fn only_administrators_say_where_an_agent_is() {
    let mut fleet = Fleet::new();
    assert_eq!(fleet.as_agent(at(HERE)).unwrap_err().slug, Slug::Forbidden);
    fleet.join(at(HERE));
    for crew in [at(HERE), at(THERE), agent("p")] {
        assert_eq!(fleet.as_agent(crew).unwrap_err().slug, Slug::Forbidden);
    }
    let removal = fleet.call_as(&own_token(), Command::Deregister("p".into()));
    assert_eq!(removal.unwrap_err().slug, Slug::Forbidden);
    assert_eq!(&*fleet.agent("p").peer.as_ref().unwrap().url, HERE);
}

#[test]
fn a_worker_takes_the_place_of_one_only_after_it_was_removed() {
    let mut fleet = Fleet::new();
    fleet.join(at(HERE));
    let worker = fleet.call(agent("p").session("w").command());
    assert_eq!(worker.unwrap_err().slug, Slug::WrongState);
    fleet.deregister("p");
    fleet.as_agent(agent("p")).unwrap();
    // The other way round what the worker runs is over.
    fleet.submit(task("x")).unwrap();
    fleet.take("p");
    fleet.join(at(HERE));
    assert_eq!(
        (fleet.status("x"), fleet.stored("x").task.retry_count),
        (Pending, 1)
    );
}

#[test]
fn nobody_but_its_server_calls_the_roll_for_it() {
    let mut fleet = at_work();
    for other in [roll("p"), roll("p").session("two"), heartbeat("p")] {
        assert_eq!(fleet.try_sync(other).unwrap_err().slug, Slug::Superseded);
    }
    assert_eq!(fleet.status("x"), InProgress);
    let mut fleet = Fleet::new();
    fleet.join(at(HERE));
    assert_eq!(fleet.roll_of("one"), Err(Slug::Superseded), "it was not adopted");
}

#[test]
fn one_server_of_many_has_it_until_it_leaves() {
    let mut fleet = at_work();
    assert_eq!(fleet.adopt("two", false), Err(Slug::Superseded));
    fleet.adopt("one", false).unwrap();
    assert_eq!(fleet.abandon("two"), Err(Slug::Superseded));
    fleet.silence("p");
    fleet.advance(seconds(50));
    fleet.abandon("one").unwrap();
    assert_eq!(fleet.roll_of("one"), Err(Slug::Superseded));
    fleet.advance(seconds(50));
    fleet.adopt("two", false).unwrap();
    assert_eq!(
        fleet.status("x"),
        InProgress,
        "what runs goes on with the next server"
    );
    assert_eq!(fleet.adopt("one", false), Err(Slug::Superseded));
    fleet.sync(
        roll("p")
            .session("two")
            .running([("x", 1)])
            .done([done("x").attempt(1)]),
    );
    assert_eq!(fleet.status("x"), Status::Completed);
}

#[test]
fn the_only_server_takes_it_over_at_once() {
    let mut fleet = at_work();
    fleet.restart();
    fleet.adopt("two", true).unwrap();
    assert_eq!(fleet.roll_of("one"), Err(Slug::Superseded));
    fleet.sync(roll("p").session("two").running([("x", 1)]));
    assert_eq!(fleet.status("x"), InProgress);
}

#[test]
fn the_agent_of_a_server_that_died_is_adopted_once_it_is_offline() {
    let mut fleet = at_work();
    fleet.silence("p");
    fleet.advance(seconds(55));
    assert_eq!(fleet.adopt("two", false), Err(Slug::Superseded));
    fleet.advance(seconds(10));
    assert_eq!((fleet.doing("p"), fleet.status("x")), ("offline", Pending));
    fleet.adopt("two", false).unwrap();
    assert_eq!(fleet.doing("p"), "available");
    fleet.sync(roll("p").session("two"));
}

#[test]
fn an_agent_that_is_reached_elsewhere_begins_anew() {
    let mut fleet = at_work();
    fleet.join(at(THERE));
    assert_eq!(
        (fleet.status("x"), fleet.stored("x").task.retry_count),
        (Pending, 1)
    );
    assert_eq!(fleet.roll_of("one"), Err(Slug::Superseded));
    let mut fleet = at_work();
    fleet.join(at(HERE).with(["go"]));
    assert_eq!(fleet.status("x"), InProgress, "the same place keeps what runs");
    fleet.sync(roll("p").session("one").running([("x", 1)]));
}

#[test]
fn agents_without_a_url_are_not_adopted() {
    let mut fleet = Fleet::new();
    fleet.join(agent("p"));
    assert_eq!(fleet.adopt("one", true), Err(Slug::WrongState));
    assert_eq!(fleet.abandon("one"), Err(Slug::Superseded));
    let nobody = Command::Adopt {
        agent: "nobody".into(),
        session: "one".into(),
        alone: true,
    };
    assert_eq!(fleet.call(nobody).unwrap_err().slug, Slug::AgentNotFound);
}
