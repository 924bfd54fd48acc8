//! Turns on a store as a server takes them, with the real rules and a clock that a test sets: how rows come about
//! that mean something.

use std::sync::Arc;

use adjutant_core::access::Actor;
use adjutant_core::attempt::Tokens;
use adjutant_core::command::{
    Answer, Command, Completion, IdempotencyKey, NewAgent, NewTask, Request, Running, Sync, Ticket,
    UsageEvent, UsageReport,
};
use adjutant_core::decide::{Decision, Verdict, decide};
use adjutant_core::set::{Settings, WorkingSet};
use adjutant_core::task::{Body, TaskResult};
use adjutant_core::time::{Span, Timestamp};
use adjutant_store::Store;

/// A server without threads.
pub(crate) struct Play<S> {
    pub(crate) store: S,
    set: WorkingSet,
    pub(crate) now: Timestamp,
    tickets: u64,
    /// What others were answered who had asked in an earlier turn.
    pub(crate) late: Vec<Verdict>,
    /// How often rows were loaded.
    pub(crate) loads: usize,
    /// How many tasks of queues were loaded.
    pub(crate) given: usize,
}

impl<S: Store> Play<S> {
    /// Takes over a store.
    pub(crate) fn on(mut store: S, now: Timestamp) -> Self {
        let set = fresh(&mut store, now);
        Self {
            store,
            set,
            now,
            tickets: 0,
            late: Vec::new(),
            loads: 0,
            given: 0,
        }
    }

    /// Says one thing; time goes on a little.
    pub(crate) fn say(&mut self, command: impl Into<Command>) -> Option<Verdict> {
        self.say_with(command.into(), None)
    }

    /// Says one thing under an idempotency key.
    pub(crate) fn say_with(
        &mut self,
        command: Command,
        idempotency: Option<IdempotencyKey>,
    ) -> Option<Verdict> {
        self.now = self.now + Span::from_millis(10);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let request = Request {
            actor: Actor::admin(),
            command,
            idempotency,
            ticket,
        };
        let outcome = loop {
            match decide(&mut self.set, std::slice::from_ref(&request), self.now) {
                Decision::Done(outcome) => break outcome,
                Decision::More(wanted) => {
                    let rows = self.store.load(&wanted).expect("rows are given");
                    self.loads += 1;
                    self.given += rows
                        .windows
                        .iter()
                        .map(|(_, tasks, _)| tasks.len())
                        .sum::<usize>();
                    self.set.absorb(&wanted, rows);
                }
            }
        };
        let changes = self.set.take_changes(self.store.is_shared());
        if changes.is_empty() {
            self.store.abandon();
        } else {
            self.store.commit(&changes).expect("a turn is committed");
        }
        if self.store.is_shared() {
            self.set = std::mem::take(&mut self.set).successor();
        } else {
            self.set.settle();
        }
        let mut own = None;
        for (to, verdict) in outcome.answers {
            if to == ticket {
                own = Some(verdict);
            } else {
                self.late.push(verdict);
            }
        }
        own
    }

    /// Says something that is answered with yes.
    #[track_caller]
    pub(crate) fn done(&mut self, command: impl Into<Command>) -> Answer {
        let verdict = self.say(command).expect("it is answered");
        verdict.expect("it is done")
    }

    /// Time goes by, and a server that is awake deals with what it brings.
    pub(crate) fn wait(&mut self, span: Span) {
        let end = self.now + span;
        while self.now < end {
            self.now = (self.now + Span::from_secs(20)).min(end);
            self.say(Command::Tick);
        }
    }

    /// Time goes by while nobody looks.
    pub(crate) fn skip(&mut self, span: Span) {
        self.now = self.now + span;
        self.say(Command::Tick);
    }
}

fn fresh<S: Store>(store: &mut S, now: Timestamp) -> WorkingSet {
    let shared = store.is_shared();
    let mut set = WorkingSet::new(Settings::default(), !shared);
    set.set_lane(store.lane());
    if !shared {
        let rows = store.census().expect("a census is given");
        set.begin(rows, now);
    }
    set
}

/// A task with nothing to it but what `with` adds.
pub(crate) fn submit(id: &str, with: impl FnOnce(&mut NewTask)) -> Command {
    let mut task = NewTask::new(id, format!("the task {id}"));
    with(&mut task);
    Command::Submit {
        tasks: vec![Ok(task)],
        batch: false,
    }
}

/// Has a task done by this agent alone.
pub(crate) fn by(task: &mut NewTask, agent: &str) {
    task.demand.labels = vec![agent.into()];
}

/// Makes a task wait for others.
pub(crate) fn after(task: &mut NewTask, ids: &[&str]) {
    task.body = Arc::new(Body {
        dependencies: ids.iter().map(|id| (*id).into()).collect(),
        ..(*task.body).clone()
    });
}

/// An agent with any model, which alone can do what asks for its name.
pub(crate) fn register(id: &str, max_load: u32) -> Command {
    Command::Register(NewAgent {
        id: id.into(),
        name: id.into(),
        capabilities: [id.into()].into(),
        models: Arc::default(),
        max_load,
        metadata: None,
        session: None,
        peer: None,
    })
}

/// What an agent runs.
pub(crate) fn sync(agent: &str, running: &[(&str, u32)]) -> Command {
    Command::Sync(Sync {
        agent: agent.into(),
        session: None,
        n: None,
        running: Some(
            running
                .iter()
                .map(|(id, attempt)| Running {
                    id: (*id).into(),
                    attempt: *attempt,
                })
                .collect(),
        ),
        done: Vec::new(),
        max: None,
        wait: Span::ZERO,
    })
}

/// The end of the current attempt.
pub(crate) fn complete(id: &str, agent: &str, success: bool) -> Command {
    Command::Complete {
        completions: vec![Ok(Completion {
            id: id.into(),
            attempt: None,
            agent: Some(agent.into()),
            result: TaskResult {
                success,
                output: "what came out".into(),
                artifacts: vec!["a file".into()],
                error_message: if success { String::new() } else { "it broke".into() },
            },
            model: None,
            tokens: None,
            cost: None,
            rate_limited_until: None,
        })],
        batch: false,
    }
}

/// Tokens of something that runs or ran.
pub(crate) fn usage(job: &str, agent: &str, event: UsageEvent, tokens: u64) -> Command {
    Command::Report(UsageReport {
        agent: agent.into(),
        job: job.into(),
        attempt: None,
        model: Some("model".into()),
        tokens: Tokens {
            tokens_in: tokens,
            tokens_out: tokens / 2,
            tokens_cached: 1,
        },
        cost: None,
        total: false,
        event,
    })
}
