//! The harness: a fleet on a store in a temporary directory, with a clock that only the test moves.
//!
//! Agents that joined are awake: while time [`advance`](Fleet::advance)s they send heartbeats, until they fall
//! [`silent`](Fleet::silence). The server ticks as it would by itself: at every deadline, and each eighth of a ttl.

mod books;
mod crew;
mod ledger;
#[expect(
    clippy::needless_pass_by_value,
    reason = "bounds are put on limits one after the other"
)]
mod say;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use adjutant_core::access::Actor;
use adjutant_core::command::{
    Answer, Command, Explanation, IdempotencyKey, Request, TaskView, Ticket, Waiting,
};
use adjutant_core::decide::Verdict;
use adjutant_core::name::AgentId;
use adjutant_core::rejection::Rejection;
use adjutant_core::task::{Status, TaskResult};
use adjutant_core::time::{Span, Timestamp};
use adjutant_engine::Settings;
use adjutant_engine::turns::Turns;
use adjutant_store::sqlite::Sqlite;
use adjutant_store::{Reader, Store, StoredTask};
use tempfile::TempDir;

pub(crate) use crew::{starts, stops};
pub(crate) use say::*;

/// How often an agent that is awake is heard of.
const HEARTBEAT: Span = Span::from_secs(15);

/// Something that happens to a fleet.
pub(crate) type Act = fn(&mut Fleet);

/// A server, its store, its agents and its clock.
pub(crate) struct Fleet {
    turns: Option<Turns<Sqlite>>,
    reader: Option<Box<dyn Reader>>,
    directory: TempDir,
    settings: Settings,
    pub(crate) now: Timestamp,
    tickets: u64,
    /// Answers to syncs that waited.
    heard: BTreeMap<Ticket, Verdict>,
    awake: BTreeSet<AgentId>,
    last_beat: Timestamp,
    /// Whether some `max_load` was lowered below a load: then I2 does not bind.
    pub(crate) load_was_lowered: bool,
}

impl Fleet {
    /// An empty store, on a Tuesday at ten past ten.
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let now: Timestamp = "2026-11-24T10:10:00Z".parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut fleet = Self {
            turns: None,
            reader: None,
            directory,
            settings,
            now,
            tickets: 0,
            heard: BTreeMap::new(),
            awake: BTreeSet::new(),
            last_beat: now,
            load_was_lowered: false,
        };
        fleet.open();
        fleet
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("adjutant.db")
    }

    fn open(&mut self) {
        let store = Sqlite::open(self.path()).unwrap();
        self.reader = Some(store.reader().unwrap());
        self.turns = Some(Turns::new(store, self.settings.clone(), self.now).unwrap());
        self.tick();
    }

    /// The process ends and starts again; who waited hears nothing any more.
    pub(crate) fn restart(&mut self) {
        self.check();
        self.turns = None;
        self.reader = None;
        self.open();
    }

    // ---- time ----------------------------------------------------------------------------------------------------

    /// Time passes while the server watches and agents that are awake send heartbeats.
    pub(crate) fn advance(&mut self, span: Span) {
        let until = self.now + span;
        while self.now < until {
            let now = self.now;
            let deadline = self.turns().next_deadline(now);
            let next = deadline
                .min(now + self.settings.agent_ttl.part(8))
                .min(self.last_beat + HEARTBEAT);
            self.now = next.max(now + A_MOMENT).min(until);
            if self.now.since(self.last_beat) >= HEARTBEAT {
                self.beat();
            }
            self.tick();
        }
    }

    /// Time passes while the server is not there: it sleeps, or its clock is set.
    pub(crate) fn jump(&mut self, span: Span) {
        self.now = self.now + span;
    }

    /// Time passes to the start of the next UTC hour, or day.
    pub(crate) fn advance_to(&mut self, time: Timestamp) {
        self.advance(time.since(self.now));
    }

    pub(crate) fn midnight(&self) -> Timestamp {
        self.now.day() + Span::DAY
    }

    pub(crate) fn next_hour(&self) -> Timestamp {
        self.now.hour() + Span::HOUR
    }

    pub(crate) fn tick(&mut self) {
        self.call(Command::Tick).unwrap();
    }

    fn beat(&mut self) {
        self.last_beat = self.now;
        for agent in self.awake.clone() {
            self.call(Command::Sync(heartbeat(agent.as_str()).into()))
                .unwrap();
        }
    }

    /// This agent is heard of no more, unless a test speaks for it.
    pub(crate) fn silence(&mut self, agent: &str) {
        self.awake.remove(&AgentId::from(agent));
    }

    /// Everything that is over and may go is forgotten.
    pub(crate) fn forget(&mut self) -> adjutant_store::Forgotten {
        let retention = adjutant_core::retention::Retention {
            finished_count: Some(0),
            ..Default::default()
        };
        let now = self.now;
        self.turns().forget(&retention, now).unwrap()
    }

    // ---- asking --------------------------------------------------------------------------------------------------

    fn turns(&mut self) -> &mut Turns<Sqlite> {
        self.turns.as_mut().unwrap()
    }

    pub(crate) fn reader(&mut self) -> &mut dyn Reader {
        &mut **self.reader.as_mut().unwrap()
    }

    /// One command in a turn of its own. A sync that waits has no answer yet.
    fn ask(
        &mut self,
        actor: Actor,
        command: Command,
        idempotency: Option<IdempotencyKey>,
    ) -> Option<Verdict> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let now = self.now;
        let request = Request {
            actor,
            command,
            idempotency,
            ticket,
        };
        let taken = self.turns().take(&[request], now).expect("the turn is taken");
        let mut own = None;
        for (answered, verdict) in taken.answers {
            if answered == ticket {
                assert!(own.is_none(), "a request was answered twice");
                own = Some(verdict);
            } else {
                assert!(
                    self.heard.insert(answered, verdict).is_none(),
                    "a request was answered twice"
                );
            }
        }
        own
    }

    pub(crate) fn call(&mut self, command: Command) -> Verdict {
        self.ask(Actor::admin(), command, None)
            .expect("an answer at once")
    }

    pub(crate) fn call_as(&mut self, actor: &Actor, command: Command) -> Verdict {
        self.ask(actor.clone(), command, None).expect("an answer at once")
    }

    /// Several commands in one turn; their answers in the order given.
    pub(crate) fn together<const N: usize>(&mut self, commands: [Command; N]) -> [Verdict; N] {
        let first = self.tickets + 1;
        let requests = commands.map(|command| {
            self.tickets += 1;
            Request {
                actor: Actor::admin(),
                command,
                idempotency: None,
                ticket: Ticket(self.tickets),
            }
        });
        let now = self.now;
        let taken = self.turns().take(&requests, now).expect("the turn is taken");
        let mut answers: BTreeMap<Ticket, Verdict> = taken.answers.into_iter().collect();
        let own = std::array::from_fn(|index| {
            answers
                .remove(&Ticket(first + index as u64))
                .expect("an answer at once")
        });
        self.heard.append(&mut answers);
        own
    }

    /// Under an idempotency key; `body` stands for the digest of the request.
    pub(crate) fn call_once(&mut self, key: &str, body: u8, command: Command) -> Verdict {
        let key = IdempotencyKey {
            token: "admin".into(),
            key: key.into(),
            digest: [body; 32],
        };
        self.ask(Actor::admin(), command, Some(key))
            .expect("an answer at once")
    }

    fn task_of(verdict: Verdict) -> Result<TaskView, Rejection> {
        match verdict? {
            Answer::Task(view) => Ok(*view),
            other => panic!("a task was expected, not {other:?}"),
        }
    }

    fn done_of(verdict: Verdict) -> Result<(), Rejection> {
        match verdict? {
            Answer::Done => Ok(()),
            other => panic!("nothing to show was expected, not {other:?}"),
        }
    }

    // ---- tasks ---------------------------------------------------------------------------------------------------

    pub(crate) fn submit(&mut self, draft: Draft) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(draft.into()))
    }

    pub(crate) fn submit_all<const N: usize>(
        &mut self,
        drafts: [Draft; N],
    ) -> [Result<TaskView, Rejection>; N] {
        let tasks = drafts.into_iter().map(|draft| Ok(draft.0)).collect();
        match self.call(Command::Submit { tasks, batch: true }) {
            Ok(Answer::Batch(items)) => items.try_into().unwrap(),
            other => panic!("a batch was expected, not {other:?}"),
        }
    }

    pub(crate) fn claim(&mut self, id: &str, agent: &str) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(Command::Claim {
            id: id.into(),
            agent: Some(agent.into()),
        }))
    }

    pub(crate) fn complete(&mut self, end: End) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(end.into()))
    }

    pub(crate) fn patch(&mut self, id: &str, patch: Change) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(Command::Patch(id.into(), Box::new(patch.0))))
    }

    pub(crate) fn cancel(&mut self, id: &str) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(Command::Cancel {
            id: id.into(),
            cascade: false,
        }))
    }

    pub(crate) fn cancel_all(&mut self, id: &str) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(Command::Cancel {
            id: id.into(),
            cascade: true,
        }))
    }

    pub(crate) fn retry(&mut self, id: &str) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(Command::Retry(id.into())))
    }

    pub(crate) fn hold(&mut self, id: &str) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(Command::Hold(id.into())))
    }

    pub(crate) fn unhold(&mut self, id: &str) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(Command::Unhold(id.into())))
    }

    pub(crate) fn release(&mut self, id: &str) -> Result<TaskView, Rejection> {
        Self::task_of(self.call(Command::Release {
            id: id.into(),
            attempt: None,
            agent: None,
        }))
    }

    pub(crate) fn stored(&mut self, id: &str) -> StoredTask {
        self.reader()
            .task(&id.into())
            .unwrap()
            .unwrap_or_else(|| panic!("no task {id}"))
    }

    pub(crate) fn status(&mut self, id: &str) -> Status {
        self.stored(id).task.status
    }

    pub(crate) fn result(&mut self, id: &str) -> Option<TaskResult> {
        self.stored(id).details.result
    }

    /// The states of some tasks, in the order given.
    pub(crate) fn statuses<const N: usize>(&mut self, ids: [&str; N]) -> [Status; N] {
        ids.map(|id| self.status(id))
    }

    /// Who holds a task, if it is in progress.
    pub(crate) fn holder(&mut self, id: &str) -> Option<String> {
        let task = self.stored(id).task;
        let holder = task.claimed_by.as_ref().map(ToString::to_string);
        holder.filter(|_| task.status == Status::InProgress)
    }

    pub(crate) fn attempt(&mut self, id: &str) -> u32 {
        self.stored(id).task.attempt
    }

    pub(crate) fn view(&mut self, id: &str) -> TaskView {
        let task = self.stored(id).task;
        match self.call(Command::View(vec![task])) {
            Ok(Answer::Views(mut views)) => views.remove(0),
            other => panic!("views were expected, not {other:?}"),
        }
    }

    pub(crate) fn waiting(&mut self, id: &str) -> Waiting {
        self.view(id)
            .waiting
            .unwrap_or_else(|| panic!("{id} does not wait"))
    }

    /// Why a task waits: the reason, and the words for people.
    pub(crate) fn why(&mut self, id: &str) -> (&'static str, String) {
        let waiting = self.waiting(id);
        (waiting.reason.name(), waiting.detail)
    }

    pub(crate) fn explain(&mut self, id: &str) -> Explanation {
        let task = self.stored(id).task;
        match self.call(Command::Explain(task)) {
            Ok(Answer::Explanation(explanation)) => *explanation,
            other => panic!("an explanation was expected, not {other:?}"),
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}
