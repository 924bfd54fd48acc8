//! Taking: tasks that wait there are claimed for agents that have room here.

use adjutant_client::{Error, Page, TaskFilter};
use adjutant_core::name::AgentId;
use adjutant_core::task::Status;
use adjutant_wire::Task;
use tokio::time::Instant;

use super::fleet::Fleet;
use super::follow::completion;
use super::{Charge, Dispatch, Notice, PASSED_OVER_FOR, mirror};

/// Tasks of one page of those that wait there.
const PAGE: u32 = 100;
/// Tasks here that are looked through at the start for what an earlier process left, in each state.
const MAX_SWEPT: usize = 20_000;
/// Pages that are looked through in a round: what nobody here can do may stand in front.
const MAX_PAGES: usize = 50;

impl Dispatch {
    /// Claims what waits there, in its order, until nobody has room or nothing is left.
    pub(super) async fn take(&mut self) -> Result<(), Error> {
        let agents = self.here.list_agents(None, &[]).await?;
        let about = self.charges.values().filter(|charge| !charge.is_started);
        let mut fleet = Fleet::new(&agents, about.map(|charge| charge.agent.as_str()));
        let mut page: Option<String> = None;
        for _ in 0..MAX_PAGES {
            if fleet.is_full() {
                break;
            }
            let Page { items, next } = match page {
                None => {
                    let filter = TaskFilter {
                        status: Some(Status::Pending),
                        limit: Some(PAGE),
                        ..TaskFilter::default()
                    };
                    self.there.list_tasks(&filter).await?
                }
                Some(next) => self.there.next_tasks(&next).await?,
            };
            for task in &items {
                if fleet.is_full() {
                    return Ok(());
                }
                self.try_to_take(task, &mut fleet).await?;
            }
            page = next;
            if page.is_none() || items.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn try_to_take(&mut self, task: &Task, fleet: &mut Fleet) -> Result<(), Error> {
        // Not every server lists by status, and one that does lists what waits for something else than an agent as well.
        if task.status != Status::Pending
            || waits_for_something(task)
            || self.charges.contains_key(&task.id)
            || self.is_passed_over(task)
        {
            return Ok(());
        }
        let chosen = fleet.choose(task, &self.here).await;
        let Some(agent) = self.or_pass_over(task, chosen)?.flatten() else {
            return Ok(());
        };
        if self.settle_earlier(task).await? {
            return Ok(());
        }
        let next = self.source.next(task, &self.here).await;
        let Some(mirror) = self.or_pass_over(task, next)? else {
            return Ok(());
        };
        if self.claim(task, &mirror, &agent).await? {
            fleet.load(&agent);
        }
        Ok(())
    }

    /// A task that cannot be one here is passed over, so that those behind it are not held up.
    fn or_pass_over<T>(&mut self, task: &Task, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.code(), Some(400 | 413 | 422)) => {
                self.pass_over(task, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The attempt before this one may have been ours, and its end not known there: its lease ran out while nobody followed
    /// it. A success is told late, which settles the task; what still runs is ended before another agent begins.
    async fn settle_earlier(&mut self, task: &Task) -> Result<bool, Error> {
        if task.attempt == 0 {
            return Ok(false);
        }
        let earlier = self.source.newest(&task.id, task.attempt, &self.here).await?;
        match earlier {
            Some(mirror) if mirror.status == Status::Completed => {
                let agent = mirror.claimed_by.clone().unwrap_or_default();
                let completion = completion(&mirror, &agent, Some(task.attempt));
                match self.there.complete_task(&task.id, &completion).await {
                    Ok(_) => (self.tell)(Notice::Ended {
                        task: task.id.clone(),
                        success: true,
                    }),
                    Err(error) if error.is_retryable() => return Err(error),
                    Err(_) => return Ok(false),
                }
                Ok(true)
            }
            Some(mirror) if !mirror::is_over(&mirror) => {
                mirror::cancel(&mirror.id, &self.here).await?;
                (self.tell)(Notice::TakenAway {
                    task: task.id.clone(),
                });
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Claims a task there and lets go of its mirror. Whether it was to be had.
    async fn claim(&mut self, task: &Task, mirror: &Task, agent: &AgentId) -> Result<bool, Error> {
        let key = mirror::claim_key(mirror);
        let answer = self
            .there
            .claim_task(&task.id, Some(agent.as_str()), Some(&key))
            .await;
        let claimed = match answer {
            Ok(answer) => answer.task,
            Err(error) if matches!(error.code(), Some(404 | 409 | 422 | 429)) => {
                // Whoever does not know keys refuses the repetition of a claim whose answer was lost.
                let Some(claimed) = self.plainly_claimed(task, agent, &error).await? else {
                    // The mirror stays for the next time, or for whoever has claimed for it under the same key.
                    self.held.insert(task.id.clone(), mirror.id.clone());
                    self.pass_over(task, &error);
                    return Ok(false);
                };
                claimed
            }
            // Whether it was claimed is not known: the next round asks.
            Err(error) => return Err(error),
        };
        if !is_for(&claimed, task, agent.as_str()) {
            // The claim is one that was answered before, and things went on since.
            return Ok(false);
        }
        self.held.remove(&task.id);
        self.charge(&claimed, mirror, agent.as_str());
        if !mirror::is_let_go(mirror) {
            mirror::let_go(&mirror.id, &self.here).await?;
        }
        (self.tell)(Notice::Claimed {
            task: task.id.clone(),
            agent: agent.to_string(),
        });
        Ok(true)
    }

    /// The task, if it is claimed for this agent on a side that does not number attempts.
    async fn plainly_claimed(
        &self,
        task: &Task,
        agent: &AgentId,
        refusal: &Error,
    ) -> Result<Option<Task>, Error> {
        if refusal.code() != Some(409) || task.attempt > 0 {
            return Ok(None);
        }
        let now = mirror::find(&self.there, &task.id).await?;
        Ok(now.filter(|now| now.attempt == 0 && is_for(now, task, agent.as_str())))
    }

    /// Held mirrors of tasks that are not to be had any more are cancelled.
    pub(super) async fn drop_held(&mut self) -> Result<(), Error> {
        let all: Vec<(String, String)> = self
            .held
            .iter()
            .map(|(task, mirror)| (task.clone(), mirror.clone()))
            .collect();
        for (id, mirror) in all {
            let attempt = self.source.origin(&mirror).map(|(_, attempt)| attempt);
            let there = mirror::find(&self.there, &id).await?;
            let may_be_had = there.is_some_and(|task| {
                task.status == Status::Pending
                    && attempt.is_none_or(|attempt| attempt == mirror::next_attempt(&task))
            });
            if !may_be_had {
                self.held.remove(&id);
                if !self.charges.contains_key(&id) {
                    self.cancel_if_held(&mirror).await?;
                }
            }
        }
        Ok(())
    }

    /// Cancels a mirror, unless another process has let it go meanwhile.
    async fn cancel_if_held(&self, mirror: &str) -> Result<(), Error> {
        match mirror::find(&self.here, mirror).await? {
            Some(found) if !mirror::is_let_go(&found) => mirror::cancel(mirror, &self.here).await,
            _ => Ok(()),
        }
    }

    /// Finds what an earlier process left: mirrors that are not over, of tasks that are not in progress there any more.
    pub(super) async fn sweep(&mut self) -> Result<(), Error> {
        for status in [Status::Pending, Status::InProgress] {
            let filter = TaskFilter {
                status: Some(status),
                limit: Some(1_000),
                ..TaskFilter::default()
            };
            for mirror in self.here.all_tasks(&filter, MAX_SWEPT).await? {
                let Some((task, attempt)) = self.source.origin(&mirror.id) else {
                    continue;
                };
                if self.charges.contains_key(task) {
                    continue;
                }
                let there = mirror::find(&self.there, task).await?;
                let is_held_for = there.as_ref().is_some_and(|task| {
                    task.status == Status::Pending && mirror::next_attempt(task) == attempt
                });
                if is_held_for && !mirror::is_let_go(&mirror) {
                    self.held.insert(task.to_owned(), mirror.id.clone());
                } else if there.is_none_or(|task| task.status != Status::InProgress) {
                    mirror::cancel(&mirror.id, &self.here).await?;
                    (self.tell)(Notice::TakenAway {
                        task: task.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn is_passed_over(&self, task: &Task) -> bool {
        self.passed_over
            .get(&task.id)
            .is_some_and(|(changed, until)| *changed == task.updated_at && Instant::now() < *until)
    }

    /// Leaves a task alone for a while, unless it is changed there.
    pub(super) fn rest(&mut self, task: &Task) {
        let now = Instant::now();
        self.passed_over.retain(|_, (_, until)| now < *until);
        self.passed_over
            .insert(task.id.clone(), (task.updated_at, now + PASSED_OVER_FOR));
    }

    fn pass_over(&mut self, task: &Task, why: &Error) {
        self.rest(task);
        (self.tell)(Notice::Lost {
            task: task.id.clone(),
            why: why.to_string(),
        });
    }

    /// Remembers a task that is claimed there.
    pub(super) fn charge(&mut self, task: &Task, mirror: &Task, agent: &str) {
        self.charges.insert(
            task.id.clone(),
            Charge {
                mirror: mirror.id.clone(),
                agent: agent.to_owned(),
                attempt: (task.attempt > 0).then_some(task.attempt),
                claimed_at: task.claimed_at,
                is_started: mirror.status == Status::InProgress,
                notes: 0,
                told: Vec::new(),
            },
        );
    }
}

/// Whether a task waits for something that no agent can bring.
fn waits_for_something(task: &Task) -> bool {
    let reason = task.waiting.as_ref().map(|waiting| waiting.reason.as_str());
    matches!(reason, Some("not_before" | "locked" | "held"))
}

/// Whether this is the task in the attempt that the claim of an agent was to begin.
fn is_for(claimed: &Task, waited: &Task, agent: &str) -> bool {
    let is_next = claimed.attempt == 0 || claimed.attempt == mirror::next_attempt(waited);
    claimed.status == Status::InProgress
        && is_next
        && claimed.claimed_by.as_deref().is_none_or(|holder| holder == agent)
}
