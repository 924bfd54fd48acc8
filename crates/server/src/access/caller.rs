//! The caller: who speaks in a request, and for which agent or attempt.

use std::sync::Arc;

use adjutant_core::access::{Actor, Power, Role};
use adjutant_core::name::{AgentId, TaskId};
use adjutant_core::rejection::{Rejection, Slug};
use axum::extract::FromRequestParts;
use http::request::Parts;

use super::directory::Pass;
use super::table::{AGENT, Rights};
use crate::attempt_token::AttemptClaim;
use crate::failure::Failure;

/// Who speaks, and what let it in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who speaks.
    pub(crate) actor: Actor,
    /// Which of its rights reach this endpoint; none for an administrator.
    pub(crate) through: Rights,
    /// The agent that runs the attempt, where an attempt speaks.
    pub(crate) attempt_agent: Option<AgentId>,
    /// The access token that let it in: what goes on for long ends with it.
    pub(crate) pass: Option<Pass>,
}

/// Whom a change of a task speaks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Speaker {
    /// The attempt, where one is named.
    pub(crate) attempt: Option<u32>,
    /// The agent, where one is named.
    pub(crate) agent: Option<AgentId>,
}

impl Caller {
    /// An administrator.
    pub(crate) fn admin() -> Self {
        Self {
            actor: Actor::admin(),
            through: super::table::ADMIN,
            attempt_agent: None,
            pass: None,
        }
    }

    /// The holder of a token with these roles.
    pub(crate) fn with_roles(name: Arc<str>, roles: Arc<[Role]>) -> Self {
        Self {
            actor: Actor {
                name,
                power: Power::Roles(roles),
            },
            ..Self::admin()
        }
    }

    /// The process that does the work of an attempt. What it writes is signed with its agent's name.
    pub(crate) fn attempt(claim: AttemptClaim) -> Self {
        Self {
            actor: Actor {
                name: claim.agent.as_str().into(),
                power: Power::Attempt {
                    task: claim.task,
                    number: claim.attempt,
                },
            },
            attempt_agent: Some(claim.agent),
            ..Self::admin()
        }
    }

    /// The name under which its idempotency keys are kept: one for each token.
    pub(crate) fn key_space(&self) -> Arc<str> {
        match &self.actor.power {
            Power::Roles(_) => Arc::clone(&self.actor.name),
            // The colon-free slash occurs in no token's name.
            Power::Attempt { task, number } => format!("attempt/{task}/{number}").into(),
        }
    }

    /// Refuses to speak for another agent.
    pub(crate) fn must_act_as(&self, agent: &AgentId) -> Result<(), Rejection> {
        if self.actor.may_act_as(agent) {
            return Ok(());
        }
        Err(forbidden(format!(
            "this token does not speak for agent `{agent}`"
        )))
    }

    /// Refuses all but administrators to say `what`.
    pub(crate) fn must_be_admin(&self, what: &str) -> Result<(), Rejection> {
        if self.actor.is_admin() {
            return Ok(());
        }
        Err(forbidden(format!("{what}: only an administrator says that")))
    }

    /// Refuses to show another agent to a caller that only its own agent's role let in.
    pub(crate) fn must_see(&self, agent: &AgentId) -> Result<(), Rejection> {
        if self.through == AGENT {
            self.must_act_as(agent)
        } else {
            Ok(())
        }
    }

    /// Whom a change of `task` speaks for, given what the request names.
    ///
    /// An attempt speaks for itself, whatever agent is named: the number says it all.
    pub(crate) fn speaker(
        &self,
        task: &TaskId,
        attempt: Option<u32>,
        agent: Option<AgentId>,
    ) -> Result<Speaker, Rejection> {
        match &self.actor.power {
            Power::Roles(_) => {
                if let Some(agent) = &agent {
                    self.must_act_as(agent)?;
                }
                Ok(Speaker { attempt, agent })
            }
            Power::Attempt { task: own, number } => {
                if own != task || attempt.is_some_and(|attempt| attempt != *number) {
                    return Err(forbidden(format!(
                        "this token speaks for attempt {number} of task `{own}` alone"
                    )));
                }
                Ok(Speaker {
                    attempt: Some(*number),
                    agent: None,
                })
            }
        }
    }

    /// The agent that a claim is for, where the request names none: the only one that the token speaks for. None
    /// leaves it to the core, which takes the token's name.
    pub(crate) fn own_agent(&self) -> Option<AgentId> {
        let Power::Roles(roles) = &self.actor.power else {
            return None;
        };
        if roles.contains(&Role::Admin) || roles.contains(&Role::AnyAgent) {
            return None;
        }
        let mut agents = roles.iter().filter_map(|role| match role {
            Role::Agent(id) => Some(id),
            Role::Admin | Role::Submit | Role::Read | Role::AnyAgent => None,
        });
        let only = agents.next()?;
        agents.next().is_none().then(|| only.clone())
    }
}

/// The role does not reach so far.
pub(crate) fn forbidden(message: impl Into<String>) -> Rejection {
    Rejection::new(Slug::Forbidden, message)
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // The guard puts it there; a handler behind no guard is a bug.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Failure::bug("a handler runs without a caller"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn caller(roles: &[&str]) -> Caller {
        let roles: Vec<Role> = roles.iter().map(|role| role.parse().unwrap()).collect();
        Caller::with_roles("token".into(), roles.into())
    }

    pub(crate) fn attempt(task: &str, number: u32) -> Caller {
        Caller::attempt(AttemptClaim {
            task: task.into(),
            attempt: number,
            agent: "a".into(),
        })
    }

    #[test]
    fn a_token_speaks_for_its_own_agents_only() {
        let speaks = |roles: &[&str], agent: &str| {
            caller(roles)
                .speaker(&"t".into(), None, Some(agent.into()))
                .map_err(|no| no.slug)
        };
        assert!(speaks(&["agent:a"], "a").is_ok());
        assert!(speaks(&["agent:*"], "b").is_ok());
        assert!(speaks(&["admin"], "b").is_ok());
        assert_eq!(speaks(&["agent:a"], "b"), Err(Slug::Forbidden));
        assert_eq!(speaks(&["submit", "read"], "a"), Err(Slug::Forbidden));
    }

    #[test]
    fn an_attempt_speaks_for_itself_and_its_number_is_filled_in() {
        let own = attempt("t", 3);
        let expected = Speaker {
            attempt: Some(3),
            agent: None,
        };
        assert_eq!(own.speaker(&"t".into(), None, None).unwrap(), expected);
        assert_eq!(
            own.speaker(&"t".into(), Some(3), Some("b".into())).unwrap(),
            expected
        );
        assert!(own.speaker(&"t".into(), Some(4), None).is_err());
        assert!(own.speaker(&"u".into(), None, None).is_err());
    }

    #[test]
    fn an_agent_sees_itself_unless_it_may_read_everything() {
        let mut own = caller(&["agent:a"]);
        own.through = AGENT;
        assert!(own.must_see(&"a".into()).is_ok());
        assert!(own.must_see(&"b".into()).is_err());
        own.through = super::super::table::READ;
        assert!(own.must_see(&"b".into()).is_ok());
    }

    #[test]
    fn a_claim_without_a_name_is_for_the_only_agent_of_the_token() {
        assert_eq!(caller(&["submit", "agent:a"]).own_agent(), Some("a".into()));
        for roles in [
            &["admin", "agent:a"][..],
            &["agent:a", "agent:b"],
            &["agent:*"],
            &["submit"],
        ] {
            assert_eq!(caller(roles).own_agent(), None, "{roles:?}");
        }
    }
}
