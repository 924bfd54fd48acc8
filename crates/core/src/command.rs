//! Commands and answers: everything that can be asked of the core, and everything it can say.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::Actor;
use crate::agent::{Agent, Peer};
use crate::attempt::{AttemptKey, StopReason, Tokens};
use crate::counter::Counter;
use crate::limit::{Allowance, Limit, ModelQuota, Policy, RepoLimits, Scope};
use crate::money::Money;
use crate::name::{AgentId, Label, LockName, ModelName, ProjectName, RepoName, TaskId};
use crate::rejection::Rejection;
use crate::set::rows::Ending;
use crate::task::{Body, Demand, Priority, Produces, Status, Task, TaskKey, TaskResult};
use crate::time::{Span, Timestamp};
use crate::webhook::Webhook;

/// The most items of one batch.
pub const MAX_BATCH: usize = 1_000;
/// How long an idempotency key is remembered.
pub const IDEMPOTENCY_TTL: Span = Span::DAY;

/// A command with everything that goes with it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who speaks.
    pub actor: Actor,
    /// What is asked.
    pub command: Command,
    /// The key under which a repeat of it is recognised.
    pub idempotency: Option<IdempotencyKey>,
    /// Where its answer goes; the core only hands it back.
    pub ticket: Ticket,
}

/// Names the caller that waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// The key under which a repeated request is recognised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IdempotencyKey {
    /// The token that used it.
    pub token: Arc<str>,
    /// As the client chose it.
    pub key: Arc<str>,
    /// A digest of method, path and body: what must be the same for a repeat.
    pub digest: [u8; 32],
}

/// A task to create.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Its id.
    pub id: TaskId,
    /// Whether the server chose the id, so that it cannot exist.
    pub fresh_id: bool,
    /// What people and agents read. Its dependencies are the task's.
    pub body: Arc<Body>,
    /// What it asks of an agent.
    pub demand: Demand,
    /// How urgent it is.
    pub priority: Priority,
    /// The project whose limits it counts for.
    pub project: Option<ProjectName>,
    /// The repository whose limits it counts for.
    pub repo: Option<RepoName>,
    /// What its success adds to the repository's daily count.
    pub produces: Option<Produces>,
    /// Names that no other task in progress may share.
    pub locks: Arc<[LockName]>,
    /// Tokens to hold; 0 is unknown.
    pub estimated_tokens: u64,
    /// Upper bound of one attempt.
    pub timeout: Option<Span>,
    /// Not dispatched earlier.
    pub not_before: Option<Timestamp>,
    /// Failed attempts before dead letter; 0 is the default.
    pub max_retries: u32,
}

impl NewTask {
    /// A task with nothing to it but an id and a title: the defaults of everything else.
    pub fn new(id: impl Into<TaskId>, title: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            fresh_id: false,
            body: Arc::new(Body {
                title: title.into(),
                ..Body::default()
            }),
            demand: Demand::default(),
            priority: Priority::Medium,
            project: None,
            repo: None,
            produces: None,
            locks: Arc::default(),
            estimated_tokens: 0,
            timeout: None,
            not_before: None,
            max_retries: 0,
        }
    }
}

/// Changes of a task. What is absent stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TaskPatch {
    /// The attempt that speaks.
    pub attempt: Option<u32>,
    /// The agent that speaks.
    pub agent: Option<AgentId>,
    /// A new state: see the contract's rules for PATCH.
    pub status: Option<Status>,
    /// 0–100.
    pub progress: Option<u8>,
    /// A note to append.
    pub note: Option<String>,
    /// A new urgency.
    pub priority: Option<Priority>,
    /// New required labels.
    pub labels: Option<Vec<Label>>,
    /// New preferred labels.
    pub prefers: Option<Vec<Label>>,
    /// A new earliest time, or none.
    pub not_before: Option<Option<Timestamp>>,
    /// A new number of failed attempts before dead letter.
    pub max_retries: Option<u32>,
    /// A new estimate.
    pub estimated_tokens: Option<u64>,
}

impl TaskPatch {
    /// Whether it changes what the task asks for.
    pub const fn replans(&self) -> bool {
        self.priority.is_some()
            || self.labels.is_some()
            || self.prefers.is_some()
            || self.not_before.is_some()
            || self.max_retries.is_some()
            || self.estimated_tokens.is_some()
    }
}

/// The end of an attempt, as its agent reports it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The task.
    pub id: TaskId,
    /// The attempt; none is the current one, for its holder.
    pub attempt: Option<u32>,
    /// The agent that speaks.
    pub agent: Option<AgentId>,
    /// How it went.
    pub result: TaskResult,
    /// The model that the tokens are of.
    pub model: Option<ModelName>,
    /// The attempt's totals of that model.
    pub tokens: Option<Tokens>,
    /// The attempt's total cost of that model; none is worked out from prices.
    pub cost: Option<Money>,
    /// Not a failure of the task: the agent's provider limits its rate until then.
    pub rate_limited_until: Option<Timestamp>,
}

impl Completion {
    /// The end of the current attempt, with nothing said of it but how it went.
    pub fn new(id: TaskId, success: bool) -> Self {
        Self {
            id,
            attempt: None,
            agent: None,
            result: TaskResult {
                success,
                ..TaskResult::default()
            },
            model: None,
            tokens: None,
            cost: None,
            rate_limited_until: None,
        }
    }
}

/// An agent that registers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewAgent {
    /// Its id.
    pub id: AgentId,
    /// Its name for people.
    pub name: String,
    /// What it can do.
    pub capabilities: Arc<[Label]>,
    /// The models that it can use; none is any.
    pub models: Arc<[ModelName]>,
    /// The most attempts at a time; 0 is unlimited.
    pub max_load: u32,
    /// JSON text that is kept for people.
    pub metadata: Option<Box<str>>,
    /// The worker process that speaks for it.
    pub session: Option<Arc<str>>,
    /// Where it is, when the server is to speak for it.
    pub peer: Option<Arc<Peer>>,
}

/// An attempt that an agent says it runs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Running {
    /// The task.
    pub id: TaskId,
    /// The attempt.
    pub attempt: u32,
}

/// An agent's roll-call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sync {
    /// Who.
    pub agent: AgentId,
    /// The worker process that speaks for it.
    pub session: Option<Arc<str>>,
    /// Rises with each sync of a session.
    pub n: Option<u64>,
    /// What it runs. None is a heartbeat: it proves life and leaves attempts as they are.
    pub running: Option<Vec<Running>>,
    /// What it finished.
    pub done: Vec<Completion>,
    /// The most attempts to answer with.
    pub max: Option<u32>,
    /// How long to wait for something to start or stop.
    pub wait: Span,
}

/// What a usage report is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UsageEvent {
    /// Tokens of something that runs.
    Usage,
    /// A job that was dispatched elsewhere starts.
    JobStarted,
    /// It is done.
    JobCompleted,
    /// It failed.
    JobFailed,
    /// It was cancelled.
    JobCancelled,
}

/// Tokens and cost that an agent reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageReport {
    /// Who ran it.
    pub agent: AgentId,
    /// The task, or the job that was dispatched elsewhere.
    pub job: TaskId,
    /// Which attempt; none is the latest.
    pub attempt: Option<u32>,
    /// The model.
    pub model: Option<ModelName>,
    /// How many.
    pub tokens: Tokens,
    /// What they cost; none is worked out from prices.
    pub cost: Option<Money>,
    /// Whether these are totals of the attempt and model instead of an increase.
    pub total: bool,
    /// What it is about.
    pub event: UsageEvent,
}

/// What is asked of the core.
#[derive(Clone, Debug)]
pub enum Command {
    /// Create tasks: one, or a batch whose bad items fail alone.
    Submit {
        /// The tasks.
        tasks: Vec<Result<NewTask, Rejection>>,
        /// Whether the answer is that of a batch.
        batch: bool,
    },
    /// Change a task.
    Patch(TaskId, Box<TaskPatch>),
    /// Take a task by its id.
    Claim {
        /// The task.
        id: TaskId,
        /// For whom; none is the speaker.
        agent: Option<AgentId>,
    },
    /// End attempts: one, or a batch whose bad items fail alone.
    Complete {
        /// The completions.
        completions: Vec<Result<Completion, Rejection>>,
        /// Whether the answer is that of a batch.
        batch: bool,
    },
    /// Take a task back.
    Cancel {
        /// The task.
        id: TaskId,
        /// And all that depends on it.
        cascade: bool,
    },
    /// Start a failed or cancelled task afresh, or end its wait.
    Retry(TaskId),
    /// Give a task back without a failure.
    Release {
        /// The task.
        id: TaskId,
        /// The attempt that speaks.
        attempt: Option<u32>,
        /// The agent that speaks.
        agent: Option<AgentId>,
    },
    /// Keep a task from being dispatched.
    Hold(TaskId),
    /// End a hold.
    Unhold(TaskId),
    /// Append live output.
    Output {
        /// The task.
        id: TaskId,
        /// The attempt that speaks.
        attempt: Option<u32>,
        /// The agent that speaks.
        agent: Option<AgentId>,
        /// What it printed.
        text: Arc<str>,
    },
    /// Register an agent, or change what is registered.
    Register(NewAgent),
    /// Remove an agent and give back its attempts.
    Deregister(AgentId),
    /// An agent's roll-call.
    Sync(Sync),
    /// A server speaks from now on for an agent with a [`Peer`].
    Adopt {
        /// The agent.
        agent: AgentId,
        /// The server's session.
        session: Arc<str>,
        /// Whether no other server can be speaking for it.
        alone: bool,
    },
    /// The server of this session no longer speaks for the agent. Its attempts go on, for the server that adopts it next.
    Abandon {
        /// The agent.
        agent: AgentId,
        /// The server's session.
        session: Arc<str>,
    },
    /// Let an agent finish and take nothing new.
    Drain(AgentId),
    /// End a drain.
    Undrain(AgentId),
    /// End a quarantine or a pause.
    Lift(AgentId),
    /// Replace what is set for a scope.
    SetPolicy(Scope, PolicyChange),
    /// Start a scope's periods anew.
    Reset(Scope),
    /// Book usage.
    Report(UsageReport),
    /// Keep an access token.
    PutToken(AccessToken),
    /// Forget an access token.
    RevokeToken(Arc<str>),
    /// Add a webhook.
    AddWebhook(NewWebhook),
    /// Remove a webhook, with what was not delivered.
    RemoveWebhook(Arc<str>),
    /// Deliver again for a webhook that was disabled.
    ResumeWebhook(Arc<str>),
    /// A server delivers for a webhook from now on.
    LeaseWebhook {
        /// The webhook.
        name: Arc<str>,
        /// The server's session.
        session: Arc<str>,
        /// Whether no other server can be delivering.
        alone: bool,
    },
    /// The server of this session no longer delivers for a webhook.
    LeaveWebhook {
        /// The webhook.
        name: Arc<str>,
        /// The server's session.
        session: Arc<str>,
    },
    /// How deliveries went.
    SettleDeliveries(DeliveryReport),
    /// Try these deliveries of a webhook again, at once and with all their tries.
    RetryDeliveries {
        /// The webhook.
        name: Arc<str>,
        /// The numbers of their events.
        seqs: Vec<u64>,
    },

    /// Work out what waits, and until when leases last, for tasks as they were read.
    View(Vec<Arc<Task>>),
    /// Say what each agent lacks for a task.
    Explain(Arc<Task>),
    /// One agent.
    GetAgent(AgentId),
    /// Agents, by state and capabilities.
    ListAgents {
        /// In this state.
        status: Option<crate::agent::AgentStatus>,
        /// With all of these.
        capabilities: Vec<Label>,
    },
    /// What is set and used for a scope.
    GetPolicy(Scope),
    /// Whether an agent may start something with a model.
    Check {
        /// The agent.
        agent: AgentId,
        /// The model.
        model: Option<ModelName>,
    },
    /// All agents with their allowances.
    FleetStatus,

    /// The wait of this agent's sync is over.
    WaitOver(AgentId, Ticket),
    /// The clock passed something: deal with all that is due.
    Tick,
    /// Another server has committed something about these agents, or about any: who waits here hears of it.
    News(Option<BTreeSet<AgentId>>),
    /// A commit made tasks ready or gave agents room: look again, on a snapshot that began after it.
    Pass,
}

/// What replaces a scope's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PolicyChange {
    /// All limits of the scope.
    Limits(Vec<Limit>),
    /// An agent's allowance.
    Allowance(Allowance),
    /// A model's quota and prices.
    Model(ModelQuota),
    /// A repository's limits.
    Repo(RepoLimits),
}

/// An access token as it is kept: a digest, never the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessToken {
    /// Its name.
    pub name: Arc<str>,
    /// SHA-256 of the token.
    pub digest: [u8; 32],
    /// What it allows.
    pub roles: Arc<[crate::access::Role]>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A webhook to add.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewWebhook {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is.
    pub url: Arc<str>,
    /// What it is told of; none is everything.
    pub kinds: Arc<[crate::event::EventKind]>,
    /// It is told of events after this one.
    pub since: u64,
}

/// How deliveries of a webhook went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveryReport {
    /// The webhook.
    pub name: Arc<str>,
    /// The session of the server that delivers.
    pub session: Arc<str>,
    /// All events up to this one are dealt with, by now or in `outcomes`.
    pub cursor: u64,
    /// How many events were forgotten before they could be delivered.
    pub missed: u64,
    /// How each went that was tried, by the number of its event.
    pub outcomes: Vec<(u64, DeliveryOutcome)>,
}

/// How a delivery went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeliveryOutcome {
    /// It was taken.
    Delivered,
    /// It was not.
    Failed {
        /// What went wrong.
        error: Box<str>,
        /// When the place asks to be tried again.
        retry_after: Option<Span>,
    },
    /// It was tried before its time, to see whether its place is back, and failed: it keeps its time and its tries.
    FailedEarly {
        /// What went wrong.
        error: Box<str>,
    },
    /// The place says that it is gone for good.
    Gone,
    /// The event is no longer kept.
    Forgotten,
}

/// Why a task waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// The first reason that applies.
    pub reason: WaitingReason,
    /// In words.
    pub detail: String,
    /// When the task became ready.
    pub since: Timestamp,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// Why a task waits, in the order in which reasons apply.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum WaitingReason {
            $($(#[$doc])* $reason,)*
        }

        impl WaitingReason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$reason => $name,)* }
            }
        }
    };
}

reasons! {
    /// An operator holds it back.
    Held = "held",
    /// A dependency failed or was cancelled.
    DependencyFailed = "dependency_failed",
    /// A dependency has not completed.
    Dependency = "dependency",
    /// Its time has not come.
    NotBefore = "not_before",
    /// A lock is taken, or wanted by an earlier task.
    Locked = "locked",
    /// A limit of its repository.
    RepoLimit = "repo_limit",
    /// No agent that is not offline.
    NoAgents = "no_agents",
    /// No agent has its labels and model.
    NoCapableAgent = "no_capable_agent",
    /// A limit of its model.
    ModelQuota = "model_quota",
    /// Every capable agent with room is refused by a limit.
    Quota = "quota",
    /// Every capable agent is full, paused, draining or quarantined.
    AllBusy = "all_busy",
}

/// A task as a client sees it, bodies aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskView {
    /// The task.
    pub task: Arc<Task>,
    /// Its body, where it is at hand.
    pub body: Option<Arc<Body>>,
    /// How its last finished attempt went, where that is news of this turn.
    pub ending: Option<Ending>,
    /// Until when its lease lasts, while it is in progress.
    pub lease_expires_at: Option<Timestamp>,
    /// Why it waits, while it is pending or blocked.
    pub waiting: Option<Waiting>,
}

/// An attempt that an agent is to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// The task.
    pub view: TaskView,
    /// The attempt's number.
    pub attempt: u32,
    /// The longest that it may run.
    pub timeout: Option<Span>,
}

/// An attempt that an agent is to stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// The task.
    pub id: TaskId,
    /// The attempt's number.
    pub attempt: u32,
    /// Why.
    pub reason: StopReason,
}

/// The answer to a roll-call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncAnswer {
    /// What to start.
    pub start: Vec<Start>,
    /// What to stop.
    pub stop: Vec<Stop>,
    /// How each completion went, in the order given.
    pub done: Vec<Result<TaskView, Rejection>>,
    /// Whether the agent is to finish and take nothing new.
    pub drain: bool,
    /// How long the agent's leases last from now.
    pub lease_ttl: Span,
}

/// Whether an agent may start something, and what is left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckAnswer {
    /// Whether it may.
    pub allowed: bool,
    /// How near the limits are.
    pub status: CheckStatus,
    /// Tokens left; -1 is unlimited. Less than nothing is debt.
    pub remaining_tokens: i64,
    /// Attempts left to start; -1 is unlimited.
    pub remaining_jobs: i64,
    /// Why it may not; empty when it may.
    pub reason: String,
}

/// How near an agent's limits are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckStatus {
    /// Far.
    Ok,
    /// 80 % of the tokens are used or held.
    Warning,
    /// A limit is reached.
    Exceeded,
}

/// An agent with what is left of its allowance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentStanding {
    /// The agent.
    pub agent: Arc<Agent>,
    /// What is left.
    pub check: CheckAnswer,
}

/// What agents lack, grouped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// Why the task waits, if it does.
    pub waiting: Option<Waiting>,
    /// Its state.
    pub status: Status,
    /// What each agent lacks, most common first.
    pub groups: Vec<ExplanationGroup>,
    /// How many agents were considered.
    pub considered: u64,
}

/// Agents that lack the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExplanationGroup {
    /// What they lack.
    pub reason: String,
    /// How many there are.
    pub count: u64,
    /// The first of them by name.
    pub agents: Vec<AgentId>,
}

/// What the core says.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// A task as it is now.
    Task(Box<TaskView>),
    /// The items of a batch, in the order given.
    Batch(Vec<Result<TaskView, Rejection>>),
    /// An agent as it is now.
    Agent(Arc<Agent>),
    /// Agents, by id.
    Agents(Vec<Arc<Agent>>),
    /// A roll-call's answer.
    Sync(Box<SyncAnswer>),
    /// What is set and used for a scope, at this time.
    Policy {
        /// Whose.
        scope: Scope,
        /// What is set.
        policy: Arc<Policy>,
        /// What is used.
        counter: Arc<Counter>,
        /// When.
        now: Timestamp,
    },
    /// Whether an agent may start something.
    Check(CheckAnswer),
    /// Tasks as a client sees them, in the order given.
    Views(Vec<TaskView>),
    /// What each agent lacks.
    Explanation(Box<Explanation>),
    /// All agents.
    Fleet(Vec<AgentStanding>),
    /// A webhook as it is now.
    Webhook(Arc<Webhook>),
    /// It is done, and there is nothing to show.
    Done,
}

/// What must come along with the rows that a command names: the attempts of a sync, say.
impl Command {
    /// Whether it changes nothing that is stored.
    pub const fn is_read(&self) -> bool {
        matches!(
            self,
            Self::View(_)
                | Self::Explain(_)
                | Self::GetAgent(_)
                | Self::ListAgents { .. }
                | Self::GetPolicy(_)
                | Self::Check { .. }
                | Self::FleetStatus
        )
    }
}

/// Which attempt a change concerns, for those who wait for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// The attempt.
    pub attempt: AttemptKey,
    /// Its task.
    pub task: TaskKey,
    /// Its agent.
    pub agent: AgentId,
}
