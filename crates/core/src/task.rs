//! Tasks: units of work, their states, and what the core keeps of each in memory.
//!
//! A [`Task`] is the small, decided-upon part of a task. What only people and agents read (title, description,
//! payload, files, results, notes, output) is its [`Body`] and its results: they pass through the core untouched.
//!
//! # Invariants
//! - I1: a task has at most one live lease: it is `in_progress` exactly while its current attempt is live.
//! - I5: a task is in exactly one [`Status`].
//! - `key` is the arrival order: it rises strictly, also when a clock steps back.
//!
//! # Not here
//! What changes a task: [`crate::decide`]. Who may take it: [`crate::router`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attempt::ModelUsage;
use crate::name::{AgentId, Label, LockName, ModelName, ProjectName, RepoName, TaskId};
use crate::time::{Span, Timestamp};

/// Failed attempts before dead letter when the client names no number.
pub const DEFAULT_MAX_RETRIES: u32 = 3;
/// The most dependencies of one task.
pub const MAX_DEPENDENCIES: usize = 1_000;
/// The most labels, preferred labels, locks or files of one task: more is a mistake, not a need.
pub const MAX_LIST: usize = 1_000;
/// The first retry waits this long; each further one twice as long.
pub const BACKOFF_BASE: Span = Span::from_secs(5);
/// No retry waits longer, jitter aside.
pub const BACKOFF_CAP: Span = Span::HOUR;
/// Agents that failed a task are remembered up to this many; older ones are forgotten first.
pub const MAX_FAILED_ON: usize = 32;

/// A task's place in the order of arrival, unique in a store: when it arrived, in microseconds, and in the lowest byte
/// the lane of the server that took it in. So servers that share a store make unique keys without asking each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TaskKey(pub i64);

impl TaskKey {
    const LANE_BITS: u32 = 8;

    /// The first key of a moment in a lane.
    pub const fn new(at: Timestamp, lane: u8) -> Self {
        Self((at.as_micros() << Self::LANE_BITS) | lane as i64)
    }

    /// When the task arrived.
    pub const fn created_at(self) -> Timestamp {
        Timestamp::from_micros(self.0 >> Self::LANE_BITS)
    }
}

/// How urgent a task is, most urgent first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Goes to the agent with the least to do, whatever its size.
    Critical,
    /// Before the usual.
    High,
    /// The usual.
    #[default]
    Medium,
    /// When nothing else is waiting.
    Low,
}

impl Priority {
    /// All priorities, most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Medium, Self::Low];

    /// 0 for the most urgent.
    pub const fn rank(self) -> u8 {
        self as u8
    }

    /// The priority with this rank.
    pub fn from_rank(rank: u8) -> Option<Self> {
        Self::ALL.get(usize::from(rank)).copied()
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// Where a task stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for an agent, a time, a limit or a lock.
    Pending,
    /// Waits for dependencies, or is held by an operator.
    Blocked,
    /// An attempt is live.
    InProgress,
    /// Done.
    Completed,
    /// The dead letter: no attempt is left.
    Failed,
    /// Taken back by an operator.
    Cancelled,
}

impl Status {
    /// All states, in the order of a task's life.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Blocked,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// A stable number for stores.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Blocked => "blocked",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the task has ended, though an operator's retry can revive it unless it completed.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// What a success adds to its repository's daily count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Produces {
    /// A pull request.
    PullRequest,
    /// An issue.
    Issue,
}

/// The number that a store gives to a [`Class`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClassId(pub i64);

/// What a task asks of an agent. Tasks of one class can be taken by exactly the same agents.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Demand {
    /// Capabilities that an agent must all have.
    pub labels: Vec<Label>,
    /// Capabilities that raise an agent's score.
    pub prefers: Vec<Label>,
    /// The model that the job must use.
    pub model: Option<ModelName>,
}

/// A [`Demand`] with its number in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class {
    /// Its number.
    pub id: ClassId,
    /// What its tasks ask for.
    pub demand: Demand,
}

/// What a ready task waits for that its class cannot express. It comes back when exactly that changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Gate {
    /// A lock that is taken, or wanted by an earlier task.
    Lock(LockName),
    /// A limit of the whole fleet that its estimate does not fit.
    Fleet,
    /// A limit of its project.
    Project(ProjectName),
    /// A limit of its repository.
    Repo(RepoName),
    /// An agent, or a model, with enough left for its estimate.
    Estimate,
}

/// What the fan-out of a task's end still has to tell its dependents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fanout {
    /// Dependents up to this key were told.
    pub after: TaskKey,
    /// Whether a cancellation takes them along.
    pub cascade: bool,
}

/// How one dependency of a task stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DependencyState {
    /// It has not ended.
    Waiting,
    /// It completed.
    Met,
    /// It failed or was cancelled.
    Failed,
}

impl DependencyState {
    /// How a dependency in this state stands for its dependents.
    pub const fn of(status: Status) -> Self {
        match status {
            Status::Completed => Self::Met,
            Status::Failed | Status::Cancelled => Self::Failed,
            Status::Pending | Status::Blocked | Status::InProgress => Self::Waiting,
        }
    }
}

/// The part of a task that decisions are made on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// Its place in the order of arrival.
    pub key: TaskKey,
    /// Its id.
    pub id: TaskId,
    /// What it asks of an agent.
    pub class: Arc<Class>,
    /// How urgent it is.
    pub priority: Priority,
    /// Where it stands.
    pub status: Status,
    /// Held back by an operator.
    pub held: bool,
    /// The project whose limits it counts for.
    pub project: Option<ProjectName>,
    /// The repository whose limits it counts for.
    pub repo: Option<RepoName>,
    /// What its success adds to the repository's daily count.
    pub produces: Option<Produces>,
    /// Names that no other task in progress may share.
    pub locks: Arc<[LockName]>,
    /// Tokens held at the start of an attempt; 0 is unknown.
    pub estimated_tokens: u64,
    /// Upper bound of one attempt.
    pub timeout: Option<Span>,
    /// Not dispatched earlier, as the client asked.
    pub not_before: Option<Timestamp>,
    /// Not dispatched before: set while `not_before` or a backoff lies ahead, cleared when it has passed.
    pub delayed_until: Option<Timestamp>,
    /// Failed attempts before dead letter.
    pub max_retries: u32,
    /// Failed attempts so far.
    pub retry_count: u32,
    /// Number of the current or last attempt; 0 before the first. The fencing token.
    pub attempt: u32,
    /// How many dependencies it has.
    pub dependencies: u32,
    /// How many of them have not completed.
    pub unmet: u32,
    /// How many of them failed or were cancelled.
    pub failed_dependencies: u32,
    /// How many tasks named this one as a dependency.
    pub dependents: u32,
    /// What it waits for beside an agent.
    pub gate: Option<Gate>,
    /// The agent of the current or last attempt; none while pending or blocked.
    pub claimed_by: Option<AgentId>,
    /// When that attempt started.
    pub claimed_at: Option<Timestamp>,
    /// The stored lease of a claim by an agent that is not registered.
    pub lease_expires_at: Option<Timestamp>,
    /// When the current attempt is out of time.
    pub deadline: Option<Timestamp>,
    /// When the last attempt started.
    pub last_attempt: Option<Timestamp>,
    /// Agents that failed it since it was last started afresh.
    pub failed_on: Arc<[AgentId]>,
    /// 0–100.
    pub progress: u8,
    /// How many notes it has.
    pub notes: u32,
    /// Whether a result is stored.
    pub has_result: bool,
    /// Whether its first try that found nobody was told as an event.
    pub refusal_told: bool,
    /// Tokens and cost over all attempts.
    pub usage: Arc<[ModelUsage]>,
    /// When it last became ready to be dispatched.
    pub ready_since: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// What its dependents are still to be told.
    pub fanout: Option<Fanout>,
}

/// A task's place in the order of dispatch: priority, then arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DispatchOrder {
    /// Most urgent first.
    pub priority: Priority,
    /// Then the earliest.
    pub key: TaskKey,
}

/// A queue of ready tasks that wait for the same thing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Queue {
    /// What its tasks ask of an agent.
    pub class: ClassId,
    /// What they wait for beside an agent.
    pub gate: Option<Gate>,
}

impl Task {
    /// Its place in the order of dispatch.
    pub const fn order(&self) -> DispatchOrder {
        DispatchOrder {
            priority: self.priority,
            key: self.key,
        }
    }

    /// When it arrived.
    pub const fn created_at(&self) -> Timestamp {
        self.key.created_at()
    }

    /// The queue in which it waits, when it is ready: pending, with no time to wait for.
    ///
    /// A pending task whose time lies ahead is in no queue: its [`wakes_at`](Self::wakes_at) brings it back.
    pub fn queue(&self) -> Option<Queue> {
        (self.status == Status::Pending && self.delayed_until.is_none()).then(|| Queue {
            class: self.class.id,
            gate: self.gate.clone(),
        })
    }

    /// When the passing of time alone changes something for it.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        if self.fanout.is_some() {
            // The rest of its dependents is told as soon as possible.
            return Some(Timestamp::EPOCH);
        }
        match self.status {
            Status::Pending => self.delayed_until,
            Status::InProgress => match (self.deadline, self.lease_expires_at) {
                (Some(deadline), Some(lease)) => Some(deadline.min(lease)),
                (deadline, lease) => deadline.or(lease),
            },
            Status::Blocked | Status::Completed | Status::Failed | Status::Cancelled => None,
        }
    }

    /// How long retry number `retry` of this task waits: exponential, capped, with a jitter of up to 10 % that
    /// depends on the id and the number alone, so that the same history always gives the same times.
    pub fn backoff(&self, retry: u32) -> Span {
        let doublings = retry.saturating_sub(1).min(20);
        let wait = BACKOFF_BASE.times(1_i64 << doublings).min(BACKOFF_CAP);
        wait + wait.jitter(self.id.as_str().bytes().chain(retry.to_le_bytes()))
    }
}

impl std::ops::Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::from_micros(self.as_micros().saturating_add(other.as_micros()))
    }
}

/// What people and agents read of a task and no decision depends on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Body {
    /// 1–500 characters.
    pub title: String,
    /// What has to be done.
    pub description: String,
    /// JSON text that is handed to the agent untouched.
    pub payload: Option<Box<str>>,
    /// Relevant files.
    pub files: Vec<String>,
    /// The dependencies as the client named them.
    pub dependencies: Vec<TaskId>,
}

/// How an attempt ended, in its agent's words.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TaskResult {
    /// Whether the work is done.
    pub success: bool,
    /// What came out.
    #[serde(default)]
    pub output: String,
    /// Files, links or names that came out.
    #[serde(default)]
    pub artifacts: Vec<String>,
    /// What went wrong.
    #[serde(default)]
    pub error_message: String,
}

/// A remark on a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// When it was made.
    pub at: Timestamp,
    /// By whom.
    pub author: Arc<str>,
    /// What it says.
    pub text: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn task(key: i64, id: &str) -> Task {
        Task {
            key: TaskKey(key),
            id: id.into(),
            class: Arc::new(Class {
                id: ClassId(1),
                demand: Demand::default(),
            }),
            priority: Priority::Medium,
            status: Status::Pending,
            held: false,
            project: None,
            repo: None,
            produces: None,
            locks: Arc::default(),
            estimated_tokens: 0,
            timeout: None,
            not_before: None,
            delayed_until: None,
            max_retries: DEFAULT_MAX_RETRIES,
            retry_count: 0,
            attempt: 0,
            dependencies: 0,
            unmet: 0,
            failed_dependencies: 0,
            dependents: 0,
            gate: None,
            claimed_by: None,
            claimed_at: None,
            lease_expires_at: None,
            deadline: None,
            last_attempt: None,
            failed_on: Arc::default(),
            progress: 0,
            notes: 0,
            has_result: false,
            refusal_told: false,
            usage: Arc::default(),
            ready_since: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
            fanout: None,
        }
    }

    #[test]
    fn backoff_doubles_up_to_an_hour_with_at_most_ten_percent_on_top() {
        let task = task(1, "task_a");
        for (retry, base) in [
            (1, 5),
            (2, 10),
            (3, 20),
            (10, 2_560),
            (11, 3_600),
            (4_000_000_000, 3_600),
        ] {
            let wait = task.backoff(retry).as_micros();
            let base = base * 1_000_000;
            assert!(wait >= base && wait <= base + base / 10, "retry {retry}: {wait}");
            assert_eq!(wait, task.backoff(retry).as_micros());
        }
    }

    #[test]
    fn order_is_priority_then_arrival() {
        let mut urgent = task(2, "b");
        urgent.priority = Priority::Critical;
        assert!(urgent.order() < task(1, "a").order());
        assert!(task(1, "a").order() < task(2, "b").order());
    }
}
