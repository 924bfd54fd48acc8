//! The players: servers that may crash, agents that do as they are told, more or less, and clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adjutant_core::access::Actor;
use adjutant_core::attempt::Tokens;
use adjutant_core::command::{
    Answer, Command, Completion, NewAgent, NewTask, PolicyChange, Request, Running, Sync, SyncAnswer, Ticket,
    UsageEvent, UsageReport,
};
use adjutant_core::event::EventKind;
use adjutant_core::limit::{Allowance, Limit, Scope, Window};
use adjutant_core::name::{AgentId, Label, TaskId};
use adjutant_core::set::Settings;
use adjutant_core::task::{Body, Demand, Priority, TaskResult};
use adjutant_core::time::{Span, Timestamp};
use adjutant_engine::turns::{NotTaken, Taken, Turns};
use adjutant_store::memory::Memory;
use adjutant_store::{Store, StoreError};
use proptest::prelude::*;

use crate::invariants;

const LABELS: [&str; 3] = ["go", "rust", "docs"];
const LOCKS: [&str; 3] = ["main", "lockfile", "schema"];
const AGENTS: u8 = 4;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    Submit {
        labels: u8,
        priority: u8,
        locks: u8,
        after: Option<u8>,
        estimate: u16,
        retries: u8,
    },
    Register {
        agent: u8,
        capabilities: u8,
        restarts: bool,
    },
    Sync {
        agent: u8,
        forgets: bool,
    },
    Heartbeat {
        agent: u8,
    },
    Finish {
        agent: u8,
        success: bool,
    },
    Claim {
        task: u8,
        stranger: bool,
    },
    Spend {
        agent: u8,
        tokens: u16,
    },
    Cancel {
        task: u8,
        cascade: bool,
    },
    Retry {
        task: u8,
    },
    Release {
        task: u8,
    },
    Hold {
        task: u8,
        held: bool,
    },
    Deregister {
        agent: u8,
    },
    Drain {
        agent: u8,
        draining: bool,
    },
    Reset {
        agent: u8,
    },
    Wait {
        seconds: u16,
    },
    Crash {
        server: u8,
    },
    /// The first server is between load and commit while another takes a whole turn.
    Overlap {
        first: Box<Move>,
        second: Box<Move>,
        crashes: bool,
    },
}

fn single() -> impl Strategy<Value = Move> {
    prop_oneof![
        6 => (0_u8..8, 0_u8..4, 0_u8..8, prop::option::weighted(0.2, any::<u8>()), 0_u16..2_000, 0_u8..3).prop_map(
            |(labels, priority, locks, after, estimate, retries)| Move::Submit {
                labels: labels & 3,
                priority,
                // Most tasks want no lock.
                locks: if locks < 4 { 0 } else { locks & 7 },
                after,
                estimate: if estimate < 1_000 { 0 } else { estimate },
                retries,
            }
        ),
        3 => (0..AGENTS, 0_u8..8, prop::bool::weighted(0.2))
            .prop_map(|(agent, capabilities, restarts)| Move::Register { agent, capabilities, restarts }),
        6 => (0..AGENTS, prop::bool::weighted(0.1)).prop_map(|(agent, forgets)| Move::Sync { agent, forgets }),
        1 => (0..AGENTS).prop_map(|agent| Move::Heartbeat { agent }),
        6 => (0..AGENTS, prop::bool::weighted(0.7)).prop_map(|(agent, success)| Move::Finish { agent, success }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(task, stranger)| Move::Claim { task, stranger }),
        2 => (0..AGENTS, 0_u16..3_000).prop_map(|(agent, tokens)| Move::Spend { agent, tokens }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(task, cascade)| Move::Cancel { task, cascade }),
        1 => any::<u8>().prop_map(|task| Move::Retry { task }),
        1 => any::<u8>().prop_map(|task| Move::Release { task }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(task, held)| Move::Hold { task, held }),
        1 => (0..AGENTS).prop_map(|agent| Move::Deregister { agent }),
        1 => (0..AGENTS, any::<bool>()).prop_map(|(agent, draining)| Move::Drain { agent, draining }),
        1 => (0..AGENTS).prop_map(|agent| Move::Reset { agent }),
        3 => prop_oneof![1_u16..20, 20_u16..90, Just(3_700)].prop_map(|seconds| Move::Wait { seconds }),
        1 => any::<u8>().prop_map(|server| Move::Crash { server }),
    ]
}

pub(crate) fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        8 => single(),
        2 => (single(), single(), prop::bool::weighted(0.2)).prop_map(|(first, second, crashes)| Move::Overlap {
            first: Box::new(first),
            second: Box::new(second),
            crashes,
        }),
    ]
}

/// What an agent believes.
#[derive(Debug, Default)]
struct Mind {
    running: BTreeSet<(TaskId, u32)>,
    session: u32,
    n: u64,
}

/// A game in progress.
pub(crate) struct Play {
    root: Memory,
    servers: Vec<Turns<Memory>>,
    settings: Settings,
    now: Timestamp,
    turn: usize,
    tickets: u64,
    submitted: u32,
    minds: BTreeMap<u8, Mind>,
}

impl Play {
    pub(crate) fn alone() -> Self {
        Self::new(Memory::alone(), 1)
    }

    pub(crate) fn shared(servers: usize) -> Self {
        Self::new(Memory::shared(), servers)
    }

    fn new(root: Memory, servers: usize) -> Self {
        let settings = Settings::default();
        let now: Timestamp = "2026-11-24T22:30:00Z".parse().unwrap();
        let servers = (0..servers)
            .map(|_| Turns::new(root.another(), settings.clone(), now).unwrap())
            .collect();
        let mut play = Self {
            root,
            servers,
            settings,
            now,
            turn: 0,
            tickets: 0,
            submitted: 0,
            minds: BTreeMap::new(),
        };
        let allowance = Allowance {
            daily_token_limit: 20_000,
            daily_job_limit: 12,
            ..Allowance::default()
        };
        let scope = |agent: u8| Scope::Agent(agent_id(agent));
        play.must(Command::SetPolicy(scope(0), PolicyChange::Allowance(allowance)));
        let concurrent = Limit {
            concurrent: Some(2),
            ..Limit::none(Window::Hour)
        };
        play.must(Command::SetPolicy(
            scope(1),
            PolicyChange::Limits(vec![concurrent]),
        ));
        let fleet = Limit {
            jobs: Some(30),
            ..Limit::none(Window::Hour)
        };
        play.must(Command::SetPolicy(
            Scope::Fleet,
            PolicyChange::Limits(vec![fleet]),
        ));
        play
    }

    pub(crate) fn run(mut self, moves: &[Move]) {
        for next in moves {
            self.play(next);
            invariants::check(&self.root.snapshot());
        }
        self.come_to_rest();
        self.nothing_waits_that_could_start();
    }

    fn play(&mut self, next: &Move) {
        match next {
            Move::Wait { seconds } => self.wait(u32::from(*seconds)),
            Move::Crash { server } => self.crash(usize::from(*server) % self.servers.len()),
            Move::Overlap {
                first,
                second,
                crashes,
            } => self.overlap(first, second, *crashes),
            other => {
                if let Some(command) = self.command(other) {
                    self.pass_time();
                    let server = self.next_server();
                    self.take(server, command);
                }
            }
        }
    }

    fn next_server(&mut self) -> usize {
        self.turn += 1;
        self.turn % self.servers.len()
    }

    fn pass_time(&mut self) {
        self.now = self.now + Span::from_millis(10);
    }

    fn request(&mut self, command: Command) -> Request {
        self.tickets += 1;
        Request {
            actor: Actor::admin(),
            command,
            idempotency: None,
            ticket: Ticket(self.tickets),
        }
    }

    /// Takes a turn; what another server has locked is tried again once that one is done, as the engine does.
    fn take(&mut self, server: usize, command: Command) {
        let request = self.request(command);
        match self.servers[server].take(std::slice::from_ref(&request), self.now) {
            Ok(taken) => self.done(server, taken, &request),
            Err(NotTaken::Store(StoreError::Busy(_))) => {}
            Err(error) => panic!("{:?}: {error:?}", request.command),
        }
    }

    fn must(&mut self, command: Command) {
        let request = self.request(command);
        let taken = self.servers[0].take(&[request], self.now).unwrap();
        assert!(
            taken.answers.iter().all(|(_, verdict)| verdict.is_ok()),
            "{:?}",
            taken.answers
        );
    }

    /// Hears the answers, and lets the pass follow that they call for.
    fn done(&mut self, server: usize, taken: Taken, request: &Request) {
        let pass = taken.pass;
        for (ticket, verdict) in taken.answers {
            match (verdict, &request.command) {
                (Ok(Answer::Sync(answer)), Command::Sync(sync)) if ticket == request.ticket => {
                    self.hear(&sync.agent, &answer);
                }
                (Err(rejection), _) if rejection.slug.code() == 500 => panic!("{rejection}"),
                _ => {}
            }
        }
        if pass {
            self.pass(server);
        }
    }

    fn pass(&mut self, server: usize) {
        let request = self.request(Command::Pass);
        match self.servers[server].take(&[request], self.now) {
            Ok(_) | Err(NotTaken::Store(StoreError::Busy(_))) => {}
            Err(error) => panic!("pass: {error:?}"),
        }
    }

    fn hear(&mut self, agent: &AgentId, answer: &SyncAnswer) {
        let Some(mind) = agent
            .as_str()
            .strip_prefix("agent")
            .and_then(|n| self.minds.get_mut(&n.parse().ok()?))
        else {
            return;
        };
        for start in &answer.start {
            mind.running.insert((start.view.task.id.clone(), start.attempt));
        }
        for stop in &answer.stop {
            mind.running.remove(&(stop.id.clone(), stop.attempt));
        }
    }

    /// One server is between load and commit while another takes a turn of its own.
    fn overlap(&mut self, first: &Move, second: &Move, crashes: bool) {
        let (Some(first), Some(second)) = (self.command(first), self.command(second)) else {
            return;
        };
        self.pass_time();
        if self.servers.len() < 2 {
            self.take(0, first);
            self.take(0, second);
            return;
        }
        let (a, b) = (self.next_server(), self.next_server());
        let request = self.request(first);
        let prepared = self.servers[a].prepare(std::slice::from_ref(&request), self.now);
        self.take(b, second);
        match prepared {
            Ok(_) if crashes => self.crash(a),
            Ok(outcome) => match self.servers[a].finish(outcome) {
                Ok(taken) => self.done(a, taken, &request),
                Err(error) => panic!("{error:?}"),
            },
            Err(NotTaken::Store(StoreError::Busy(_))) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Everything that is not committed is gone; another process takes its place.
    fn crash(&mut self, server: usize) {
        let store = self.root.another();
        self.servers[server].store_mut().abandon();
        self.servers[server] = Turns::new(store, self.settings.clone(), self.now).unwrap();
    }

    fn wait(&mut self, seconds: u32) {
        // In steps, so that the servers watch all along.
        let mut left = Span::from_secs(seconds);
        while !left.is_zero() {
            let step = left.min(Span::from_secs(5));
            left = Span::from_micros(left.as_micros() - step.as_micros());
            self.now = self.now + step;
            for server in 0..self.servers.len() {
                self.take(server, Command::Tick);
            }
            invariants::check(&self.root.snapshot());
        }
    }

    fn task_id(&self, task: u8) -> Option<TaskId> {
        (self.submitted > 0).then(|| format!("t{}", u32::from(task) % self.submitted).into())
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each move, none worth a name of its own"
    )]
    fn command(&mut self, next: &Move) -> Option<Command> {
        Some(match next {
            Move::Submit {
                labels,
                priority,
                locks,
                after,
                estimate,
                retries,
            } => {
                let dependencies: Vec<TaskId> =
                    after.and_then(|after| self.task_id(after)).into_iter().collect();
                let id = TaskId::from(format!("t{}", self.submitted));
                self.submitted += 1;
                Command::Submit {
                    tasks: vec![Ok(NewTask {
                        id,
                        fresh_id: false,
                        body: Arc::new(Body {
                            title: "t".into(),
                            dependencies,
                            ..Body::default()
                        }),
                        demand: Demand {
                            labels: pick(&LABELS, *labels),
                            ..Demand::default()
                        },
                        priority: Priority::from_rank(*priority).unwrap(),
                        project: None,
                        repo: None,
                        produces: None,
                        locks: pick(&LOCKS, *locks).into(),
                        estimated_tokens: u64::from(*estimate),
                        timeout: None,
                        not_before: None,
                        max_retries: u32::from(*retries),
                    })],
                    batch: false,
                }
            }
            Move::Register {
                agent,
                capabilities,
                restarts,
            } => {
                let mind = self.minds.entry(*agent).or_default();
                if *restarts {
                    *mind = Mind {
                        session: mind.session + 1,
                        ..Mind::default()
                    };
                }
                Command::Register(NewAgent {
                    id: agent_id(*agent),
                    name: "n".into(),
                    capabilities: pick::<Label>(&LABELS, *capabilities).into(),
                    models: Arc::default(),
                    // Lowering the bound below what runs is not what I2 speaks of: it stays as it is.
                    max_load: if *agent == 3 { 0 } else { 3 },
                    metadata: None,
                    session: Some(mind.session.to_string().into()),
                })
            }
            Move::Sync { agent, forgets } => {
                let mind = self.minds.get_mut(agent)?;
                if *forgets {
                    mind.running.clear();
                }
                mind.n += 1;
                sync(*agent, mind, true)
            }
            Move::Heartbeat { agent } => sync(*agent, self.minds.get(agent)?, false),
            Move::Finish { agent, success } => {
                let mind = self.minds.get_mut(agent)?;
                let (id, attempt) = mind.running.pop_first()?;
                Command::Complete {
                    completions: vec![Ok(Completion {
                        id,
                        attempt: Some(attempt),
                        agent: Some(agent_id(*agent)),
                        result: TaskResult {
                            success: *success,
                            ..TaskResult::default()
                        },
                        model: None,
                        tokens: Some(Tokens {
                            tokens_in: 100,
                            ..Tokens::default()
                        }),
                        cost: None,
                        rate_limited_until: None,
                    })],
                    batch: false,
                }
            }
            Move::Claim { task, stranger } => Command::Claim {
                id: self.task_id(*task)?,
                agent: Some(if *stranger { "stranger".into() } else { agent_id(2) }),
            },
            Move::Spend { agent, tokens } => {
                let (job, attempt) = self.minds.get(agent)?.running.first()?.clone();
                Command::Report(UsageReport {
                    agent: agent_id(*agent),
                    job,
                    attempt: Some(attempt),
                    model: Some("m".into()),
                    tokens: Tokens {
                        tokens_out: u64::from(*tokens),
                        ..Tokens::default()
                    },
                    cost: None,
                    total: false,
                    event: UsageEvent::Usage,
                })
            }
            Move::Cancel { task, cascade } => Command::Cancel {
                id: self.task_id(*task)?,
                cascade: *cascade,
            },
            Move::Retry { task } => Command::Retry(self.task_id(*task)?),
            Move::Release { task } => Command::Release {
                id: self.task_id(*task)?,
                attempt: None,
                agent: None,
            },
            Move::Hold { task, held: true } => Command::Hold(self.task_id(*task)?),
            Move::Hold { task, held: false } => Command::Unhold(self.task_id(*task)?),
            Move::Deregister { agent } => Command::Deregister(agent_id(*agent)),
            Move::Drain {
                agent,
                draining: true,
            } => Command::Drain(agent_id(*agent)),
            Move::Drain {
                agent,
                draining: false,
            } => Command::Undrain(agent_id(*agent)),
            Move::Reset { agent } => Command::Reset(Scope::Agent(agent_id(*agent))),
            Move::Wait { .. } | Move::Crash { .. } | Move::Overlap { .. } => return None,
        })
    }

    /// Lets every server do what is due, until nothing changes any more.
    fn come_to_rest(&mut self) {
        for _ in 0..4 {
            self.pass_time();
            for server in 0..self.servers.len() {
                self.take(server, Command::Tick);
                if self.root.is_shared() {
                    self.pass(server);
                }
            }
        }
        invariants::check(&self.root.snapshot());
    }

    /// I11: a server that looks at everything finds nothing to start.
    fn nothing_waits_that_could_start(&mut self) {
        let before = self.root.snapshot();
        if self.root.is_shared() {
            // Where one server owns the store, a restart forgets which agents did not fetch their offers.
            for server in 0..self.servers.len() {
                self.crash(server);
            }
        }
        let request = self.request(Command::Pass);
        self.servers[0].take(&[request], self.now).unwrap();
        let after = self.root.snapshot();
        let started = after.events[before.events.len()..]
            .iter()
            .filter(|event| event.kind == EventKind::TaskDispatched)
            .count();
        assert_eq!(started, 0, "I11: {:#?}", &after.events[before.events.len()..]);
        for task in &after.tasks {
            assert!(
                task.fanout.is_none(),
                "an end was not told to all dependents: {:?}",
                task.id
            );
        }
    }
}

fn agent_id(agent: u8) -> AgentId {
    format!("agent{agent}").into()
}

fn pick<T: for<'a> From<&'a str>>(names: &[&str], bits: u8) -> Vec<T> {
    names
        .iter()
        .enumerate()
        .filter(|(index, _)| bits >> index & 1 == 1)
        .map(|(_, name)| T::from(name))
        .collect()
}

fn sync(agent: u8, mind: &Mind, roll_call: bool) -> Command {
    let running = |(id, attempt): &(TaskId, u32)| Running {
        id: id.clone(),
        attempt: *attempt,
    };
    Command::Sync(Sync {
        agent: agent_id(agent),
        session: Some(mind.session.to_string().into()),
        n: roll_call.then_some(mind.n),
        running: roll_call.then(|| mind.running.iter().map(running).collect()),
        done: Vec::new(),
        max: None,
        wait: Span::ZERO,
    })
}
