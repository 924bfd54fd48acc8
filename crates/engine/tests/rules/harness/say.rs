//! What is said to a fleet: tasks, agents, syncs, ends, changes, usage; each with what most tests leave out left out.

use std::sync::Arc;

use adjutant_core::agent::Peer;
use adjutant_core::attempt::Tokens;
use adjutant_core::command::{
    Command, Completion, NewAgent, NewTask, Running, Sync, TaskPatch, UsageEvent, UsageReport,
};
use adjutant_core::limit::{Limit, Window};
use adjutant_core::money::Money;
use adjutant_core::name::{Label, LockName, ModelName};
use adjutant_core::task::{Body, Priority, Produces, Status};
use adjutant_core::time::{Span, Timestamp};

fn names<T: for<'a> From<&'a str>, C: FromIterator<T>, const N: usize>(names: [&str; N]) -> C {
    names.into_iter().map(T::from).collect()
}

/// A task to submit.
#[derive(Clone)]
pub(crate) struct Draft(pub(super) NewTask);

pub(crate) fn task(id: &str) -> Draft {
    Draft(NewTask::new(id, id))
}

impl From<Draft> for Command {
    fn from(draft: Draft) -> Self {
        Self::Submit {
            tasks: vec![Ok(draft.0)],
            batch: false,
        }
    }
}

impl Draft {
    pub(crate) fn labels<const N: usize>(mut self, labels: [&str; N]) -> Self {
        self.0.demand.labels = names::<Label, _, N>(labels);
        self
    }

    pub(crate) fn prefers<const N: usize>(mut self, labels: [&str; N]) -> Self {
        self.0.demand.prefers = names::<Label, _, N>(labels);
        self
    }

    pub(crate) fn model(mut self, model: &str) -> Self {
        self.0.demand.model = Some(model.into());
        self
    }

    pub(crate) fn priority(mut self, priority: Priority) -> Self {
        self.0.priority = priority;
        self
    }

    pub(crate) fn after<const N: usize>(mut self, ids: [&str; N]) -> Self {
        let body = Body {
            dependencies: names(ids),
            ..(*self.0.body).clone()
        };
        self.0.body = Arc::new(body);
        self
    }

    pub(crate) fn locks<const N: usize>(mut self, locks: [&str; N]) -> Self {
        self.0.locks = names::<LockName, Vec<_>, N>(locks).into();
        self
    }

    pub(crate) fn project(mut self, project: &str) -> Self {
        self.0.project = Some(project.into());
        self
    }

    pub(crate) fn repo(mut self, repo: &str) -> Self {
        self.0.repo = Some(repo.into());
        self
    }

    pub(crate) fn produces(mut self, what: Produces) -> Self {
        self.0.produces = Some(what);
        self
    }

    pub(crate) fn estimate(mut self, tokens: u64) -> Self {
        self.0.estimated_tokens = tokens;
        self
    }

    pub(crate) fn timeout(mut self, seconds: u32) -> Self {
        self.0.timeout = Some(Span::from_secs(seconds));
        self
    }

    pub(crate) fn not_before(mut self, time: Timestamp) -> Self {
        self.0.not_before = Some(time);
        self
    }

    pub(crate) fn retries(mut self, max: u32) -> Self {
        self.0.max_retries = max;
        self
    }
}

/// An agent to register.
#[derive(Clone)]
pub(crate) struct Crew(pub(super) NewAgent);

/// An agent with no labels, any model, and room for one attempt.
pub(crate) fn agent(id: &str) -> Crew {
    Crew(NewAgent {
        id: id.into(),
        name: id.into(),
        capabilities: Arc::default(),
        models: Arc::default(),
        max_load: 1,
        metadata: None,
        session: None,
        peer: None,
    })
}

impl Crew {
    pub(crate) fn with<const N: usize>(mut self, labels: [&str; N]) -> Self {
        self.0.capabilities = names::<Label, Vec<_>, N>(labels).into();
        self
    }

    pub(crate) fn models<const N: usize>(mut self, models: [&str; N]) -> Self {
        self.0.models = names::<ModelName, Vec<_>, N>(models).into();
        self
    }

    /// The most attempts at a time; 0 is unlimited.
    pub(crate) fn load(mut self, max: u32) -> Self {
        self.0.max_load = max;
        self
    }

    pub(crate) fn session(mut self, session: &str) -> Self {
        self.0.session = Some(session.into());
        self
    }

    pub(crate) fn at(mut self, peer: Peer) -> Self {
        self.0.peer = Some(Arc::new(peer));
        self
    }

    pub(crate) fn command(self) -> Command {
        Command::Register(self.0)
    }
}

/// A roll-call.
#[derive(Clone)]
pub(crate) struct Roll(Sync);

impl From<Roll> for Sync {
    fn from(roll: Roll) -> Self {
        roll.0
    }
}

/// A roll-call of an agent that runs nothing.
pub(crate) fn roll(agent: &str) -> Roll {
    Roll(Sync {
        agent: agent.into(),
        session: None,
        n: None,
        running: Some(Vec::new()),
        done: Vec::new(),
        max: None,
        wait: Span::ZERO,
    })
}

/// A sign of life that says nothing of what runs.
pub(crate) fn heartbeat(agent: &str) -> Roll {
    let mut roll = roll(agent);
    roll.0.running = None;
    roll
}

impl Roll {
    pub(crate) fn running<const N: usize>(mut self, attempts: [(&str, u32); N]) -> Self {
        let running = attempts.into_iter().map(|(id, attempt)| Running {
            id: id.into(),
            attempt,
        });
        self.0.running = Some(running.collect());
        self
    }

    pub(crate) fn listing(mut self, attempts: &[(String, u32)]) -> Self {
        let running = attempts.iter().map(|(id, attempt)| Running {
            id: id.as_str().into(),
            attempt: *attempt,
        });
        self.0.running = Some(running.collect());
        self
    }

    pub(crate) fn done<const N: usize>(mut self, ends: [End; N]) -> Self {
        self.0.done = ends.into_iter().map(|end| end.0).collect();
        self
    }

    pub(crate) fn session(mut self, session: &str) -> Self {
        self.0.session = Some(session.into());
        self
    }

    pub(crate) fn n(mut self, n: u64) -> Self {
        self.0.n = Some(n);
        self
    }

    pub(crate) fn max(mut self, max: u32) -> Self {
        self.0.max = Some(max);
        self
    }

    pub(crate) fn wait(mut self, seconds: u32) -> Self {
        self.0.wait = Span::from_secs(seconds);
        self
    }
}

/// The end of an attempt.
#[derive(Clone)]
pub(crate) struct End(pub(super) Completion);

fn end(id: &str, success: bool) -> End {
    let mut completion = Completion::new(id.into(), success);
    if !success {
        completion.result.error_message = "it broke".into();
    }
    End(completion)
}

pub(crate) fn done(id: &str) -> End {
    end(id, true)
}

pub(crate) fn failed(id: &str) -> End {
    end(id, false)
}

impl From<End> for Command {
    fn from(end: End) -> Self {
        Self::Complete {
            completions: vec![Ok(end.0)],
            batch: false,
        }
    }
}

/// Several ends in one command.
pub(crate) fn ends<const N: usize>(ends: [End; N]) -> Command {
    Command::Complete {
        completions: ends.into_iter().map(|end| Ok(end.0)).collect(),
        batch: true,
    }
}

impl End {
    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.0.attempt = Some(attempt);
        self
    }

    pub(crate) fn agent(mut self, agent: &str) -> Self {
        self.0.agent = Some(agent.into());
        self
    }

    pub(crate) fn output(mut self, output: &str) -> Self {
        self.0.result.output = output.into();
        self
    }

    pub(crate) fn model(mut self, model: &str) -> Self {
        self.0.model = Some(model.into());
        self
    }

    pub(crate) fn tokens(mut self, tokens_in: u64, tokens_out: u64) -> Self {
        self.0.tokens = Some(Tokens {
            tokens_in,
            tokens_out,
            tokens_cached: 0,
        });
        self
    }

    pub(crate) fn rate_limited(mut self, until: Timestamp) -> Self {
        self.0.rate_limited_until = Some(until);
        self
    }
}

/// A change of a task.
#[derive(Clone, Default)]
pub(crate) struct Change(pub(super) TaskPatch);

pub(crate) fn change() -> Change {
    Change::default()
}

impl Change {
    pub(crate) fn status(mut self, status: Status) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.0.attempt = Some(attempt);
        self
    }

    pub(crate) fn progress(mut self, percent: u8) -> Self {
        self.0.progress = Some(percent);
        self
    }

    pub(crate) fn note(mut self, text: &str) -> Self {
        self.0.note = Some(text.into());
        self
    }

    pub(crate) fn priority(mut self, priority: Priority) -> Self {
        self.0.priority = Some(priority);
        self
    }

    pub(crate) fn labels<const N: usize>(mut self, labels: [&str; N]) -> Self {
        self.0.labels = Some(names(labels));
        self
    }

    pub(crate) fn not_before(mut self, time: Option<Timestamp>) -> Self {
        self.0.not_before = Some(time);
        self
    }

    pub(crate) fn estimate(mut self, tokens: u64) -> Self {
        self.0.estimated_tokens = Some(tokens);
        self
    }

    pub(crate) fn retries(mut self, max: u32) -> Self {
        self.0.max_retries = Some(max);
        self
    }
}

/// Usage, or a word about a job that was dispatched elsewhere.
#[derive(Clone)]
pub(crate) struct Spent(pub(super) UsageReport);

/// What `agent` spent on `job`: an increase, unless it is said to be a total.
pub(crate) fn spent(agent: &str, job: &str, tokens_in: u64, tokens_out: u64) -> Spent {
    Spent(UsageReport {
        agent: agent.into(),
        job: job.into(),
        attempt: None,
        model: None,
        tokens: Tokens {
            tokens_in,
            tokens_out,
            tokens_cached: 0,
        },
        cost: None,
        total: false,
        event: UsageEvent::Usage,
    })
}

impl From<Spent> for UsageReport {
    fn from(spent: Spent) -> Self {
        spent.0
    }
}

impl Spent {
    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.0.attempt = Some(attempt);
        self
    }

    pub(crate) fn model(mut self, model: &str) -> Self {
        self.0.model = Some(model.into());
        self
    }

    pub(crate) fn cached(mut self, tokens: u64) -> Self {
        self.0.tokens.tokens_cached = tokens;
        self
    }

    pub(crate) fn cost(mut self, cost: Money) -> Self {
        self.0.cost = Some(cost);
        self
    }

    pub(crate) fn total(mut self) -> Self {
        self.0.total = true;
        self
    }

    pub(crate) fn event(mut self, event: UsageEvent) -> Self {
        self.0.event = event;
        self
    }
}

/// A limit over the UTC hour, the UTC day, or all time, that bounds nothing yet.
pub(crate) fn hourly() -> Limit {
    Limit::none(Window::Hour)
}

pub(crate) fn daily() -> Limit {
    Limit::none(Window::Day)
}

pub(crate) fn ever() -> Limit {
    Limit::none(Window::Total)
}

/// The same limit, not hard: reaching it stops nothing that runs.
pub(crate) fn soft(limit: Limit) -> Limit {
    Limit { hard: false, ..limit }
}

pub(crate) fn tokens(limit: Limit, bound: u64) -> Limit {
    Limit {
        tokens: Some(bound),
        ..limit
    }
}

pub(crate) fn jobs(limit: Limit, bound: u64) -> Limit {
    Limit {
        jobs: Some(bound),
        ..limit
    }
}

pub(crate) fn concurrent(limit: Limit, bound: u64) -> Limit {
    Limit {
        concurrent: Some(bound),
        ..limit
    }
}

pub(crate) fn pull_requests(limit: Limit, bound: u64) -> Limit {
    Limit {
        pull_requests: Some(bound),
        ..limit
    }
}

/// A time span, in seconds or minutes.
pub(crate) fn seconds(seconds: u32) -> Span {
    Span::from_secs(seconds)
}

pub(crate) fn minutes(minutes: u32) -> Span {
    Span::from_secs(60 * minutes)
}

/// The smallest step of the clock.
pub(crate) const A_MOMENT: Span = Span::from_micros(1);

/// A moment less than a span.
pub(crate) fn short_of(span: Span) -> Span {
    Span::from_micros(span.as_micros() - 1)
}
