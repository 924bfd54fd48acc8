//! What routing costs: a task looks for its agent, and a freed agent takes its best task.
//!
//! The fleet is the hard one of the targets: up to 100,000 agents in 1,000 profiles, every second agent exhausted by
//! its own limits. A class can be served by all profiles, by a tenth of them or by one: the cost of the index grows
//! with that number and with nothing else.
//!
//! Run: `cargo bench -p adjutant-core --bench route`
//!
//! # Not here
//! Storage and HTTP: the crate `adjutant-bench`.

use std::collections::{BTreeSet, HashMap};
use std::hint::black_box;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adjutant_core::access::Actor;
use adjutant_core::command::{Answer, Command, Completion, NewAgent, NewTask, Request, Sync, Ticket};
use adjutant_core::decide::{Decision, decide};
use adjutant_core::name::{AgentId, Label};
use adjutant_core::router::indexed::Fleet;
use adjutant_core::router::plain::Plain;
use adjutant_core::router::{Ask, Candidate, Load, Profile, Route};
use adjutant_core::set::queues::WINDOW_STRETCH;
use adjutant_core::set::rows::{Changes, Rows, Wanted};
use adjutant_core::set::{Settings, WorkingSet};
use adjutant_core::task::{Class, ClassId, Demand, DispatchOrder, Queue, Task, TaskKey};
use adjutant_core::time::{Span, Timestamp};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const FLEETS: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
/// The plain router looks at every agent: beyond this it only repeats itself.
const PLAIN_MAX: usize = 10_000;
const PROFILES: usize = 1_000;
const TEAMS: usize = 10;

fn labels(names: &[&str]) -> Vec<Label> {
    names.iter().map(|name| Label::from(*name)).collect()
}

fn class(id: i64, required: &[&str], preferred: &[&str]) -> Class {
    Class {
        id: ClassId(id),
        demand: Demand {
            labels: labels(required),
            prefers: labels(preferred),
            model: None,
        },
    }
}

/// Agents in up to [`PROFILES`] profiles, loaded unevenly; every second one is refused by its own limits.
fn candidates(agents: usize) -> Vec<Candidate> {
    let profiles = agents.min(PROFILES);
    (0..agents)
        .map(|index| {
            let (profile, round) = (index % profiles, index / profiles);
            let capabilities = [
                Label::from("common"),
                Label::from(format!("team-{}", profile % TEAMS)),
                Label::from(format!("own-{profile}")),
            ];
            Candidate {
                id: AgentId::from(format!("agent-{index}")),
                profile: Profile::new(&capabilities, &[], &[], &[]),
                load: Load {
                    current: u32::try_from((index * 7) % 8).unwrap_or(0),
                    max: 8,
                },
                online: true,
                has_room: true,
                permitted: (profile + round).is_multiple_of(2),
            }
        })
        .collect()
}

fn fleet(candidates: &[Candidate]) -> Fleet {
    let mut fleet = Fleet::default();
    for candidate in candidates {
        fleet.put(candidate.clone());
    }
    fleet
}

fn ask(class: &Class, critical: bool) -> Ask<'_> {
    Ask {
        demand: &class.demand,
        critical,
        avoid: &[],
    }
}

/// A task looks for its agent.
fn task_to_agent(criterion: &mut Criterion) {
    let asked = [
        ("all_profiles", class(1, &["common"], &[]), false),
        ("all_profiles_critical", class(1, &["common"], &[]), true),
        (
            "all_profiles_prefers",
            class(2, &["common"], &["team-3", "own-7"]),
            false,
        ),
        ("a_tenth_of_profiles", class(3, &["common", "team-4"], &[]), false),
        ("one_profile", class(4, &["common", "own-4"], &[]), false),
    ];
    let mut group = criterion.benchmark_group("task_to_agent");
    for agents in FLEETS {
        let candidates = candidates(agents);
        let mut fleet = fleet(&candidates);
        for (name, class, critical) in &asked {
            group.bench_function(BenchmarkId::new(*name, agents), |bencher| {
                bencher.iter(|| {
                    fleet.prepare(black_box(class));
                    fleet.route_class(class.id, ask(class, *critical), &mut |_| true)
                });
            });
        }
        if agents <= PLAIN_MAX {
            let plain = Plain { candidates };
            let (_, class, critical) = &asked[0];
            group.bench_function(BenchmarkId::new("plain", agents), |bencher| {
                bencher.iter(|| plain.route(black_box(ask(class, *critical)), &mut |_| true));
            });
        }
    }
    group.finish();
}

/// What else a dispatch asks of the index: the agent's load rises and falls; a class is looked at for the first time.
fn upkeep(criterion: &mut Criterion) {
    let class = class(1, &["common"], &[]);
    let mut group = criterion.benchmark_group("upkeep");
    for agents in FLEETS {
        let candidates = candidates(agents);
        let mut fleet = fleet(&candidates);
        let idle = candidates
            .iter()
            .find(|candidate| candidate.permitted)
            .expect("half of them are permitted");
        let mut busy = idle.clone();
        busy.load.current += 1;
        group.bench_function(BenchmarkId::new("load_up_and_down", agents), |bencher| {
            bencher.iter(|| {
                fleet.put(busy.clone());
                fleet.put(idle.clone());
            });
        });
        group.bench_function(BenchmarkId::new("prepare_anew", agents), |bencher| {
            bencher.iter(|| {
                fleet.forget(class.id);
                fleet.prepare(black_box(&class));
            });
        });
    }
    group.finish();
}

/// A freed agent takes its best task: a whole turn of a complete working set, on a backlog that stays as long as it
/// is.
fn agent_to_task(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("agent_to_task");
    for (backlog, classes) in [(10, 1), (10_000, 1), (10_000, 100)] {
        let mut house = House::new(1, classes);
        house.submit(backlog + 1);
        let mut held = house.sync(None).0.expect("there is work");
        group.bench_function(
            BenchmarkId::new(format!("{classes}_classes"), backlog),
            |bencher| {
                bencher.iter_custom(|times| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..times {
                        let (next, turn) = house.sync(Some(&held));
                        held = next.expect("the backlog is refilled");
                        spent += turn;
                        house.submit(1);
                    }
                    spent
                });
            },
        );
    }
    group.finish();
}

/// A submission finds a free agent: a whole turn.
fn submission(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("submission");
    for agents in [10, 1_000, 100_000] {
        let mut house = House::new(agents, 1);
        group.bench_function(BenchmarkId::new("finds_an_agent", agents), |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    spent += house.submit(1);
                    house.complete_all();
                }
                spent
            });
        });
    }
    group.finish();
}

/// A working set with the least that a store has to do for it, so that its turns can be timed alone.
struct House {
    set: WorkingSet,
    shelf: Shelf,
    now: Timestamp,
    tickets: u64,
    classes: usize,
    /// What was dispatched and has not ended.
    running: Vec<Completion>,
}

/// What a turn does for one request, and how long it took, the shelf aside.
struct Done {
    answer: Answer,
    spent: Duration,
}

const AGENT: &str = "agent-0";
/// Requests of one turn while a house is furnished.
const BATCH: usize = 500;

impl House {
    /// A house with agents that can take tasks of all `classes`.
    fn new(agents: usize, classes: usize) -> Self {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let mut set = WorkingSet::new(Settings::default(), true);
        set.begin(Rows::default(), now);
        let mut house = Self {
            set,
            shelf: Shelf::default(),
            now,
            tickets: 0,
            classes,
            running: Vec::new(),
        };
        let skills: Arc<[Label]> = (0..classes).map(skill).collect();
        for agent in 0..agents {
            let command = Command::Register(NewAgent {
                id: format!("agent-{agent}").into(),
                name: String::new(),
                capabilities: Arc::clone(&skills),
                models: Arc::default(),
                max_load: 1,
                metadata: None,
                session: None,
                peer: None,
            });
            house.turn(command);
        }
        house
    }

    /// Submits tasks, spread over the classes. Gives how long the turns took.
    fn submit(&mut self, tasks: usize) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = tasks;
        while left > 0 {
            let size = left.min(BATCH);
            left -= size;
            let tasks = (0..size).map(|_| Ok(self.task())).collect();
            spent += self.turn(Command::Submit { tasks, batch: true }).spent;
        }
        spent
    }

    fn task(&mut self) -> NewTask {
        self.tickets += 1;
        let class = usize::try_from(self.tickets).unwrap_or(0) % self.classes;
        NewTask {
            fresh_id: true,
            demand: Demand {
                labels: vec![skill(class)],
                ..Demand::default()
            },
            ..NewTask::new(format!("task-{}", self.tickets).as_str(), "count the lines")
        }
    }

    /// The agent hands in what it had, and is given the next task.
    fn sync(&mut self, done: Option<&Completion>) -> (Option<Completion>, Duration) {
        let done = self.turn(Command::Sync(Sync {
            agent: AGENT.into(),
            session: None,
            n: None,
            running: Some(Vec::new()),
            done: done.into_iter().cloned().collect(),
            max: None,
            wait: Span::ZERO,
        }));
        let Answer::Sync(answer) = done.answer else {
            panic!("a sync is answered as one")
        };
        let next = answer.start.first().map(|start| {
            let task = &start.view.task;
            success(task, task.claimed_by.clone())
        });
        (next, done.spent)
    }

    /// Ends whatever was dispatched.
    fn complete_all(&mut self) {
        let completions = std::mem::take(&mut self.running).into_iter().map(Ok).collect();
        self.turn(Command::Complete {
            completions,
            batch: true,
        });
    }

    fn turn(&mut self, command: Command) -> Done {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.now = self.now + Span::from_micros(10);
        let requests = [Request {
            actor: Actor::admin(),
            command,
            idempotency: None,
            ticket,
        }];
        let mut spent = Duration::ZERO;
        let outcome = loop {
            let begun = Instant::now();
            let decision = decide(&mut self.set, &requests, self.now);
            spent += begun.elapsed();
            match decision {
                Decision::Done(outcome) => break outcome,
                Decision::More(wanted) => {
                    let rows = self.shelf.load(&wanted);
                    let begun = Instant::now();
                    self.set.absorb(&wanted, rows);
                    spent += begun.elapsed();
                }
            }
        };
        let begun = Instant::now();
        let changes = self.set.take_changes(false);
        self.set.settle();
        spent += begun.elapsed();
        self.running.clear();
        for task in changes.tasks.iter().filter_map(|change| change.now.as_ref()) {
            if task.claimed_by.is_some() && !task.status.is_terminal() {
                self.running.push(success(task, task.claimed_by.clone()));
            }
        }
        self.shelf.commit(&changes);
        let mut answers = outcome.answers;
        let index = answers
            .iter()
            .position(|(own, _)| *own == ticket)
            .expect("nothing waits here");
        let answer = answers.swap_remove(index).1.expect("nothing is refused here");
        Done { answer, spent }
    }
}

fn skill(class: usize) -> Label {
    Label::from(format!("skill-{class}"))
}

fn success(task: &Task, agent: Option<AgentId>) -> Completion {
    Completion {
        attempt: Some(task.attempt),
        agent,
        ..Completion::new(task.id.clone(), true)
    }
}

/// Classes and waiting tasks: what a turn may ask a store for here.
#[derive(Default)]
struct Shelf {
    classes: Vec<Arc<Class>>,
    tasks: HashMap<TaskKey, Arc<Task>>,
    queues: HashMap<Queue, BTreeSet<DispatchOrder>>,
}

impl Shelf {
    fn load(&mut self, wanted: &Wanted) -> Rows {
        let mut rows = Rows::default();
        for demand in &wanted.demands {
            let id = ClassId(i64::try_from(self.classes.len()).unwrap_or(i64::MAX));
            let class = Arc::new(Class {
                id,
                demand: demand.clone(),
            });
            self.classes.push(Arc::clone(&class));
            rows.classes.push(class);
        }
        for key in &wanted.tasks {
            rows.tasks.extend(self.tasks.get(key).cloned());
        }
        for (queue, after) in &wanted.windows {
            let from = after.map_or(Unbounded, Excluded);
            let mut behind = self
                .queues
                .get(queue)
                .into_iter()
                .flat_map(|orders| orders.range((from, Unbounded)));
            let orders: Vec<DispatchOrder> = behind.by_ref().take(WINDOW_STRETCH).copied().collect();
            rows.tasks.extend(
                orders
                    .iter()
                    .filter_map(|order| self.tasks.get(&order.key).cloned()),
            );
            rows.windows
                .push((queue.clone(), orders, behind.next().is_none()));
        }
        rows
    }

    fn commit(&mut self, changes: &Changes) {
        for change in &changes.tasks {
            if let Some(before) = &change.before
                && let Some(orders) = before.queue().and_then(|queue| self.queues.get_mut(&queue))
            {
                orders.remove(&before.order());
            }
            let Some(now) = &change.now else { continue };
            match now.queue() {
                Some(queue) => {
                    self.queues.entry(queue).or_default().insert(now.order());
                    self.tasks.insert(now.key, Arc::clone(now));
                }
                None if now.status.is_terminal() => drop(self.tasks.remove(&now.key)),
                None => drop(self.tasks.insert(now.key, Arc::clone(now))),
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1));
    targets = task_to_agent, upkeep, agent_to_task, submission
}
criterion_main!(benches);
