//! Agents: what is kept of them, and which attempts occupy them.

use std::sync::Arc;

use adjutant_core::agent::Agent;
use adjutant_core::attempt::{Attempt, AttemptState, Outcome};

use crate::rows::{agent, at, attempt, attempt_key, full_agent, key};
use crate::subject::Subject;
use crate::write::{Write, write};

for_every_store![
    every_field_of_an_agent_survives,
    a_changed_agent_keeps_what_was_changed,
    an_agent_that_was_removed_is_gone,
    agents_that_a_server_goes_to_are_named,
    agents_that_do_not_exist_are_not_given,
    the_attempts_that_occupy_an_agent_come_with_it,
    what_is_not_stored_of_an_agent_counts_anew_after_a_crash,
];

/// Agents as they are compared: where servers vouch for them, when they were heard of is not what was stored.
fn comparable(store: &mut dyn Subject, agents: impl IntoIterator<Item = Agent>) -> Vec<Agent> {
    let vouches = store.vouches();
    agents
        .into_iter()
        .map(|agent| Agent {
            last_seen: if vouches { at(0) } else { agent.last_seen },
            ..agent
        })
        .collect()
}

fn cloned(agents: &[Arc<Agent>]) -> Vec<Agent> {
    agents.iter().map(|agent| (**agent).clone()).collect()
}

/// All agents by id, in whatever way the store gives them.
fn all(store: &mut dyn Subject) -> Vec<Agent> {
    let mut agents: Vec<Arc<Agent>> = store.census().agents;
    agents.sort_by_key(|agent| agent.id.clone());
    if store.store().is_shared() {
        let mut rows = store.load(|wanted| {
            wanted.agents = agents.iter().map(|agent| agent.id.clone()).collect();
            wanted.everyone = true;
        });
        rows.agents.sort_by_key(|agent| agent.id.clone());
        let expected = comparable(store, cloned(&agents));
        let given = comparable(store, cloned(&rows.agents));
        assert_eq!(given, expected, "a turn is given what a census says");
        let mut seen: Vec<_> = rows
            .onlookers
            .into_iter()
            .map(|onlooker| onlooker.agent)
            .collect();
        seen.sort_by_key(|agent| agent.id.clone());
        let seen = comparable(store, cloned(&seen));
        assert_eq!(seen, expected, "everyone is seen as a census says");
    }
    comparable(store, cloned(&agents))
}

fn are(store: &mut dyn Subject, agents: &[Agent]) {
    store.now_and_after_a_crash(|store| {
        let expected = comparable(store, agents.to_vec());
        assert_eq!(all(store), expected);
    });
}

fn every_field_of_an_agent_survives(store: &mut dyn Subject) {
    let (bare, full) = (agent("bare"), full_agent("full:._-1"));
    write().agent(None, &bare).agent(None, &full).commit(store);
    are(store, &[bare, full]);
}

fn a_changed_agent_keeps_what_was_changed(store: &mut dyn Subject) {
    let (bare, full) = (agent("agent"), full_agent("agent"));
    write().agent(None, &bare).commit(store);
    write().agent(Some(&bare), &full).commit(store);
    are(store, std::slice::from_ref(&full));
    #[rustfmt::skip]
    let variants = [
        Agent { name: "other".into(), ..full.clone() },
        Agent { capabilities: ["other".into()].into(), ..full.clone() },
        Agent { models: Arc::default(), ..full.clone() },
        Agent { max_load: 1, ..full.clone() },
        Agent { metadata: None, ..full.clone() },
        Agent { registered_at: at(77), ..full.clone() },
        Agent { session: None, ..full.clone() },
        Agent { former_sessions: ["other".into()].into(), ..full.clone() },
        Agent { peer: None, ..full.clone() },
        Agent { offline: false, ..full.clone() },
        Agent { draining: false, ..full.clone() },
        Agent { paused_until: None, ..full.clone() },
        Agent { paused_models: [("other".into(), at(5))].into(), ..full.clone() },
        Agent { quarantined_until: None, ..full.clone() },
        Agent { quarantines: 0, ..full.clone() },
        Agent { fast_failures: vec![key(1)], ..full.clone() },
        Agent { last_seen: at(78), ..full.clone() },
    ];
    for variant in &variants {
        write().agent(Some(&full), variant).commit(store);
        let expected = comparable(store, [variant.clone()]);
        assert_eq!(all(store), expected);
        write().agent(Some(variant), &full).commit(store);
    }
    write().agent(Some(&full), &bare).commit(store);
    are(store, &[bare]);
}

fn an_agent_that_was_removed_is_gone(store: &mut dyn Subject) {
    let (gone, stays) = (full_agent("gone"), full_agent("stays"));
    write().agent(None, &gone).agent(None, &stays).commit(store);
    write().no_agent(&gone).commit(store);
    are(store, std::slice::from_ref(&stays));
    // One of the same id is another agent.
    let back = agent("gone");
    write().agent(None, &back).commit(store);
    are(store, &[back, stays]);
}

fn agents_that_a_server_goes_to_are_named(store: &mut dyn Subject) {
    let (peer, other) = (full_agent("peer"), agent("other"));
    write().agent(None, &peer).agent(None, &other).commit(store);
    store.now_and_after_a_crash(|store| {
        assert_eq!(store.reader().peers().expect("they are read"), ["peer".into()]);
    });
}

fn agents_that_do_not_exist_are_not_given(store: &mut dyn Subject) {
    write().agent(None, &agent("agent")).commit(store);
    if store.store().is_shared() {
        let rows = store.load(|wanted| wanted.agents = ["Agent".into(), "agent-2".into()].into());
        assert!(rows.agents.is_empty());
    }
    are(store, &[agent("agent")]);
}

fn the_attempts_that_occupy_an_agent_come_with_it(store: &mut dyn Subject) {
    let occupying = |task, number| Attempt {
        registered: true,
        occupies: true,
        ..attempt(attempt_key(task, number))
    };
    let offered = occupying(2, 1);
    let taken = Attempt {
        state: AttemptState::Taken,
        ..occupying(1, 3)
    };
    let stopping = Attempt {
        state: AttemptState::Ended(Outcome::Cancelled),
        ..occupying(3, 1)
    };
    let claimed = Attempt {
        registered: false,
        ..occupying(4, 1)
    };
    let ended = Attempt {
        state: AttemptState::Ended(Outcome::Completed),
        occupies: false,
        ..occupying(5, 1)
    };
    let elsewhere = Attempt {
        agent: "agent-2".into(),
        ..occupying(6, 1)
    };
    let (mut first, mut second) = (agent("agent-1"), agent("agent-2"));
    first.attempts = vec![taken.key, offered.key, stopping.key];
    second.attempts = vec![elsewhere.key];
    [&offered, &taken, &stopping, &claimed, &ended, &elsewhere]
        .into_iter()
        .fold(write(), Write::attempt)
        .agent(None, &first)
        .agent(None, &second)
        .commit(store);
    are(store, &[first.clone(), second.clone()]);
    // It has one less when one ends, whether its own row says so or only the attempt.
    let done = Attempt {
        state: AttemptState::Ended(Outcome::Completed),
        occupies: false,
        ..taken.clone()
    };
    let freed = Agent {
        attempts: vec![offered.key, stopping.key],
        ..first.clone()
    };
    write()
        .changed_attempt(&taken, &done)
        .agent(Some(&first), &freed)
        .commit(store);
    are(store, &[freed, second]);
}

/// Where servers share a store they have to see it: see [`crate::sharing`].
fn what_is_not_stored_of_an_agent_counts_anew_after_a_crash(store: &mut dyn Subject) {
    if store.store().is_shared() {
        return;
    }
    let stored = agent("agent");
    let told = Agent {
        mute: true,
        last_n: Some(u64::MAX),
        ..stored.clone()
    };
    write().agent(None, &told).commit(store);
    store.reopen();
    assert_eq!(all(store), [stored]);
}
