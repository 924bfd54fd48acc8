//! Rows to write: each kind once with as little as possible, and once with everything that it can have.
//!
//! They are written out field by field, so that a field that is added to a row is missed here by the compiler.

use std::sync::Arc;

use adjutant_core::agent::{Agent, Peer};
use adjutant_core::attempt::{
    Attempt, AttemptKey, AttemptState, Hold, ModelUsage, Outcome, StopReason, Tokens,
};
use adjutant_core::counter::{Counter, Tally};
use adjutant_core::event::EventKind;
use adjutant_core::ledger::Line;
use adjutant_core::limit::{Limit, Policy, Prices, Scope, Window};
use adjutant_core::money::Money;
use adjutant_core::name::MAX_NAME_CHARS;
use adjutant_core::set::rows::NewEvent;
use adjutant_core::task::{Class, Fanout, Gate, Priority, Produces, Status, Task, TaskKey};
use adjutant_core::time::{Span, Timestamp};

/// The most that a count which is added up can come to.
pub(crate) const MOST: u64 = i64::MAX as u64;
/// A name that needs care: quotes, colons, slashes, characters of one to four bytes, right to left, combined.
pub(crate) const NAME: &str = "ö/'\"%_:: 名前 🦀 שלום e\u{301} \\n";

/// A name as long as names may be, of characters of four bytes in no order that could be written shorter.
pub(crate) fn long_name(seed: u32) -> String {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let character = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // A block of 42,000 characters, all of them assigned.
        char::from_u32(0x2_0000 + (state >> 8) % 42_000)
    };
    std::iter::repeat_with(character)
        .flatten()
        .take(MAX_NAME_CHARS)
        .collect()
}

/// `micros` microseconds into the test.
pub(crate) const fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_790_000_000_000_000 + micros)
}

/// The key of the `number`-th task.
pub(crate) const fn key(number: i64) -> TaskKey {
    TaskKey::new(at(number), 3)
}

/// An attempt of the `task`-th task.
pub(crate) const fn attempt_key(task: i64, number: u32) -> AttemptKey {
    AttemptKey {
        task: key(task),
        number,
    }
}

/// A pending task with nothing else to it.
pub(crate) fn task(number: i64, class: &Arc<Class>) -> Task {
    Task {
        key: key(number),
        id: format!("task_{number}").into(),
        class: Arc::clone(class),
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
        max_retries: 0,
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

/// A task with every field set. What it says makes no sense; a store does not mind.
pub(crate) fn full_task(number: i64, class: &Arc<Class>) -> Task {
    Task {
        key: key(number),
        id: format!("Task-{number}._:{}", "x".repeat(100)).into(),
        class: Arc::clone(class),
        priority: Priority::Critical,
        status: Status::Failed,
        held: true,
        project: Some(NAME.into()),
        repo: Some("owner/name".into()),
        produces: Some(Produces::Issue),
        locks: [NAME.into(), "main".into(), "a,b".into()].into(),
        estimated_tokens: Tokens::MAX,
        timeout: Some(Span::from_micros(1)),
        not_before: Some(at(-1)),
        delayed_until: Some(Timestamp::NEVER),
        max_retries: u32::MAX,
        retry_count: u32::MAX,
        attempt: u32::MAX,
        dependencies: 1_000,
        unmet: 999,
        failed_dependencies: 998,
        dependents: u32::MAX,
        gate: Some(Gate::Lock(NAME.into())),
        claimed_by: Some("agent-1".into()),
        claimed_at: Some(at(1)),
        lease_expires_at: Some(at(2)),
        deadline: Some(at(3)),
        last_attempt: Some(at(4)),
        failed_on: ["agent-2".into(), "agent-1".into()].into(),
        progress: 100,
        notes: u32::MAX,
        has_result: true,
        refusal_told: true,
        usage: usage().into(),
        ready_since: at(5),
        updated_at: at(6),
        fanout: Some(Fanout {
            after: TaskKey(i64::MAX),
            cascade: true,
        }),
    }
}

/// Use of two models and of one that is not known, up to the largest amounts.
pub(crate) fn usage() -> Vec<ModelUsage> {
    let of = |model: Option<&str>, count: u64, nanos: i64| ModelUsage {
        model: model.map(Into::into),
        tokens: Tokens {
            tokens_in: count,
            tokens_out: count.saturating_sub(1),
            tokens_cached: count.saturating_sub(2),
        },
        cost: Money::from_nanos(nanos),
    };
    vec![
        of(Some(NAME), MOST, i64::MAX),
        of(None, 0, 0),
        of(Some("model"), 3, 1),
    ]
}

/// An attempt that was just offered, with nothing else to it.
pub(crate) fn attempt(key: AttemptKey) -> Attempt {
    Attempt {
        key,
        task_id: format!("of {}", key.task.0).into(),
        external: false,
        agent: "agent-1".into(),
        registered: false,
        state: AttemptState::Offered,
        occupies: false,
        model: None,
        project: None,
        repo: None,
        produces: None,
        locks: Arc::default(),
        started_at: Timestamp::EPOCH,
        ended_at: None,
        delivered_at: None,
        timeout: None,
        hold: Hold::default(),
        usage: Vec::new(),
        stop: None,
        stop_told: false,
        lingers_until: None,
    }
}

/// An attempt with every field set that is stored.
pub(crate) fn full_attempt(key: AttemptKey) -> Attempt {
    Attempt {
        key,
        task_id: "a-job:1.2_3".into(),
        external: true,
        agent: "agent-2".into(),
        registered: true,
        state: AttemptState::Ended(Outcome::TimedOut),
        occupies: true,
        model: Some(NAME.into()),
        project: Some("project".into()),
        repo: Some(NAME.into()),
        produces: Some(Produces::PullRequest),
        locks: ["main".into(), NAME.into()].into(),
        started_at: at(10),
        ended_at: Some(at(11)),
        delivered_at: None,
        timeout: Some(Span::DAY),
        hold: Hold {
            tokens: MOST,
            cost: Money::from_nanos(i64::MAX),
        },
        usage: usage(),
        stop: Some(StopReason::Limit),
        stop_told: false,
        lingers_until: Some(at(12)),
    }
}

/// An idle agent with nothing else to it.
pub(crate) fn agent(id: &str) -> Agent {
    Agent {
        id: id.into(),
        name: String::new(),
        capabilities: Arc::default(),
        models: Arc::default(),
        max_load: 0,
        metadata: None,
        registered_at: Timestamp::EPOCH,
        session: None,
        former_sessions: Arc::default(),
        peer: None,
        offline: false,
        draining: false,
        paused_until: None,
        paused_models: [].into(),
        quarantined_until: None,
        quarantines: 0,
        fast_failures: Vec::new(),
        mute: false,
        last_seen: Timestamp::EPOCH,
        last_n: None,
        attempts: Vec::new(),
    }
}

/// An agent with every field set that is stored with it.
pub(crate) fn full_agent(id: &str) -> Agent {
    Agent {
        id: id.into(),
        name: NAME.into(),
        capabilities: [NAME.into(), "rust".into(), "a,b".into()].into(),
        models: ["model".into(), NAME.into()].into(),
        max_load: u32::MAX,
        metadata: Some("{ \"é\":1.0e3 ,\n\"é\": [] }".into()),
        registered_at: at(20),
        session: Some(NAME.into()),
        former_sessions: ["first".into(), NAME.into()].into(),
        peer: Some(Arc::new(Peer {
            url: format!("https://peer.example/{NAME}").into(),
            addresses: ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into(),
            token_env: Some(NAME.into()),
        })),
        offline: true,
        draining: true,
        paused_until: Some(Timestamp::NEVER),
        paused_models: [(NAME.into(), Timestamp::NEVER), ("model".into(), at(21))].into(),
        quarantined_until: Some(at(22)),
        quarantines: u32::MAX,
        fast_failures: vec![key(9), TaskKey(i64::MAX), key(8)],
        mute: false,
        last_seen: at(23),
        last_n: None,
        attempts: Vec::new(),
    }
}

/// One scope of each kind, with names that need care.
pub(crate) fn scopes() -> [Scope; 8] {
    [
        Scope::Agent("agent-1".into()),
        Scope::Agent("a:b._-C".into()),
        Scope::Repo("owner/name".into()),
        Scope::Repo(NAME.into()),
        Scope::Project(NAME.into()),
        Scope::Model(NAME.into()),
        Scope::Model("fleet".into()),
        Scope::Fleet,
    ]
}

/// A policy with every field set.
pub(crate) fn full_policy() -> Policy {
    let most = Limit {
        window: Window::Hour,
        tokens: Some(u64::MAX),
        cost: Some(Money::from_nanos(i64::MAX)),
        jobs: Some(u64::MAX),
        concurrent: Some(u64::MAX),
        pull_requests: Some(u64::MAX),
        issues: Some(u64::MAX),
        hard: false,
    };
    let least = Limit {
        window: Window::Day,
        tokens: Some(1),
        cost: Some(Money::from_nanos(1)),
        jobs: Some(2),
        concurrent: Some(3),
        pull_requests: Some(4),
        issues: Some(5),
        hard: true,
    };
    Policy {
        limits: vec![most, least, Limit::none(Window::Total)],
        model_allowlist: vec![NAME.into(), "model".into()],
        max_job_duration: Some(Span::from_micros(1)),
        prices: Prices {
            input: Money::from_nanos(1),
            output: Money::from_nanos(i64::MAX),
            cached: Money::from_nanos(123_456_789_123_456_789),
        },
        cooldown_after_failure: Span::from_micros(i64::MAX),
    }
}

/// A counter with every field set. Tokens can be below zero: a refund may come in a later period than its charge.
pub(crate) fn full_counter(scope: &Scope) -> Counter {
    let tally = |by: i64| Tally {
        start: at(by),
        jobs: MOST - by.unsigned_abs(),
        tokens: i64::MIN + by,
        cost: Money::from_nanos(i64::MAX - by),
        pull_requests: MOST - 1 - by.unsigned_abs(),
        issues: by.unsigned_abs(),
        told: u16::MAX,
    };
    Counter {
        scope: scope.clone(),
        resets: u32::MAX,
        hour: tally(0),
        day: tally(10),
        total: tally(20),
        held_tokens: MOST,
        held_cost: Money::from_nanos(i64::MAX),
        held_pull_requests: u32::MAX,
        held_issues: u32::MAX - 1,
        active: u32::MAX - 2,
        cooldown_until: Timestamp::NEVER,
    }
}

/// A ledger line with every field set.
pub(crate) fn full_line(scope: &Scope) -> Line {
    Line {
        scope: scope.clone(),
        hour: at(0).hour(),
        resets: u32::MAX,
        model: Some(NAME.into()),
        jobs: MOST,
        tokens: Tokens {
            tokens_in: MOST,
            tokens_out: MOST - 1,
            tokens_cached: MOST - 2,
        },
        cost: Money::from_nanos(i64::MAX),
        refunded: MOST - 3,
        pull_requests: MOST - 4,
        issues: MOST - 5,
    }
}

/// An event with nothing to it but its time.
pub(crate) fn event(number: i64) -> NewEvent {
    NewEvent {
        kind: EventKind::QuotaReset,
        task: None,
        agent: None,
        at: at(number),
        payload: Vec::new(),
    }
}
