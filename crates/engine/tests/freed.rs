//! The other direction of the router: an agent that is freed takes, of all that waits, what a plain look at every task
//! would give it: the first in order of dispatch that it can serve.

use std::sync::Arc;

use adjutant_core::access::Actor;
use adjutant_core::command::{
    Answer, Command, Completion, NewAgent, NewTask, Request, Running, Sync, Ticket,
};
use adjutant_core::name::{Label, TaskId};
use adjutant_core::set::Settings;
use adjutant_core::task::{Demand, Priority};
use adjutant_core::time::{Span, Timestamp};
use adjutant_engine::turns::Turns;
use adjutant_store::memory::Memory;
use proptest::prelude::*;

const LABELS: [&str; 4] = ["docs", "go", "rust", "test"];

fn labels(bits: u8) -> Vec<Label> {
    (0..LABELS.len())
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| LABELS[bit].into())
        .collect()
}

fn ask(turns: &mut Turns<Memory>, command: Command) -> Answer {
    let request = Request {
        actor: Actor::admin(),
        command,
        idempotency: None,
        ticket: Ticket(1),
    };
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    let mut taken = turns.take(&[request], now).expect("the turn is taken");
    taken.answers.remove(0).1.expect("the answer is yes")
}

fn task(id: &str, bits: u8, priority: u8) -> NewTask {
    NewTask {
        demand: Demand {
            labels: labels(bits),
            ..Demand::default()
        },
        priority: Priority::from_rank(priority).expect("a rank"),
        max_retries: 1,
        ..NewTask::new(id, id)
    }
}

fn agent(bits: u8) -> NewAgent {
    NewAgent {
        id: "a".into(),
        name: "a".into(),
        capabilities: labels(bits).into(),
        models: Arc::default(),
        max_load: 1,
        metadata: None,
        session: None,
        peer: None,
    }
}

/// Hands in what was done, and says what is to be started next.
fn next(turns: &mut Turns<Memory>, done: Option<&TaskId>) -> Option<TaskId> {
    let done = done.map(|id| Completion {
        attempt: Some(1),
        agent: Some("a".into()),
        ..Completion::new(id.clone(), true)
    });
    let running: Vec<Running> = Vec::new();
    let sync = Sync {
        agent: "a".into(),
        session: None,
        n: None,
        running: Some(running),
        done: done.into_iter().collect(),
        max: None,
        wait: Span::ZERO,
    };
    match ask(turns, Command::Sync(sync)) {
        Answer::Sync(answer) => answer.start.first().map(|start| start.view.task.id.clone()),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    // I6
    #[test]
    fn a_freed_agent_takes_what_a_plain_look_at_every_task_gives_it(
        backlog in prop::collection::vec((0_u8..16, 0_u8..4), 0..60),
        capabilities in 0_u8..16,
    ) {
        let mut turns = Turns::new(Memory::alone(), Settings::default(), Timestamp::EPOCH).unwrap();
        for (index, (bits, priority)) in backlog.iter().enumerate() {
            let new = task(&format!("t{index}"), *bits, *priority);
            ask(&mut turns, Command::Submit { tasks: vec![Ok(new)], batch: false });
        }
        ask(&mut turns, Command::Register(agent(capabilities)));

        let mut plain: Vec<(u8, usize)> = backlog
            .iter()
            .enumerate()
            .filter(|(_, (bits, _))| bits & !capabilities == 0)
            .map(|(index, (_, priority))| (*priority, index))
            .collect();
        plain.sort_unstable();

        let mut taken = Vec::new();
        let mut current = next(&mut turns, None);
        while let Some(id) = current {
            current = next(&mut turns, Some(&id));
            taken.push(id);
        }
        let expected: Vec<TaskId> = plain.iter().map(|(_, index)| format!("t{index}").into()).collect();
        prop_assert_eq!(taken, expected);
    }
}
