//! The courier of one webhook: reads what is to be told, sees to it that it is, and says how that went.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::access::Actor;
use adjutant_core::command::{Answer, Command, DeliveryOutcome, DeliveryReport};
use adjutant_core::event::Event;
use adjutant_core::rejection::Slug;
use adjutant_core::webhook::Webhook;
use adjutant_engine::Refusal;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ROUND;
use super::parcel::Carrier;
use crate::app::{App, unexpected};
use crate::failure::Failure;

/// The most events of a webhook that are under way.
const UNDER_WAY: usize = 8;
/// Of them, the most that were tried before: what failed must not hold up what is new.
const AGAIN: usize = 4;
/// How often the first of those that wait is tried before its time, where so many wait that nothing new is told: somebody
/// must see that the place is back.
const PROBE: Duration = Duration::from_mins(1);
/// The most outcomes that one report tells.
const REPORTED: usize = 64;
/// Nothing more is begun while so many outcomes wait to be told.
const UNREPORTED: usize = 4 * REPORTED;
/// Events of one page.
const PAGE: usize = 256;
/// An outcome is told after so long, though more may follow.
const GATHER: Duration = Duration::from_millis(500);
/// Between pages that were not full, so that a busy log is read in pieces.
const BREATH: Duration = Duration::from_millis(50);
/// After something that did not work.
const PAUSE: Duration = Duration::from_secs(1);
/// Where another server may take over, it is told so often that this one is there. Well within the lease.
const RENEWAL: Duration = Duration::from_secs(10);
/// A cursor that moves over events which are not told is stored after so many.
const STRIDE: u64 = 1_000;
/// What is under way when the server stops has so long to arrive; then it is sent again by the next.
const GRACE: Duration = Duration::from_secs(2);

/// Why an event is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Try {
    /// It is new.
    First,
    /// It was tried before, and its time has come.
    Due,
    /// It was tried before, and its time has not come: its place may be back.
    Early,
}

/// The courier of one webhook.
pub(super) struct Courier {
    app: App,
    session: Arc<str>,
    /// As the engine knows it.
    webhook: Webhook,
    changes: watch::Receiver<u64>,
    last_seq: watch::Receiver<u64>,
    /// All events up to this one were read.
    position: u64,
    /// Those of them that are to be told.
    queue: VecDeque<Event>,
    parcels: JoinSet<DeliveryOutcome>,
    /// Which event each of them is, and why it is sent now.
    under_way: HashMap<Id, (u64, Try)>,
    /// What is to be told to the engine.
    outcomes: Vec<(u64, DeliveryOutcome)>,
    missed: u64,
    /// When the oldest of it must be told.
    report_at: Option<Instant>,
    /// When the next delivery is due again, as far as is known.
    again_at: Option<Instant>,
    /// The place was away and takes again, so that what waits need wait no longer: what failed nevertheless since then.
    back: Option<BTreeSet<u64>>,
    /// How many failed since something was taken.
    failed_in_a_row: usize,
    /// When it may be probed.
    probe_at: Instant,
    /// When the log may be read again.
    read_at: Instant,
    renew_at: Instant,
    /// When to see whether the webhook was changed elsewhere.
    look_at: Instant,
}

impl Courier {
    pub(super) fn new(app: App, webhook: Webhook) -> Self {
        let now = Instant::now();
        Self {
            last_seq: app.handle.last_seq(),
            changes: app.webhooks_changed.subscribe(),
            app,
            session: uuid::Uuid::new_v4().to_string().into(),
            webhook,
            position: 0,
            queue: VecDeque::new(),
            parcels: JoinSet::new(),
            under_way: HashMap::new(),
            outcomes: Vec::new(),
            missed: 0,
            report_at: None,
            again_at: Some(now),
            back: None,
            failed_in_a_row: 0,
            probe_at: now,
            read_at: now,
            renew_at: now + RENEWAL,
            look_at: now + ROUND,
        }
    }

    /// Delivers until the server is to stop, or somebody else does.
    pub(super) async fn run(mut self, leaving: CancellationToken) {
        let carrier = match self.begin().await {
            Ok(Some(carrier)) => carrier,
            Ok(None) => return,
            Err(why) => {
                tracing::warn!(webhook = %self.webhook.name, %why, "nothing can be delivered; it is tried again");
                return;
            }
        };
        loop {
            match self.set_out(&carrier).await {
                Ok(true) => {}
                Ok(false) => return self.parcels.shutdown().await,
                Err(error) => {
                    tracing::warn!(webhook = %self.webhook.name, error = %error.0, "what is to be delivered could not be read");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            if self.must_report() && !self.report().await {
                return self.parcels.shutdown().await;
            }
            let wake = self.wakes_at();
            let may_read = self.may_read();
            tokio::select! {
                biased;
                () = leaving.cancelled() => return self.leave().await,
                Some(ended) = self.parcels.join_next_with_id() => self.take(ended),
                _ = self.changes.changed() => self.look_at = Instant::now(),
                changed = self.last_seq.changed(), if may_read => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Becomes the one that delivers, unless another server is.
    async fn begin(&mut self) -> Result<Option<Carrier>, String> {
        let command = Command::LeaseWebhook {
            name: Arc::clone(&self.webhook.name),
            session: Arc::clone(&self.session),
            alone: !self.app.handle.is_shared(),
        };
        match self.app.handle.call(Actor::admin(), command, None).await {
            Ok(Answer::Webhook(webhook)) => self.webhook = (*webhook).clone(),
            Ok(other) => return Err(unexpected(&other).0.message),
            Err(Refusal::Rejected(no))
                if matches!(
                    no.slug,
                    Slug::Superseded | Slug::WebhookNotFound | Slug::WrongState
                ) =>
            {
                return Ok(None);
            }
            Err(refusal) => return Err(refusal.to_string()),
        }
        self.position = self.webhook.cursor;
        let carrier = Carrier::new(&self.app, &self.webhook)?;
        tracing::info!(webhook = %self.webhook.name, "this server delivers for a webhook");
        Ok(Some(carrier))
    }

    /// Whether this webhook is still the one that was begun with. What was asked for again is seen with it.
    async fn look(&mut self) -> Result<bool, Failure> {
        // Until it has been seen nothing is sent, whatever goes wrong here.
        self.look_at = Instant::now();
        self.changes.borrow_and_update();
        let webhooks = self.app.handle.query(|reader| reader.webhooks()).await?;
        self.look_at = Instant::now() + ROUND;
        self.again_at = Some(Instant::now());
        let own = webhooks.into_iter().find(|webhook| {
            webhook.name == self.webhook.name
                && webhook.created_at == self.webhook.created_at
                && webhook.is_held_by(&self.session)
        });
        let Some(own) = own.filter(|webhook| webhook.disabled.is_none()) else {
            return Ok(false);
        };
        self.webhook.pending = own.pending;
        Ok(true)
    }

    /// Begins what can be begun; whether to go on.
    async fn set_out(&mut self, carrier: &Carrier) -> Result<bool, Failure> {
        loop {
            // Nothing is sent after the answer that a webhook is removed.
            let is_changed = self.changes.has_changed().unwrap_or(false) || self.look_at <= Instant::now();
            if is_changed && !self.look().await? {
                return Ok(false);
            }
            if self.again_at.is_some_and(|at| at <= Instant::now()) {
                self.try_again(carrier).await?;
                continue;
            }
            while self.has_room() {
                let Some(event) = self.queue.pop_front() else {
                    break;
                };
                self.send(carrier, event, Try::First);
            }
            if !self.may_read()
                || self.read_at > Instant::now()
                || *self.last_seq.borrow_and_update() <= self.position
            {
                return Ok(true);
            }
            self.read().await?;
        }
    }

    fn has_room(&self) -> bool {
        let failed = self.outcomes.len();
        self.under_way.len() < UNDER_WAY
            && failed < UNREPORTED
            && self.webhook.room(self.under_way.len() + failed) > 0
    }

    fn may_read(&self) -> bool {
        self.queue.is_empty() && self.has_room()
    }

    /// Reads the next page of the log.
    async fn read(&mut self) -> Result<(), Failure> {
        let since = self.position;
        let page = self
            .app
            .handle
            .query(move |reader| reader.events(since, PAGE))
            .await?;
        if page.len() < PAGE {
            self.read_at = Instant::now() + BREATH;
        }
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            // The signal is ahead of what can be read, or all of it has been forgotten.
            self.read_at = Instant::now() + PAUSE;
            return Ok(());
        };
        // What the log has no more, nobody can be told of.
        self.missed += first.seq - since - 1;
        self.position = last.seq;
        let webhook = &self.webhook;
        let told = page.into_iter().filter(|event| webhook.is_told_of(event.kind));
        self.queue.extend(told);
        Ok(())
    }

    /// Tries again what is due.
    async fn try_again(&mut self, carrier: &Carrier) -> Result<(), Failure> {
        self.again_at = None;
        if self.webhook.pending == 0 {
            self.back = None;
            return Ok(());
        }
        let busy: BTreeSet<u64> = self
            .under_way
            .values()
            .map(|(seq, _)| *seq)
            .chain(self.outcomes.iter().map(|(seq, _)| *seq))
            .chain(self.back.iter().flatten().copied())
            .collect();
        let under_way = self
            .under_way
            .values()
            .filter(|(_, why)| *why != Try::First)
            .count();
        let places = AGAIN
            .saturating_sub(under_way)
            .min(UNDER_WAY.saturating_sub(self.under_way.len()));
        if places == 0 || self.outcomes.len() >= UNREPORTED {
            // When one of them ends there is a place, and it is looked again.
            return Ok(());
        }
        let (name, limit) = (Arc::clone(&self.webhook.name), busy.len() + places + 1);
        let waiting = self
            .app
            .handle
            .query(move |reader| reader.due_deliveries(&name, limit))
            .await?;
        let now = self.app.handle.now();
        let waiting = waiting.into_iter().filter(|(seq, _)| !busy.contains(seq));
        let mut waiting = waiting.enumerate().peekable();
        if waiting.peek().is_none() && self.back.take().is_some() {
            // All have been sent. Those that failed nevertheless are sent again when their time comes.
            self.again_at = Some(Instant::now());
            return Ok(());
        }
        for (begun, (seq, delivery)) in waiting {
            let due_at = delivery.due_at.unwrap_or(now);
            let is_early = due_at > now;
            let is_probe = is_early && self.back.is_none() && under_way + begun == 0 && self.may_probe();
            if begun == places {
                break;
            }
            if is_early && self.back.is_none() && !is_probe {
                let wait = Duration::from_micros(due_at.since(now).as_micros().unsigned_abs());
                self.again_at = Some(self.looks_again(wait));
                break;
            }
            if is_probe {
                self.probe_at = Instant::now() + PROBE;
            }
            let why = if is_early { Try::Early } else { Try::Due };
            let found = self
                .app
                .handle
                .query(move |reader| reader.events(seq.saturating_sub(1), 1))
                .await?;
            match found.into_iter().next().filter(|event| event.seq == seq) {
                Some(event) => self.send(carrier, event, why),
                None => self.note(seq, DeliveryOutcome::Forgotten),
            }
        }
        Ok(())
    }

    fn may_probe(&self) -> bool {
        self.webhook.is_stalled() && self.probe_at <= Instant::now()
    }

    /// When to look again for what is to be tried again, where the next is due after a wait.
    fn looks_again(&self, wait: Duration) -> Instant {
        let due = Instant::now() + wait;
        if self.webhook.is_stalled() {
            due.min(self.probe_at)
        } else {
            due
        }
    }

    fn send(&mut self, carrier: &Carrier, event: Event, why: Try) {
        let seq = event.seq;
        let id = self.parcels.spawn(carrier.clone().bring(event)).id();
        self.under_way.insert(id, (seq, why));
    }

    /// Something has arrived, or not.
    fn take(&mut self, ended: Result<(Id, DeliveryOutcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => {
                tracing::error!(webhook = %self.webhook.name, %error, "a delivery broke");
                let outcome = DeliveryOutcome::Failed {
                    error: "the server broke while it delivered; its log says how".into(),
                    retry_after: None,
                };
                (error.id(), outcome)
            }
        };
        if let Some((seq, why)) = self.under_way.remove(&id) {
            self.learn(seq, why, &outcome);
            let outcome = match outcome {
                DeliveryOutcome::Failed { error, .. } if why == Try::Early => {
                    DeliveryOutcome::FailedEarly { error }
                }
                other => other,
            };
            self.note(seq, outcome);
        }
    }

    /// Whether the place is back: it is when it takes something after trouble, until it takes nothing more.
    fn learn(&mut self, seq: u64, why: Try, outcome: &DeliveryOutcome) {
        match outcome {
            DeliveryOutcome::Delivered => {
                self.failed_in_a_row = 0;
                if self.webhook.is_in_trouble() || self.webhook.is_stalled() {
                    self.back.get_or_insert_default();
                }
            }
            DeliveryOutcome::Failed { .. } => {
                self.failed_in_a_row += 1;
                if self.failed_in_a_row >= AGAIN {
                    self.back = None;
                } else if let Some(failed) = self.back.as_mut().filter(|_| why == Try::Early) {
                    failed.insert(seq);
                }
            }
            DeliveryOutcome::Gone | DeliveryOutcome::Forgotten | DeliveryOutcome::FailedEarly { .. } => {}
        }
    }

    fn note(&mut self, seq: u64, outcome: DeliveryOutcome) {
        self.outcomes.push((seq, outcome));
        self.report_at.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// All events up to this one are dealt with.
    fn cursor(&self) -> u64 {
        let new = self.under_way.values().filter(|(_, why)| *why == Try::First);
        let open = new
            .map(|(seq, _)| *seq)
            .chain(self.queue.front().map(|event| event.seq));
        open.min().map_or(self.position, |seq| seq - 1)
    }

    /// Whether the webhook's row is to be written from time to time: for a lease, or a cursor that moves over what is
    /// not told.
    fn renews(&self) -> bool {
        self.app.handle.is_shared() || self.cursor() > self.webhook.cursor
    }

    fn must_report(&self) -> bool {
        let now = Instant::now();
        let is_due = match self.report_at {
            Some(at) => at <= now || self.outcomes.len() >= REPORTED || self.under_way.is_empty(),
            None => self.cursor() >= self.webhook.cursor + STRIDE,
        };
        is_due || (self.renews() && self.renew_at <= now)
    }

    /// Tells the engine what there is to tell; whether to go on.
    async fn report(&mut self) -> bool {
        loop {
            let told = self.outcomes.len().min(REPORTED);
            let rest = self.outcomes.split_off(told);
            let report = DeliveryReport {
                name: Arc::clone(&self.webhook.name),
                session: Arc::clone(&self.session),
                // What is told later must not be passed before.
                cursor: match rest.iter().map(|(seq, _)| seq - 1).min() {
                    Some(before) => before.min(self.cursor()),
                    None => self.cursor(),
                },
                missed: self.missed,
                outcomes: self.outcomes.clone(),
            };
            let command = Command::SettleDeliveries(report);
            match self.app.handle.call(Actor::admin(), command, None).await {
                Ok(Answer::Webhook(webhook)) => {
                    self.tell(&webhook);
                    self.webhook = (*webhook).clone();
                    self.outcomes = rest;
                    self.missed = 0;
                    self.report_at = None;
                    self.again_at = Some(Instant::now());
                    self.renew_at = Instant::now() + RENEWAL;
                    if let Some(why) = &self.webhook.disabled {
                        tracing::warn!(webhook = %self.webhook.name, %why, "a webhook is disabled");
                        return false;
                    }
                    if self.outcomes.is_empty() {
                        return true;
                    }
                }
                Err(Refusal::Rejected(no)) if matches!(no.slug, Slug::Superseded | Slug::WebhookNotFound) => {
                    tracing::info!(webhook = %self.webhook.name, why = %no, "this server no longer delivers");
                    return false;
                }
                other => {
                    tracing::warn!(webhook = %self.webhook.name, answer = ?other, "a report was not taken; it is repeated");
                    self.outcomes.extend(rest);
                    let later = Instant::now() + PAUSE;
                    self.report_at = Some(later);
                    self.renew_at = later;
                    tokio::time::sleep_until(later).await;
                    return true;
                }
            }
        }
    }

    /// Tells operators of trouble, once when it begins.
    fn tell(&self, now: &Webhook) {
        let (name, before) = (&now.name, &self.webhook);
        if now.dead > before.dead || now.missed > before.missed {
            let (dead, missed) = (now.dead, now.missed);
            tracing::warn!(webhook = %name, dead, missed, "a webhook has dead letters; `adjutant webhook dead` lists them");
        }
        if now.is_stalled() && !before.is_stalled() {
            tracing::warn!(webhook = %name, "so much waits for a webhook's place that new events wait in the log");
        }
    }

    /// When there is something to do though nothing happens.
    fn wakes_at(&self) -> Instant {
        let mut wake = self.look_at;
        let reads = (self.may_read() && *self.last_seq.borrow() > self.position).then_some(self.read_at);
        let has_places = self.under_way.len() < UNDER_WAY;
        let times = [
            self.report_at,
            self.again_at.filter(|_| has_places),
            reads,
            Some(self.renew_at).filter(|_| self.renews()),
        ];
        for at in times.into_iter().flatten() {
            wake = wake.min(at);
        }
        wake
    }

    /// The server stops: what is under way may arrive, and the next one goes on.
    async fn leave(mut self) {
        let arrived = tokio::time::timeout(GRACE, async {
            while let Some(ended) = self.parcels.join_next_with_id().await {
                self.take(ended);
            }
        });
        if arrived.await.is_err() {
            tracing::info!(webhook = %self.webhook.name, "deliveries are cut off, and will be repeated");
        }
        if !self.report().await {
            return;
        }
        let command = Command::LeaveWebhook {
            name: Arc::clone(&self.webhook.name),
            session: self.session,
        };
        if let Err(refusal) = self.app.handle.call(Actor::admin(), command, None).await {
            tracing::warn!(webhook = %self.webhook.name, %refusal, "the next server has to wait for the end of a lease");
        }
    }
}
