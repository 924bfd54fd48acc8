//! The audience: what a token allows, as far as it decides which tools are shown.
//!
//! Whether a call is let in is decided by the API; that the list leaves out what would be refused is for the model's
//! sake, which would otherwise try it.

use crate::api::ApiError;

/// A kind of caller that a tool is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Creates and cancels tasks.
    Submit,
    /// Reads everything.
    Read,
    /// Works as an agent.
    Agent,
    /// Is the process that does the work of one attempt.
    Attempt,
}

impl Role {
    /// What a token with this role is called.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Submit => "`submit`",
            Self::Read => "`read`",
            Self::Agent => "`agent:ID`",
            Self::Attempt => "the token of an attempt",
        }
    }
}

/// Who calls.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Audience {
    /// Whether it is an administrator: everything is for it.
    pub admin: bool,
    /// What it is beside that.
    pub roles: Vec<Role>,
    /// The one agent that it speaks for, when it is exactly one.
    pub agent: Option<String>,
}

impl Audience {
    /// Whether something that is for these callers is for this one.
    pub(crate) fn is_among(&self, roles: &[Role]) -> bool {
        self.admin || self.roles.iter().any(|own| roles.contains(own))
    }

    /// Whether it is the process of one attempt, whose token says for whom it speaks.
    pub(crate) fn is_attempt(&self) -> bool {
        !self.admin && self.roles.contains(&Role::Attempt)
    }

    /// The agent that a call is about: the one that is named, else the one that the token is for.
    ///
    /// # Errors
    /// When none is named and the token is for several or for none.
    pub(crate) fn agent(&self, named: Option<&str>) -> Result<String, ApiError> {
        match (named.filter(|name| !name.is_empty()), &self.agent) {
            (Some(named), _) => Ok(named.to_owned()),
            (None, Some(own)) => Ok(own.clone()),
            (None, None) => Err(ApiError::argument(
                "agent_id: is missing: this token is not for one agent alone, so say for which one you speak",
            )),
        }
    }

    /// The agent that a change of a task names: none is left to the API, which takes whoever holds the task.
    pub(crate) fn speaker(&self, named: Option<String>) -> Option<String> {
        named
            .filter(|name| !name.is_empty())
            .or_else(|| self.agent.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_the_one_named_else_that_of_the_token() {
        let own = Audience {
            roles: vec![Role::Agent],
            agent: Some("a".into()),
            ..Audience::default()
        };
        assert_eq!(own.agent(None).unwrap(), "a");
        assert_eq!(own.agent(Some("")).unwrap(), "a");
        // Whether it may is for the API to say.
        assert_eq!(own.agent(Some("b")).unwrap(), "b");
        let host = Audience {
            roles: vec![Role::Agent],
            ..Audience::default()
        };
        assert!(host.agent(None).unwrap_err().message.starts_with("agent_id: "));
    }

    #[test]
    fn an_administrator_is_among_everyone() {
        let admin = Audience {
            admin: true,
            ..Audience::default()
        };
        assert!(admin.is_among(&[]) && !admin.is_attempt());
        assert!(!Audience::default().is_among(&[Role::Read]));
    }
}
