//! Clients and operators: what they ask for.

use std::sync::Arc;

use adjutant_core::attempt::Tokens;
use adjutant_core::command::{Command, NewTask, PolicyChange, TaskPatch, UsageEvent, UsageReport};
use adjutant_core::limit::{Allowance, Limit, ModelQuota, Prices, RepoLimits, Scope, Window};
use adjutant_core::money::Money;
use adjutant_core::name::TaskId;
use adjutant_core::task::{Body, Demand, Priority, Produces, Status};
use adjutant_core::time::{Span, Timestamp};

use crate::minds::{AGENTS, LABELS, MODELS, agent_id, pick};
use crate::step::Dice;

const LOCKS: [&str; 3] = ["main", "lockfile", "schema"];
const PROJECTS: [&str; 2] = ["apollo", "gemini"];
const REPOS: [&str; 2] = ["o/a", "o/b"];

/// How often something is named at all.
fn rarely<T: for<'a> From<&'a str>>(names: &[&str], percent: usize, dice: &mut Dice) -> Option<T> {
    dice.chance(percent).then(|| T::from(dice.of(names)))
}

/// A task with number `number`, which may depend on earlier ones.
pub(crate) fn new_task(number: u32, dice: &mut Dice, now: Timestamp) -> NewTask {
    let mut dependencies: Vec<TaskId> = Vec::new();
    while number > 0 && dependencies.len() < 3 && dice.chance(22) {
        // Recent ones: they are the ones that may not have ended.
        let back = dice.below(12);
        let earlier = usize::try_from(number).unwrap_or(0).saturating_sub(back + 1);
        let id = TaskId::from(format!("t{earlier}"));
        if !dependencies.contains(&id) {
            dependencies.push(id);
        }
    }
    let labels = dice.of(&[0, 0, 1, 2, 4, 3, 7]);
    let repo = rarely(&REPOS, 25, dice);
    NewTask {
        id: format!("t{number}").into(),
        fresh_id: false,
        body: Arc::new(Body {
            title: "t".into(),
            dependencies,
            ..Body::default()
        }),
        demand: Demand {
            labels: pick(&LABELS, labels),
            prefers: pick(&LABELS, dice.of(&[0, 0, 1, 2])),
            model: rarely(&MODELS, 30, dice),
        },
        priority: dice.of(&Priority::ALL),
        project: rarely(&PROJECTS, 25, dice),
        produces: if repo.is_some() && dice.chance(50) {
            Some(dice.of(&[Produces::PullRequest, Produces::Issue]))
        } else {
            None
        },
        repo,
        locks: if dice.chance(25) {
            pick(&LOCKS, 1 + dice.below(7)).into()
        } else {
            Arc::default()
        },
        estimated_tokens: if dice.chance(30) { dice.amount(1_500) } else { 0 },
        timeout: dice.chance(25).then(|| Span::from_secs(60)),
        not_before: dice
            .chance(8)
            .then(|| now + Span::from_secs(u32::try_from(dice.below(200)).unwrap_or(0))),
        max_retries: u32::try_from(dice.of(&[3, 3, 1, 2])).unwrap_or(3),
    }
}

/// What is done with a task from outside.
pub(crate) fn operate(id: TaskId, dice: &mut Dice, now: Timestamp) -> Command {
    match dice.below(12) {
        0..=2 => Command::Cancel {
            id,
            cascade: dice.chance(40),
        },
        3..=5 => Command::Retry(id),
        6 => Command::Release {
            id,
            attempt: None,
            agent: None,
        },
        7 => Command::Hold(id),
        8..=9 => Command::Unhold(id),
        10 => Command::Patch(
            id,
            Box::new(TaskPatch {
                priority: Some(dice.of(&Priority::ALL)),
                labels: dice.chance(40).then(|| pick(&LABELS, dice.below(8))),
                not_before: dice.chance(20).then(|| Some(now + Span::from_secs(20))),
                estimated_tokens: dice.chance(30).then(|| dice.amount(900)),
                max_retries: dice.chance(20).then_some(4),
                ..TaskPatch::default()
            }),
        ),
        _ => Command::Patch(
            id,
            Box::new(TaskPatch {
                status: Some(dice.of(&[
                    Status::Completed,
                    Status::Failed,
                    Status::Pending,
                    Status::Cancelled,
                    Status::InProgress,
                ])),
                ..TaskPatch::default()
            }),
        ),
    }
}

/// Any scope.
pub(crate) fn scope(dice: &mut Dice) -> Scope {
    match dice.below(9) {
        0..=3 => Scope::Agent(agent_id(dice.below(AGENTS))),
        4 => Scope::Fleet,
        5 => Scope::Project(dice.of(&PROJECTS).into()),
        6 => Scope::Repo(dice.of(&REPOS).into()),
        _ => Scope::Model(dice.of(&MODELS).into()),
    }
}

/// A new limit, or the end of one.
pub(crate) fn limit(dice: &mut Dice) -> Command {
    let scope = scope(dice);
    let count = |dice: &mut Dice, most: usize| u64::try_from(1 + dice.below(most)).unwrap_or(1);
    let change = match (&scope, dice.below(10)) {
        (_, 0..=1) => PolicyChange::Limits(Vec::new()),
        (Scope::Model(_), 2..=5) => PolicyChange::Model(ModelQuota {
            daily_token_budget: dice.of(&[0, 4_000, 20_000]),
            hourly_rate_limit: dice.of(&[0, 4, 12]),
            cost_ceiling: Money::from_nanos(dice.of(&[0, 50_000_000, 5_000_000_000])),
            prices: Prices {
                input: Money::from_nanos(3_000_000_000),
                output: Money::from_nanos(15_000_000_000),
                cached: Money::from_nanos(300_000_000),
            },
        }),
        (Scope::Repo(_), 2..=5) => PolicyChange::Repo(RepoLimits {
            max_daily_prs: dice.of(&[0, 1, 3]),
            max_daily_issues: dice.of(&[0, 2]),
            cooldown_after_failure: Span::from_secs(dice.of(&[0, 30])),
        }),
        (Scope::Agent(_), 2..=5) => PolicyChange::Allowance(Allowance {
            daily_token_limit: dice.of(&[0, 2_000, 10_000]),
            daily_job_limit: dice.of(&[0, 5, 20]),
            concurrent_jobs: dice.of(&[0, 1, 2]),
            max_job_duration: Span::from_secs(dice.of(&[0, 90])),
            model_allowlist: pick(&MODELS, dice.of(&[0, 0, 1, 2])),
        }),
        _ => {
            let window = dice.of(&Window::ALL);
            let mut limit = Limit::none(window);
            match dice.below(4) {
                0 => limit.tokens = Some(50 + dice.amount(12_000)),
                1 => limit.jobs = Some(count(dice, 30)),
                2 => limit.concurrent = Some(count(dice, 4)),
                _ => {
                    limit.cost = Some(Money::from_nanos(
                        100_000_000 * i64::try_from(count(dice, 50)).unwrap_or(1),
                    ));
                }
            }
            limit.hard = dice.chance(70);
            PolicyChange::Limits(vec![limit])
        }
    };
    Command::SetPolicy(scope, change)
}

/// A word on a job that was dispatched elsewhere.
pub(crate) fn external(dice: &mut Dice) -> Command {
    Command::Report(UsageReport {
        agent: agent_id(dice.below(AGENTS)),
        job: format!("job{}", dice.below(6)).into(),
        attempt: None,
        model: dice.chance(50).then(|| dice.of(&MODELS).into()),
        tokens: Tokens {
            tokens_in: dice.amount(300),
            ..Tokens::default()
        },
        cost: None,
        total: dice.chance(30),
        event: dice.of(&[
            UsageEvent::JobStarted,
            UsageEvent::JobStarted,
            UsageEvent::Usage,
            UsageEvent::JobCompleted,
            UsageEvent::JobFailed,
            UsageEvent::JobCancelled,
        ]),
    })
}
