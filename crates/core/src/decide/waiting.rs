//! Waiting: why a task does not run, worked out when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Reply, Turn};
use crate::agent::{Agent, AgentStatus};
use crate::command::{Answer, Explanation, ExplanationGroup, TaskView, Waiting, WaitingReason};
use crate::limit::{Ask, Scope};
use crate::name::AgentId;
use crate::set::Need;
use crate::task::{Gate, Status, Task};

/// How many agents an explanation names for each reason.
const MAX_NAMED: usize = 100;

impl Turn<'_> {
    /// A task as a client sees it.
    pub(super) fn view(&mut self, task: &Arc<Task>) -> Need<TaskView> {
        let waiting = self.waiting(task)?;
        let lease_expires_at = match (&task.claimed_by, task.status) {
            (Some(_), Status::InProgress) if task.lease_expires_at.is_some() => task.lease_expires_at,
            (Some(agent), Status::InProgress) => self
                .set
                .glance(agent)?
                .map(|agent| agent.last_seen.max(self.set.watched_since()) + self.set.settings.agent_ttl),
            _ => None,
        };
        Ok(TaskView {
            task: Arc::clone(task),
            body: self.set.body(task.key),
            ending: self.set.ending(task.key),
            lease_expires_at,
            waiting,
        })
    }

    /// Why a task waits, if it does: the first reason that applies.
    pub(super) fn waiting(&mut self, task: &Task) -> Need<Option<Waiting>> {
        if !matches!(task.status, Status::Pending | Status::Blocked) {
            return Ok(None);
        }
        let (reason, detail) = self.reason(task)?;
        Ok(Some(Waiting {
            reason,
            detail,
            since: task.ready_since,
        }))
    }

    fn reason(&mut self, task: &Task) -> Need<(WaitingReason, String)> {
        use WaitingReason as R;
        if task.held {
            return Ok((R::Held, "held by an operator".into()));
        }
        if task.failed_dependencies > 0 {
            let (failed, all) = (task.failed_dependencies, task.dependencies);
            return Ok((
                R::DependencyFailed,
                format!("{failed} of {all} dependencies failed or were cancelled"),
            ));
        }
        if task.unmet > 0 {
            let (unmet, all) = (task.unmet, task.dependencies);
            return Ok((
                R::Dependency,
                format!("{unmet} of {all} dependencies are not completed"),
            ));
        }
        if let Some(until) = task.delayed_until.filter(|until| *until > self.now) {
            return Ok((R::NotBefore, format!("not before {until}")));
        }
        if let Some((lock, why)) = self.lock_in_the_way(task)? {
            return Ok((R::Locked, format!("lock `{lock}` {why}")));
        }
        let shared = self.shared_refusal(task)?;
        if let Some((Gate::Repo(_), refusal)) = &shared {
            return Ok((R::RepoLimit, refusal.reason.clone()));
        }
        let now = self.now;
        let demand = &task.class.demand;
        let fleet = self.set.audience(now)?;
        if fleet.online() == 0 {
            let all = fleet.len();
            let detail = if all == 0 {
                "no agent is registered".into()
            } else {
                format!("all {all} agents are offline")
            };
            return Ok((R::NoAgents, detail));
        }
        if !fleet.any_capable(demand) {
            return Ok((R::NoCapableAgent, format!("no agent has {}", wishes(task))));
        }
        let with_room = fleet.capable_with_room(demand).cloned();
        if let Some(model) = &demand.model {
            let scope = Scope::Model(model.clone());
            let hold = self.hold_for(task, Some(model))?;
            let ask = Ask {
                tokens: hold.tokens,
                cost: hold.cost,
                produces: task.produces,
            };
            let (policy, counter) = (self.set.policy(&scope)?, self.set.counter(&scope)?);
            if let Err(refusal) = policy.permits(&scope, &counter, ask, self.now) {
                return Ok((R::ModelQuota, refusal.reason));
            }
        }
        if let Some((_, refusal)) = shared {
            return Ok((R::Quota, refusal.reason));
        }
        if let Some(id) = with_room {
            let Some(agent) = self.set.glance(&id)? else {
                return Ok((R::AllBusy, format!("agent `{id}` has just left")));
            };
            let model = agent.model_for(demand.model.as_ref()).cloned();
            return Ok(match self.permits(task, &id, model.as_ref())? {
                Err(refusal) => (R::Quota, format!("agent `{id}`: {}", refusal.reason)),
                // A pause for a model: the agent has room, and yet not for this task.
                Ok(())
                    if model
                        .as_ref()
                        .is_some_and(|model| agent.paused_models.contains_key(model)) =>
                {
                    (
                        R::AllBusy,
                        format!("agent `{id}` waits for its provider's rate limit"),
                    )
                }
                Ok(()) => (
                    R::AllBusy,
                    format!("agent `{id}` has room: the task is about to be dispatched"),
                ),
            });
        }
        Ok((
            R::AllBusy,
            "every capable agent is full, paused, draining or quarantined".into(),
        ))
    }

    // ---- explain -------------------------------------------------------------------------------------------------

    pub(super) fn explain(&mut self, task: &Arc<Task>) -> Need<Reply> {
        let agents = self.set.all_agents()?;
        let considered = u64::try_from(agents.len()).unwrap_or(u64::MAX);
        let mut groups: BTreeMap<String, Vec<AgentId>> = BTreeMap::new();
        for agent in agents {
            let lack = self.lack(task, &agent)?;
            groups.entry(lack).or_default().push(agent.id.clone());
        }
        let mut groups: Vec<ExplanationGroup> = groups
            .into_iter()
            .map(|(reason, mut agents)| {
                agents.sort();
                let count = u64::try_from(agents.len()).unwrap_or(u64::MAX);
                agents.truncate(MAX_NAMED);
                ExplanationGroup {
                    reason,
                    count,
                    agents,
                }
            })
            .collect();
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        let waiting = self.waiting(task)?;
        let explanation = Explanation {
            waiting,
            status: task.status,
            groups,
            considered,
        };
        Ok(Reply::Now(Ok(Answer::Explanation(Box::new(explanation)))))
    }

    /// What an agent lacks for a task, all of it.
    fn lack(&mut self, task: &Task, agent: &Agent) -> Need<String> {
        let demand = &task.class.demand;
        let mut lacks = Vec::new();
        match agent.status() {
            AgentStatus::Available | AgentStatus::Busy => {}
            status => lacks.push(format!("is {}", status.name())),
        }
        let missing: Vec<&str> = demand
            .labels
            .iter()
            .filter(|label| !agent.capabilities.contains(label))
            .map(crate::name::Label::as_str)
            .collect();
        if !missing.is_empty() {
            lacks.push(format!("lacks {}", missing.join(", ")));
        }
        if let Some(model) = &demand.model
            && !agent.has_model(model)
        {
            lacks.push(format!("lacks model {model}"));
        }
        let model = agent.model_for(demand.model.as_ref()).cloned();
        if let Some(until) = agent.paused_until {
            lacks.push(format!("paused until {until}"));
        } else if let Some(until) = model.as_ref().and_then(|model| agent.paused_models.get(model)) {
            lacks.push(format!("paused for its model until {until}"));
        }
        if agent.max_load > 0 && agent.load() >= agent.max_load {
            lacks.push(format!("has no room ({} of {})", agent.load(), agent.max_load));
        }
        if agent.mute {
            lacks.push("did not fetch its last offer".into());
        }
        if let Err(refusal) = self.permits(task, &agent.id, model.as_ref())? {
            lacks.push(refusal.reason);
        }
        Ok(if lacks.is_empty() {
            "could take it".into()
        } else {
            lacks.join("; ")
        })
    }
}

/// What a task asks of an agent, in words.
fn wishes(task: &Task) -> String {
    let demand = &task.class.demand;
    let mut wishes = Vec::new();
    if !demand.labels.is_empty() {
        let labels: Vec<&str> = demand.labels.iter().map(crate::name::Label::as_str).collect();
        wishes.push(format!("labels {}", labels.join(", ")));
    }
    if let Some(model) = &demand.model {
        wishes.push(format!("model {model}"));
    }
    wishes.join(" and ")
}
