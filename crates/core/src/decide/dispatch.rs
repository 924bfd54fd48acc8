//! Dispatch: ready tasks meet agents that have room.
//!
//! Between turns nothing that could start waits (I11). So a turn looks only at what it opened: tasks that became ready,
//! agents that gained room, limits and locks that let go. From the queues that these concern it takes task after task
//! in order of dispatch: gate → route → permit → start. A class that finds no agent is closed for the turn; a task
//! that something else than an agent stops steps aside, into the queue of what it waits for.
//!
//! # Invariants
//! - I6: tasks are tried strictly in order over all queues concerned.
//! - I1: a task takes no lock that is taken, nor one that an earlier task wants which lacks nothing but locks.
//! - I4: nothing starts unless every scope of it permits.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Turn;
use crate::command::WaitingReason;
use crate::event::EventKind;
use crate::limit::{Ask, LimitRefusal, Scope};
use crate::name::{AgentId, LockName, ModelName};
use crate::router;
use crate::set::queues::Front;
use crate::set::rows::Value;
use crate::set::{Halt, Need, Opened};
use crate::task::{ClassId, DispatchOrder, Gate, Priority, Queue, Task, TaskKey};

/// How many tasks of one queue may be passed over in a turn because they are too large for what is left.
const MAX_PASSED_OVER: usize = 64;
/// How many tasks one turn starts or moves aside. The next turn goes on at once; meanwhile others are answered.
const MAX_MOVED: usize = 256;
/// How many earlier tasks that want a lock are looked at.
const MAX_WANTERS: usize = 16;

/// What a try to start a task came to.
enum Try {
    /// It has started; or, where servers share a store, it will when its agent is locked.
    Started,
    /// Something else than an agent is in the way.
    Gated(Gate),
    /// No agent can take it.
    NoAgent,
}

/// The queues that are being worked off.
#[derive(Default)]
struct Active {
    fronts: BTreeSet<(DispatchOrder, Queue)>,
    closed: HashSet<ClassId>,
    /// Tasks started or moved aside so far.
    moved: usize,
    /// The turn has done enough, or would have to load more than it did so far: the next one goes on.
    stopped: bool,
    /// Queues of which the next turn looks at more.
    put_off: BTreeSet<Queue>,
    passed_over: HashMap<Queue, usize>,
    /// Where searches go on whose front does not fit, as this turn leaves it.
    cursors: BTreeMap<Queue, DispatchOrder>,
    /// Queues whose front was looked at first, before the search that was under way.
    resumed: HashSet<Queue>,
}

fn gate_of(queue: &Queue) -> Gate {
    queue.gate.clone().unwrap_or(Gate::Estimate)
}

impl Turn<'_> {
    pub(super) fn dispatch(&mut self) -> Need<()> {
        let mut opened = std::mem::take(&mut self.set.opened);
        let mut given = opened.clone();
        given.extend(self.set.untold.iter().map(|key| Opened::Task(*key)));
        if self.is_pass {
            self.set.need_queues()?;
            opened.push(Opened::All);
        } else if !self.set.is_complete() {
            // Where servers share a store, only what this turn made ready is tried at once; the pass that follows on
            // a later snapshot looks at everything else.
            opened.retain(|opened| matches!(opened, Opened::Task(_)));
        }
        if opened.is_empty() && self.set.unfinished.is_empty() {
            return Ok(());
        }
        self.set.need_roomy()?;
        let mut active = Active {
            cursors: self.set.cursors.clone(),
            ..Active::default()
        };
        let fresh = self.concerned(&opened)?;
        let mut concerned: BTreeSet<Queue> = fresh.union(&self.set.unfinished).cloned().collect();
        let mut left = BTreeSet::new();
        if self.is_fleet_shut()? {
            // Nothing can start, whatever it is: nobody is to be moved.
            concerned.clear();
        }
        self.with_each(concerned, |turn, queue| {
            // A search goes on where it stopped, unless something has changed for those before.
            let cursor = active.cursors.get(&queue).copied();
            let cursor = cursor.filter(|_| !fresh.contains(&queue));
            turn.push_front(&mut active, queue, cursor)
        })?;
        if !self.set.is_complete() {
            // What may stand in the way of each is loaded at once: one after the other, each would be a journey.
            let fronts: Vec<DispatchOrder> = active.fronts.iter().map(|(order, _)| *order).collect();
            self.with_each(fronts, |turn, order| {
                let task = turn.set.task(order.key)?;
                turn.gate(&task).map(drop)
            })?;
        }
        while let Some((order, queue)) = active.fronts.pop_first() {
            if active.closed.contains(&queue.class) {
                continue;
            }
            self.work_off(&mut active, order, queue.clone())?;
            if active.stopped || active.moved >= MAX_MOVED {
                left.extend(
                    std::mem::take(&mut active.fronts)
                        .into_iter()
                        .map(|(_, queue)| queue),
                );
                left.insert(queue);
                break;
            }
        }
        if self.set.wants_more() {
            // Those who are to be given something are locked first.
            return Err(Halt::Missing);
        }
        left.append(&mut active.put_off);
        active.cursors.retain(|queue, _| left.contains(queue));
        self.set.cursors_next = Some(active.cursors);
        self.set.unfinished_next = Some(left);
        // What this turn started may have opened nothing, but what it moved aside must not be forgotten.
        self.set.opened.clear();
        self.tell_first_refusals(&given)
    }

    /// Tries the front of one queue.
    fn work_off(&mut self, active: &mut Active, order: DispatchOrder, queue: Queue) -> Need<()> {
        let task = self.set.task(order.key)?;
        match self.try_start(&task)? {
            Try::Started => {
                active.moved += 1;
                if self.is_fleet_shut()? {
                    active.fronts.clear();
                    return Ok(());
                }
                self.push_front(active, queue, Some(order))
            }
            Try::NoAgent => {
                active.closed.insert(queue.class);
                Ok(())
            }
            Try::Gated(gate) if queue.gate.as_ref() == Some(&gate) => {
                if matches!(gate, Gate::Lock(_)) {
                    // The others of this queue wait for the same lock.
                    self.shut(queue);
                    return Ok(());
                }
                if !self.may_let_others_by(&task, &gate)? {
                    self.shut(queue);
                    return Ok(());
                }
                let passed = active.passed_over.entry(queue.clone()).or_default();
                *passed += 1;
                if *passed < MAX_PASSED_OVER {
                    return self.push_front(active, queue, Some(order));
                }
                *passed = 0;
                // A search that was under way goes on as well, so that repeated looks at the front do not hold it back.
                let cursor = active.cursors.get(&queue).copied();
                if let Some(cursor) = cursor.filter(|cursor| *cursor >= order)
                    && active.resumed.insert(queue.clone())
                {
                    return self.push_front(active, queue, Some(cursor));
                }
                // The next turn goes on here, so that what fits is found however much stands before it.
                active.cursors.insert(queue.clone(), order);
                active.put_off.insert(queue);
                Ok(())
            }
            Try::Gated(gate) => {
                active.moved += 1;
                let aside = Queue {
                    class: queue.class,
                    gate: Some(gate.clone()),
                };
                self.set.put_task(Task {
                    gate: Some(gate),
                    ..(*task).clone()
                });
                if !self.may_let_others_by(&task, &gate_of(&aside))? {
                    self.shut(aside);
                }
                // Of a gated queue what stands before it was passed over.
                let after = queue.gate.is_some().then_some(order);
                self.push_front(active, queue, after)
            }
        }
    }

    /// The gate of this queue is shut: it is tried again when that changes.
    fn shut(&mut self, queue: Queue) {
        if queue.gate != Some(Gate::Estimate) && self.set.open_gated.remove(&queue) {
            self.set.shut_gated.push(queue);
        }
    }

    /// Puts the first task of a queue, or the first behind `after`, among those to be tried.
    fn push_front(&mut self, active: &mut Active, queue: Queue, after: Option<DispatchOrder>) -> Need<()> {
        match self.set.queues.front(&queue, after) {
            Front::Task(order) => {
                active.fronts.insert((order, queue));
                Ok(())
            }
            Front::Empty => {
                // The search is through: the next one begins at the front.
                active.cursors.remove(&queue);
                Ok(())
            }
            Front::Unknown(bound) => {
                // A class that nobody can take is not worth loading.
                if active.closed.contains(&queue.class) || !self.has_taker(queue.class)? {
                    return Ok(());
                }
                if active.moved > 0 {
                    // Loading means to decide all of this again. What is done is done; the next turn goes on.
                    active.stopped = true;
                    return Ok(());
                }
                Err(self.set.want(|wanted| {
                    wanted.windows.insert(queue, bound);
                }))
            }
        }
    }

    /// Whether a limit of the whole fleet refuses whatever could start.
    fn is_fleet_shut(&mut self) -> Need<bool> {
        let policy = self.set.policy(&Scope::Fleet)?;
        if policy.limits.is_empty() {
            return Ok(false);
        }
        let counter = self.set.counter(&Scope::Fleet)?;
        Ok(policy
            .permits(&Scope::Fleet, &counter, Ask::default(), self.now)
            .is_err())
    }

    /// Whether some agent could take a task of this class that asks for nothing else.
    fn has_taker(&mut self, class: ClassId) -> Need<bool> {
        let class = self.set.class_by_id(class)?;
        let now = self.now;
        let fleet = self.set.fleet(now)?;
        fleet.prepare(&class);
        let ask = router::Ask {
            demand: &class.demand,
            critical: false,
            avoid: &[],
        };
        Ok(fleet.route_class(class.id, ask, &mut |_| true).is_some())
    }

    /// The queues that what was opened concerns.
    fn concerned(&mut self, opened: &[Opened]) -> Need<BTreeSet<Queue>> {
        let mut concerned = BTreeSet::new();
        let mut agents: BTreeSet<&AgentId> = BTreeSet::new();
        let mut models: BTreeSet<&ModelName> = BTreeSet::new();
        let mut all = false;
        for opened in opened {
            match opened {
                Opened::Task(key) => concerned.extend(self.set.task(*key)?.queue()),
                Opened::Agent(id) => {
                    agents.insert(id);
                }
                Opened::Gate(gate) => {
                    let mut gated = self.set.queues.gated(gate);
                    if matches!(gate, Gate::Project(_) | Gate::Repo(_)) {
                        // With an agent's own model a task may cost more than its demand tells.
                        gated.extend(self.set.queues.gated(&Gate::Estimate));
                    }
                    self.set.open_gated.extend(gated.iter().cloned());
                    concerned.extend(gated);
                }
                Opened::Model(model) => {
                    models.insert(model);
                }
                Opened::All => all = true,
            }
        }
        if all {
            let queues: Vec<Queue> = self.set.queues.waiting().cloned().collect();
            self.set
                .open_gated
                .extend(queues.iter().filter(|queue| queue.gate.is_some()).cloned());
            concerned.extend(queues);
            return Ok(concerned);
        }
        if agents.is_empty() && models.is_empty() {
            return Ok(concerned);
        }
        let now = self.now;
        let fleet = self.set.fleet(now)?;
        let profiles: BTreeSet<router::Profile> = agents
            .into_iter()
            .filter(|id| fleet.takes(id))
            .filter_map(|id| fleet.profile_of(id).cloned())
            .collect();
        if profiles.is_empty() && models.is_empty() {
            return Ok(concerned);
        }
        let candidates: Vec<Queue> = self
            .set
            .queues
            .waiting()
            .filter(|queue| match &queue.gate {
                None | Some(Gate::Estimate) => true,
                Some(_) => self.set.open_gated.contains(queue),
            })
            .cloned()
            .collect();
        for queue in candidates {
            let class = self.set.class_by_id(queue.class)?;
            let by_model = !models.is_empty()
                && class
                    .demand
                    .model
                    .as_ref()
                    .is_none_or(|model| models.contains(model));
            if by_model || profiles.iter().any(|profile| profile.serves(&class.demand)) {
                concerned.insert(queue);
            }
        }
        Ok(concerned)
    }

    // ---- one task ------------------------------------------------------------------------------------------------

    fn try_start(&mut self, task: &Task) -> Need<Try> {
        if let Some(gate) = self.gate(task)? {
            return Ok(Try::Gated(gate));
        }
        let Some(agent) = self.route(task)? else {
            // A task of the class that asks for less might find one: then only what this one asks for is in the way.
            if (task.estimated_tokens > 0 || task.produces.is_some()) && self.has_taker(task.class.id)? {
                return Ok(Try::Gated(Gate::Estimate));
            }
            return Ok(Try::NoAgent);
        };
        if self.set.is_mere_candidate(&agent) {
            self.set.choose(&agent);
            return Ok(Try::Started);
        }
        let row = self.registered(&agent)?;
        self.start(task, &agent, Some(&row), false)?;
        Ok(Try::Started)
    }

    /// What is in the way beside an agent: a lock, or a limit of the task's own scopes.
    fn gate(&mut self, task: &Task) -> Need<Option<Gate>> {
        if let Some((lock, _)) = self.lock_in_the_way(task)? {
            return Ok(Some(Gate::Lock(lock)));
        }
        Ok(self.shared_refusal(task)?.map(|(gate, _)| gate))
    }

    /// The first limit of repository, project or fleet that refuses a task, whoever takes it.
    pub(super) fn shared_refusal(&mut self, task: &Task) -> Need<Option<(Gate, LimitRefusal)>> {
        let hold = self.hold_for(task, task.class.demand.model.as_ref())?;
        let ask = Ask {
            tokens: hold.tokens,
            cost: hold.cost,
            produces: task.produces,
        };
        let scopes = [
            task.repo
                .clone()
                .map(|repo| (Gate::Repo(repo.clone()), Scope::Repo(repo))),
            task.project
                .clone()
                .map(|project| (Gate::Project(project.clone()), Scope::Project(project))),
            Some((Gate::Fleet, Scope::Fleet)),
        ];
        for (gate, scope) in scopes.into_iter().flatten() {
            let policy = self.set.policy(&scope)?;
            if policy.limits.is_empty() && policy.cooldown_after_failure.is_zero() {
                continue;
            }
            let counter = self.set.counter(&scope)?;
            if let Err(refusal) = policy.permits(&scope, &counter, ask, self.now) {
                return Ok(Some((gate, *refusal)));
            }
        }
        Ok(None)
    }

    /// Whether a task that asks for less than this one might pass the gate that stops it.
    fn may_let_others_by(&mut self, task: &Task, gate: &Gate) -> Need<bool> {
        match gate {
            Gate::Estimate => Ok(true),
            Gate::Lock(_) => Ok(false),
            Gate::Fleet | Gate::Project(_) | Gate::Repo(_) => {
                let modest = Task {
                    estimated_tokens: 0,
                    produces: None,
                    ..task.clone()
                };
                // Another limit may refuse even that: but not for everyone in this queue.
                Ok(self.shared_refusal(&modest)?.is_none_or(|(own, _)| own != *gate))
            }
        }
    }

    /// The best agent for a task that limits permit.
    fn route(&mut self, task: &Task) -> Need<Option<AgentId>> {
        let mut refused: HashSet<AgentId> = HashSet::new();
        let now = self.now;
        let hold = self.hold_for(task, task.class.demand.model.as_ref())?;
        let needs = Ask {
            tokens: hold.tokens,
            cost: hold.cost,
            produces: task.produces,
        };
        loop {
            let ask = router::Ask {
                demand: &task.class.demand,
                critical: task.priority == Priority::Critical,
                avoid: &task.failed_on,
            };
            let found = self.set.route(&task.class, ask, needs, &refused, now)?;
            let Some(id) = found else { return Ok(None) };
            if self.set.is_mere_candidate(&id) {
                // What it may use is looked at again when it is locked.
                return Ok(Some(id));
            }
            let agent = self.registered(&id)?;
            let model = agent.model_for(task.class.demand.model.as_ref()).cloned();
            match self.permits(task, &id, model.as_ref())? {
                Ok(()) => return Ok(Some(id)),
                Err(_) => refused.insert(id),
            };
        }
    }

    /// Whether every scope of a dispatch permits it: the one check of dispatch and claim.
    pub(super) fn permits(
        &mut self,
        task: &Task,
        agent: &AgentId,
        model: Option<&ModelName>,
    ) -> Need<Result<(), Box<LimitRefusal>>> {
        let agent_scope = Scope::Agent(agent.clone());
        let policy = self.set.policy(&agent_scope)?;
        if let Err(refusal) = policy.allows_model(&agent_scope, model) {
            return Ok(Err(refusal));
        }
        let hold = self.hold_for(task, model)?;
        let ask = Ask {
            tokens: hold.tokens,
            cost: hold.cost,
            produces: task.produces,
        };
        let scopes = [
            Some(agent_scope),
            task.repo.clone().map(Scope::Repo),
            task.project.clone().map(Scope::Project),
            model.cloned().map(Scope::Model),
            Some(Scope::Fleet),
        ];
        let mut first = None;
        for scope in scopes.into_iter().flatten() {
            let policy = self.set.policy(&scope)?;
            if policy.limits.is_empty() && policy.cooldown_after_failure.is_zero() {
                continue;
            }
            let counter = self.set.counter(&scope)?;
            if let Err(refusal) = policy.permits(&scope, &counter, ask, self.now) {
                if refusal.too_large {
                    return Ok(Err(refusal));
                }
                first.get_or_insert(refusal);
            }
        }
        Ok(first.map_or(Ok(()), Err))
    }

    // ---- locks ---------------------------------------------------------------------------------------------------

    /// A lock that keeps a task from starting, and why: it is taken, or an earlier task wants it that lacks nothing
    /// but locks. Without the second a task that wants two locks could wait for ever.
    pub(super) fn lock_in_the_way(&mut self, task: &Task) -> Need<Option<(LockName, String)>> {
        for lock in task.locks.iter() {
            if let Some(holder) = self.set.lock_holder(lock)? {
                let holder = self.set.task(holder.task)?;
                return Ok(Some((lock.clone(), format!("is held by task `{}`", holder.id))));
            }
        }
        for lock in task.locks.iter() {
            let mut after = None;
            for _ in 0..MAX_WANTERS {
                let order = match self.set.queues.wanters(lock, after) {
                    Front::Task(order) if order < task.order() => order,
                    Front::Task(_) | Front::Empty => break,
                    Front::Unknown(bound) => {
                        return Err(self.set.want(|wanted| {
                            wanted.wanters.insert(lock.clone(), bound);
                        }));
                    }
                };
                after = Some(order);
                let earlier = self.set.task(order.key)?;
                if self.lacks_only_locks(&earlier)? {
                    let why = format!("is wanted by the earlier task `{}`", earlier.id);
                    return Ok(Some((lock.clone(), why)));
                }
            }
        }
        Ok(None)
    }

    fn lacks_only_locks(&mut self, task: &Task) -> Need<bool> {
        Ok(self.shared_refusal(task)?.is_none() && self.route(task)?.is_some())
    }

    // ---- first refusals ------------------------------------------------------------------------------------------

    /// Tells once for each task when its first try found nobody.
    fn tell_first_refusals(&mut self, opened: &[Opened]) -> Need<()> {
        let ready: Vec<TaskKey> = opened
            .iter()
            .filter_map(|opened| match opened {
                Opened::Task(key) => Some(*key),
                _ => None,
            })
            .collect();
        for key in ready {
            let task = self.set.task(key)?;
            let Some(queue) = task.queue().filter(|_| !task.refusal_told) else {
                continue;
            };
            if self
                .set
                .unfinished_next
                .as_ref()
                .is_some_and(|left| left.contains(&queue))
            {
                // It was not tried yet.
                self.set.opened_next.push(key);
                continue;
            }
            let Some(waiting) = self.waiting(&task)? else {
                continue;
            };
            let kind = match waiting.reason {
                WaitingReason::NoAgents | WaitingReason::NoCapableAgent | WaitingReason::AllBusy => {
                    EventKind::DispatchFailedNoAgent
                }
                WaitingReason::RepoLimit | WaitingReason::ModelQuota | WaitingReason::Quota => {
                    EventKind::DispatchFailedQuota
                }
                _ => continue,
            };
            let task = self.set.put_task(Task {
                refusal_told: true,
                ..(*task).clone()
            });
            let payload = vec![
                ("reason", Value::Text(waiting.reason.name().into())),
                ("detail", Value::Text(waiting.detail)),
            ];
            self.set.emit(kind, Some(&task), None, self.now, payload);
        }
        Ok(())
    }
}
