//! Runs: a list of steps, one after the other, each checked; then an end at which everything must come to its end.

use adjutant_core::command::Command;
use adjutant_core::limit::{Allowance, Scope};
use adjutant_core::time::Span;
use fastrand::Rng;

use crate::bug::Bug;
use crate::clients;
use crate::minds::AGENTS;
use crate::step::{Act, Dice, Fate, Lie, Step};
use crate::witness::Stuck;
use crate::world::{Setup, World};

/// How often the end of a run is given time before what is left counts as stuck.
const PATIENCE: usize = 400;

/// A seed and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// What everything follows from.
    pub seed: u64,
    /// How many steps.
    pub steps: usize,
    /// What is broken on purpose.
    pub bug: Option<Bug>,
}

/// How many sweeps a rest takes at most: offers that nobody fetches, backoffs and quarantines may end meanwhile.
const SWEEPS: usize = 40;

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Turns that were taken.
    pub turns: u64,
    /// Transactions that were committed.
    pub commits: u64,
    /// Tasks that were forgotten.
    pub forgotten: u64,
    /// What was violated, and after which step; the end of the run has no number.
    pub violation: Option<(Option<usize>, String)>,
}

impl Script {
    /// How the world is set up: the seed says.
    pub fn setup(&self) -> Setup {
        let servers = match self.seed % 4 {
            0 | 1 => 1,
            2 => 2,
            _ => 3,
        };
        let shared = self.bug.is_some_and(Bug::needs_shared);
        Setup {
            servers: if shared { servers.max(2) } else { servers },
            bug: self.bug,
        }
    }

    /// The steps: the seed says.
    pub fn draw(&self) -> Vec<Step> {
        let mut rng = Rng::with_seed(self.seed);
        (0..self.steps).map(|_| Step::draw(&mut rng)).collect()
    }

    /// Runs it all.
    pub fn run(&self) -> Report {
        run(self.setup(), self.draw().into_iter().enumerate())
    }
}

/// Runs these steps, and the end.
pub fn run(setup: Setup, steps: impl Iterator<Item = (usize, Step)>) -> Report {
    let mut world = World::new(setup);
    let mut violation = None;
    for (number, step) in steps {
        world.step(step);
        if let Some(what) = world.violation() {
            violation = Some((Some(number), what));
            break;
        }
    }
    if violation.is_none() {
        world.finish();
        violation = world.violation().map(|what| (None, what));
    }
    let (commits, forgotten) = {
        let witness = world.witness();
        (witness.commits(), witness.forgotten())
    };
    Report {
        turns: world.turns(),
        commits,
        forgotten,
        violation,
    }
}

impl World {
    fn violation(&self) -> Option<String> {
        self.witness().violation().map(str::to_owned)
    }

    /// One thing happens.
    pub fn step(&mut self, step: Step) {
        self.machine.pass(Span::from_millis(10));
        let mut dice = Dice::new(step.dice);
        let server = usize::from(step.server) % self.servers.len();
        match step.act {
            Act::Land => self.land(&mut dice),
            Act::Turn => self.turn_with(server, dice.chance(30)),
            Act::Pass => self.pass(server),
            Act::Wait => self.wait(u32::try_from(1 + dice.below(30)).unwrap_or(1)),
            Act::Sleep => self.sleep(Span::from_secs(u32::try_from(20 + dice.below(600)).unwrap_or(20))),
            Act::SetClock => self
                .machine
                .set(i64::try_from(dice.below(7_200)).unwrap_or(0) * 1_000_000 - 3_600_000_000),
            Act::AlmostMidnight => {
                let now = self.now(server);
                let end = if dice.chance(50) {
                    now.day() + Span::DAY
                } else {
                    now.hour() + Span::HOUR
                };
                self.sleep((end - Span::from_secs(2)).since(now));
            }
            Act::Crash => self.crash(server),
            Act::Fault => self.plant(server, &mut dice),
            Act::Overlap => self.overlap(server, dice.chance(20)),
            Act::Forget => self.forget(server, &mut dice),
            Act::Rest => self.rest(),
            _ => {
                if let Some(request) = self.said(step.act, server, &mut dice) {
                    self.send(request, server, step.fate, &mut dice);
                }
            }
        }
        if step.turn {
            self.turn(server);
        }
    }

    /// What a client or an agent says.
    fn said(&mut self, act: Act, server: usize, dice: &mut Dice) -> Option<adjutant_core::command::Request> {
        let now = self.now(server);
        let agent = dice.below(AGENTS);
        let command = match act {
            Act::Submit | Act::Batch => {
                let count = if act == Act::Batch { 1 + dice.below(5) } else { 1 };
                let tasks = (0..count)
                    .map(|_| {
                        let number = self.submitted;
                        self.submitted += 1;
                        Ok(clients::new_task(number, dice, now))
                    })
                    .collect();
                Command::Submit {
                    tasks,
                    batch: act == Act::Batch,
                }
            }
            Act::Operate => clients::operate(self.task_id(dice)?, dice, now),
            Act::Limit => clients::limit(dice),
            Act::Reset => Command::Reset(clients::scope(dice)),
            Act::External => clients::external(dice),
            Act::Govern => {
                let id = self.minds[agent].id();
                match dice.below(8) {
                    0 => Command::Deregister(id),
                    1 => Command::Drain(id),
                    2..=4 => Command::Undrain(id),
                    _ => Command::Lift(id),
                }
            }
            Act::Claim => Command::Claim {
                id: self.task_id(dice)?,
                agent: Some(if dice.chance(40) {
                    "stranger".into()
                } else {
                    self.minds[agent].id()
                }),
            },
            _ => return self.said_by(act, agent, dice, now),
        };
        Some(self.own(command))
    }

    fn said_by(
        &mut self,
        act: Act,
        agent: usize,
        dice: &mut Dice,
        now: adjutant_core::time::Timestamp,
    ) -> Option<adjutant_core::command::Request> {
        let mind = &mut self.minds[agent];
        let command = match act {
            Act::Register { restarts } => mind.register(restarts, false, dice),
            Act::Sync { lie } => mind.sync(lie, dice),
            Act::Heartbeat => mind.heartbeat(),
            Act::Finish => mind.finish(dice, now)?,
            Act::Haunt => mind.haunting(dice, now)?,
            Act::Spend => mind.spend(dice)?,
            Act::Update => {
                let (id, attempt) = mind.any_job(dice)?;
                Command::Patch(
                    id,
                    Box::new(adjutant_core::command::TaskPatch {
                        attempt: Some(attempt),
                        progress: Some(u8::try_from(dice.below(101)).unwrap_or(0)),
                        note: dice.chance(30).then(|| "on my way".to_owned()),
                        ..Default::default()
                    }),
                )
            }
            _ => return None,
        };
        let actor = mind.actor();
        Some(self.request(actor, command))
    }

    /// Everything that was sent arrives, and everything that is due is done; then nothing may wait that could start.
    pub(crate) fn rest(&mut self) {
        for _ in 0..6 {
            self.machine.pass(Span::from_millis(10));
            for server in 0..self.servers.len() {
                self.servers[server].turns.store_mut().fault = None;
                while !self.servers[server].inbox.is_empty() {
                    self.turn(server);
                }
                self.turn_with(server, true);
                if self.servers.len() > 1 {
                    self.pass(server);
                }
            }
        }
        // What changed in the last sweep, the next one looks at: until one changes nothing.
        for _ in 0..SWEEPS {
            let before = self.witness().commits();
            self.wait(6);
            for server in 0..self.servers.len() {
                self.turn_with(server, true);
                if self.servers.len() > 1 {
                    self.pass(server);
                }
            }
            if self.witness().commits() == before {
                break;
            }
        }
        let before = self.witness().dispatched();
        self.pass(0);
        let after = self.witness().dispatched();
        let now = self.now(0);
        let mut witness = self.witness();
        if after > before {
            let what = format!(
                "I11: {} tasks waited that could start, at {now:?}: {:?}",
                after - before,
                witness.last_dispatched()
            );
            witness.note(Err(what));
        }
        let checked = witness.check_dependencies();
        witness.note(checked);
    }

    /// I11: once nothing goes wrong any more, every task comes to its end.
    pub fn finish(&mut self) {
        let mut dice = Dice::new(1);
        self.rest();
        let scopes: Vec<Scope> = self.witness().limited();
        for scope in scopes {
            let change = adjutant_core::command::PolicyChange::Limits(Vec::new());
            self.ask(Command::SetPolicy(scope.clone(), change), &mut dice);
            if let Scope::Agent(_) = scope {
                let change = adjutant_core::command::PolicyChange::Allowance(Allowance::default());
                self.ask(Command::SetPolicy(scope, change), &mut dice);
            }
        }
        let mut pause = 5;
        for round in 0..PATIENCE {
            if self.violation().is_some() || self.witness().unfinished().is_empty() {
                break;
            }
            let stuck = self.witness().stuck();
            for (id, why) in stuck {
                let command = match why {
                    Stuck::Held => Command::Unhold(id),
                    Stuck::Ended => Command::Retry(id),
                    Stuck::Stranger => Command::Release {
                        id,
                        attempt: None,
                        agent: None,
                    },
                };
                self.ask(command, &mut dice);
            }
            for agent in 0..AGENTS {
                self.work(agent, round == 0, &mut dice);
            }
            self.sleep(Span::from_secs(pause));
            pause = (pause * 2).min(1_200);
        }
        let checked = self.ended();
        self.witness().note(checked);
    }

    /// An agent that does as it should.
    fn work(&mut self, agent: usize, first: bool, dice: &mut Dice) {
        let actor = self.minds[agent].actor();
        if first {
            let register = self.minds[agent].register(true, true, dice);
            self.tell(actor.clone(), register, dice);
            let id = self.minds[agent].id();
            self.ask(Command::Undrain(id.clone()), dice);
            self.ask(Command::Lift(id), dice);
        }
        for _ in 0..2 {
            let sync = self.minds[agent].sync(Lie::None, dice);
            self.tell(actor.clone(), sync, dice);
            while let Some(done) = self.minds[agent].succeed() {
                self.tell(actor.clone(), done, dice);
            }
        }
    }

    fn ask(&mut self, command: Command, dice: &mut Dice) {
        self.tell(adjutant_core::access::Actor::admin(), command, dice);
    }

    fn tell(&mut self, actor: adjutant_core::access::Actor, mut command: Command, dice: &mut Dice) {
        if let Command::Sync(sync) = &mut command {
            sync.wait = Span::ZERO;
            sync.max = None;
        }
        let server = dice.below(self.servers.len());
        let request = self.request(actor, command);
        self.send(request, server, Fate::Arrives, dice);
        self.machine.pass(Span::from_millis(10));
        for _ in 0..10 {
            if self.servers[server].inbox.is_empty() {
                break;
            }
            self.turn(server);
        }
    }

    /// Every task has ended, and what is stored is what was committed.
    fn ended(&self) -> crate::witness::Check {
        let witness = self.witness();
        let left = witness.unfinished();
        if !left.is_empty() {
            return Err(format!(
                "I11: {} tasks never ended, the first: {:?}",
                left.len(),
                left[0]
            ));
        }
        witness.check_dependencies()?;
        witness.compare(&self.root.snapshot())
    }
}
