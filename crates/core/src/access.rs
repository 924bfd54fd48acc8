//! Access: roles, and who speaks in a command.
//!
//! The edges prove who speaks and whether a role may use an endpoint at all; what depends on a task's holder is
//! decided here and in [`crate::decide`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::name::{AgentId, TaskId, check_id};

/// What a token allows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Everything.
    Admin,
    /// Create, list, cancel and watch tasks.
    Submit,
    /// Read everything.
    Read,
    /// Act as this agent.
    Agent(AgentId),
    /// Act as any agent: for a host of workers.
    AnyAgent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Submit => f.write_str("submit"),
            Self::Read => f.write_str("read"),
            Self::Agent(id) => write!(f, "agent:{id}"),
            Self::AnyAgent => f.write_str("agent:*"),
        }
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "admin" => Ok(Self::Admin),
            "submit" => Ok(Self::Submit),
            "read" => Ok(Self::Read),
            "agent:*" => Ok(Self::AnyAgent),
            _ => {
                let id = text.strip_prefix("agent:").ok_or_else(|| {
                    format!("`{text}` is not a role: write admin, submit, read, agent:ID or agent:*")
                })?;
                check_id(id).map_err(|why| format!("the agent id in role `{text}` {why}"))?;
                Ok(Self::Agent(id.into()))
            }
        }
    }
}

/// What the speaker may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Power {
    /// What these roles allow.
    Roles(Arc<[Role]>),
    /// Update, usage, output and completion of this attempt, while it lives.
    Attempt {
        /// The task.
        task: TaskId,
        /// The attempt's number.
        number: u32,
    },
}

/// Who speaks in a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actor {
    /// The name of the token: the author of notes, and the claimant where a claim names nobody.
    pub name: Arc<str>,
    /// What it may do.
    pub power: Power,
}

impl Actor {
    /// The server itself, and tests.
    pub fn admin() -> Self {
        Self {
            name: "admin".into(),
            power: Power::Roles([Role::Admin].into()),
        }
    }

    /// Whether it may do everything.
    pub fn is_admin(&self) -> bool {
        matches!(&self.power, Power::Roles(roles) if roles.contains(&Role::Admin))
    }

    /// Whether it may speak for this agent.
    pub fn may_act_as(&self, agent: &AgentId) -> bool {
        match &self.power {
            Power::Roles(roles) => roles.iter().any(|role| match role {
                Role::Admin | Role::AnyAgent => true,
                Role::Agent(id) => id == agent,
                Role::Submit | Role::Read => false,
            }),
            Power::Attempt { .. } => false,
        }
    }

    /// Whether it speaks for this very attempt.
    pub fn is_attempt(&self, task: &TaskId, number: u32) -> bool {
        matches!(&self.power, Power::Attempt { task: own, number: n } if own == task && *n == number)
    }
}
