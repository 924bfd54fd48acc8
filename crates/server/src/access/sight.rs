//! Sight: which tasks a caller may read.
//!
//! Who was let in by the role `submit` or `read` reads all of them. Who was let in by the role of an agent alone reads
//! those that this agent holds or held, and those that it could run.

use std::sync::Arc;

use adjutant_core::access::{Power, Role};
use adjutant_core::agent::Agent;
use adjutant_core::command::{Answer, Command};
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::task::{Status, Task};

use super::caller::{Caller, forbidden};
use super::table::AGENT;
use crate::app::{App, unexpected};
use crate::failure::Failure;

/// Which tasks a caller may read.
pub(crate) struct Sight {
    caller: Caller,
    /// The agents that the caller speaks for; none where everything is seen.
    agents: Option<Vec<Taker>>,
}

/// Who might take a task.
enum Taker {
    /// A registered agent: what it is able to do.
    Registered(Arc<Agent>),
    /// An id that is not registered may claim whatever it says it can do.
    Stranger,
}

impl Taker {
    fn could_run(&self, task: &Task) -> bool {
        match self {
            Self::Registered(agent) => agent.can_do(&task.class.demand),
            Self::Stranger => true,
        }
    }
}

impl Sight {
    /// Of this caller, at this moment.
    pub(crate) async fn of(app: &App, caller: &Caller) -> Result<Self, Failure> {
        let everything = Self {
            caller: caller.clone(),
            agents: None,
        };
        let Power::Roles(roles) = &caller.actor.power else {
            return Ok(everything);
        };
        if caller.through != AGENT || roles.contains(&Role::AnyAgent) {
            return Ok(everything);
        }
        let mut agents = Vec::new();
        for role in roles.iter() {
            let Role::Agent(id) = role else { continue };
            match app.ask(caller.actor.clone(), Command::GetAgent(id.clone())).await {
                Ok(Answer::Agent(agent)) => agents.push(Taker::Registered(agent)),
                Ok(other) => return Err(unexpected(&other)),
                Err(Failure(rejection)) if rejection.slug == Slug::AgentNotFound => {
                    agents.push(Taker::Stranger);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(Self {
            agents: Some(agents),
            ..everything
        })
    }

    /// Whether the caller may read this task.
    pub(crate) fn sees(&self, task: &Task) -> bool {
        let Some(agents) = &self.agents else { return true };
        if let Some(holder) = &task.claimed_by {
            return self.caller.actor.may_act_as(holder);
        }
        let waits = matches!(task.status, Status::Pending | Status::Blocked);
        waits && agents.iter().any(|agent| agent.could_run(task))
    }

    /// Refuses a task that the caller may not read.
    pub(crate) fn must_see(&self, task: &Task) -> Result<(), Rejection> {
        if self.sees(task) {
            return Ok(());
        }
        Err(forbidden(format!(
            "task `{}` is neither held by an agent of this token nor one that it could run",
            task.id
        )))
    }
}
