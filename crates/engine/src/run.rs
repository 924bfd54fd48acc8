//! The thread that takes the turns: its inbox, its deadlines, its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use adjutant_core::access::Actor;
use adjutant_core::command::{Answer, Command, Request, SyncAnswer, Ticket};
use adjutant_core::retention::Retention;
use adjutant_core::set::Settings;
use adjutant_core::time::{Span, Timestamp};
use adjutant_store::{News, Space, Store, StoreError};
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, Dial, SystemClock};
use crate::forgetting::Forgetting;
use crate::handle::{Handle, Letter, Mail, Refusal};
use crate::readers::{MAX_READERS, Readers, stopped, storage};
use crate::submissions::{Submissions, Submitted};
use crate::tally::Tally;
use crate::turns::{NotTaken, Taken, Turns, is_growth, storage_low};
use crate::watch::{Turn, Watchers};

/// Requests that wait for their turn; more are refused at once, so that memory stays bounded.
const INBOX: usize = 8_192;
/// Requests in one turn: beyond this a larger batch gains nothing and makes the first of it wait.
const MAX_TURN: usize = 512;
/// How often the free space is looked at.
const SPACE_INTERVAL: Span = Span::from_secs(5);
/// Where servers share a store, each looks over everything that waits at least so often.
const SWEEP_INTERVAL: Span = Span::from_secs(5);
/// A pass that left out locked rows is repeated after this pause, doubling up to the longest.
const PASS_PAUSE: Span = Span::from_millis(2);
/// The longest pause between repeated passes.
const LONGEST_PASS_PAUSE: Span = Span::from_millis(50);
/// Where servers share a store, time is looked at no more often: many agents have many deadlines, and each look costs
/// journeys.
const FAR_TICK_INTERVAL: Span = Span::from_millis(100);
/// The pause after a tick that was not taken.
const TICK_PAUSE: Span = Span::from_secs(1);
/// A turn that met another server's lock is tried again for so long: until then nobody notices.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// After so long its requests are taken one by one: only one of them may be in the way of another server.
const CROWD_PATIENCE: Duration = Duration::from_secs(1);
/// So many that are in the way one after the other: then it is all of them.
const FEW_IN_THE_WAY: usize = 3;
/// So long a turn is tried again where the store of several servers cannot be reached.
const AWAY_PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How the engine ended, if not because it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Whether a turn was committed is not known: the process must end, the next start will see.
    #[error("the outcome of a commit is unknown; the server must be started again: {0}")]
    Unknown(String),
    /// The thread panicked outside of a turn.
    #[error("the engine ended by a bug: {0}")]
    Bug(String),
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    inbox: SyncSender<Mail>,
    thread: Option<JoinHandle<Result<(), Failure>>>,
    ended: watch::Receiver<bool>,
}

impl Engine {
    /// Starts the engine on a store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start<S: Store + 'static>(store: S, settings: Settings) -> Result<(Handle, Self), StoreError> {
        Self::start_with(
            store,
            settings,
            Retention::default(),
            Box::new(SystemClock::new()),
        )
    }

    /// Starts the engine, told what to keep of what is over, and with another clock.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start_with<S: Store + 'static>(
        mut store: S,
        settings: Settings,
        retention: Retention,
        mut clock: Box<dyn Clock>,
    ) -> Result<(Handle, Self), StoreError> {
        let mut readers = Vec::with_capacity(MAX_READERS);
        for _ in 0..MAX_READERS {
            readers.push(store.reader()?);
        }
        let first_seq = readers.first_mut().map_or(Ok(0), |reader| reader.last_seq())?;
        // What only this server changes is counted once and then kept up. Should that fail, whoever reads tells it.
        let counted = readers
            .first_mut()
            .filter(|_| !store.is_shared())
            .and_then(|reader| reader.counts().ok());
        let tally = Arc::new(Tally::starting_with(counted));
        let longest_wait = Duration::from_micros(settings.agent_ttl.part(3).as_micros().unsigned_abs());
        let far = store.is_shared();
        let lease_ttl = settings.agent_ttl;
        let first_pass = if far { Timestamp::EPOCH } else { Timestamp::NEVER };
        let (inbox, mail) = sync_channel(INBOX);
        let news = inbox.clone();
        store.listen(Box::new(move |told| {
            // When the inbox is gone there is nobody to tell.
            let _ = news.send(Mail::News(told));
        }));
        let turns = Turns::new(store, settings, clock.now())?;
        clock.advance(turns.newest());
        let first_now = clock.now();
        let dial = Dial::at(first_now);
        let (seq, last_seq) = watch::channel(first_seq);
        let (end, ended) = watch::channel(false);
        let tickets = Arc::new(AtomicU64::new(1));
        let submitted = Arc::new(Submitted::default());
        let run = Run {
            turns,
            clock,
            dial: dial.clone(),
            mail,
            seq,
            submissions: Submissions::new(Arc::clone(&submitted), far),
            waiting: HashMap::new(),
            tickets: Arc::clone(&tickets),
            lease_ttl,
            next_space: Timestamp::EPOCH,
            low: false,
            dismissed: false,
            passes: Passes {
                next: first_pass,
                pause: PASS_PAUSE,
            },
            no_tick_before: Timestamp::EPOCH,
            news_again: Timestamp::NEVER,
            forgetting: Forgetting::new(retention, first_now),
            tally: Arc::clone(&tally),
            watchers: Watchers::default(),
            pace: Pace::default(),
        };
        let thread = std::thread::Builder::new()
            .name("turns".into())
            .spawn(move || {
                let result = run.run();
                // Whoever watches need not be there any more.
                let _ = end.send(true);
                result
            })
            .map_err(|error| StoreError::Unavailable(format!("no thread could be started: {error}")))?;
        let handle = Handle {
            inbox: inbox.clone(),
            tickets,
            readers: Arc::new(Readers::new(readers, Arc::clone(&tally))),
            last_seq,
            longest_wait,
            submitted,
            shared: far,
            tally,
            dial,
        };
        Ok((
            handle,
            Self {
                inbox,
                thread: Some(thread),
                ended,
            },
        ))
    }

    /// Waits until the engine ends by itself, which it only does when it cannot go on.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // The sender goes away with the thread: that is an end as well.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Answers every sync that waits, and lets none wait from now on: the end is near.
    pub fn dismiss(&self) {
        // When the thread is gone nobody waits any more.
        let _ = self.inbox.send(Mail::Dismiss);
    }

    /// Answers what is in the inbox and who waits, and ends.
    ///
    /// # Errors
    /// When the engine had ended by a failure before.
    pub fn stop(mut self) -> Result<(), Failure> {
        // When the thread is gone there is nobody to tell: its result says why.
        let _ = self.inbox.send(Mail::Stop);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Failure::Bug("the thread panicked".into())),
        }
    }
}

struct Run<S> {
    turns: Turns<S>,
    clock: Box<dyn Clock>,
    dial: Dial,
    mail: Receiver<Mail>,
    seq: watch::Sender<u64>,
    /// Submissions that have come out of the inbox and wait for their turn.
    submissions: Submissions,
    /// Who waits for an answer of an earlier turn.
    waiting: HashMap<Ticket, oneshot::Sender<Result<Answer, Refusal>>>,
    tickets: Arc<AtomicU64>,
    lease_ttl: Span,
    next_space: Timestamp,
    low: bool,
    dismissed: bool,
    passes: Passes,
    /// After a tick that was not taken there is none for a while: the disk may be full.
    no_tick_before: Timestamp,
    /// When those who wait here are looked at because a word of another server's commit was not taken.
    news_again: Timestamp,
    forgetting: Forgetting,
    tally: Arc<Tally>,
    watchers: Watchers,
    /// What the last turn took.
    pace: Pace,
}

/// What the halves of a turn took.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    deciding: Duration,
    committing: Duration,
}

/// When the next dispatch pass is due. Only where servers share a store.
#[derive(Debug)]
struct Passes {
    next: Timestamp,
    pause: Span,
}

impl Passes {
    /// A commit made tasks ready or gave agents room: a pass follows at once.
    const fn now(&mut self, now: Timestamp) {
        self.next = now;
        self.pause = PASS_PAUSE;
    }

    /// A pass was taken: the next one is the sweep, unless it had to leave something out.
    fn taken(&mut self, skipped: bool, now: Timestamp) {
        if skipped {
            self.next = now + self.pause;
            self.pause = self.pause.times(2).min(LONGEST_PASS_PAUSE);
        } else {
            self.next = now + SWEEP_INTERVAL;
            self.pause = PASS_PAUSE;
        }
    }
}

impl<S: Store> Run<S> {
    fn run(mut self) -> Result<(), Failure> {
        let mut next_watch = self.clock.now();
        loop {
            let now = self.clock.now();
            let tick_at = self
                .turns
                .next_deadline(now)
                .min(next_watch)
                .max(self.no_tick_before);
            let deadline = tick_at
                .min(self.passes.next)
                .min(self.news_again)
                .min(self.forgetting.next());
            let pause = if self.submissions.is_empty() {
                Duration::from_micros(deadline.since(now).as_micros().unsigned_abs())
            } else {
                Duration::ZERO
            };
            let (mut letters, stop) = match self.mail.recv_timeout(pause) {
                Ok(Mail::Letter(letter)) => self.gather(letter),
                Ok(Mail::News(news)) => {
                    let letter = self.news(news);
                    self.gather(Box::new(letter))
                }
                Ok(Mail::Watch(watcher)) => {
                    self.watchers.add(watcher);
                    continue;
                }
                Ok(Mail::Dismiss) => {
                    self.dismiss();
                    continue;
                }
                Ok(Mail::Stop) | Err(RecvTimeoutError::Disconnected) => (Vec::new(), true),
                Err(RecvTimeoutError::Timeout) => (Vec::new(), false),
            };
            self.submissions.add(&mut letters, stop);
            let now = self.clock.now();
            if now >= tick_at {
                letters.push(self.own(Command::Tick));
                next_watch = now + self.lease_ttl.part(8);
                if self.turns.store().is_shared() {
                    self.no_tick_before = now + FAR_TICK_INTERVAL;
                }
            }
            if now >= self.news_again {
                letters.push(self.own(Command::News(None)));
                self.news_again = Timestamp::NEVER;
            }
            self.look_at_space(now);
            // This turn begins after the commit that the pass is to follow: one turn does for both.
            if now >= self.passes.next {
                letters.push(self.own(Command::Pass));
            }
            if !letters.is_empty() {
                self.turn(letters)?;
            }
            if !stop && self.clock.now() >= self.forgetting.next() {
                let now = self.clock.now();
                self.forgetting.go_on(&mut self.turns, &self.tally, now)?;
            }
            if stop {
                self.farewell();
                return Ok(());
            }
        }
    }

    /// Whatever has arrived by now is one turn; submissions are set aside.
    fn gather(&mut self, first: Box<Letter>) -> (Vec<Letter>, bool) {
        let mut letters = Vec::new();
        letters.extend(self.submissions.set_aside(*first));
        while letters.len() < MAX_TURN {
            match self.mail.try_recv() {
                Ok(Mail::Letter(letter)) => letters.extend(self.submissions.set_aside(*letter)),
                Ok(Mail::News(news)) => letters.push(self.news(news)),
                Ok(Mail::Watch(watcher)) => self.watchers.add(watcher),
                Ok(Mail::Dismiss) => {
                    self.dismiss();
                    break;
                }
                Ok(Mail::Stop) => return (letters, true),
                Err(_) => break,
            }
        }
        (letters, false)
    }

    /// Another server has committed something: readers of events go on, and whoever waits here for it is answered.
    fn news(&self, news: News) -> Letter {
        self.tell_seq(news.seq);
        self.own(Command::News(news.agents))
    }

    fn tell_seq(&self, seq: u64) {
        self.seq.send_if_modified(|last| {
            let newer = seq > *last;
            *last = seq.max(*last);
            newer
        });
    }

    fn own(&self, command: Command) -> Letter {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        Letter {
            request: Request {
                actor: Actor::admin(),
                command,
                idempotency: None,
                ticket,
            },
            reply: None,
        }
    }

    fn look_at_space(&mut self, now: Timestamp) {
        if now < self.next_space {
            return;
        }
        self.next_space = now + SPACE_INTERVAL;
        let low = self.turns.store().space() == Space::Low;
        if low != self.low {
            if low {
                tracing::warn!("the store is nearly out of space: new tasks are refused until some is freed");
            } else {
                tracing::info!("the store has space again");
            }
            self.low = low;
        }
    }

    fn turn(&mut self, mut letters: Vec<Letter>) -> Result<(), Failure> {
        if self.low {
            for letter in letters.extract_if(.., |letter| is_growth(&letter.request.command)) {
                answer(letter.reply, Err(Refusal::Rejected(storage_low())));
            }
        }
        let (requests, replies): (Vec<Request>, Vec<_>) = letters
            .into_iter()
            .map(|letter| (letter.request, letter.reply))
            .unzip();
        let mut requests = requests;
        if self.dismissed {
            for request in &mut requests {
                if let Command::Sync(sync) = &mut request.command {
                    sync.wait = Span::ZERO;
                }
            }
        }
        for (request, reply) in requests.iter().zip(replies) {
            if let Some(reply) = reply {
                self.waiting.insert(request.ticket, reply);
            }
        }
        let is_crowd = requests.len() > 1;
        match self.try_turn(&requests, if is_crowd { CROWD_PATIENCE } else { BUSY_PATIENCE })? {
            Err(NotTaken::Bug(why)) if is_crowd => {
                tracing::error!(%why, "a turn was discarded by a bug: its requests are taken one by one");
                self.one_by_one(&requests)
            }
            Err(NotTaken::Store(StoreError::Busy(why))) if is_crowd => {
                tracing::warn!(%why, "another server was in the way of a turn: its requests are taken one by one");
                self.one_by_one(&requests)
            }
            tried => self.end_turn(&requests, tried),
        }
    }

    /// Takes requests one by one, each once; then those that another server was in the way of, with patience.
    fn one_by_one(&mut self, requests: &[Request]) -> Result<(), Failure> {
        let mut left: Vec<Request> = Vec::new();
        for request in requests {
            if left.len() >= FEW_IN_THE_WAY {
                left.push(request.clone());
                continue;
            }
            let single = std::slice::from_ref(request);
            match self.try_turn(single, Duration::ZERO)? {
                Err(NotTaken::Store(StoreError::Busy(_))) => left.push(request.clone()),
                tried => self.end_turn(single, tried)?,
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let tried = self.try_turn(&left, BUSY_PATIENCE)?;
        self.end_turn(&left, tried)
    }

    fn end_turn(&mut self, requests: &[Request], tried: Result<Taken, NotTaken>) -> Result<(), Failure> {
        match tried {
            Ok(taken) => self.settle(requests, taken),
            Err(NotTaken::Store(error)) => self.refuse(requests, &error),
            Err(NotTaken::Bug(why)) => self.bug(requests, &why),
            Err(NotTaken::Unknown(why)) => return Err(Failure::Unknown(why)),
        }
        Ok(())
    }

    /// Takes a turn, again where another server was in the way: for so long.
    fn try_turn(&mut self, requests: &[Request], busy: Duration) -> Result<Result<Taken, NotTaken>, Failure> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match self.take(requests) {
                Err(NotTaken::Store(error)) if began.elapsed() < self.patience(&error, busy) => {
                    tracing::debug!(%error, "a turn is tried again");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(NotTaken::Unknown(why)) => {
                    tracing::error!(%why, "the outcome of a commit is unknown: the server ends");
                    return Err(Failure::Unknown(why));
                }
                other => return Ok(other),
            }
        }
    }

    /// Takes a turn once, and notes what it took.
    fn take(&mut self, requests: &[Request]) -> Result<Taken, NotTaken> {
        let began = Instant::now();
        let mut decided = began;
        let now = self.clock.now();
        let taken = self.turns.prepare(requests, now).and_then(|outcome| {
            decided = Instant::now();
            self.turns.finish(outcome)
        });
        match &taken {
            Ok(_) => {
                self.pace = Pace {
                    deciding: decided.duration_since(began),
                    committing: decided.elapsed(),
                }
            }
            Err(NotTaken::Store(error)) => self.tally.failed(error),
            Err(NotTaken::Bug(_)) => self.tally.met_a_bug(),
            Err(NotTaken::Unknown(_)) => {}
        }
        taken
    }

    /// How long a turn is tried again after an error.
    fn patience(&self, error: &StoreError, busy: Duration) -> Duration {
        match error {
            StoreError::Busy(_) => busy,
            StoreError::Unavailable(_) if self.turns.store().is_shared() => AWAY_PATIENCE,
            _ => Duration::ZERO,
        }
    }

    /// A turn was taken, and with it the pass that was part of it.
    fn settle(&mut self, requests: &[Request], mut taken: Taken) {
        let changes = std::mem::take(&mut taken.changes);
        self.tally.committed(&changes);
        if has(requests, &Command::Pass) {
            let now = self.clock.now();
            self.passes.taken(taken.skipped, now);
        }
        self.publish(taken);
        self.watchers.tell(&Turn {
            requests: requests.len(),
            deciding: self.pace.deciding,
            committing: self.pace.committing,
            changes: &changes,
            at: self.clock.now(),
        });
    }

    fn publish(&mut self, taken: Taken) {
        if taken.pass {
            let now = self.clock.now();
            self.passes.now(now);
        }
        if let Some(seq) = taken.last_seq {
            self.tell_seq(seq);
        }
        if self.turns.store().is_shared() {
            self.clock.advance(self.turns.newest());
        }
        self.dial.set(self.clock.now());
        for (ticket, verdict) in taken.answers {
            answer(self.waiting.remove(&ticket), verdict.map_err(Refusal::Rejected));
        }
    }

    /// Whatever was due is due again, after a pause.
    fn put_off(&mut self, requests: &[Request]) {
        let later = self.clock.now() + TICK_PAUSE;
        if has(requests, &Command::Tick) {
            self.no_tick_before = later;
        }
        if has(requests, &Command::Pass) {
            self.passes.next = later;
        }
        if has(requests, &Command::News(None)) {
            self.news_again = later;
        }
    }

    fn refuse(&mut self, requests: &[Request], error: &StoreError) {
        let refusal = storage(error);
        self.put_off(requests);
        if matches!(error, StoreError::Busy(_)) && has(requests, &Command::Pass) {
            // As if it had left out what is locked.
            let now = self.clock.now();
            self.passes.taken(true, now);
        }
        tracing::warn!(%refusal, requests = requests.len(), "a turn was not taken");
        for request in requests {
            answer(self.waiting.remove(&request.ticket), Err(refusal.clone()));
        }
    }

    fn bug(&mut self, requests: &[Request], why: &str) {
        self.put_off(requests);
        for request in requests {
            tracing::error!(%why, command = ?request.command, "a request met a bug");
            answer(
                self.waiting.remove(&request.ticket),
                Err(Refusal::Bug(why.to_owned())),
            );
        }
    }

    /// Tells everybody who waits that there is nothing. Only syncs wait beyond their turn.
    fn dismiss(&mut self) {
        self.dismissed = true;
        for (_, reply) in std::mem::take(&mut self.waiting) {
            answer(Some(reply), Ok(Answer::Sync(Box::new(nothing(self.lease_ttl)))));
        }
    }

    /// Answers who waits, and refuses what comes too late.
    fn farewell(&mut self) {
        self.dismiss();
        while let Ok(mail) = self.mail.try_recv() {
            if let Mail::Letter(letter) = mail {
                answer(letter.reply, Err(stopped()));
            }
        }
    }
}

/// Whether a command of this kind is among the requests.
fn has(requests: &[Request], kind: &Command) -> bool {
    let kind = std::mem::discriminant(kind);
    requests
        .iter()
        .any(|request| std::mem::discriminant(&request.command) == kind)
}

fn nothing(lease_ttl: Span) -> SyncAnswer {
    SyncAnswer {
        start: Vec::new(),
        stop: Vec::new(),
        done: Vec::new(),
        drain: false,
        lease_ttl,
    }
}

fn answer(reply: Option<oneshot::Sender<Result<Answer, Refusal>>>, result: Result<Answer, Refusal>) {
    if let Some(reply) = reply
        && reply.send(result).is_err()
    {
        tracing::trace!("a caller went away before its answer");
    }
}
