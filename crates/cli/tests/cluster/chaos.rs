//! Chaos: three servers, their agents and worker processes, random kill -9 and freezes, and a database that is restarted
//! and crashes.
//!
//! Whatever was accepted is completed, once, within its limits, and the books agree.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use adjutant_postgres_fixture::{Cluster, Database};
use serde_json::{Value, json};

use crate::books::{self, COMPLETED};
use crate::chronicle::{self, Bounds};
use crate::crowd::{Crowd, Told, client, operator};
use crate::dice::Dice;
use crate::processes::{Processes, WORKER_LOAD, WORKERS};
use crate::servers::{Start, random, within};
use crate::support::Server;
use crate::support::api::Api;
use crate::worker::{MAX_LOAD, agent};

/// How long an agent may be silent: short, so that silence is met often.
const TTL: Duration = Duration::from_secs(4);
const AGENTS: usize = 9;
const CLIENTS: usize = 3;
/// How long what was accepted may take when nobody disturbs it any more.
const SETTLING: Duration = Duration::from_mins(3);

const FLEET_BOUND: usize = 16;
const THIN_BOUND: usize = 2;
const CAPPED_JOBS: i64 = 25;
const MODEST_JOBS: i64 = 15;
/// This one may run one job at a time.
const SINGLE: &str = "agent0";
/// This one may start so many jobs in a day.
const MODEST: &str = "agent1";

const STATES: [&str; 6] = [
    "pending",
    "blocked",
    "in_progress",
    "completed",
    "failed",
    "cancelled",
];

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number")),
    )
}

#[test]
fn nothing_is_lost_and_nothing_done_twice_whatever_is_killed() {
    let Some(cluster) = Cluster::own() else { return };
    let seed = number("ADJUTANT_CHAOS_SEED").unwrap_or_else(|| random() >> 32);
    let seconds = number("ADJUTANT_CHAOS_SECONDS").unwrap_or(20);
    println!("chaos: ADJUTANT_CHAOS_SEED={seed}, {seconds} s");
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let start = Start::on(&database, &directory, "4s");
    let (servers, apis) = start.three();
    set_limits(&apis[0]);

    let crowd = Crowd::new(&apis, seed);
    let mut threads: Vec<_> = (0..CLIENTS).map(|stream| client(&crowd, stream)).collect();
    threads.push(operator(&crowd, 50));
    threads.extend((0..AGENTS).map(|index| agent(&crowd, &format!("agent{index}"), 100 + index, TTL)));
    let processes = Processes::start(&crowd, &start, 200);
    let keepers = Keepers::start(&crowd, &start, servers, &apis);
    disturb(&cluster, Duration::from_secs(seconds), &threads, &crowd);
    let (kills, freezes) = (keepers.kills.clone(), keepers.freezes.clone());
    let (servers, apis) = keepers.stop();
    processes.calm();
    let capped = books::most_jobs_in_a_day(&database, "project:capped");

    // What is over its limit waits until that is lifted.
    apis[0].put("/api/limits/project:capped", &json!({ "limits": [] }));
    crowd.stop_submitting();
    for client in threads.drain(..CLIENTS) {
        client.join().unwrap();
    }
    let began = Instant::now();
    settle(&apis[1], || {
        processes.have_broken() || threads.iter().any(JoinHandle::is_finished)
    });
    let settled = began.elapsed();
    crowd.stop_working();
    for thread in threads {
        thread.join().unwrap();
    }
    let worker_kills = processes.end();
    let states = states(&apis[2]);
    check_answers(&apis[0]);
    for server in servers {
        assert_eq!(server.terminate(), 0);
    }

    let told = crowd.told.lock().unwrap();
    check(&database, &told, &states);
    assert!(capped <= CAPPED_JOBS, "I3: {capped} jobs of {CAPPED_JOBS}");
    let modest = books::most_jobs_in_a_day(&database, &format!("agent:{MODEST}"));
    assert!(modest <= MODEST_JOBS, "I3: {modest} jobs of {MODEST_JOBS}");
    let kills = kills.load(Ordering::Relaxed);
    assert!(kills > 0 && worker_kills > 0, "{kills}, {worker_kills}");
    let by_workers = completed_by_workers(&database);
    assert!(by_workers > 0, "workers have worked");
    let starts: i64 = books::by_title(&database)
        .values()
        .flatten()
        .map(|task| task.attempt)
        .sum();
    println!(
        "chaos: {kills} kills of servers, {worker_kills} of workers, {} freezes, {} deaths of agents, 2 restarts of \
         PostgreSQL survived in {seconds} s; {} tasks accepted and completed in {starts} attempts, {by_workers} of them by \
         workers, {} requests cut off, {} put off; {capped} of {CAPPED_JOBS} \
         capped jobs, {modest} of {MODEST_JOBS} modest ones; settled in {settled:?}",
        freezes.load(Ordering::Relaxed),
        crowd.deaths.load(Ordering::Relaxed),
        told.tasks.len(),
        crowd.cut_off.load(Ordering::Relaxed),
        crowd.put_off.load(Ordering::Relaxed),
    );
}

fn completed_by_workers(database: &Database) -> u64 {
    let names = WORKERS.map(|id| format!("'{id}'")).join(", ");
    let sql = format!("SELECT count(*) FROM event WHERE kind = 'task_completed' AND agent IN ({names})");
    database.sql(&sql).parse().unwrap()
}

fn set_limits(api: &Api) {
    let put = |path: &str, body: Value| drop(api.put(path, &body));
    put(
        "/api/limits/fleet",
        json!({ "limits": [{ "window": "day", "concurrent": FLEET_BOUND, "jobs": 1_000_000 }] }),
    );
    put(
        "/api/limits/project:thin",
        json!({ "limits": [{ "window": "day", "concurrent": THIN_BOUND }] }),
    );
    put(
        "/api/limits/project:capped",
        json!({ "limits": [{ "window": "day", "jobs": CAPPED_JOBS }] }),
    );
    put(
        &format!("/api/allowances/{SINGLE}"),
        json!({ "concurrent_jobs": 1 }),
    );
    put(
        &format!("/api/allowances/{MODEST}"),
        json!({ "daily_job_limit": MODEST_JOBS }),
    );
    put(
        "/api/models/m",
        json!({ "daily_token_budget": 1_000_000_000, "prices": { "input": 300, "output": 1500 } }),
    );
}

fn bounds() -> Bounds {
    let agents = (0..AGENTS).map(|index| (format!("agent:agent{index}"), MAX_LOAD));
    let mut bounds: Bounds = agents.collect();
    bounds.extend(WORKERS.map(|id| (format!("agent:{id}"), WORKER_LOAD)));
    bounds.insert("fleet".into(), FLEET_BOUND);
    bounds.insert("project:thin".into(), THIN_BOUND);
    bounds.insert(format!("agent:{SINGLE}"), 1);
    bounds
}

/// The database is restarted after a third of the time, and crashes after two thirds.
fn disturb(cluster: &Cluster, length: Duration, threads: &[JoinHandle<()>], crowd: &Crowd) {
    let mut dice = Dice::new(crowd.seed, 1_000);
    let began = Instant::now();
    let wait_until = |part: u32| {
        let end = length * part / 3;
        while began.elapsed() < end && !threads.iter().any(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(50));
        }
    };
    wait_until(1);
    cluster.restart();
    wait_until(2);
    cluster.stop_immediately();
    thread::sleep(dice.millis(200, 3_000));
    cluster.start();
    wait_until(3);
}

/// One for each server: kills and freezes it, and starts it again.
struct Keepers {
    ended: Arc<AtomicBool>,
    kills: Arc<AtomicU64>,
    freezes: Arc<AtomicU64>,
    threads: Vec<JoinHandle<(Server, Api)>>,
}

impl Keepers {
    fn start(crowd: &Arc<Crowd>, start: &Start, servers: Vec<Server>, apis: &[Api]) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let kills = Arc::new(AtomicU64::new(0));
        let freezes = Arc::new(AtomicU64::new(0));
        let threads = servers.into_iter().zip(apis).enumerate();
        let threads = threads
            .map(|(place, (server, api))| {
                let mut keeper = Keeper {
                    place,
                    crowd: Arc::clone(crowd),
                    start: start.clone(),
                    dice: Dice::new(crowd.seed, 2_000 + u64::try_from(place).unwrap()),
                    api: api.clone(),
                    server: Some(server),
                    has_killed: false,
                    kills: Arc::clone(&kills),
                    freezes: Arc::clone(&freezes),
                };
                let ended = Arc::clone(&ended);
                thread::spawn(move || {
                    // Each kills its server once at least.
                    while !ended.load(Ordering::SeqCst) || !keeper.has_killed {
                        keeper.act();
                    }
                    (keeper.server.take().unwrap(), keeper.api)
                })
            })
            .collect();
        Self {
            ended,
            kills,
            freezes,
            threads,
        }
    }

    /// All servers are up after this.
    fn stop(self) -> (Vec<Server>, Vec<Api>) {
        self.ended.store(true, Ordering::SeqCst);
        self.threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .unzip()
    }
}

struct Keeper {
    place: usize,
    crowd: Arc<Crowd>,
    start: Start,
    dice: Dice,
    api: Api,
    server: Option<Server>,
    has_killed: bool,
    kills: Arc<AtomicU64>,
    freezes: Arc<AtomicU64>,
}

impl Keeper {
    fn act(&mut self) {
        // Not more often: a lane that was not given back is free again only after an hour, and there are 256.
        thread::sleep(self.dice.millis(1_000, 7_000));
        if self.dice.one_in(5) {
            let server = self.server.as_ref().unwrap();
            server.signal("STOP");
            thread::sleep(self.dice.millis(300, 6_000));
            server.signal("CONT");
            self.freezes.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.server.take().unwrap().kill();
        self.kills.fetch_add(1, Ordering::Relaxed);
        self.has_killed = true;
        thread::sleep(self.dice.millis(0, 1_000));
        let (server, api) = self.start.again(&self.api.address);
        self.crowd.meet(self.place, api.clone());
        self.api = api;
        self.server = Some(server);
    }
}

fn settle(api: &Api, has_broken: impl Fn() -> bool) {
    within(SETTLING, "all that was accepted is completed", || {
        // A thread that broke says why when it is joined.
        let broken = has_broken();
        let open = STATES.iter().filter(|state| **state != "completed").any(|state| {
            let found = api.get(&format!("/api/tasks?status={state}&limit=1"));
            found != json!([])
        });
        if !open || broken {
            return Some(());
        }
        thread::sleep(Duration::from_millis(200));
        None
    });
}

/// The lists that each task stands in.
fn states(api: &Api) -> BTreeMap<String, Vec<&'static str>> {
    let mut states: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for state in STATES {
        for task in api.pages(&format!("/api/tasks?status={state}&limit=1000")) {
            states
                .entry(task["id"].as_str().unwrap().to_owned())
                .or_default()
                .push(state);
        }
    }
    states
}

/// What is told of the scopes when all is over.
fn check_answers(api: &Api) {
    for scope in [
        "fleet",
        "model:m",
        "project:wide",
        "project:thin",
        "project:capped",
        "repo:owner%2Fname",
    ] {
        let limits = api.get(&format!("/api/limits/{scope}"));
        let open = (&limits["active_jobs"], &limits["held_tokens"]);
        assert_eq!(open, (&json!(0), &json!(0)), "{limits}");
    }
}

fn check(database: &Database, told: &Told, states: &BTreeMap<String, Vec<&'static str>>) {
    books::check(database);
    books::check_rest(database);
    // I5
    let lost: Vec<_> = told.tasks.keys().filter(|id| !states.contains_key(*id)).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    let torn: Vec<_> = states
        .iter()
        .filter(|(_, lists)| **lists != ["completed"])
        .collect();
    assert!(
        torn.is_empty(),
        "not completed, or in more than one list: {torn:?}"
    );
    let stored = books::by_title(database);
    for (title, tasks) in &stored {
        assert_eq!(tasks.len(), 1, "{title} was submitted once: {tasks:?}");
        assert_eq!(tasks[0].status, COMPLETED, "{tasks:?}");
        if let Some(id) = told.titles.get(title) {
            assert_eq!(tasks[0].id, *id, "{title}");
        }
    }
    // I10
    for (id, attempt) in &told.completed {
        let task = stored.values().flatten().find(|task| task.id == *id).unwrap();
        assert_eq!(task.attempt, *attempt, "{id}: an acknowledged completion stays");
    }
    let completed = chronicle::check(database, &told.tasks, &bounds());
    let all: BTreeSet<String> = states.keys().cloned().collect();
    assert_eq!(completed, all, "each completion is told");
}
