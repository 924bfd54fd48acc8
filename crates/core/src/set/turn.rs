//! The turn as a whole: marks, taking back, gathering changes, and what stays in memory after it.

use super::rows::Changes;
use super::{Mark, WorkingSet, table};
use crate::agent::Agent;
use crate::attempt::Attempt;
use crate::limit::Scope;
use crate::task::Task;
use crate::time::{Span, Timestamp};

/// How long agents are remembered as they were seen. Only what a waiting task is said to wait for hangs on it.
const ONLOOKERS_LAST: Span = Span::from_millis(200);

impl WorkingSet {
    /// A point to return to.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            tasks: self.tasks.mark(),
            attempts: self.attempts.mark(),
            accounts: self.accounts.mark(),
            agents: self.agents.mark(),
            policies: self.policies.mark(),
            counters: self.counters.mark(),
            experiences: self.experiences.mark(),
            locks: self.locks.mark(),
            edges: self.edges.mark(),
            idempotency: self.idempotency.mark(),
            jobs: self.jobs.mark(),
            webhooks: self.webhooks.mark(),
            deliveries: self.deliveries.mark(),
            waiters: self.waiters.mark(),
            notes: self.notes.len(),
            bodies: self.bodies.len(),
            endings: self.endings.len(),
            outputs: self.outputs.len(),
            tokens: self.tokens.len(),
            events: self.events.len(),
            answers: self.answers.len(),
            opened: self.opened.len(),
        }
    }

    /// Takes back everything since `mark`.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        let Self {
            tasks,
            queues,
            ids,
            edge_lists,
            stale_agents,
            stale_models,
            ..
        } = self;
        tasks.rewind(mark.tasks, |key, undone, restored| {
            queues.replace(undone.map(|task| &**task), restored.map(|task| &**task));
            if restored.is_none()
                && let Some(task) = undone
            {
                // That no such task is stored stays known: forgotten, it would be asked for again with every round.
                ids.insert(task.id.clone(), None);
                edge_lists.remove(key);
            }
        });
        self.attempts.rewind(mark.attempts, |_, _, _| {});
        self.accounts.rewind(mark.accounts, |_, _, _| {});
        self.agents.rewind(mark.agents, |id, _, _| {
            stale_agents.insert(id.clone());
        });
        let mut note = |scope: &Scope| match scope {
            Scope::Agent(id) => {
                stale_agents.insert(id.clone());
            }
            Scope::Model(model) => {
                stale_models.insert(model.clone());
            }
            Scope::Fleet | Scope::Project(_) | Scope::Repo(_) => {}
        };
        self.policies.rewind(mark.policies, |scope, _, _| note(scope));
        self.counters.rewind(mark.counters, |scope, _, _| note(scope));
        self.experiences.rewind(mark.experiences, |_, _, _| {});
        self.locks.rewind(mark.locks, |_, _, _| {});
        self.edges.rewind(mark.edges, |(of, dependent), _, restored| {
            if restored.is_none()
                && let Some(list) = edge_lists.get_mut(of)
            {
                list.dependents.remove(dependent);
            }
        });
        self.idempotency.rewind(mark.idempotency, |_, _, _| {});
        self.jobs.rewind(mark.jobs, |_, _, _| {});
        self.webhooks.rewind(mark.webhooks, |_, _, _| {});
        self.deliveries.rewind(mark.deliveries, |_, _, _| {});
        self.waiters.rewind(mark.waiters, |_, _, _| {});
        self.notes.truncate(mark.notes);
        self.bodies.truncate(mark.bodies);
        self.endings.truncate(mark.endings);
        self.outputs.truncate(mark.outputs);
        self.tokens.truncate(mark.tokens);
        self.events.truncate(mark.events);
        self.answers.truncate(mark.answers);
        self.opened.truncate(mark.opened);
    }

    /// Takes back the whole turn.
    pub fn discard(&mut self) {
        self.rewind(Mark {
            tasks: 0,
            attempts: 0,
            accounts: 0,
            agents: 0,
            policies: 0,
            counters: 0,
            experiences: 0,
            locks: 0,
            edges: 0,
            idempotency: 0,
            jobs: 0,
            webhooks: 0,
            deliveries: 0,
            waiters: 0,
            notes: 0,
            bodies: 0,
            endings: 0,
            outputs: 0,
            tokens: 0,
            events: 0,
            answers: 0,
            opened: 0,
        });
        self.stale_agents.extend(self.chosen.drain(..));
        self.forget_before = None;
        self.lingering_seen.clear();
        self.cooldowns_seen.clear();
        self.unfinished_next = None;
        self.cursors_next = None;
        self.opened_next.clear();
        for (agent, told) in std::mem::take(&mut self.told_before).into_iter().rev() {
            match told {
                Some(told) => self.told_strange.insert(agent, told),
                None => self.told_strange.remove(&agent),
            };
        }
        // Nothing of this turn was stored: its keys are free again, so that deciding again asks for the same rows.
        self.newest = self.newest_before_turn;
        self.open_gated.extend(std::mem::take(&mut self.shut_gated));
        self.next_task_wake = self.wake_before_turn;
        self.hour_looked_at = false;
        for agent in std::mem::take(&mut self.popped) {
            self.timers.set(&agent, self.last_now);
        }
        // A turn that was not taken was no look at the world: time that passes meanwhile is a gap.
        self.last_now = self.last_now_before_turn;
        self.locks_swept = self.locks_swept_before_turn;
    }

    /// Everything that the turn changed and that must be stored. What is only kept in memory is left out, unless
    /// `soft` asks for it: where servers share a store, they must see it.
    pub fn take_changes(&mut self, soft: bool) -> Changes {
        Changes {
            tasks: self.tasks.changes().collect(),
            bodies: std::mem::take(&mut self.bodies),
            endings: std::mem::take(&mut self.endings),
            notes: std::mem::take(&mut self.notes),
            outputs: std::mem::take(&mut self.outputs),
            attempts: self
                .attempts
                .changes()
                .filter(|change| soft || !same(change, Attempt::same_stored))
                .collect(),
            accounts: self.accounts.changes().collect(),
            agents: self
                .agents
                .changes()
                .filter(|change| soft || !same(change, Agent::same_stored))
                .collect(),
            policies: self.policies.changes().collect(),
            counters: self.counters.changes().collect(),
            experiences: self.experiences.changes().collect(),
            locks: self.locks.changes().collect(),
            edges: self.edges.changes().collect(),
            idempotency: self
                .idempotency
                .changes()
                .filter_map(|change| change.now.map(|replay| (change.key, (*replay).clone())))
                .collect(),
            jobs: self
                .jobs
                .changes()
                .filter_map(|change| change.now.map(|key| (change.key, *key)))
                .collect(),
            webhooks: self.webhooks.changes().collect(),
            deliveries: self.deliveries.changes().collect(),
            tokens: std::mem::take(&mut self.tokens),
            events: std::mem::take(&mut self.events),
            forget_before: self.forget_before,
        }
    }

    /// Ends the turn: what it did is stored. Keeps in memory what later turns are likely to need.
    pub fn settle(&mut self) {
        if let Some(cursors) = self.cursors_next.take() {
            self.cursors = cursors;
        }
        let Self {
            queues,
            tasks,
            ids,
            open_gated,
            cursors,
            attempts,
            accounts,
            ..
        } = self;
        let mut cut = Vec::new();
        for queue in queues.settle(|order| cut.push(order.key)) {
            open_gated.remove(&queue);
            cursors.remove(&queue);
        }
        let mut forget = |task: &Task| {
            ids.remove(&task.id);
        };
        let keep = |task: &Task| task.status == crate::task::Status::InProgress || queues.holds(task);
        tasks.settle(|_, task| keep(task), |_, task| forget(task));
        for key in cut {
            if let Some(task) = tasks.evict(&key) {
                forget(&task);
            }
        }
        for id in std::mem::take(&mut self.recent_ids) {
            if self.ids.get(&id) == Some(&None) {
                self.ids.remove(&id);
            }
        }
        let mut ended = Vec::new();
        attempts.settle(
            |_, attempt| attempt.is_live() || attempt.occupies,
            |key, _| ended.push(*key),
        );
        for key in ended {
            accounts.evict(&key);
        }
        accounts.settle(
            |key, _| matches!(attempts.get(key), Some(Some(attempt)) if attempt.is_live()),
            |_, _| {},
        );
        self.agents.settle(|_, _| true, |_, _| {});
        self.policies.settle(|_, _| true, |_, _| {});
        self.counters.settle(|_, _| true, |_, _| {});
        self.experiences.settle(|_, _| true, |_, _| {});
        self.locks.settle(|_, _| true, |_, _| {});
        self.edges.settle(|_, _| false, |_, _| {});
        self.edge_lists.clear();
        self.idempotency.settle(|_, _| false, |_, _| {});
        self.jobs.settle(|_, _| false, |_, _| {});
        self.webhooks.settle(|_, _| false, |_, _| {});
        self.deliveries.settle(|_, _| false, |_, _| {});
        self.waiters.settle(|_, _| true, |_, _| {});
        self.told_before.clear();
        if let Some(unfinished) = self.unfinished_next.take() {
            self.unfinished = unfinished;
            self.untold = std::mem::take(&mut self.opened_next);
        }
        for seen in std::mem::take(&mut self.lingering_seen) {
            self.lingering.remove(&seen);
        }
        for seen in std::mem::take(&mut self.cooldowns_seen) {
            self.cooldowns.remove(&seen);
        }
        self.shut_gated.clear();
        if std::mem::take(&mut self.hour_looked_at) {
            self.new_hour = false;
        }
        self.due = None;
        self.bodies.clear();
        self.endings.clear();
        self.notes.clear();
        self.outputs.clear();
        self.tokens.clear();
        self.events.clear();
        self.opened.clear();
        self.popped.clear();
        self.forget_before = None;
    }

    /// Carries over to the next turn's set what belongs to this server and not to the store: who waits, timers, and
    /// since when the server watches. For servers that share a store.
    #[must_use]
    pub fn successor(mut self) -> Self {
        self.waiters.settle(|_, _| true, |_, _| {});
        let everyone = self.may_see_onlookers_again();
        let (onlookers, audience) = if everyone {
            (self.onlookers, self.audience)
        } else {
            Default::default()
        };
        Self {
            everyone,
            onlookers,
            audience,
            onlookers_at: self.onlookers_at,
            told_strange: self.told_strange,
            waiters: self.waiters,
            classes: self.classes,
            class_ids: self.class_ids,
            timers: self.timers,
            watched_since: self.watched_since,
            last_now: self.last_now,
            next_task_wake: self.next_task_wake,
            newest: self.newest,
            lane: self.lane,
            new_hour: self.new_hour && !self.hour_looked_at,
            cursors: self.cursors_next.unwrap_or(self.cursors),
            locks_swept: self.locks_swept,
            ..Self::new(self.settings, false)
        }
    }

    /// Whether the agents as they were last seen do for the answers of the next turn: for a moment, unless this turn
    /// itself has changed who is there, or what somebody may use.
    fn may_see_onlookers_again(&self) -> bool {
        let same = |change: &table::Change<_, Agent>| match (&change.before, &change.now) {
            (Some(before), Some(now)) => {
                let softened = Agent {
                    attempts: now.attempts.clone(),
                    fast_failures: now.fast_failures.clone(),
                    ..(**before).clone()
                };
                softened.same_stored(now)
            }
            _ => false,
        };
        self.everyone
            && self.last_now < self.onlookers_at + ONLOOKERS_LAST
            && self.policies.is_clean()
            && self.agents.changes().all(|change| same(&change))
    }

    /// The time of the last turn, or what the rows spoke of at the start: no turn lies before it.
    pub const fn last_now(&self) -> Timestamp {
        self.last_now
    }

    /// The earliest time at which the passing of time alone changes something.
    pub fn next_deadline(&self, now: Timestamp) -> Timestamp {
        if self.new_hour || !self.unfinished.is_empty() {
            return now;
        }
        // Counted from the last turn: an hour that began since is not to be missed.
        let last = if self.last_now == Timestamp::EPOCH {
            now
        } else {
            self.last_now
        };
        let hour = last.hour() + Span::HOUR;
        let lingering = self
            .lingering
            .first()
            .map_or(Timestamp::NEVER, |(until, _)| *until);
        let cooled = self
            .cooldowns
            .first()
            .map_or(Timestamp::NEVER, |(until, _)| *until);
        let lingering = lingering.min(cooled);
        self.timers
            .next()
            .unwrap_or(Timestamp::NEVER)
            .min(self.next_task_wake)
            .min(lingering)
            .min(hour)
    }
}

fn same<K, V>(change: &table::Change<K, V>, same: impl Fn(&V, &V) -> bool) -> bool {
    match (&change.before, &change.now) {
        (Some(before), Some(now)) => same(before, now),
        (None, None) => true,
        _ => false,
    }
}
