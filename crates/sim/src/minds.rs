//! Minds: what simulated agents believe, and what they say.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use adjutant_core::access::{Actor, Power, Role};
use adjutant_core::attempt::Tokens;
use adjutant_core::command::{
    Command, Completion, NewAgent, Running, Sync, SyncAnswer, UsageEvent, UsageReport,
};
use adjutant_core::money::Money;
use adjutant_core::name::{AgentId, Label, ModelName, TaskId};
use adjutant_core::time::{Span, Timestamp};

use crate::step::{Dice, Lie};

/// How many agents there are.
pub(crate) const AGENTS: usize = 5;
/// What agents may be able to do.
pub(crate) const LABELS: [&str; 3] = ["go", "rust", "docs"];
/// What agents may run.
pub(crate) const MODELS: [&str; 2] = ["small", "large"];
/// How many old attempts a mind remembers, to report on them when it should not.
const GHOSTS: usize = 8;

/// An attempt as an agent knows it.
pub(crate) type Job = (TaskId, u32);

/// What one agent believes.
#[derive(Debug, Default)]
pub(crate) struct Mind {
    number: usize,
    session: u32,
    n: u64,
    /// What it runs.
    pub(crate) running: BTreeSet<Job>,
    /// What it finished, until that is acknowledged.
    done: Vec<Completion>,
    /// What it once ran.
    ghosts: Vec<Job>,
    /// Totals that it reported.
    spent: HashMap<Job, u64>,
}

/// Names an agent.
pub(crate) fn agent_id(number: usize) -> AgentId {
    format!("agent{number}").into()
}

/// The names whose bits are set.
pub(crate) fn pick<T: for<'a> From<&'a str>>(names: &[&str], bits: usize) -> Vec<T> {
    names
        .iter()
        .enumerate()
        .filter(|(index, _)| bits >> index & 1 == 1)
        .map(|(_, name)| T::from(name))
        .collect()
}

impl Mind {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    pub(crate) fn id(&self) -> AgentId {
        agent_id(self.number)
    }

    /// Who speaks when it does.
    pub(crate) fn actor(&self) -> Actor {
        Actor {
            name: format!("token-of-{}", self.number).into(),
            power: Power::Roles([Role::Agent(self.id())].into()),
        }
    }

    fn session(&self) -> Arc<str> {
        format!("{}-{}", self.number, self.session).into()
    }

    /// Registers, as a new process where it `restarts`. One that can do everything is for the end of a run.
    pub(crate) fn register(&mut self, restarts: bool, able: bool, dice: &mut Dice) -> Command {
        if restarts {
            self.haunt_all();
            self.session += 1;
            self.n = 0;
            self.done.clear();
        }
        let capabilities = if able { 7 } else { dice.below(8) };
        let models = if able { 0 } else { dice.of(&[0, 0, 1, 2, 3]) };
        Command::Register(NewAgent {
            id: self.id(),
            name: "an agent".into(),
            capabilities: pick::<Label>(&LABELS, capabilities).into(),
            models: pick::<ModelName>(&MODELS, models).into(),
            // The load of one agent changes at times; lowering it below what runs is allowed.
            max_load: u32::try_from([2, 3, 1, 0, 3 + usize::from(dice.chance(20))][self.number]).unwrap_or(0),
            metadata: None,
            session: Some(self.session()),
            peer: None,
        })
    }

    /// Calls the roll.
    pub(crate) fn sync(&mut self, lie: Lie, dice: &mut Dice) -> Command {
        let mut running: Vec<Running> = self
            .running
            .iter()
            .map(|(id, attempt)| Running {
                id: id.clone(),
                attempt: *attempt,
            })
            .collect();
        // What it finished it lists until that is acknowledged.
        running.extend(self.done.iter().filter_map(|done| {
            Some(Running {
                id: done.id.clone(),
                attempt: done.attempt?,
            })
        }));
        match lie {
            Lie::Forgets => {
                if let Some(job) = self.running.pop_first() {
                    running.retain(|item| (&item.id, item.attempt) != (&job.0, job.1));
                    self.haunt(job);
                }
            }
            Lie::Boasts => running.push(Running {
                id: format!("t{}", dice.below(40)).into(),
                attempt: u32::try_from(dice.below(3)).unwrap_or(0),
            }),
            Lie::None | Lie::Stale => {}
        }
        let n = if lie == Lie::Stale {
            self.n.saturating_sub(1)
        } else {
            self.n += 1;
            self.n
        };
        Command::Sync(Sync {
            agent: self.id(),
            session: Some(self.session()),
            n: Some(n),
            running: Some(running),
            done: self.done.clone(),
            max: dice.of(&[None, None, Some(1)]),
            wait: dice.of(&[Span::ZERO, Span::ZERO, Span::from_secs(10)]),
        })
    }

    pub(crate) fn heartbeat(&self) -> Command {
        Command::Sync(Sync {
            agent: self.id(),
            session: Some(self.session()),
            n: None,
            running: None,
            done: Vec::new(),
            max: None,
            wait: Span::ZERO,
        })
    }

    /// What a server said.
    pub(crate) fn hear(&mut self, sync: &Sync, answer: &SyncAnswer) {
        if sync.session.as_deref() != Some(&*self.session()) {
            return;
        }
        for (sent, _) in sync.done.iter().zip(&answer.done) {
            // Acknowledged or refused: either way there is nothing more to say of it.
            self.done
                .retain(|own| (&own.id, own.attempt) != (&sent.id, sent.attempt));
        }
        for start in &answer.start {
            let job = (start.view.task.id.clone(), start.attempt);
            let known = self
                .done
                .iter()
                .any(|done| (&done.id, done.attempt) == (&job.0, Some(job.1)));
            if !known && !self.ghosts.contains(&job) {
                self.running.insert(job);
            }
        }
        for stop in &answer.stop {
            let job = (stop.id.clone(), stop.attempt);
            self.done
                .retain(|own| (&own.id, own.attempt) != (&job.0, Some(job.1)));
            if self.running.remove(&job) {
                self.haunt(job);
            }
        }
    }

    fn haunt(&mut self, job: Job) {
        self.ghosts.push(job);
        if self.ghosts.len() > GHOSTS {
            self.ghosts.remove(0);
        }
    }

    fn haunt_all(&mut self) {
        for job in std::mem::take(&mut self.running) {
            self.haunt(job);
        }
    }

    /// Is done with something: it says so with its next sync, or at once.
    pub(crate) fn finish(&mut self, dice: &mut Dice, now: Timestamp) -> Option<Command> {
        let job = self.running.pop_first()?;
        let completion = self.completion(&job, dice, now);
        if dice.chance(50) {
            self.done.push(completion);
            return None;
        }
        self.haunt(job);
        Some(Command::Complete {
            completions: vec![Ok(completion)],
            batch: dice.chance(20),
        })
    }

    /// Is done with something, and it went well.
    pub(crate) fn succeed(&mut self) -> Option<Command> {
        let (id, attempt) = self.running.pop_first()?;
        let completion = Completion {
            attempt: Some(attempt),
            agent: Some(self.id()),
            ..Completion::new(id, true)
        };
        Some(Command::Complete {
            completions: vec![Ok(completion)],
            batch: false,
        })
    }

    /// Reports on something that it no longer has.
    pub(crate) fn haunting(&mut self, dice: &mut Dice, now: Timestamp) -> Option<Command> {
        let job = self.ghosts.get(dice.below(self.ghosts.len()))?.clone();
        if dice.chance(30) {
            return Some(self.spend_on(job, dice));
        }
        Some(Command::Complete {
            completions: vec![Ok(self.completion(&job, dice, now))],
            batch: false,
        })
    }

    fn completion(&self, (id, attempt): &Job, dice: &mut Dice, now: Timestamp) -> Completion {
        let success = dice.chance(72);
        let limited = !success && dice.chance(15);
        Completion {
            attempt: Some(*attempt),
            agent: dice.chance(50).then(|| self.id()),
            model: dice.chance(30).then(|| dice.of(&MODELS).into()),
            tokens: dice.chance(60).then(|| Tokens {
                tokens_in: dice.amount(400),
                tokens_out: dice.amount(300),
                tokens_cached: 10,
            }),
            cost: dice
                .chance(10)
                .then(|| Money::from_nanos(i64::try_from(dice.below(1_000_000_000)).unwrap_or(0))),
            rate_limited_until: limited.then(|| now + Span::from_secs(90)),
            ..Completion::new(id.clone(), success)
        }
    }

    pub(crate) fn spend(&mut self, dice: &mut Dice) -> Option<Command> {
        let job = self.running.iter().nth(dice.below(self.running.len()))?.clone();
        Some(self.spend_on(job, dice))
    }

    fn spend_on(&mut self, job: Job, dice: &mut Dice) -> Command {
        let amount = dice.amount(900);
        let total = dice.chance(60);
        let spent = self.spent.entry(job.clone()).or_default();
        *spent += amount;
        Command::Report(UsageReport {
            agent: agent_id(self.number),
            job: job.0,
            attempt: dice.chance(90).then_some(job.1),
            model: dice.chance(50).then(|| dice.of(&MODELS).into()),
            tokens: Tokens {
                tokens_out: if total { *spent } else { amount },
                ..Tokens::default()
            },
            cost: None,
            total,
            event: UsageEvent::Usage,
        })
    }

    /// Something that it runs, or once ran.
    pub(crate) fn any_job(&self, dice: &mut Dice) -> Option<Job> {
        if self.running.is_empty() || dice.chance(20) {
            return self.ghosts.get(dice.below(self.ghosts.len())).cloned();
        }
        self.running.iter().nth(dice.below(self.running.len())).cloned()
    }
}
