//! The inbox under a flood of submissions: agents go first, and what cannot soon be taken is refused at once.

use std::sync::{Arc, Condvar, Mutex};

use adjutant_core::access::Actor;
use adjutant_core::command::{Command, NewAgent, NewTask};
use adjutant_core::event::EventKind;
use adjutant_core::rejection::Slug;
use adjutant_core::set::Settings;
use adjutant_core::time::Timestamp;
use adjutant_engine::clock::Clock;
use adjutant_engine::{Engine, Refusal, Retention};
use adjutant_store::memory::Memory;

/// A clock that stands still until it is let go, and everything that asks it with it.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn set(&self, open: bool) {
        *self.0.0.lock().unwrap() = open;
        self.0.1.notify_all();
    }
}

impl Clock for Gate {
    fn now(&mut self) -> Timestamp {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
        Timestamp::from_micros(1_800_000_000_000_000)
    }

    fn advance(&mut self, _: Timestamp) {}
}

fn submission(id: &str) -> Command {
    Command::Submit {
        tasks: vec![Ok(NewTask {
            max_retries: 1,
            ..NewTask::new(id, id)
        })],
        batch: false,
    }
}

fn registration() -> Command {
    Command::Register(NewAgent {
        id: "a".into(),
        name: "a".into(),
        capabilities: Arc::default(),
        models: Arc::default(),
        max_load: 1,
        metadata: None,
        session: None,
        peer: None,
    })
}

/// Tasks run in the order in which they were spawned, on one thread: when this one has run, those before it have sent
/// what they had to send, or were refused.
async fn everyone_has_spoken() {
    tokio::spawn(async {}).await.unwrap();
}

#[tokio::test]
async fn agents_go_before_submissions_and_a_flood_is_refused_at_once() {
    let gate = Gate::default();
    gate.set(true);
    let (handle, engine) = Engine::start_with(
        Memory::alone(),
        Settings::default(),
        Retention::default(),
        Box::new(gate.clone()),
    )
    .unwrap();
    gate.set(false);
    let mut submissions = Vec::new();
    for number in 0..4_000 {
        let handle = handle.clone();
        submissions.push(tokio::spawn(async move {
            let command = submission(&format!("t{number}"));
            handle.call(Actor::admin(), command, None).await
        }));
    }
    everyone_has_spoken().await;
    assert!(handle.is_flooded());
    let registered = tokio::spawn({
        let handle = handle.clone();
        async move { handle.call(Actor::admin(), registration(), None).await }
    });
    everyone_has_spoken().await;
    let refused = submissions.iter().filter(|call| call.is_finished()).count();
    assert!((1_888..=1_952).contains(&refused), "{refused}");
    gate.set(true);
    registered.await.unwrap().unwrap();
    let mut taken = 0;
    for call in submissions {
        match call.await.unwrap() {
            Ok(_) => taken += 1,
            Err(Refusal::Rejected(no)) => {
                assert_eq!(no.slug, Slug::Overloaded);
                assert!(no.retry_after.is_some());
            }
            Err(bug @ Refusal::Bug(_)) => panic!("{bug}"),
        }
    }
    assert_eq!(taken + refused, 4_000);
    assert!(!handle.is_flooded());
    let events = handle.query(|reader| reader.events(0, 10_000)).await.unwrap();
    let position = events
        .iter()
        .position(|event| event.kind == EventKind::AgentRegistered)
        .unwrap();
    let before = events[..position]
        .iter()
        .filter(|event| event.kind == EventKind::TaskCreated);
    let before = before.count();
    // It came after two thousand submissions, and waited for those of two turns at most.
    assert!(before <= 128, "{before}");
    engine.stop().unwrap();
}
