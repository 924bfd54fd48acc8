//! Claims: an agent, registered or not, takes a task by its id. The same checks as for a dispatch.

use super::{Reply, Turn};
use crate::access::Actor;
use crate::agent::Agent;
use crate::name::{AgentId, TaskId};
use crate::rejection::{Rejection, Slug};
use crate::set::{Halt, Need};
use crate::task::{Status, Task};
use crate::time::{Span, Timestamp};

/// When waiting may help and nobody can say when, a client is told to try again so late.
const UNKNOWN_WAIT: Span = Span::from_secs(30);

impl Turn<'_> {
    pub(super) fn claim(&mut self, actor: &Actor, id: &TaskId, agent: Option<&AgentId>) -> Need<Reply> {
        let agent_id = match agent {
            Some(agent) => agent.clone(),
            None => AgentId::from(&*actor.name),
        };
        if !actor.may_act_as(&agent_id) {
            return Err(Rejection::new(
                Slug::Forbidden,
                format!("agent_id: this token may not act as agent `{agent_id}`"),
            )
            .into());
        }
        let task = self.named(id)?;
        self.check_claimable(&task)?;
        let agent = self.set.agent(&agent_id)?;
        if let Some(agent) = &agent {
            self.check_claimant(&task, agent)?;
        }
        let model = agent.as_ref().map_or(task.class.demand.model.as_ref(), |agent| {
            agent.model_for(task.class.demand.model.as_ref())
        });
        let model = model.cloned();
        if let Err(refusal) = self.permits(&task, &agent_id, model.as_ref())? {
            let slug = if refusal.too_large {
                Slug::ExceedsAllowance
            } else {
                Slug::QuotaExceeded
            };
            let wait = match refusal.until {
                Some(until) => Some(until.since(self.now)),
                None if refusal.too_large => None,
                // The end of another attempt, or an operator, may help: there is no telling when.
                None => Some(UNKNOWN_WAIT),
            };
            return Err(Rejection::new(slug, refusal.reason.clone())
                .retry_after(wait)
                .into());
        }
        Ok(Reply::Then(self.start(
            &task,
            &agent_id,
            agent.as_deref(),
            true,
        )?))
    }

    fn check_claimable(&mut self, task: &Task) -> Need<()> {
        let no = |message: String| Err(Halt::from(Rejection::new(Slug::TaskNotClaimable, message)));
        match task.status {
            Status::InProgress => {
                return Err(Rejection::new(Slug::TaskAlreadyClaimed, "task already claimed")
                    .with_details(format!(
                        "attempt {} of agent `{}` holds it",
                        task.attempt,
                        task.claimed_by.as_ref().map_or("", AgentId::as_str)
                    ))
                    .into());
            }
            Status::Blocked if task.held => return no("task is held by an operator".into()),
            Status::Blocked => {
                return no(format!("task waits for {} of its dependencies", task.unmet));
            }
            Status::Completed | Status::Failed | Status::Cancelled => {
                return no(format!("task is {}", task.status.name()));
            }
            Status::Pending => {}
        }
        if let Some(until) = task.delayed_until.filter(|until| *until > self.now) {
            return Err(Rejection::new(
                Slug::TaskNotClaimable,
                format!("task is not to be started before {until}"),
            )
            .retry_after(Some(until.since(self.now)))
            .into());
        }
        if let Some((lock, why)) = self.lock_in_the_way(task)? {
            return no(format!("lock `{lock}` {why}"));
        }
        Ok(())
    }

    fn check_claimant(&mut self, task: &Task, agent: &Agent) -> Need<()> {
        use crate::agent::AgentStatus;
        let id = &agent.id;
        let no = |slug, message: String| Err(Halt::from(Rejection::new(slug, message)));
        let wait = |until: Option<Timestamp>, now: Timestamp| until.map(|until| until.since(now));
        match agent.status() {
            AgentStatus::Offline => return no(Slug::AgentOffline, format!("agent `{id}` is offline")),
            AgentStatus::Draining => return no(Slug::AgentDraining, format!("agent `{id}` is draining")),
            AgentStatus::Quarantined => {
                return Err(
                    Rejection::new(Slug::AgentQuarantined, format!("agent `{id}` is quarantined"))
                        .retry_after(wait(agent.quarantined_until, self.now))
                        .into(),
                );
            }
            AgentStatus::Available | AgentStatus::Busy => {}
        }
        let demand = &task.class.demand;
        let lacking: Vec<&str> = demand
            .labels
            .iter()
            .filter(|label| !agent.capabilities.contains(label))
            .map(crate::name::Label::as_str)
            .collect();
        if !lacking.is_empty() {
            return no(
                Slug::MissingCapability,
                format!("agent `{id}` lacks: {}", lacking.join(", ")),
            );
        }
        if let Some(model) = &demand.model
            && !agent.has_model(model)
        {
            return no(
                Slug::MissingCapability,
                format!("agent `{id}` cannot use model {model}"),
            );
        }
        let paused = agent.paused_until.max(
            agent
                .model_for(demand.model.as_ref())
                .and_then(|model| agent.paused_models.get(model).copied()),
        );
        if paused.is_some() {
            return Err(Rejection::new(
                Slug::AgentPaused,
                format!("agent `{id}` waits for its provider's rate limit"),
            )
            .retry_after(wait(paused, self.now))
            .into());
        }
        if !agent.has_room() {
            return no(
                Slug::AgentFull,
                format!(
                    "agent `{id}` has no room: {} of {} attempts",
                    agent.load(),
                    agent.max_load
                ),
            );
        }
        Ok(())
    }
}
