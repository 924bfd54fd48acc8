//! Taking in: rows as a store gives them.

use std::sync::Arc;

use super::rows::{Dependents, Onlooker, Rows, Wanted};
use super::{Halt, LAST_KEY, WorkingSet};
use crate::agent::Agent;
use crate::limit::Scope;
use crate::router::indexed::Fleet;
use crate::time::{Span, Timestamp};

impl WorkingSet {
    /// Takes in rows as they are stored, with what was asked for: what was not found does not exist.
    pub fn absorb(&mut self, wanted: &Wanted, rows: Rows) {
        if let Some(newest) = rows.newest {
            self.newest = self.newest.max(newest);
        }
        self.skipped |= rows.skipped;
        for class in rows.classes {
            self.class_ids.insert(class.demand.clone(), class.id);
            self.classes.insert(class.id, class);
        }
        for agent in rows.agents {
            self.stale_agents.insert(agent.id.clone());
            self.candidates.remove(&agent.id);
            self.agents.absorb(agent.id.clone(), Some(agent));
        }
        for attempt in rows.attempts {
            if let Some(until) = attempt.lingers_until
                && (attempt.is_live() || attempt.occupies)
            {
                self.lingering.insert((until, attempt.key));
            }
            self.attempts.absorb(attempt.key, Some(attempt));
        }
        for account in rows.accounts {
            self.accounts.absorb(account.attempt, Some(account));
        }
        for (scope, policy) in rows.policies {
            self.note_scope(&scope);
            self.policies.absorb(scope, Some(policy));
        }
        for counter in rows.counters {
            self.note_scope(&counter.scope);
            if counter.cooldown_until > self.last_now {
                self.cooldowns
                    .insert((counter.cooldown_until, counter.scope.clone()));
            }
            self.counters.absorb(counter.scope.clone(), Some(counter));
        }
        for scope in rows.known_scopes {
            self.policies.absorb(scope.clone(), None);
            self.counters.absorb(scope, None);
        }
        for (kind, experience) in rows.experiences {
            self.experiences.absorb(kind, Some(experience));
        }
        for (lock, holder) in rows.locks {
            self.locks.absorb(lock, Some(Arc::new(holder)));
        }
        for task in rows.tasks {
            if self.ids.insert(task.id.clone(), Some(task.key)).is_none() {
                self.recent_ids.push(task.id.clone());
            }
            self.tasks.absorb(task.key, Some(task));
        }
        for (key, replay) in rows.idempotency {
            self.idempotency.absorb(key, Some(Arc::new(replay)));
        }
        for (id, job) in rows.jobs {
            self.jobs.absorb(id, Some(Arc::new(job)));
        }
        for webhook in rows.webhooks {
            self.webhooks.absorb(Arc::clone(&webhook.name), Some(webhook));
        }
        for (key, delivery) in rows.deliveries {
            self.deliveries.absorb(key, Some(Arc::new(delivery)));
        }
        for (queue, len) in rows.queues {
            if queue.gate.is_some() {
                self.open_gated.insert(queue.clone());
            }
            self.queues.absorb_queue(queue, len);
        }
        for (lock, len) in rows.wants {
            self.queues.absorb_wants(lock, len);
        }
        for (queue, orders, complete) in rows.windows {
            let after = wanted.windows.get(&queue).copied().flatten();
            self.queues.absorb_window(queue, after, &orders, complete);
        }
        for (lock, orders, complete) in rows.wanters {
            let after = wanted.wanters.get(&lock).copied().flatten();
            self.queues.absorb_wanters(lock, after, &orders, complete);
        }
        self.claimants.extend(wanted.claims.iter().cloned());
        self.take_dependents(rows.dependents);
        if let (Some(until), Some(due)) = (wanted.due, rows.due) {
            self.due = Some((until, due));
        }
        self.look_at(rows.roomy, wanted);
        if wanted.everyone {
            self.onlookers_at = rows.latest.unwrap_or(self.last_now);
            self.see(rows.onlookers);
        }
        self.note_absent(wanted);
    }

    fn take_dependents(&mut self, pages: Vec<Dependents>) {
        for page in pages {
            let list = self.edge_lists.entry(page.of).or_default();
            if list
                .upto
                .is_none_or(|upto| page.after > upto || page.after < list.from)
            {
                // It does not join what is known: what is known now begins with it.
                list.from = page.after;
            }
            list.upto = if page.more {
                page.list.last().map(|(key, _)| *key)
            } else {
                Some(LAST_KEY)
            };
            for (dependent, state) in page.list {
                list.dependents.insert(dependent);
                self.edges.absorb((page.of, dependent), Some(Arc::new(state)));
            }
        }
    }

    /// Takes in agents that have room. One that is locked is looked at no more, nor is one that was to be: another server
    /// has it.
    fn look_at(&mut self, roomy: Vec<Onlooker>, wanted: &Wanted) {
        for onlooker in roomy {
            let id = onlooker.agent.id.clone();
            if self.agents.get(&id).is_none() {
                self.stale_agents.insert(id.clone());
                self.candidates.insert(id, onlooker);
            }
        }
        for id in wanted.agents.union(&wanted.takers) {
            if self.candidates.remove(id).is_some() {
                self.stale_agents.insert(id.clone());
            }
        }
    }

    /// Takes in all agents as they are, in place of how they were.
    fn see(&mut self, onlookers: Vec<Onlooker>) {
        let by_id = onlookers
            .into_iter()
            .map(|onlooker| (onlooker.agent.id.clone(), onlooker));
        self.onlookers = by_id.collect();
        self.audience = Fleet::default();
    }

    /// What was asked for and not found is known not to exist.
    fn note_absent(&mut self, wanted: &Wanted) {
        for id in &wanted.task_ids {
            if !self.ids.contains_key(id) {
                self.ids.insert(id.clone(), None);
                self.recent_ids.push(id.clone());
            }
        }
        for key in &wanted.tasks {
            self.tasks.absorb(*key, None);
        }
        for key in &wanted.attempts {
            self.attempts.absorb(*key, None);
        }
        for key in &wanted.accounts {
            self.accounts.absorb(*key, None);
        }
        for id in &wanted.agents {
            self.agents.absorb(id.clone(), None);
        }
        for scope in &wanted.scopes {
            self.policies.absorb(scope.clone(), None);
            self.counters.absorb(scope.clone(), None);
        }
        for kind in &wanted.experiences {
            self.experiences.absorb(kind.clone(), None);
        }
        for lock in &wanted.locks {
            self.locks.absorb(lock.clone(), None);
        }
        for key in &wanted.idempotency {
            self.idempotency.absorb(key.clone(), None);
        }
        for id in &wanted.jobs {
            self.jobs.absorb(id.clone(), None);
        }
        for name in &wanted.webhooks {
            self.webhooks.absorb(Arc::clone(name), None);
        }
        for key in &wanted.deliveries {
            self.deliveries.absorb(key.clone(), None);
        }
        self.everyone |= wanted.everyone;
        self.roomy |= wanted.roomy;
        self.all_queues |= wanted.queues;
    }

    pub(super) fn note_scope(&mut self, scope: &Scope) {
        match scope {
            Scope::Agent(id) => {
                self.stale_agents.insert(id.clone());
            }
            Scope::Model(model) => {
                self.stale_models.insert(model.clone());
            }
            Scope::Fleet | Scope::Project(_) | Scope::Repo(_) => {}
        }
    }

    /// Takes out what is wanted.
    pub fn take_wanted(&mut self) -> Wanted {
        std::mem::take(&mut self.wanted)
    }

    /// Whether something is wanted.
    pub fn wants_more(&self) -> bool {
        !self.wanted.is_empty()
    }

    pub(crate) fn want(&mut self, ask: impl FnOnce(&mut Wanted)) -> Halt {
        ask(&mut self.wanted);
        Halt::Missing
    }

    /// Whether the last load left something out that another server has locked.
    pub const fn skipped(&self) -> bool {
        self.skipped
    }

    /// Begins with all that a complete set needs. Whatever time may have changed since is looked at right away.
    pub fn begin(&mut self, rows: Rows, now: Timestamp) {
        // The clock may have been set back while nobody ran. Were the turns to follow it, what was booked in a later
        // hour would be out of its period, and come twice.
        let booked = rows.counters.iter().map(|counter| counter.hour.start).max();
        let known = rows.latest.into_iter().chain(booked);
        let now = known.fold(now, Timestamp::max);
        self.last_now = now;
        self.watched_since = now;
        let agents: Vec<Arc<Agent>> = rows.agents.clone();
        self.absorb(&Wanted::default(), rows);
        for agent in agents {
            let mut at = now + self.settings.agent_ttl.min(Span::from_secs(30));
            if let Some(recovers) = agent.recovers_at() {
                at = at.min(recovers);
            }
            self.timers.set(&agent.id, at);
        }
        self.next_task_wake = Timestamp::EPOCH;
        self.new_hour = true;
        self.settle_census();
    }

    /// What the census brought stays, whatever the first turn needs of it.
    fn settle_census(&mut self) {
        self.recent_ids.clear();
        self.tasks.settle(|_, _| true, |_, _| {});
        self.attempts.settle(|_, _| true, |_, _| {});
        self.accounts.settle(|_, _| true, |_, _| {});
    }

    /// Takes over who waits, from a set that is given up.
    pub fn adopt_waiters(&mut self, mut old: Self) {
        old.waiters.rewind(0, |_, _, _| {});
        self.waiters = old.waiters;
    }
}
