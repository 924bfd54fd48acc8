//! What a fleet may spend, what it spent, and what it told.

use std::sync::Arc;

use adjutant_core::command::{Answer, CheckAnswer, Command, PolicyChange, UsageEvent};
use adjutant_core::counter::Counter;
use adjutant_core::event::Event;
use adjutant_core::limit::{Allowance, Limit, ModelQuota, RepoLimits, Scope, Window};
use adjutant_core::name::TaskId;
use adjutant_core::rejection::Rejection;

use super::Fleet;
use super::say::{Spent, daily, jobs, spent, task};

impl Fleet {
    fn policy(&mut self, scope: &str, change: PolicyChange) {
        self.call(Command::SetPolicy(scope.parse().unwrap(), change))
            .unwrap();
    }

    pub(crate) fn limit<const N: usize>(&mut self, scope: &str, limits: [Limit; N]) {
        self.policy(scope, PolicyChange::Limits(Vec::from(limits)));
    }

    /// Lets somebody use up all jobs of a scope, so that its limit refuses whatever comes.
    pub(crate) fn exhaust(&mut self, scope: &str) {
        let stranger = scope.strip_prefix("agent:").unwrap_or("stranger").to_owned();
        self.tickets += 1;
        let id = format!("exhausts-{}", self.tickets);
        let draft = match scope.parse::<Scope>().unwrap() {
            Scope::Agent(_) => {
                self.report(spent(&stranger, &id, 0, 0).event(UsageEvent::JobStarted))
                    .unwrap();
                self.report(spent(&stranger, &id, 0, 0).event(UsageEvent::JobCompleted))
                    .unwrap();
                return self.limit(scope, [jobs(daily(), 1)]);
            }
            Scope::Fleet => task(&id),
            Scope::Project(project) => task(&id).project(project.as_str()),
            Scope::Repo(repo) => task(&id).repo(repo.as_str()),
            Scope::Model(model) => task(&id).model(model.as_str()),
        };
        self.submit(draft.labels(["what nobody has"])).unwrap();
        self.claim(&id, &stranger).unwrap();
        self.finish(&id);
        self.limit(scope, [jobs(daily(), 1)]);
    }

    pub(crate) fn allow(&mut self, agent: &str, allowance: Allowance) {
        self.policy(&format!("agent:{agent}"), PolicyChange::Allowance(allowance));
    }

    pub(crate) fn model(&mut self, model: &str, quota: ModelQuota) {
        self.policy(&format!("model:{model}"), PolicyChange::Model(quota));
    }

    pub(crate) fn repo(&mut self, repo: &str, limits: RepoLimits) {
        self.policy(&format!("repo:{repo}"), PolicyChange::Repo(limits));
    }

    pub(crate) fn reset(&mut self, scope: &str) {
        self.call(Command::Reset(scope.parse().unwrap())).unwrap();
    }

    pub(crate) fn counter(&mut self, scope: &str) -> Arc<Counter> {
        match self.call(Command::GetPolicy(scope.parse::<Scope>().unwrap())) {
            Ok(Answer::Policy { counter, .. }) => counter,
            other => panic!("a policy was expected, not {other:?}"),
        }
    }

    /// Tokens that count in a scope's current UTC day.
    pub(crate) fn tokens(&mut self, scope: &str) -> i64 {
        let now = self.now;
        self.counter(scope).window(Window::Day, now).tokens
    }

    /// Attempts started in a scope's current UTC day.
    pub(crate) fn jobs(&mut self, scope: &str) -> u64 {
        let now = self.now;
        self.counter(scope).window(Window::Day, now).jobs
    }

    pub(crate) fn allowed(&mut self, agent: &str, model: Option<&str>) -> CheckAnswer {
        match self.call(Command::Check {
            agent: agent.into(),
            model: model.map(Into::into),
        }) {
            Ok(Answer::Check(check)) => check,
            other => panic!("a check was expected, not {other:?}"),
        }
    }

    pub(crate) fn report(&mut self, spent: Spent) -> Result<(), Rejection> {
        Self::done_of(self.call(Command::Report(spent.0)))
    }

    // ---- events --------------------------------------------------------------------------------------------------

    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.reader().events(0, 100_000).unwrap()
    }

    /// The names of the events of a task, in order.
    pub(crate) fn story(&mut self, id: &str) -> Vec<&'static str> {
        let id = TaskId::from(id);
        let of_task = |event: &Event| event.task.as_ref().is_some_and(|(_, own)| *own == id);
        self.events()
            .iter()
            .filter(|event| of_task(event))
            .map(|event| event.kind.name())
            .collect()
    }

    /// How many events of this name there are.
    pub(crate) fn count(&mut self, name: &str) -> usize {
        self.events()
            .iter()
            .filter(|event| event.kind.name() == name)
            .count()
    }
}
