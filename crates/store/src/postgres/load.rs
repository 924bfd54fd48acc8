//! Loading: the rows that a turn asks for, locked.
//!
//! What is named is locked in one order by everybody: idempotency keys, tasks, attempts, jobs, webhooks, locks, agents,
//! scopes; by key within each. What is not there cannot be locked: whoever makes it is second to none because of a unique
//! index, and a second one is turned back and decides again. Scopes without limits are not locked: what was used of
//! them is added at the end of the turn, which is turned back if a limit was set meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use adjutant_core::agent::Agent;
use adjutant_core::attempt::AttemptKey;
use adjutant_core::experience::Experience;
use adjutant_core::limit::Scope;
use adjutant_core::name::AgentId;
use adjutant_core::set::queues::WINDOW_STRETCH;
use adjutant_core::set::rows::{Dependents, Due, MAX_DUE, MAX_FANOUT, Onlooker, ReplayKey, Rows, Wanted};
use adjutant_core::task::{ClassId, DispatchOrder, Status, TaskKey};
use adjutant_core::time::Timestamp;
use tokio_postgres::Row;

use super::codec::{
    class_of, column, order_of, rank, read_accounts, read_agent, read_attempt, read_attempt_key,
    read_counter, read_delivery, read_order, read_policy, read_replay, read_task, read_webhook, scope,
};
use super::presence::Presence;
use super::session::{Batch, Frame, IMPATIENT, Session, Value};
use super::statements::Sql;
use super::{Classes, Failure, Seen};
use crate::encoding::{self, int};

/// The tasks that wait in a queue are counted up to here.
const MAX_COUNTED: i64 = 128;

/// However few could be taken: some may have to step aside.
const LEAST_STRETCH: usize = 16;
/// However many could be taken: a turn starts no more than that.
const LONGEST_STRETCH: usize = 256;

/// What a load needs beside what is wanted, and what it leaves behind.
pub(super) struct Loading<'a> {
    pub(super) session: &'a mut Session,
    pub(super) classes: &'a mut Classes,
    pub(super) presence: &'a mut Presence,
    pub(super) seen: &'a mut HashMap<Scope, Seen>,
    /// Whether scopes without limits are locked as well.
    pub(super) careful: bool,
    pub(super) frame: Frame,
    /// What time it is there.
    pub(super) now: Timestamp,
    /// How many tasks the agents of this turn could take, as far as is known.
    pub(super) places: &'a mut Option<usize>,
    /// The tasks that it has given.
    pub(super) given: BTreeSet<i64>,
}

/// The places of the answers in a batch.
#[derive(Default)]
struct Places {
    replays: Option<usize>,
    tasks: Option<usize>,
    attempts: Option<usize>,
    lines: Option<usize>,
    jobs: Option<usize>,
    webhooks: Option<usize>,
    deliveries: Option<usize>,
    experiences: Option<usize>,
    locks: Option<usize>,
    agents: Option<usize>,
    scopes: Option<usize>,
    claims: Option<usize>,
    classes: Option<usize>,
    windows: Option<usize>,
    /// So many tasks of each were asked for, and one more.
    stretch: usize,
    wanters: Vec<usize>,
    dependents: Vec<usize>,
    queues: Option<usize>,
    roomy: Option<usize>,
    takers: Option<usize>,
    everyone: Option<usize>,
    due: Option<usize>,
}

fn texts(items: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

fn behind(after: Option<DispatchOrder>) -> (i16, i64) {
    after.map_or((-1, 0), |after| (rank(after.priority), after.key.0))
}

fn pairs(keys: &BTreeSet<AttemptKey>) -> (Vec<i64>, Vec<i64>) {
    keys.iter().map(|key| (key.task.0, i64::from(key.number))).unzip()
}

impl Loading<'_> {
    pub(super) fn load(mut self, wanted: &Wanted) -> Result<Rows, Failure> {
        let (batch, places) = self.ask(wanted);
        let frame = self.frame;
        let answers = self.session.run(|live| live.send(frame, batch))?;
        let mut rows = Rows::default();
        self.read_now(&answers, &mut rows)?;
        self.named(&answers, &places, &mut rows)?;
        if let Some(place) = places.takers {
            self.takers(wanted, &answers[place..place + 3], &mut rows)?;
        }
        for scope in &wanted.scopes {
            self.seen.entry(scope.clone()).or_default();
        }
        if let Some(place) = places.claims {
            let mut claimed = Vec::with_capacity(answers[place].len());
            for row in &answers[place] {
                claimed.push(column(row, 0)?);
            }
            self.tasks_by_key(claimed, &mut rows)?;
        }
        self.attempts_with(wanted, &mut rows)?;
        self.lists(wanted, &answers, &places, &mut rows)?;
        if let Some(place) = places.due {
            self.due(wanted, &answers[place..], &mut rows)?;
        }
        let dependents: Vec<i64> = rows
            .dependents
            .iter()
            .flat_map(|page| &page.list)
            .map(|(dependent, _)| dependent.0)
            .collect();
        self.tasks_by_key(dependents, &mut rows)?;
        // One that was forgotten meanwhile depends on nothing any more.
        for page in &mut rows.dependents {
            page.list
                .retain(|(dependent, _)| self.given.contains(&dependent.0));
        }
        Ok(rows)
    }

    fn tasks_by_key(&mut self, keys: Vec<i64>, rows: &mut Rows) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.ask(
            Sql::LockTasks,
            vec![Box::new(keys), Box::new(Vec::<String>::new())],
        );
        let answers = self.more_locked(batch, rows)?;
        self.tasks(&answers[0], rows)
    }

    /// Locks more. Whoever had it locked may have ended later than it was when this load began.
    fn more_locked(&mut self, mut batch: Batch, rows: &mut Rows) -> Result<Vec<Vec<Row>>, Failure> {
        batch.ask(Sql::Now, vec![Box::new(IMPATIENT)]);
        let answers = self.more(batch)?;
        self.read_now(&answers, rows)?;
        Ok(answers)
    }

    /// What time it is there, and the newest key: the last answer.
    fn read_now(&mut self, answers: &[Vec<Row>], rows: &mut Rows) -> Result<(), Failure> {
        if let Some([row]) = answers.last().map(Vec::as_slice) {
            self.now = Timestamp::from_micros(column(row, 0)?);
            rows.latest = Some(self.now);
            rows.newest = Some(TaskKey(column::<Option<i64>>(row, 2)?.unwrap_or(0)));
        }
        Ok(())
    }

    fn more(&mut self, batch: Batch) -> Result<Vec<Vec<Row>>, Failure> {
        self.session.go_on(|live| live.send(Frame::Within, batch))
    }

    fn ask(&self, wanted: &Wanted) -> (Batch, Places) {
        let mut batch = Batch::default();
        let mut places = Places::default();
        if !wanted.idempotency.is_empty() {
            let (tokens, keys): (Vec<_>, Vec<_>) = wanted
                .idempotency
                .iter()
                .map(|key| (key.token.to_string(), key.key.to_string()))
                .unzip();
            places.replays = Some(batch.ask(Sql::LockReplays, vec![Box::new(tokens), Box::new(keys)]));
        }
        if !wanted.tasks.is_empty() || !wanted.task_ids.is_empty() {
            let keys: Vec<i64> = wanted.tasks.iter().map(|key| key.0).collect();
            let ids = texts(&wanted.task_ids);
            places.tasks = Some(batch.ask(Sql::LockTasks, vec![Box::new(keys), Box::new(ids)]));
        }
        if !wanted.attempts.is_empty() {
            let (tasks, numbers) = pairs(&wanted.attempts);
            places.attempts = Some(batch.ask(Sql::LockAttempts, vec![Box::new(tasks), Box::new(numbers)]));
        }
        if !wanted.accounts.is_empty() {
            let (tasks, numbers) = pairs(&wanted.accounts);
            places.lines = Some(batch.ask(Sql::Lines, vec![Box::new(tasks), Box::new(numbers)]));
        }
        if !wanted.jobs.is_empty() {
            let ids = texts(&wanted.jobs);
            places.jobs = Some(batch.ask(Sql::LockJobs, vec![Box::new(ids)]));
        }
        if !wanted.webhooks.is_empty() {
            let names = texts(&wanted.webhooks);
            places.webhooks = Some(batch.ask(Sql::LockWebhooks, vec![Box::new(names)]));
        }
        if !wanted.deliveries.is_empty() {
            let (names, seqs): (Vec<_>, Vec<_>) = wanted
                .deliveries
                .iter()
                .map(|key| (key.webhook.to_string(), int(key.seq)))
                .unzip();
            places.deliveries = Some(batch.ask(Sql::Deliveries, vec![Box::new(names), Box::new(seqs)]));
        }
        if !wanted.experiences.is_empty() {
            let (labels, models): (Vec<_>, Vec<_>) = wanted
                .experiences
                .iter()
                .map(encoding::kind)
                .map(|(labels, model)| (labels, model.to_owned()))
                .unzip();
            places.experiences = Some(batch.ask(Sql::Experiences, vec![Box::new(labels), Box::new(models)]));
        }
        if !wanted.locks.is_empty() {
            let names = texts(&wanted.locks);
            places.locks = Some(batch.ask(Sql::LockLocks, vec![Box::new(names)]));
        }
        if !wanted.agents.is_empty() {
            let ids = texts(&wanted.agents);
            places.agents = Some(batch.ask(Sql::LockAgents, vec![Box::new(ids)]));
        }
        if !wanted.scopes.is_empty() {
            let names = texts(&wanted.scopes);
            places.scopes = Some(batch.ask(Sql::Scopes, vec![Box::new(names), Box::new(self.careful)]));
        }
        if !wanted.claims.is_empty() {
            places.claims = Some(batch.ask(
                Sql::Claims,
                vec![
                    Box::new(texts(&wanted.claims)),
                    Box::new(i16::from(Status::InProgress.code())),
                ],
            ));
        }
        let unknown: Vec<i64> = wanted
            .classes
            .iter()
            .filter(|id| self.classes.find(**id).is_none())
            .map(|id| id.0)
            .collect();
        if !unknown.is_empty() {
            places.classes = Some(batch.ask(Sql::ClassesById, vec![Box::new(unknown)]));
        }
        self.ask_lists(wanted, &mut batch, &mut places);
        batch.ask(Sql::Now, vec![Box::new(IMPATIENT)]);
        (batch, places)
    }

    /// Whatever is there. What is taken here is taken only where nobody else has it, so that nobody is waited for.
    fn ask_lists(&self, wanted: &Wanted, batch: &mut Batch, places: &mut Places) {
        places.stretch = self.stretch();
        let stretch = int(WINDOW_STRETCH as u64);
        if !wanted.windows.is_empty() {
            let (mut classes, mut gates) = (Vec::new(), Vec::new());
            let (mut priorities, mut keys) = (Vec::new(), Vec::new());
            for (queue, after) in &wanted.windows {
                let (priority, key) = behind(*after);
                classes.push(queue.class.0);
                gates.push(encoding::gate(queue.gate.as_ref()));
                priorities.push(priority);
                keys.push(key);
            }
            let values = || -> Vec<Value> {
                vec![
                    Box::new(classes.clone()),
                    Box::new(gates.clone()),
                    Box::new(priorities.clone()),
                    Box::new(keys.clone()),
                    Box::new(int(places.stretch as u64 + 1)),
                ]
            };
            places.windows = Some(batch.ask(Sql::LockWindows, values()));
            batch.ask(Sql::Windows, values());
        }
        for (lock, after) in &wanted.wanters {
            let (priority, key) = behind(*after);
            places.wanters.push(batch.ask(
                Sql::Wanters,
                vec![
                    Box::new(lock.as_str().to_owned()),
                    Box::new(priority),
                    Box::new(key),
                    Box::new(stretch + 1),
                ],
            ));
        }
        for (of, after) in &wanted.dependents {
            places.dependents.push(batch.ask(
                Sql::Dependents,
                vec![
                    Box::new(of.0),
                    Box::new(after.0),
                    Box::new(int(MAX_FANOUT as u64 + 1)),
                ],
            ));
        }
        if wanted.queues {
            places.queues = Some(batch.ask(Sql::Queues, vec![Box::new(MAX_COUNTED)]));
        }
        if wanted.roomy {
            places.roomy = Some(batch.ask(Sql::Roomy, Vec::new()));
        }
        if !wanted.takers.is_empty() {
            let names = texts(wanted.takers.iter().cloned().map(Scope::Agent));
            places.takers = Some(batch.ask(Sql::LockTakers, vec![Box::new(texts(&wanted.takers))]));
            batch.ask(Sql::LockTakersScopes, vec![Box::new(names.clone())]);
            batch.ask(Sql::ScopeNames, vec![Box::new(names)]);
        }
        if wanted.everyone {
            places.everyone = Some(batch.ask(Sql::Everyone, Vec::new()));
        }
        if let Some(until) = wanted.due {
            places.due = Some(batch.ask(Sql::Due, vec![Box::new(int(MAX_DUE as u64 + 1))]));
            let since = wanted.silent_since.unwrap_or(Timestamp::EPOCH);
            batch.ask(Sql::Silent, vec![Box::new(since.as_micros())]);
            batch.ask(Sql::Lingering, vec![Box::new(until.as_micros())]);
        }
    }

    /// As many tasks of a queue as may find an agent in this turn: they are locked, and others pass them over.
    fn stretch(&self) -> usize {
        self.places.map_or(WINDOW_STRETCH, |places| {
            places.clamp(LEAST_STRETCH, LONGEST_STRETCH)
        })
    }

    /// An agent that this turn deals with could take so many.
    fn count_places(&mut self, agent: &Agent) {
        let room = match agent.max_load {
            0 => LONGEST_STRETCH,
            most => usize::try_from(most).unwrap_or(LONGEST_STRETCH),
        };
        *self.places = Some(self.places.unwrap_or(0).saturating_add(room));
    }

    fn named(&mut self, answers: &[Vec<Row>], places: &Places, rows: &mut Rows) -> Result<(), Failure> {
        let of = |place: Option<usize>| place.map_or(&[][..], |place| answers[place].as_slice());
        for row in of(places.replays) {
            let key = ReplayKey {
                token: row.try_get::<_, &str>(0)?.into(),
                key: row.try_get::<_, &str>(1)?.into(),
            };
            rows.idempotency.push((key, read_replay(row, 2)?));
        }
        self.tasks(of(places.tasks), rows)?;
        for row in of(places.attempts) {
            rows.attempts.push(read_attempt(row)?);
        }
        rows.accounts = read_accounts(of(places.lines))?;
        for row in of(places.jobs) {
            rows.jobs
                .push((row.try_get::<_, &str>(0)?.into(), read_attempt_key(row, 1)?));
        }
        for row in of(places.webhooks) {
            rows.webhooks.push(Arc::new(read_webhook(row)?));
        }
        for row in of(places.deliveries) {
            rows.deliveries.push(read_delivery(row)?);
        }
        for row in of(places.experiences) {
            let broken = |why| Failure::Broken(format!("experience: {why}"));
            let kind = encoding::read_kind(row.try_get(0)?, row.try_get(1)?).map_err(broken)?;
            let samples = encoding::read_json(row.try_get(2)?).map_err(broken)?;
            rows.experiences.push((kind, Arc::new(Experience { samples })));
        }
        for row in of(places.locks) {
            rows.locks
                .push((row.try_get::<_, &str>(0)?.into(), read_attempt_key(row, 1)?));
        }
        for row in of(places.agents) {
            let agent = self.agent(row)?;
            self.count_places(&agent);
            rows.agents.push(Arc::new(agent));
        }
        for row in of(places.scopes) {
            self.scope(row, column(row, 4)?, rows)?;
        }
        for row in of(places.classes) {
            self.classes.add(row)?;
        }
        Ok(())
    }

    /// What goes with what was named, and is sure to be asked for next: the open attempts of agents and of tasks, with
    /// their tasks and ledger lines.
    fn attempts_with(&mut self, wanted: &Wanted, rows: &mut Rows) -> Result<(), Failure> {
        let mut keys = BTreeSet::new();
        let mut more_tasks = BTreeSet::new();
        for key in rows.agents.iter().flat_map(|agent| &agent.attempts) {
            keys.insert(*key);
            more_tasks.insert(key.task.0);
        }
        for task in &rows.tasks {
            if task.status == Status::InProgress {
                keys.insert(AttemptKey {
                    task: task.key,
                    number: task.attempt,
                });
            }
            more_tasks.remove(&task.key.0);
        }
        keys.retain(|key| !wanted.attempts.contains(key));
        if keys.is_empty() {
            return Ok(());
        }
        let (of_tasks, numbers) = pairs(&keys);
        keys.retain(|key| !wanted.accounts.contains(key));
        let (of_accounts, account_numbers) = pairs(&keys);
        let mut batch = Batch::default();
        let more_tasks: Vec<i64> = more_tasks.into_iter().collect();
        batch.ask(
            Sql::LockTasks,
            vec![Box::new(more_tasks), Box::new(Vec::<String>::new())],
        );
        batch.ask(Sql::LockAttempts, vec![Box::new(of_tasks), Box::new(numbers)]);
        batch.ask(Sql::Lines, vec![Box::new(of_accounts), Box::new(account_numbers)]);
        let answers = self.more_locked(batch, rows)?;
        self.tasks(&answers[0], rows)?;
        for row in &answers[1] {
            rows.attempts.push(read_attempt(row)?);
        }
        rows.accounts.extend(read_accounts(&answers[2])?);
        Ok(())
    }

    fn agent(&mut self, row: &Row) -> Result<Agent, Failure> {
        let (agent, home, vouched_at) = read_agent(row)?;
        Ok(self.presence.meet(agent, home, vouched_at, self.now))
    }

    /// `name, version, policy, counter`.
    fn scope(&mut self, row: &Row, locked: bool, rows: &mut Rows) -> Result<(), Failure> {
        let (scope, mut seen) = read_scope(row)?;
        seen.locked = locked;
        if let Some(policy) = &seen.policy {
            rows.policies.push((scope.clone(), Arc::clone(policy)));
        }
        rows.counters.extend(seen.counter.clone());
        self.seen.insert(scope, seen);
        Ok(())
    }

    fn lists(
        &mut self,
        wanted: &Wanted,
        answers: &[Vec<Row>],
        places: &Places,
        rows: &mut Rows,
    ) -> Result<(), Failure> {
        let [mut locked, mut all] = places
            .windows
            .map_or([&[][..], &[][..]], |place| [&answers[place], &answers[place + 1]]);
        for (number, (queue, _)) in (1_i64..).zip(&wanted.windows) {
            let (locked, all) = (take_place(&mut locked, number)?, take_place(&mut all, number)?);
            let mut orders = Vec::with_capacity(locked.len());
            for row in locked {
                orders.push(order_of(row)?);
            }
            let is_last = orders.len() <= places.stretch;
            orders.truncate(places.stretch);
            self.tasks(&locked[..orders.len()], rows)?;
            let given: BTreeSet<i64> = orders.iter().map(|order| order.key.0).collect();
            let mut behind = false;
            for (place, row) in all.iter().enumerate() {
                let is_passed_over = !given.contains(&column(row, 0)?);
                rows.skipped |= is_passed_over && place < orders.len().max(1);
                behind = is_passed_over;
            }
            // What others hold behind the last that is given is told to whoever gets so far, and asks for more.
            let complete = is_last && (orders.is_empty() || !behind);
            rows.windows.push((queue.clone(), orders, complete));
        }
        for ((lock, _), place) in wanted.wanters.iter().zip(&places.wanters) {
            let mut orders = Vec::new();
            for row in &answers[*place] {
                orders.push(read_order(row, 0)?);
            }
            let complete = orders.len() <= WINDOW_STRETCH;
            orders.truncate(WINDOW_STRETCH);
            rows.wanters.push((lock.clone(), orders, complete));
        }
        for ((of, after), place) in wanted.dependents.iter().zip(&places.dependents) {
            let mut list = Vec::new();
            for row in &answers[*place] {
                let state = u8::try_from(column::<i16>(row, 1)?).unwrap_or(u8::MAX);
                let state = encoding::read_dependency(state).map_err(Failure::Broken)?;
                list.push((TaskKey(column(row, 0)?), state));
            }
            let more = list.len() > MAX_FANOUT;
            list.truncate(MAX_FANOUT);
            rows.dependents.push(Dependents {
                of: *of,
                after: *after,
                list,
                more,
            });
        }
        for row in places.queues.map_or(&[][..], |place| &answers[place]) {
            let gate = encoding::read_gate(row.try_get(1)?).map_err(Failure::Broken)?;
            let queue = adjutant_core::task::Queue {
                class: ClassId(column(row, 0)?),
                gate,
            };
            rows.queues.push((queue, column::<i64>(row, 2)?.unsigned_abs()));
        }
        for row in places.roomy.map_or(&[][..], |place| &answers[place]) {
            let onlooker = self.onlooker(row)?;
            self.count_places(&onlooker.agent);
            rows.roomy.push(onlooker);
        }
        for row in places.everyone.map_or(&[][..], |place| &answers[place]) {
            let onlooker = self.onlooker(row)?;
            rows.onlookers.push(onlooker);
        }
        self.classes(wanted, rows)
    }

    /// An agent with what is set and used for it, as it is.
    fn onlooker(&mut self, row: &Row) -> Result<Onlooker, Failure> {
        let agent = self.agent(row)?;
        let scope = Scope::Agent(agent.id.clone());
        Ok(Onlooker {
            agent: Arc::new(agent),
            policy: row.try_get::<_, Option<&str>>(6)?.map(read_policy).transpose()?,
            counter: row
                .try_get::<_, Option<Vec<i64>>>(7)?
                .map(|numbers| read_counter(&scope, &numbers))
                .transpose()?,
        })
    }

    /// Classes that are asked for by what they are: the store has made those that were new.
    fn classes(&self, wanted: &Wanted, rows: &mut Rows) -> Result<(), Failure> {
        for demand in &wanted.demands {
            let class = self.classes.of(demand);
            rows.classes.push(Arc::clone(
                class.ok_or_else(|| Failure::Broken("a class that was made is not there".into()))?,
            ));
        }
        for id in &wanted.classes {
            rows.classes.extend(self.classes.find(*id).cloned());
        }
        Ok(())
    }

    /// Agents that are to be given something, each with its scope. One that another server has, or whose scope it has,
    /// is left out.
    fn takers(&mut self, wanted: &Wanted, answers: &[Vec<Row>], rows: &mut Rows) -> Result<(), Failure> {
        let [locked, scopes, names] = answers else {
            return Ok(());
        };
        let mut held: HashMap<Scope, &Row> = HashMap::new();
        for row in scopes {
            held.insert(scope(row.try_get(0)?)?, row);
        }
        let mut with_scope: BTreeSet<Scope> = BTreeSet::new();
        for row in names {
            with_scope.insert(scope(row.try_get(0)?)?);
        }
        let mut given = 0;
        for row in locked {
            let agent = self.agent(row)?;
            let scope = Scope::Agent(agent.id.clone());
            let before = self.seen.get(&scope).map(|seen| (seen.exists, seen.version));
            match held.get(&scope) {
                Some(row) => self.scope(row, true, rows)?,
                None if with_scope.contains(&scope) => continue,
                None => {}
            }
            let seen = self.seen.get(&scope).map(|seen| (seen.exists, seen.version));
            if before.is_some() && before != seen {
                // This turn was told something else of it before, without a lock.
                return Err(Failure::Changed(format!("what is set for {scope}")));
            }
            given += 1;
            rows.agents.push(Arc::new(agent));
            // What is set and used for it may also be nothing: that absence is known as well.
            self.seen.entry(scope.clone()).or_default();
            rows.known_scopes.push(scope);
        }
        rows.skipped |= given < wanted.takers.len();
        Ok(())
    }

    fn due(&self, wanted: &Wanted, answers: &[Vec<Row>], rows: &mut Rows) -> Result<(), Failure> {
        let until = wanted.due.unwrap_or(Timestamp::EPOCH);
        let mut due = Due::default();
        for row in &answers[0] {
            let at = Timestamp::from_micros(column(row, 1)?);
            if at > until || due.tasks.len() == MAX_DUE {
                due.next = Some(at);
                break;
            }
            due.tasks.push(TaskKey(column(row, 0)?));
        }
        let since = wanted.silent_since.unwrap_or(Timestamp::EPOCH);
        for row in &answers[1] {
            let id = AgentId::from(row.try_get::<_, &str>(0)?);
            let stored = Timestamp::from_micros(column(row, 1)?);
            let vouched_at: Option<i64> = column(row, 3)?;
            let seen = self.presence.last_seen(
                &id,
                stored,
                column(row, 2)?,
                vouched_at.map(Timestamp::from_micros),
                self.now,
            );
            if seen <= since {
                due.silent.push(id);
            }
        }
        for row in &answers[2] {
            due.lingering.push(read_attempt_key(row, 0)?);
        }
        rows.due = Some(due);
        Ok(())
    }

    /// Tasks, each once, with the classes that their numbers stand for.
    fn tasks(&mut self, found: &[Row], rows: &mut Rows) -> Result<(), Failure> {
        let mut unknown = BTreeSet::new();
        for row in found {
            let class = class_of(row)?;
            if self.classes.find(class).is_none() {
                unknown.insert(class.0);
            }
        }
        if !unknown.is_empty() {
            let mut batch = Batch::default();
            batch.ask(
                Sql::ClassesById,
                vec![Box::new(unknown.into_iter().collect::<Vec<i64>>())],
            );
            for row in self.more(batch)?.iter().flatten() {
                self.classes.add(row)?;
            }
        }
        for row in found {
            if !self.given.insert(column(row, 0)?) {
                continue;
            }
            let class = class_of(row)?;
            let class = self
                .classes
                .find(class)
                .ok_or_else(|| Failure::Broken(format!("task.class: there is no class {}", class.0)))?;
            rows.tasks.push(read_task(row, class)?);
        }
        Ok(())
    }
}

/// Of rows that are in order of their last column, a place: those of the next one.
fn take_place<'a>(rows: &mut &'a [Row], place: i64) -> Result<&'a [Row], Failure> {
    let mut count = 0;
    while let Some(row) = rows.get(count)
        && column::<i64>(row, row.len() - 1)? == place
    {
        count += 1;
    }
    let (taken, rest) = rows.split_at(count);
    *rows = rest;
    Ok(taken)
}

/// `name, version, policy, counter`.
pub(super) fn read_scope(row: &Row) -> Result<(Scope, Seen), Failure> {
    let scope = scope(row.try_get(0)?)?;
    let seen = Seen {
        version: column(row, 1)?,
        exists: true,
        locked: true,
        policy: row.try_get::<_, Option<&str>>(2)?.map(read_policy).transpose()?,
        counter: row
            .try_get::<_, Option<Vec<i64>>>(3)?
            .map(|numbers| read_counter(&scope, &numbers))
            .transpose()?,
    };
    Ok((scope, seen))
}
