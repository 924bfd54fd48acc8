//! The tally: who runs what and who did how much, as the event stream tells it.

use std::collections::{BTreeMap, HashMap};

use adjutant_core::money::Money;
use adjutant_core::time::{Span, Timestamp};
use adjutant_wire::Event;
use serde::{Deserialize, Serialize};

/// What one agent did since the start.
#[derive(Serialize, Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct AgentTally {
    /// Attempts started.
    pub(crate) jobs: u64,
    /// Attempts that failed, were lost, or ran out of time.
    pub(crate) failures: u64,
    /// Input and output tokens.
    pub(crate) tokens: u64,
    /// Cents.
    pub(crate) cost: Money,
    /// Time in attempts, summed up over all that ran at once.
    #[serde(rename = "busy_seconds", serialize_with = "seconds")]
    pub(crate) busy: Span,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn seconds<S: serde::Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
    let micros = span.as_micros().unsigned_abs();
    serializer.serialize_f64(std::time::Duration::from_micros(micros).as_secs_f64())
}

/// How many tasks stand where.
#[derive(Serialize, Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Pending, blocked or in progress.
    pub(crate) open: u64,
    /// Done.
    pub(crate) completed: u64,
    /// Dead letters.
    pub(crate) failed: u64,
    /// Taken back.
    pub(crate) cancelled: u64,
}

impl Counts {
    /// All of them.
    pub(crate) const fn all(&self) -> u64 {
        self.open + self.completed + self.failed + self.cancelled
    }

    /// Counts as the server tells them.
    pub(crate) fn of(tasks: &BTreeMap<String, u64>) -> Self {
        let count = |name: &str| tasks.get(name).copied().unwrap_or(0);
        Self {
            open: count("pending") + count("blocked") + count("in_progress"),
            completed: count("completed"),
            failed: count("failed"),
            cancelled: count("cancelled"),
        }
    }
}

/// What an event means for those who watch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An agent began a task.
    Started { agent: String, task: String },
    /// A task is done.
    Completed {
        agent: String,
        task: String,
        took: Option<Span>,
    },
    /// An attempt failed; a retry follows, unless the task is given up.
    Failed {
        agent: String,
        task: String,
        reason: String,
    },
    /// A task was given up.
    GivenUp { task: String },
    /// An attempt ended in another way.
    Ended {
        agent: Option<String>,
        task: String,
        how: &'static str,
    },
    /// Something that concerns an agent alone.
    Agent { agent: String, what: &'static str },
}

/// Follows the event stream.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    running: HashMap<String, (String, Timestamp)>,
    agents: BTreeMap<String, AgentTally>,
    /// How many tasks stand where.
    pub(crate) counts: Counts,
    /// The last event that is in the counts.
    counted: u64,
}

/// What payloads of events say, as far as it matters here.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Payload {
    reason: String,
    tokens_in: u64,
    tokens_out: u64,
    cost: Money,
}

impl Tally {
    /// A tally with a line for each of these agents.
    pub(crate) fn new<'a>(agents: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            agents: agents
                .into_iter()
                .map(|id| (id.to_owned(), AgentTally::default()))
                .collect(),
            ..Self::default()
        }
    }

    /// Whether anything runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// How many tasks this agent runs.
    pub(crate) fn load(&self, agent: &str) -> usize {
        self.running.values().filter(|(by, _)| by == agent).count()
    }

    /// What each agent did.
    pub(crate) const fn agents(&self) -> &BTreeMap<String, AgentTally> {
        &self.agents
    }

    /// Notes something that ran before the stream began.
    pub(crate) fn already_running(&mut self, task: String, agent: String, since: Timestamp) {
        self.running.entry(task).or_insert((agent, since));
    }

    /// Counts as the server tells them. Events up to `last_seq` are in them already.
    pub(crate) fn count(&mut self, counts: Counts, last_seq: u64) {
        self.counts = counts;
        self.counted = last_seq;
    }

    /// Takes an event in.
    pub(crate) fn take(&mut self, event: &Event) -> Option<Step> {
        let counts = self.counts;
        let step = self.step(event);
        if event.seq <= self.counted {
            self.counts = counts;
        }
        step
    }

    fn step(&mut self, event: &Event) -> Option<Step> {
        let payload: Payload = event
            .payload
            .as_ref()
            .and_then(|payload| serde_json::from_str(payload.get()).ok())
            .unwrap_or_default();
        let task = event.task_id.clone();
        let agent = event.agent_id.clone();
        match (event.kind.as_str(), task, agent) {
            ("task_created", ..) => {
                self.counts.open += 1;
                None
            }
            ("task_dispatched" | "task_claimed", Some(task), Some(agent)) => {
                self.running
                    .insert(task.clone(), (agent.clone(), event.timestamp));
                self.of(&agent).jobs += 1;
                Some(Step::Started { agent, task })
            }
            ("task_completed", Some(task), Some(agent)) => {
                let took = self.end(&task, event.timestamp);
                self.close(|counts| &mut counts.completed);
                Some(Step::Completed { agent, task, took })
            }
            ("task_attempt_failed", Some(task), Some(agent)) => {
                self.end(&task, event.timestamp);
                self.of(&agent).failures += 1;
                Some(Step::Failed {
                    agent,
                    task,
                    reason: payload.reason,
                })
            }
            ("task_dead_lettered", Some(task), _) => {
                self.close(|counts| &mut counts.failed);
                Some(Step::GivenUp { task })
            }
            ("task_cancelled", Some(task), agent) => {
                self.end(&task, event.timestamp);
                self.close(|counts| &mut counts.cancelled);
                Some(Step::Ended {
                    agent,
                    task,
                    how: "cancelled",
                })
            }
            ("task_released", Some(task), agent) => {
                self.end(&task, event.timestamp);
                Some(Step::Ended {
                    agent,
                    task,
                    how: "given back",
                })
            }
            ("usage_recorded", _, Some(agent)) => {
                let line = self.of(&agent);
                line.tokens += payload.tokens_in + payload.tokens_out;
                line.cost += payload.cost;
                None
            }
            ("agent_quarantined", _, Some(agent)) => Some(Step::Agent {
                agent,
                what: "fails fast: quarantined",
            }),
            ("agent_paused", _, Some(agent)) => Some(Step::Agent {
                agent,
                what: "waits for its rate limit",
            }),
            ("agent_offline", _, Some(agent)) => Some(Step::Agent {
                agent,
                what: "is offline",
            }),
            _ => None,
        }
    }

    fn of(&mut self, agent: &str) -> &mut AgentTally {
        self.agents.entry(agent.to_owned()).or_default()
    }

    /// Ends what runs of a task, and says how long it took.
    fn end(&mut self, task: &str, at: Timestamp) -> Option<Span> {
        let (agent, since) = self.running.remove(task)?;
        let took = at.since(since);
        let line = self.of(&agent);
        line.busy = line.busy + took;
        Some(took)
    }

    fn close(&mut self, to: impl Fn(&mut Counts) -> &mut u64) {
        self.counts.open = self.counts.open.saturating_sub(1);
        *to(&mut self.counts) += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_has_counted_is_not_counted_again() {
        let mut tally = Tally::new([]);
        let counts = Counts {
            open: 1,
            ..Counts::default()
        };
        tally.count(counts, 1);
        tally.take(&event("task_created", 1, "{}"));
        assert_eq!(tally.counts, counts);
        tally.count(counts, 0);
        tally.take(&event("task_created", 1, "{}"));
        assert_eq!(tally.counts.open, 2);
    }

    fn event(kind: &str, second: i64, payload: &str) -> Event {
        Event {
            seq: 1,
            kind: kind.into(),
            task_id: Some("t".into()),
            agent_id: Some("a".into()),
            timestamp: Timestamp::from_micros(second * 1_000_000),
            payload: serde_json::value::RawValue::from_string(payload.into()).ok(),
        }
    }

    #[test]
    fn an_agent_is_told_its_jobs_failures_spending_and_time() {
        let mut tally = Tally::new(["a", "b"]);
        for one in [
            event("task_created", 0, "{}"),
            event("task_dispatched", 1, r#"{"attempt":1}"#),
            event("task_attempt_failed", 3, r#"{"attempt":1,"reason":"no"}"#),
            event("task_retried", 3, "{}"),
            event("task_dispatched", 8, r#"{"attempt":2}"#),
            event(
                "usage_recorded",
                9,
                r#"{"tokens_in":10,"tokens_out":5,"tokens_cached":99,"cost":1.5}"#,
            ),
        ] {
            tally.take(&one);
        }
        assert!(!tally.is_idle());
        assert_eq!(tally.load("a"), 1);
        let step = tally.take(&event("task_completed", 10, "{}"));
        assert_eq!(
            step,
            Some(Step::Completed {
                agent: "a".into(),
                task: "t".into(),
                took: Some(Span::from_secs(2))
            })
        );
        assert!(tally.is_idle());
        let expected = AgentTally {
            jobs: 2,
            failures: 1,
            tokens: 15,
            cost: Money::from_cents(1.5).unwrap(),
            busy: Span::from_secs(4),
        };
        assert_eq!(tally.agents()["a"], expected);
        assert_eq!(tally.agents()["b"], AgentTally::default());
        assert_eq!((tally.counts.open, tally.counts.completed), (0, 1));
    }
}
