//! Decide: the rules, as one pure function of the working set, the commands and the time.
//!
//! [`decide`] runs the commands of a turn one after the other, dispatches what became possible, and works out the
//! answers. It reads no clock and draws no random numbers: the same rows, commands and time always give the same
//! changes. What it needs and does not find it asks for ([`Decision::More`]); then the turn starts over.
//!
//! A command either happens whole or not at all: one that is refused, or whose rows are missing, is taken back without
//! touching its neighbours.
//!
//! | file | decides |
//! |---|---|
//! | `submit` | what is accepted, and what depends on what |
//! | `custody` | start, end, failure, release, loss: the life of an attempt |
//! | `claim` | who may take a task by its id |
//! | `completion` | how an attempt went, in time or late |
//! | `conduct` | what ends say of agents: quarantine, pauses, cooldowns |
//! | `account` | booking of usage, settlement, crossings of limits |
//! | `hold` | what is set aside at a start: estimates, and what is learned |
//! | `usage`, `external` | reports of usage, of our attempts and of jobs dispatched elsewhere |
//! | `operate` | cancel, retry, hold, changes of a task, fan-out to dependents |
//! | `registration` | agents come, change, drain and leave |
//! | `roll_call` | sync: what runs, what starts, what stops |
//! | `dispatch` | who gets what |
//! | `allowance` | what is set for a scope, checks, resets |
//! | `clock` | what the passing of time alone brings |
//! | `waiting` | why something waits |
//! | `webhooks` | who delivers events to places, what is tried again, and until when |
//! | `foresee` | what a turn is sure to need |

mod account;
mod allowance;
mod claim;
mod clock;
mod completion;
mod conduct;
mod custody;
mod dispatch;
mod external;
mod foresee;
mod hold;
mod operate;
mod registration;
mod roll_call;
mod submit;
mod usage;
mod waiting;
mod webhooks;

pub use foresee::foresee;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::{Answer, Command, IDEMPOTENCY_TTL, Request, TaskView, Ticket};
use crate::name::AgentId;
use crate::rejection::{Rejection, Slug};
use crate::set::rows::{Replay, ReplayAnswer, ReplayItem, ReplayKey, Wanted};
use crate::set::{Halt, Need, WorkingSet};
use crate::task::{Task, TaskKey};
use crate::time::Timestamp;

/// What a command is answered with.
pub type Verdict = Result<Answer, Rejection>;

/// What comes of a turn.
#[derive(Debug)]
pub enum Decision {
    /// Rows are missing: load them and decide again. Nothing was changed.
    More(Box<Wanted>),
    /// The changes are in the working set; once they are stored, these answers are due.
    Done(Outcome),
}

/// The answers of a turn, and what is to follow it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Who is answered what.
    pub answers: Vec<(Ticket, Verdict)>,
    /// Where servers share a store: a dispatch pass on a snapshot that begins after this turn's commit.
    pub pass: bool,
}

/// A command's answer before the end of the turn.
enum Reply {
    /// As it is.
    Now(Verdict),
    /// A task as it is after the dispatch of this turn.
    Task(TaskKey),
    /// A task as it was right after the command.
    Then(Arc<Task>),
    /// The items of a batch, after the dispatch.
    Batch(Vec<Result<TaskKey, Rejection>>),
    /// The items of a batch, as they were right after each.
    BatchThen(Vec<Result<Arc<Task>, Rejection>>),
    /// A sync, answered after the dispatch.
    Sync(Box<roll_call::PendingSync>),
}

/// One turn in the making.
struct Turn<'a> {
    set: &'a mut WorkingSet,
    now: Timestamp,
    replies: Vec<(Ticket, Reply)>,
    /// Agents to whose waiting sync something may have happened.
    touched: BTreeSet<AgentId>,
    /// A hard limit was reached: whoever runs something may have to stop.
    hard_limit_reached: bool,
    /// Dispatch over everything there is.
    is_pass: bool,
}

/// Decides a turn. `now` must not lie before that of an earlier turn.
pub fn decide(set: &mut WorkingSet, requests: &[Request], now: Timestamp) -> Decision {
    let now = now.max(set.last_now);
    let mut turn = Turn {
        set,
        now,
        replies: Vec::with_capacity(requests.len()),
        touched: BTreeSet::new(),
        hard_limit_reached: false,
        is_pass: false,
    };
    turn.watch();
    let mut missing = false;
    for request in requests {
        let mark = turn.set.mark();
        let replies = turn.replies.len();
        match turn.run(request) {
            Ok(reply) => turn.replies.push((request.ticket, reply)),
            Err(halt) => {
                turn.set.rewind(mark);
                turn.replies.truncate(replies);
                match halt {
                    Halt::Rejected(rejection) => {
                        turn.replies.push((request.ticket, Reply::Now(Err(*rejection))));
                    }
                    Halt::Missing => missing = true,
                }
            }
        }
    }
    if !missing {
        match turn.finish() {
            Ok(outcome) => {
                debug_assert!(!set.wants_more(), "a row was wanted and its absence ignored");
                return Decision::Done(outcome);
            }
            Err(Halt::Missing) => {}
            Err(Halt::Rejected(rejection)) => panic!("the end of a turn was refused: {rejection}"),
        }
    }
    set.discard();
    let wanted = set.take_wanted();
    assert!(
        !wanted.is_empty(),
        "a turn stopped for missing rows that it did not name"
    );
    Decision::More(Box::new(wanted))
}

impl Turn<'_> {
    /// Looks at each of many. That one lacks rows is no reason not to look at the others: what all of them lack is
    /// loaded at once.
    fn with_each<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut look: impl FnMut(&mut Self, T) -> Need<()>,
    ) -> Need<()> {
        let mut missing = false;
        for item in items {
            match look(self, item) {
                Err(Halt::Missing) => missing = true,
                looked_at => looked_at?,
            }
        }
        if missing { Err(Halt::Missing) } else { Ok(()) }
    }

    fn views(&mut self, tasks: &[Arc<Task>]) -> Need<Vec<TaskView>> {
        let mut views = Vec::with_capacity(tasks.len());
        self.with_each(tasks, |turn, task| {
            views.push(turn.view(task)?);
            Ok(())
        })?;
        Ok(views)
    }

    /// The tasks of a batch as they are shown, each in the place of its item.
    fn views_of<T>(
        &mut self,
        items: Vec<Result<T, Rejection>>,
        mut task: impl FnMut(&mut Self, T) -> Need<Arc<Task>>,
    ) -> Need<Vec<Result<TaskView, Rejection>>> {
        let mut views = Vec::with_capacity(items.len());
        self.with_each(items, |turn, item| {
            views.push(match item {
                Ok(item) => {
                    let task = task(turn, item)?;
                    Ok(turn.view(&task)?)
                }
                Err(rejection) => Err(rejection),
            });
            Ok(())
        })?;
        Ok(views)
    }

    fn run(&mut self, request: &Request) -> Need<Reply> {
        let Some(idempotency) = request
            .idempotency
            .as_ref()
            .filter(|_| is_replayable(&request.command))
        else {
            return self.command(request);
        };
        let key = ReplayKey {
            token: Arc::clone(&idempotency.token),
            key: Arc::clone(&idempotency.key),
        };
        if let Some(replay) = self.set.replay(&key)?
            && self.now < replay.at + IDEMPOTENCY_TTL
        {
            if replay.digest != idempotency.digest {
                return Err(Rejection::new(
                    Slug::IdempotencyMismatch,
                    "Idempotency-Key: it was used with another request; choose a new key for a new request",
                )
                .into());
            }
            return self.answer_again(&replay.answer);
        }
        let reply = self.command(request)?;
        if let Some(answer) = self.replay_answer(&reply, &request.command)? {
            self.set.put_replay(
                key,
                Replay {
                    digest: idempotency.digest,
                    at: self.now,
                    answer,
                },
            );
            // Who remembers a new key also forgets old ones, so that their number stays bounded.
            self.set.forget_before = Some(self.now - IDEMPOTENCY_TTL);
        }
        Ok(reply)
    }

    fn command(&mut self, request: &Request) -> Need<Reply> {
        let actor = &request.actor;
        match &request.command {
            Command::Submit { tasks, batch } => self.submit(tasks, *batch),
            Command::Patch(id, patch) => self.patch(actor, id, patch),
            Command::Claim { id, agent } => self.claim(actor, id, agent.as_ref()),
            Command::Complete { completions, batch } => self.complete_all(actor, completions, *batch),
            Command::Cancel { id, cascade } => self.cancel_command(actor, id, *cascade),
            Command::Retry(id) => self.retry(id),
            Command::Release { id, attempt, agent } => self.release(actor, id, *attempt, agent.as_ref()),
            Command::Hold(id) => self.hold(id),
            Command::Unhold(id) => self.unhold(id),
            Command::Output {
                id,
                attempt,
                agent,
                text,
            } => self.output(actor, id, *attempt, agent.as_ref(), text),
            Command::Register(agent) => self.register(actor, agent),
            Command::Deregister(id) => self.deregister(actor, id),
            Command::Sync(sync) => self.sync(actor, sync),
            Command::Adopt {
                agent,
                session,
                alone,
            } => self.adopt(agent, session, *alone),
            Command::Abandon { agent, session } => self.abandon(agent, session),
            Command::Drain(id) => self.drain(id, true),
            Command::Undrain(id) => self.drain(id, false),
            Command::Lift(id) => self.lift(id),
            Command::SetPolicy(scope, change) => self.set_policy(scope, change),
            Command::Reset(scope) => self.reset(scope),
            Command::Report(report) => self.report(actor, report),
            Command::PutToken(token) => {
                self.set.put_token(Arc::clone(&token.name), Some(token.clone()));
                Ok(Reply::Now(Ok(Answer::Done)))
            }
            Command::RevokeToken(name) => {
                self.set.put_token(Arc::clone(name), None);
                Ok(Reply::Now(Ok(Answer::Done)))
            }
            Command::AddWebhook(new) => self.add_webhook(new),
            Command::RemoveWebhook(name) => self.remove_webhook(name),
            Command::ResumeWebhook(name) => self.resume_webhook(name),
            Command::LeaseWebhook { name, session, alone } => self.lease_webhook(name, session, *alone),
            Command::LeaveWebhook { name, session } => self.leave_webhook(name, session),
            Command::SettleDeliveries(report) => self.settle_deliveries(report),
            Command::RetryDeliveries { name, seqs } => self.retry_deliveries(name, seqs),
            Command::View(tasks) => Ok(Reply::Now(Ok(Answer::Views(self.views(tasks)?)))),
            Command::Explain(task) => self.explain(task),
            Command::GetAgent(id) => {
                let agent = self.registered(id)?;
                Ok(Reply::Now(Ok(Answer::Agent(agent))))
            }
            Command::ListAgents { status, capabilities } => self.list_agents(*status, capabilities),
            Command::GetPolicy(scope) => self.get_policy(scope),
            Command::Check { agent, model } => {
                let check = self.check(agent, model.as_ref())?;
                Ok(Reply::Now(Ok(Answer::Check(check))))
            }
            Command::FleetStatus => self.fleet_status(),
            Command::WaitOver(agent, ticket) => self.wait_over(agent, *ticket),
            Command::Tick => self.tick(),
            Command::News(agents) => {
                self.hear_news(agents.as_ref());
                Ok(Reply::Now(Ok(Answer::Done)))
            }
            Command::Pass => {
                self.is_pass = true;
                Ok(Reply::Now(Ok(Answer::Done)))
            }
        }
    }

    /// Dispatches, then works out the answers.
    fn finish(mut self) -> Need<Outcome> {
        let mut pass = !self.set.is_complete() && !self.set.opened.is_empty();
        self.dispatch()?;
        // Where servers share a store the set does not live on: what this turn did not get to is for the pass.
        pass |= !self.set.is_complete()
            && self
                .set
                .unfinished_next
                .as_ref()
                .is_some_and(|left| !left.is_empty());
        let mut answers = Vec::with_capacity(self.replies.len());
        let replies = std::mem::take(&mut self.replies);
        for (ticket, reply) in replies {
            if let Some(verdict) = self.resolve(ticket, reply)? {
                answers.push((ticket, verdict));
            }
        }
        answers.append(&mut self.set.answers);
        self.wake_waiters(&mut answers)?;
        Ok(Outcome { answers, pass })
    }

    fn resolve(&mut self, ticket: Ticket, reply: Reply) -> Need<Option<Verdict>> {
        Ok(Some(match reply {
            Reply::Now(verdict) => verdict,
            Reply::Task(key) => {
                let task = self.set.task(key)?;
                Ok(Answer::Task(Box::new(self.view(&task)?)))
            }
            Reply::Then(task) => Ok(Answer::Task(Box::new(self.view(&task)?))),
            Reply::Batch(items) => Ok(Answer::Batch(
                self.views_of(items, |turn, key| turn.set.task(key))?,
            )),
            Reply::BatchThen(items) => Ok(Answer::Batch(self.views_of(items, |_, task| Ok(task))?)),
            Reply::Sync(sync) => return self.answer_sync(ticket, *sync),
        }))
    }

    /// How a repeat of this request is to be answered, if it changed something.
    fn replay_answer(&mut self, reply: &Reply, command: &Command) -> Need<Option<ReplayAnswer>> {
        Ok(Some(match reply {
            Reply::Task(key) => ReplayAnswer::Task(self.set.task(*key)?.id.clone()),
            Reply::Then(task) => ReplayAnswer::Task(task.id.clone()),
            Reply::Batch(items) => {
                let mut replayed = Vec::with_capacity(items.len());
                for item in items {
                    replayed.push(match item {
                        Ok(key) => ReplayItem::Task(self.set.task(*key)?.id.clone()),
                        Err(rejection) => refused(rejection),
                    });
                }
                ReplayAnswer::Batch(replayed)
            }
            Reply::BatchThen(items) => ReplayAnswer::Batch(
                items
                    .iter()
                    .map(|item| match item {
                        Ok(task) => ReplayItem::Task(task.id.clone()),
                        Err(rejection) => refused(rejection),
                    })
                    .collect(),
            ),
            Reply::Now(Ok(Answer::Agent(agent))) => ReplayAnswer::Agent(agent.id.clone()),
            Reply::Now(Ok(Answer::Policy { scope, .. })) => ReplayAnswer::Scope(scope.clone()),
            Reply::Now(Ok(Answer::Webhook(webhook))) => ReplayAnswer::Webhook(Arc::clone(&webhook.name)),
            Reply::Now(Ok(Answer::Done)) if !matches!(command, Command::PutToken(_)) => ReplayAnswer::Done,
            Reply::Now(_) | Reply::Sync(_) => return Ok(None),
        }))
    }

    fn answer_again(&mut self, answer: &ReplayAnswer) -> Need<Reply> {
        Ok(match answer {
            ReplayAnswer::Task(id) => Reply::Task(self.existing(id)?),
            ReplayAnswer::Batch(items) => {
                let mut again = Vec::with_capacity(items.len());
                for item in items {
                    again.push(match item {
                        // One that has been forgotten meanwhile is missing alone.
                        ReplayItem::Task(id) => self.set.find_task(id)?.ok_or_else(|| no_task(id)),
                        ReplayItem::Refused {
                            slug,
                            message,
                            details,
                        } => {
                            let slug = Slug::ALL.iter().copied().find(|known| known.name() == slug);
                            Err(
                                Rejection::new(slug.unwrap_or(Slug::InvalidField), message.clone())
                                    .with_details(details.clone()),
                            )
                        }
                    });
                }
                Reply::Batch(again)
            }
            ReplayAnswer::Agent(id) => Reply::Now(Ok(Answer::Agent(self.registered(id)?))),
            ReplayAnswer::Scope(scope) => self.get_policy(scope)?,
            ReplayAnswer::Webhook(name) => Reply::Now(Ok(Answer::Webhook(self.webhook(name)?))),
            ReplayAnswer::Done => Reply::Now(Ok(Answer::Done)),
        })
    }

    /// The key of a task that a request names.
    fn existing(&mut self, id: &crate::name::TaskId) -> Need<TaskKey> {
        match self.set.find_task(id)? {
            Some(key) => Ok(key),
            None => Err(no_task(id).into()),
        }
    }

    /// The task that a request names.
    fn named(&mut self, id: &crate::name::TaskId) -> Need<Arc<Task>> {
        let key = self.existing(id)?;
        self.set.task(key)
    }

    /// The agent that a request names.
    fn registered(&mut self, id: &AgentId) -> Need<Arc<crate::agent::Agent>> {
        match self.set.agent(id)? {
            Some(agent) => Ok(agent),
            None => Err(Rejection::new(Slug::AgentNotFound, format!("no agent `{id}` is registered")).into()),
        }
    }
}

fn no_task(id: &crate::name::TaskId) -> Rejection {
    Rejection::new(Slug::TaskNotFound, format!("no task `{id}`"))
}

fn refused(rejection: &Rejection) -> ReplayItem {
    ReplayItem::Refused {
        slug: rejection.slug.name().into(),
        message: rejection.message.clone(),
        details: rejection.details.clone(),
    }
}

/// Whether a repeat under the same idempotency key is answered without being done again.
fn is_replayable(command: &Command) -> bool {
    // A sync has its own protection against repeats: its number and the attempts that it names.
    !command.is_read() && !matches!(command, Command::Sync(_))
}
