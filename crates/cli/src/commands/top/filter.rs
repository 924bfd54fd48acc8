//! What is typed at `/`: words that must occur, and conditions that the server knows.
//!
//! # Not here
//! What the conditions mean: the server. Words are looked for in what was loaded, since the server does not know them.

use adjutant_client::TaskFilter;
use adjutant_core::agent::AgentStatus;
use adjutant_core::task::{Priority, Status};

use crate::values;

/// Which tasks to show.
#[derive(Clone, Debug, Default)]
pub(super) struct QueueFilter {
    /// What the server is asked for.
    pub(super) tasks: TaskFilter,
    /// What must occur in the row, in lower case.
    pub(super) words: Vec<String>,
}

/// Which agents to show.
#[derive(Clone, Debug, Default)]
pub(super) struct FleetFilter {
    /// In this state.
    pub(super) status: Option<AgentStatus>,
    /// With all of these.
    pub(super) capabilities: Vec<String>,
    /// What must occur in the row, in lower case.
    pub(super) words: Vec<String>,
}

impl QueueFilter {
    /// Reads `status:failed priority:high project:web agent:bob label:rust words`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for word in text.split_whitespace() {
            let tasks = &mut filter.tasks;
            match word.split_once(':') {
                Some(("status", name)) => tasks.status = Some(values::status(name)?),
                Some(("priority", name)) => tasks.priority = Some(values::priority(name)?),
                Some(("project", name)) => tasks.project = Some(named("project", name)?),
                Some(("agent", name)) => tasks.claimed_by = Some(named("agent", name)?),
                Some(("label", name)) => tasks.labels.push(named("label", name)?),
                _ => filter.words.push(word.to_lowercase()),
            }
        }
        Ok(filter)
    }

    /// The next state to look at, after all of them none.
    pub(super) fn turn_status(&mut self) {
        self.tasks.status = after(&Status::ALL, self.tasks.status);
    }
}

impl std::fmt::Display for QueueFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tasks = &self.tasks;
        let mut parts = Vec::new();
        parts.extend(tasks.status.map(|status| format!("status:{}", status.name())));
        parts.extend(
            tasks
                .priority
                .map(|priority| format!("priority:{}", Priority::name(priority))),
        );
        parts.extend(tasks.project.iter().map(|name| format!("project:{name}")));
        parts.extend(tasks.claimed_by.iter().map(|name| format!("agent:{name}")));
        parts.extend(tasks.labels.iter().map(|name| format!("label:{name}")));
        parts.extend(self.words.iter().cloned());
        f.write_str(&parts.join(" "))
    }
}

impl FleetFilter {
    /// Reads `status:busy capability:rust words`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for word in text.split_whitespace() {
            match word.split_once(':') {
                Some(("status", name)) => filter.status = Some(values::agent_status(name)?),
                Some(("capability", name)) => filter.capabilities.push(named("capability", name)?),
                _ => filter.words.push(word.to_lowercase()),
            }
        }
        Ok(filter)
    }

    /// The next state to look at, after all of them none.
    pub(super) fn turn_status(&mut self) {
        self.status = after(&AgentStatus::ALL, self.status);
    }
}

impl std::fmt::Display for FleetFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.status.map(|status| format!("status:{}", status.name())));
        parts.extend(self.capabilities.iter().map(|name| format!("capability:{name}")));
        parts.extend(self.words.iter().cloned());
        f.write_str(&parts.join(" "))
    }
}

fn named(condition: &str, name: &str) -> Result<String, String> {
    if name.is_empty() {
        Err(format!("write a name after {condition}:"))
    } else {
        Ok(name.to_owned())
    }
}

fn after<T: Copy + PartialEq>(all: &[T], current: Option<T>) -> Option<T> {
    match current {
        None => all.first().copied(),
        Some(current) => all.iter().copied().skip_while(|one| *one != current).nth(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_and_shown_again() {
        let text = "status:failed priority:high project:web agent:bob label:rust label:web fix";
        assert_eq!(QueueFilter::parse(text).unwrap().to_string(), text);
        let text = "status:busy capability:rust alpha";
        assert_eq!(FleetFilter::parse(text).unwrap().to_string(), text);
        assert_eq!(QueueFilter::parse("  A:b ").unwrap().words, ["a:b"]);
    }

    #[test]
    fn a_wrong_condition_says_what_may_be_written() {
        assert!(
            QueueFilter::parse("status:done")
                .unwrap_err()
                .contains("in_progress")
        );
        assert!(
            FleetFilter::parse("status:idle")
                .unwrap_err()
                .contains("available")
        );
        assert!(QueueFilter::parse("label:").unwrap_err().contains("label:"));
    }

    #[test]
    fn the_state_turns_through_all_of_them_and_back_to_none() {
        let mut filter = FleetFilter::default();
        let mut seen = Vec::new();
        for _ in 0..=AgentStatus::ALL.len() {
            filter.turn_status();
            seen.push(filter.status);
        }
        assert_eq!(seen.first(), Some(&Some(AgentStatus::Available)));
        assert_eq!(seen.last(), Some(&None));
    }
}
