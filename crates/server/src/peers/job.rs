//! One attempt of a peer: its task is sent, followed to its end, and what it says on the way is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::a2a::SendMessageResponse;
use adjutant_core::access::Actor;
use adjutant_core::agent::Peer;
use adjutant_core::command::{Command, Completion, TaskPatch, UsageEvent, UsageReport};
use adjutant_core::name::{AgentId, ModelName, TaskId, check_name};
use adjutant_core::task::TaskResult;
use adjutant_core::time::Span;
use adjutant_engine::Refusal;
use adjutant_wire as wire;
use tokio_util::sync::CancellationToken;

use super::ask::{Asking, Line, Trouble};
use super::words::{self, Standing, Usage, Word};
use crate::app::App;

/// A peer is asked again after so long, at first. Each time that there is nothing new it is half as much longer.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A peer that was asked to stop gets so long to say that it does.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
/// How often something that the peer said is told to an engine that has too much to do.
const TELLINGS: u32 = 10;
/// How long to wait between two of these.
const TELLING_PAUSE: Duration = Duration::from_millis(500);

/// The most remarks of a peer that are kept of one attempt, and how far they are apart.
const MAX_REMARKS: u32 = 50;
const REMARK_EVERY: Duration = Duration::from_secs(5);
/// How far apart reports of what it has used are.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// One attempt.
pub(super) struct Job {
    pub(super) app: App,
    /// Whose attempt it is.
    pub(super) agent: AgentId,
    /// As whom it is spoken.
    pub(super) actor: Actor,
    /// Where the agent is.
    pub(super) peer: Arc<Peer>,
    /// How it is spoken to.
    pub(super) line: Arc<Line>,
    /// The task.
    pub(super) task: wire::Task,
    /// The attempt's number.
    pub(super) attempt: u32,
    /// The peer's task, where an earlier server has sent it.
    pub(super) begun: Option<String>,
    /// Cancelled when the attempt is to end.
    pub(super) stop: CancellationToken,
    /// Cancelled when the server stops: the attempt goes on at the peer.
    pub(super) leaving: CancellationToken,
}

impl Job {
    /// Sees the attempt to its end. Nothing when it was stopped, once the peer knows, or when it is left to go on.
    pub(super) async fn run(self) -> Option<Completion> {
        let asking = match self.open().await? {
            Ok(asking) => asking,
            // What was begun goes on there: it is lost only when the peer stays away.
            Err(trouble) if self.begun.is_some() => match self.open_later(trouble).await? {
                Ok(asking) => asking,
                Err(trouble) => return Some(self.ended(words::failure(trouble.text()))),
            },
            Err(trouble) => return Some(self.failed(trouble)),
        };
        let mut told = Told::default();
        let id = match &self.begun {
            Some(id) => id.clone(),
            None => match self.begin(&asking, &mut told).await {
                Begun::Going(id) => id,
                Begun::Over(completion) => return Some(completion),
            },
        };
        self.follow(&asking, &id, &mut told).await
    }

    /// Finds out how the peer is spoken to; nothing when there is nothing more to say to it.
    async fn open(&self) -> Option<Result<Asking, Trouble>> {
        tokio::select! {
            () = self.stop.cancelled() => None,
            () = self.leaving.cancelled() => None,
            opened = self.line.open(&self.peer, &self.app.config) => Some(opened),
        }
    }

    /// Goes on asking a peer that was away when its attempt was to be gone on with.
    async fn open_later(&self, mut trouble: Trouble) -> Option<Result<Asking, Trouble>> {
        let until = Instant::now() + self.away_patience();
        while Instant::now() < until {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = self.leaving.cancelled() => return None,
                () = tokio::time::sleep(LONGEST_PAUSE.min(self.away_patience())) => {}
            }
            match self.open().await? {
                Ok(asking) => return Some(Ok(asking)),
                Err(again) => trouble = again,
            }
        }
        Some(Err(trouble))
    }

    /// Sends the task. That is not broken off: only the answer says how to stop what was begun.
    async fn begin(&self, asking: &Asking, told: &mut Told) -> Begun {
        let (word, id) = match asking.message(&words::request(&self.task, self.attempt)).await {
            Err(trouble) => {
                // It may want to be spoken to in another way by now.
                self.line.hang_up();
                return Begun::Over(self.failed(trouble));
            }
            Ok(SendMessageResponse::Message(message)) => (words::of_message(&message), None),
            Ok(SendMessageResponse::Task(task)) => (words::word(&task), Some(task.id)),
        };
        if let Some(id) = &id {
            if !words::is_id(id) {
                let why = format!("the peer at {}: the id of its task cannot be used", self.peer.url);
                return Begun::Over(self.ended(words::failure(why)));
            }
            self.remark(words::id_note(id)).await;
        }
        self.tell(&word, told).await;
        match (word.standing, id) {
            (Standing::Over(result), _) => Begun::Over(self.ended(result)),
            (_, Some(id)) => Begun::Going(id),
            (_, None) => Begun::Over(self.ended(words::failure("the peer gave no task and no answer"))),
        }
    }

    /// Asks how the peer's task stands until it is over, or is to stop.
    async fn follow(&self, asking: &Asking, id: &str, told: &mut Told) -> Option<Completion> {
        let mut pause = FIRST_PAUSE;
        let mut away_since: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.leaving.cancelled() => return None,
                () = self.stop.cancelled() => {
                    self.call_off(asking, id, told).await;
                    return None;
                }
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause + pause / 2).min(LONGEST_PAUSE);
            let trouble = match asking.task(id).await {
                Ok(task) => {
                    away_since = None;
                    let word = words::word(&task);
                    self.tell(&word, told).await;
                    match word.standing {
                        Standing::Going => continue,
                        Standing::Over(result) => return Some(self.ended(result)),
                        Standing::Stuck(why) => {
                            self.call_off(asking, id, told).await;
                            return Some(self.ended(words::failure(why)));
                        }
                    }
                }
                Err(trouble) => trouble,
            };
            let since = *away_since.get_or_insert_with(Instant::now);
            let for_good = match &trouble {
                Trouble::Refused(_) => true,
                Trouble::Away(_) | Trouble::Busy(..) => since.elapsed() >= self.away_patience(),
            };
            if for_good {
                self.call_off(asking, id, told).await;
                return Some(self.ended(words::failure(trouble.text())));
            }
            if let Trouble::Busy(_, wish) = trouble {
                pause = wish.min(self.away_patience());
            }
        }
    }

    /// A peer that was at work may be away for so long.
    fn away_patience(&self) -> Duration {
        self.app.config.peer_patience.saturating_mul(2)
    }

    /// Tells the peer that its work is not wanted any more, and books what it has used until then. Whether it obeys is
    /// its own affair.
    async fn call_off(&self, asking: &Asking, id: &str, told: &mut Told) {
        let why = match tokio::time::timeout(CANCEL_PATIENCE, asking.cancel(id)).await {
            Ok(Ok(task)) => {
                let word = words::word(&task);
                self.report_all(&word, told).await;
                return;
            }
            Ok(Err(trouble)) => trouble.text().to_owned(),
            Err(_) => "it did not say".to_owned(),
        };
        tracing::warn!(agent = %self.agent, task = self.task.id, why, "a peer may not have stopped");
    }

    /// Passes on what is new in what the peer says: at once when it is over, and otherwise not too often.
    async fn tell(&self, word: &Word, told: &mut Told) {
        let over = word.standing != Standing::Going;
        if over || told.reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            self.report_all(word, told).await;
        }
        if over {
            return;
        }
        if let Some(progress) = word.progress.filter(|progress| told.progress != Some(*progress)) {
            told.progress = Some(progress);
            self.put(self.patch(None, Some(progress))).await;
        }
        let is_due =
            told.remarked.is_none_or(|at| at.elapsed() >= REMARK_EVERY) && told.remarks < MAX_REMARKS;
        if let Some(note) = word
            .note
            .as_ref()
            .filter(|note| is_due && told.note.as_ref() != Some(*note))
        {
            told.note = Some(note.clone());
            told.remarked = Some(Instant::now());
            told.remarks += 1;
            self.remark(note.clone()).await;
        }
    }

    /// Books what the peer has used of each model, where that has changed.
    async fn report_all(&self, word: &Word, told: &mut Told) {
        for usage in &word.usage {
            if told.usage.get(&usage.model) != Some(usage) {
                told.usage.insert(usage.model.clone(), usage.clone());
                told.reported = Some(Instant::now());
                self.report(usage).await;
            }
        }
    }

    async fn remark(&self, note: String) {
        self.put(self.patch(Some(note), None)).await;
    }

    fn patch(&self, note: Option<String>, progress: Option<u8>) -> Command {
        let patch = TaskPatch {
            attempt: Some(self.attempt),
            agent: Some(self.agent.clone()),
            note,
            progress,
            ..TaskPatch::default()
        };
        Command::Patch(self.id(), Box::new(patch))
    }

    async fn report(&self, usage: &Usage) {
        let model = usage.model.as_deref().filter(|model| check_name(model).is_ok());
        let report = UsageReport {
            agent: self.agent.clone(),
            job: self.id(),
            attempt: Some(self.attempt),
            model: model.map(ModelName::from),
            tokens: usage.tokens,
            cost: usage.cost,
            total: true,
            event: UsageEvent::Usage,
        };
        self.put(Command::Report(report)).await;
    }

    /// Has something written down. What is refused is told to people alone: the attempt may have ended meanwhile.
    async fn put(&self, command: Command) {
        for telling in 1..=TELLINGS {
            match self
                .app
                .handle
                .call(self.actor.clone(), command.clone(), None)
                .await
            {
                Ok(_) => return,
                Err(Refusal::Rejected(no)) if no.slug.retryable() && telling < TELLINGS => {
                    tokio::time::sleep(TELLING_PAUSE).await;
                }
                Err(refusal) => {
                    tracing::warn!(agent = %self.agent, task = self.task.id, %refusal, "a peer's word was not kept");
                    return;
                }
            }
        }
    }

    /// The end of an attempt that could not begin.
    fn failed(&self, trouble: Trouble) -> Completion {
        let Trouble::Busy(why, pause) = trouble else {
            return self.ended(words::failure(trouble.text()));
        };
        let pause = Span::from_micros(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX));
        Completion {
            rate_limited_until: Some(self.app.handle.now() + pause),
            ..self.ended(words::failure(why))
        }
    }

    fn ended(&self, result: TaskResult) -> Completion {
        Completion {
            attempt: Some(self.attempt),
            agent: Some(self.agent.clone()),
            result,
            ..Completion::new(self.id(), true)
        }
    }

    fn id(&self) -> TaskId {
        self.task.id.as_str().into()
    }
}

/// What was told of a peer's words.
#[derive(Default)]
struct Told {
    note: Option<String>,
    remarks: u32,
    remarked: Option<Instant>,
    progress: Option<u8>,
    usage: BTreeMap<Option<String>, Usage>,
    reported: Option<Instant>,
}

/// What came of sending a task.
enum Begun {
    /// The peer has a task of this id.
    Going(String),
    /// It is over already.
    Over(Completion),
}
