//! A row that cannot be read: who asks for it is told so, and nobody else.

use adjutant_core::access::Actor;
use adjutant_core::command::{Answer, Command, NewTask, Request, Ticket};
use adjutant_core::name::TaskId;
use adjutant_core::set::Settings;
use adjutant_core::set::rows::{Changes, Rows, Wanted};
use adjutant_core::time::Timestamp;
use adjutant_engine::turns::{NotTaken, Turns};
use adjutant_store::memory::Memory;
use adjutant_store::{CommitError, Reader, Store, StoreError};

/// A store whose row of the task `broken` is not what this program writes.
struct Broken(Memory);

impl Store for Broken {
    fn is_shared(&self) -> bool {
        self.0.is_shared()
    }

    fn census(&mut self) -> Result<Rows, StoreError> {
        self.0.census()
    }

    fn load(&mut self, wanted: &Wanted) -> Result<Rows, StoreError> {
        if wanted.task_ids.contains(&TaskId::from("broken")) {
            return Err(StoreError::Broken("task.state: garbage".into()));
        }
        self.0.load(wanted)
    }

    fn commit(&mut self, changes: &Changes) -> Result<u64, CommitError> {
        self.0.commit(changes)
    }

    fn abandon(&mut self) {
        self.0.abandon();
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.0.reader()
    }
}

fn submission(ticket: u64, id: &str) -> Request {
    Request {
        actor: Actor::admin(),
        command: Command::Submit {
            tasks: vec![Ok(NewTask::new(id, id))],
            batch: false,
        },
        idempotency: None,
        ticket: Ticket(ticket),
    }
}

#[test]
fn a_row_that_cannot_be_read_is_the_matter_of_who_asks_for_it() {
    for memory in [Memory::alone(), Memory::shared()] {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let mut turns = Turns::new(Broken(memory), Settings::default(), now).expect("the store is read");
        let requests = [submission(1, "sound"), submission(2, "broken")];
        // As for a bug: taken one by one, only one of them fails.
        let together = turns.take(&requests, now);
        assert!(matches!(together, Err(NotTaken::Bug(_))), "{together:?}");
        let taken = turns.take(&requests[..1], now).expect("the turn is taken");
        assert!(
            matches!(taken.answers[0].1, Ok(Answer::Task(_))),
            "{:?}",
            taken.answers
        );
        let alone = turns.take(&requests[1..], now);
        assert!(matches!(alone, Err(NotTaken::Bug(_))), "{alone:?}");
    }
}
