//! Streams of events of several servers: whoever follows one of them is told everything, once and in order, whichever
//! server did it, and also when its own is killed meanwhile.

use std::collections::BTreeSet;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use adjutant_postgres_fixture::shared;
use serde_json::{Value, json};

use crate::books;
use crate::follower::Follower;
use crate::servers::{Start, within};
use crate::support::api::Api;

const PATIENCE: Duration = Duration::from_mins(2);
/// How often one of the servers is killed.
const KILLS: usize = 3;
/// What is to happen between two kills.
const TASKS: usize = 60;

/// A server that is started again somewhere else, maybe.
struct Place(RwLock<Api>);

impl Place {
    fn api(&self) -> Api {
        self.0.read().unwrap().clone()
    }
}

/// Submits tasks at one server, and works on what its agent is given there, until it is over. Gives the tasks that were
/// accepted. What got no answer is asked again under the same key.
fn work(place: &Place, name: &str, is_over: &AtomicBool) -> BTreeSet<String> {
    let ask = |path: &str, body: &Value, key: &str| {
        let began = Instant::now();
        loop {
            if let Ok(answer) = place.api().post_once(path, body, key)
                && answer.is_good()
            {
                return answer.body;
            }
            assert!(began.elapsed() < PATIENCE, "{path} is not answered");
            thread::sleep(Duration::from_millis(20));
        }
    };
    let agent = json!({ "id": name, "session": "s", "max_load": 4, "capabilities": [name] });
    ask("/api/agents", &agent, &format!("{name}-registers"));
    let (mut accepted, mut open) = (BTreeSet::new(), BTreeSet::new());
    let began = Instant::now();
    for number in 0.. {
        assert!(began.elapsed() < PATIENCE, "{open:?} do not end");
        let id = format!("{name}-{number}");
        if !is_over.load(Ordering::SeqCst) {
            ask(
                "/api/tasks",
                &json!({ "id": id, "title": id, "labels": [name] }),
                &id,
            );
            accepted.insert(id.clone());
            open.insert(id);
        } else if open.is_empty() {
            break;
        }
        let running = json!({ "session": "s", "running": [], "wait": 0.05 });
        let Ok(answer) = place.api().post(&format!("/api/agents/{name}/sync"), &running) else {
            continue;
        };
        for start in answer.body["start"].as_array().into_iter().flatten() {
            let id = start["task"]["id"].as_str().unwrap();
            let end = json!({ "agent_id": name, "attempt": start["attempt"], "success": true });
            ask(&format!("/api/tasks/{id}/complete"), &end, &format!("{id}-ends"));
            open.remove(id);
        }
    }
    accepted
}

/// When it is dropped nobody works or reads any more, also after a failure.
struct Course<'a> {
    is_over: &'a AtomicBool,
    last: &'a AtomicU64,
}

impl Drop for Course<'_> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.last.store(0, Ordering::SeqCst);
    }
}

/// What a reader was told.
struct Told {
    events: Vec<Value>,
    /// After how many events its stream broke.
    breaks: Vec<usize>,
}

/// Follows one server from the first event to the last, whose number is known in the end. After an interruption it goes
/// on behind the last one that it was told of.
fn follow(place: &Place, count: &AtomicU64, last: &AtomicU64) -> Told {
    let began = Instant::now();
    let mut told = Told {
        events: Vec::new(),
        breaks: Vec::new(),
    };
    let is_all = |told: &Told| told.events.len() as u64 >= last.load(Ordering::SeqCst);
    while !is_all(&told) {
        assert!(
            began.elapsed() < PATIENCE,
            "it was told of {} events",
            told.events.len()
        );
        let Ok(follower) = Follower::after(&place.api(), told.events.len() as u64) else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        while !is_all(&told) && began.elapsed() < PATIENCE {
            match follower.next(Duration::from_millis(100)) {
                Ok(Some((id, event))) => {
                    let next = told.events.len() as u64 + 1;
                    assert_eq!((id, event["seq"].as_u64()), (next, Some(next)), "{event}");
                    told.events.push(event);
                    count.store(next, Ordering::SeqCst);
                }
                Ok(None) => {
                    told.breaks.push(told.events.len());
                    break;
                }
                // There is nothing new.
                Err(_) => {}
            }
        }
    }
    told
}

/// The event log as it is read page by page.
fn log(api: &Api) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let page = api.get(&format!("/api/events?since={}&limit=1000", events.len()));
        let page = page.as_array().unwrap();
        if page.is_empty() {
            return events;
        }
        events.extend(page.iter().cloned());
    }
}

#[test]
fn readers_of_two_servers_are_told_everything_once_though_one_is_killed() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let start = Start::on(&database, &directory, "60s");
    let (mut servers, apis) = start.three();
    let places: Vec<Place> = apis.into_iter().map(|api| Place(RwLock::new(api))).collect();
    let (is_over, last) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let told = |reader: usize| counts[reader].load(Ordering::SeqCst);
    let (accepted, readers) = thread::scope(|scope| {
        let _course = Course {
            is_over: &is_over,
            last: &last,
        };
        let readers = [0, 1].map(|reader| {
            let (place, count, last) = (&places[reader], &counts[reader], &last);
            scope.spawn(move || follow(place, count, last))
        });
        let workers: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(index, place)| {
                let is_over = &is_over;
                scope.spawn(move || work(place, &format!("agent{index}"), is_over))
            })
            .collect();
        for kill in 0..=KILLS {
            // Three events at least for each task.
            let until = told(0) + 3 * TASKS as u64;
            within(PATIENCE, "both are told of what happens", || {
                // A reader that broke says why when it is joined.
                let has_broken = readers.iter().any(ScopedJoinHandle::is_finished);
                (has_broken || told(0) > until && told(1) > until - TASKS as u64).then_some(())
            });
            if kill < KILLS {
                servers.remove(1).kill();
                let (server, api) = start.again(&places[1].api().address);
                servers.insert(1, server);
                *places[1].0.write().unwrap() = api;
            }
        }
        is_over.store(true, Ordering::SeqCst);
        let accepted = workers.into_iter().map(|worker| worker.join().unwrap());
        let accepted: BTreeSet<String> = accepted.flatten().collect();
        let head = database.sql("SELECT seq FROM event_head");
        last.store(head.parse().unwrap(), Ordering::SeqCst);
        let readers = readers.map(|reader| reader.join().unwrap());
        (accepted, readers)
    });
    let events = log(&places[2].api());
    for reader in &readers {
        assert_eq!(reader.events, events);
    }
    assert!(readers[0].breaks.is_empty(), "its server lived");
    let (breaks, all) = (&readers[1].breaks, events.len());
    assert_eq!(breaks.len(), KILLS, "{breaks:?}");
    assert!(
        breaks.iter().all(|at| *at > 0 && *at < all),
        "{breaks:?} of {all}"
    );
    for kind in ["task_created", "task_completed"] {
        let of_kind = events.iter().filter(|event| event["type"] == kind);
        let tasks: Vec<&str> = of_kind.map(|event| event["task_id"].as_str().unwrap()).collect();
        assert_eq!(tasks.len(), accepted.len(), "{kind}");
        assert!(tasks.iter().all(|id| accepted.contains(*id)), "{kind}");
    }
    println!(
        "streams: {all} events of {} tasks, told by two servers; broken after {breaks:?}",
        accepted.len()
    );
    drop(servers);
    books::check(&database);
}
