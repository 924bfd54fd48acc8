//! The verdict: whether anything that waits can still start by itself.
//!
//! Asked when nothing runs. What waits for a person, for an agent that is not there, or for a limit that ends later
//! than one is willing to wait will not start; everything else will.

use adjutant_core::agent::AgentStatus;
use adjutant_core::time::{Span, Timestamp};
use adjutant_wire::{FleetAgent, Task};

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Something starts by itself, at this time at the latest by what is known.
    Wait(Timestamp),
    /// Nothing is left that can run.
    Over,
}

/// What is known when nothing runs.
pub(crate) struct Situation<'a> {
    /// Tasks that are pending. Blocked ones cannot start before one of these has ended.
    pub(crate) pending: &'a [Task],
    /// All agents.
    pub(crate) agents: &'a [FleetAgent],
    /// The time.
    pub(crate) now: Timestamp,
    /// How long a wait is worth it.
    pub(crate) patience: Span,
}

impl Situation<'_> {
    /// Decides.
    pub(crate) fn verdict(&self) -> Verdict {
        self.pending
            .iter()
            .filter_map(|task| self.starts(task))
            .min()
            .map_or(Verdict::Over, Verdict::Wait)
    }

    /// When the task may start by itself, if that is soon enough.
    fn starts(&self, task: &Task) -> Option<Timestamp> {
        let Some(waiting) = &task.waiting else {
            return Some(self.now);
        };
        match waiting.reason.as_str() {
            "not_before" => self.after_delay(task, &waiting.detail),
            "locked" => Some(self.now),
            "all_busy" => self.has_room(task),
            // One agent's limit is told; another may take it sooner.
            "quota" => {
                let agents = self.capable(task).filter_map(|one| self.recovers(one));
                agents.chain(self.period_ends(&waiting.detail)).min()
            }
            "model_quota" | "repo_limit" => self.period_ends(&waiting.detail),
            // held, dependencies, no agents, no capable agent: someone must do something.
            _ => None,
        }
    }

    /// A backoff is always waited for, a time that the client set only when it is near.
    fn after_delay(&self, task: &Task, detail: &str) -> Option<Timestamp> {
        match task.not_before.filter(|at| *at > self.now) {
            Some(at) => self.soon(at),
            None => detail
                .rsplit(' ')
                .next()
                .and_then(|time| time.parse().ok())
                .or(Some(self.now)),
        }
    }

    fn soon(&self, at: Timestamp) -> Option<Timestamp> {
        (at <= self.now + self.patience).then_some(at)
    }

    /// Agents that have what the task asks for.
    fn capable(&self, task: &Task) -> impl Iterator<Item = &FleetAgent> {
        self.agents.iter().filter(|one| {
            let agent = &one.agent;
            let has_model = |model: &String| agent.models.is_empty() || agent.models.contains(model);
            task.labels.iter().all(|label| agent.capabilities.contains(label))
                && task.model.as_ref().is_none_or(has_model)
        })
    }

    /// When an agent takes something again, if it takes nothing now for a reason that ends by itself.
    fn recovers(&self, one: &FleetAgent) -> Option<Timestamp> {
        let until = match one.agent.status {
            AgentStatus::Draining | AgentStatus::Offline => return None,
            AgentStatus::Quarantined => one.agent.paused_until.max(one.agent.quarantined_until),
            AgentStatus::Available | AgentStatus::Busy => one.agent.paused_until,
        };
        match until {
            Some(until) => self.soon(until),
            None if one.allowance.allowed => None,
            None => self.period_ends(&one.allowance.reason),
        }
    }

    /// When a capable agent has room again: nothing runs, so one that is there has room already.
    fn has_room(&self, task: &Task) -> Option<Timestamp> {
        self.capable(task)
            .map(|one| &one.agent)
            .filter_map(|agent| match agent.status {
                AgentStatus::Available | AgentStatus::Busy => {
                    self.soon(agent.paused_until.unwrap_or(self.now))
                }
                AgentStatus::Quarantined => self.soon(agent.quarantined_until.unwrap_or(self.now)),
                AgentStatus::Draining | AgentStatus::Offline => None,
            })
            .min()
    }

    /// Whether something waits for its next attempt after a failed one: that is always waited for.
    pub(crate) fn is_in_backoff(&self) -> bool {
        self.pending.iter().any(|task| {
            let delayed = task
                .waiting
                .as_ref()
                .is_some_and(|waiting| waiting.reason == "not_before");
            delayed && task.not_before.is_none_or(|at| at <= self.now)
        })
    }

    /// When the limit's period ends, from the words of its reason.
    fn period_ends(&self, reason: &str) -> Option<Timestamp> {
        let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        if says(&["concurrent", "cooling down"]) {
            Some(self.now)
        } else if says(&["hourly", " hour "]) {
            self.soon(self.now.hour() + Span::HOUR)
        } else if says(&["daily", " day ", "token budget"]) {
            self.soon(self.now.day() + Span::DAY)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = r#"{"id":"t","title":"t","status":"pending","labels":["rust"],
        "created_at":"2026-11-24T12:30:00Z","updated_at":"2026-11-24T12:30:00Z"}"#;

    fn verdict(reason: &str, detail: &str, not_before: Option<&str>, agent: &str) -> Verdict {
        let mut task: Task = serde_json::from_str(TASK).unwrap();
        task.not_before = not_before.map(|time| time.parse().unwrap());
        task.waiting = Some(adjutant_wire::Waiting {
            reason: reason.into(),
            detail: detail.into(),
            since: task.created_at,
        });
        let agent = serde_json::json!({
            "id": "a", "name": "a", "capabilities": ["rust"], "models": [], "status": agent, "current_load": 0,
            "max_load": 1, "last_heartbeat": "2026-11-24T12:30:00Z", "registered_at": "2026-11-24T12:30:00Z",
            "quarantined_until": "2026-11-24T12:31:00Z",
            "allowance": {"allowed": true, "status": "ok", "remaining_tokens": -1, "remaining_jobs": -1, "reason": ""},
        });
        Situation {
            pending: &[task],
            agents: &[serde_json::from_value(agent).unwrap()],
            now: "2026-11-24T12:30:00Z".parse().unwrap(),
            patience: Span::HOUR,
        }
        .verdict()
    }

    #[test]
    fn what_ends_by_itself_soon_is_waited_for_and_nothing_else() {
        let until = |time: &str| Verdict::Wait(time.parse().unwrap());
        for (reason, detail, not_before, agent, expected) in [
            ("held", "", None, "available", Verdict::Over),
            ("no_agents", "", None, "offline", Verdict::Over),
            ("no_capable_agent", "", None, "available", Verdict::Over),
            (
                "not_before",
                "not before 2026-11-24T14:00:00.000000Z",
                None,
                "available",
                until("2026-11-24T14:00:00Z"),
            ),
            (
                "not_before",
                "",
                Some("2026-11-24T14:00:00Z"),
                "available",
                Verdict::Over,
            ),
            (
                "not_before",
                "",
                Some("2026-11-24T13:00:00Z"),
                "available",
                until("2026-11-24T13:00:00Z"),
            ),
            ("all_busy", "", None, "available", until("2026-11-24T12:30:00Z")),
            ("all_busy", "", None, "quarantined", until("2026-11-24T12:31:00Z")),
            ("all_busy", "", None, "draining", Verdict::Over),
            (
                "quota",
                "agent `a`: daily token limit exceeded",
                None,
                "available",
                Verdict::Over,
            ),
            (
                "quota",
                "fleet hour jobs limit reached",
                None,
                "available",
                until("2026-11-24T13:00:00Z"),
            ),
            (
                "model_quota",
                "model hourly rate limit reached for: m",
                None,
                "available",
                until("2026-11-24T13:00:00Z"),
            ),
            (
                "model_quota",
                "model cost ceiling reached for: m",
                None,
                "available",
                Verdict::Over,
            ),
            (
                "locked",
                "lock `x` is taken",
                None,
                "available",
                until("2026-11-24T12:30:00Z"),
            ),
        ] {
            assert_eq!(
                verdict(reason, detail, not_before, agent),
                expected,
                "{reason} {detail}"
            );
        }
    }
}
