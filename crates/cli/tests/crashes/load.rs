//! Load: clients that submit and agents that work, over whatever server is there at the moment, and what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::{Answer, Api};

/// Tasks that are accepted and not completed, beyond which clients wait: agents are to have a share of the machine.
const BACKLOG: usize = 150;
/// Before the next try.
const PAUSE: Duration = Duration::from_millis(5);

/// What was answered with success.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) tasks: BTreeSet<String>,
    /// Completed tasks, with the attempt that did it.
    pub(crate) completed: BTreeMap<String, i64>,
    /// The highest limit that was set.
    pub(crate) limit: u64,
}

/// What all of them share.
pub(crate) struct Crowd {
    server: RwLock<Option<Api>>,
    submitting: AtomicBool,
    working: AtomicBool,
    pub(crate) told: Mutex<Told>,
    /// Requests that got no answer.
    pub(crate) cut_off: AtomicU64,
}

impl Crowd {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            server: RwLock::new(None),
            submitting: AtomicBool::new(true),
            working: AtomicBool::new(true),
            told: Mutex::default(),
            cut_off: AtomicU64::new(0),
        })
    }

    pub(crate) fn meet(&self, server: Api) {
        *self.server.write().unwrap() = Some(server);
    }

    pub(crate) fn stop_submitting(&self) {
        self.submitting.store(false, Ordering::SeqCst);
    }

    pub(crate) fn stop_working(&self) {
        self.working.store(false, Ordering::SeqCst);
    }

    /// Asks the server of the moment, once.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Option<Answer> {
        let server = self.server.read().unwrap().clone()?;
        if let Ok(answer) = server.ask(method, path, Some(body)) {
            // Being told to come again later is no failure of the server; a bug is.
            assert_ne!(answer.status, 500, "{method} {path}: {answer:?}");
            if answer.status != 503 {
                return Some(answer);
            }
        } else {
            self.cut_off.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(PAUSE);
        None
    }

    fn backlog(&self) -> usize {
        let told = self.told.lock().unwrap();
        told.tasks.len().saturating_sub(told.completed.len())
    }
}

fn task(id: &str) -> Value {
    json!({ "id": id, "title": id, "labels": ["work"], "project": "p", "model": "m", "estimated_tokens": 20 })
}

/// A client that submits under ids of its own, one by one and in batches, and tries each again until it knows.
pub(crate) fn client(crowd: &Arc<Crowd>, name: &'static str) -> JoinHandle<()> {
    let crowd = Arc::clone(crowd);
    thread::spawn(move || {
        for number in 0.. {
            while crowd.backlog() > BACKLOG && crowd.submitting.load(Ordering::SeqCst) {
                thread::sleep(PAUSE);
            }
            let ids: Vec<String> = if number % 4 == 0 {
                (0..5).map(|part| format!("{name}-{number}-{part}")).collect()
            } else {
                vec![format!("{name}-{number}")]
            };
            loop {
                if !crowd.submitting.load(Ordering::SeqCst) {
                    return;
                }
                if submit(&crowd, &ids) {
                    break;
                }
            }
            crowd.told.lock().unwrap().tasks.extend(ids);
        }
    })
}

/// Whether the answer says that all of them exist.
fn submit(crowd: &Crowd, ids: &[String]) -> bool {
    let exists = |status: u64| matches!(status, 201 | 409);
    if let [id] = ids {
        return match crowd.ask("POST", "/api/tasks", &task(id)) {
            Some(answer) if exists(answer.status.into()) => true,
            Some(answer) => panic!("{id}: {answer:?}"),
            None => false,
        };
    }
    let batch = ids.iter().map(|id| task(id)).collect();
    let Some(answer) = crowd.ask("POST", "/api/batch/tasks", &batch) else {
        return false;
    };
    let items = answer.good();
    for item in items.as_array().unwrap() {
        assert!(exists(item["status"].as_u64().unwrap()), "{item}");
    }
    true
}

/// An operator who raises a limit again and again: changes that no event tells of.
pub(crate) fn operator(crowd: &Arc<Crowd>) -> JoinHandle<()> {
    let crowd = Arc::clone(crowd);
    thread::spawn(move || {
        let mut limit = 1_000_000_000;
        while crowd.submitting.load(Ordering::SeqCst) {
            limit += 1;
            let limits = json!({ "limits": [{ "window": "total", "tokens": limit }] });
            if let Some(answer) = crowd.ask("PUT", "/api/limits/project:p", &limits) {
                answer.good();
                crowd.told.lock().unwrap().limit = limit;
            }
            thread::sleep(PAUSE * 4);
        }
    })
}

/// An agent over plain HTTP.
pub(crate) fn agent(crowd: &Arc<Crowd>, name: &'static str) -> JoinHandle<()> {
    let mut agent = Agent {
        crowd: Arc::clone(crowd),
        name,
        running: BTreeMap::new(),
        done: BTreeMap::new(),
    };
    thread::spawn(move || {
        while !agent.register() {}
        while agent.crowd.working.load(Ordering::SeqCst) {
            agent.sync();
            agent.work();
        }
    })
}

struct Agent {
    crowd: Arc<Crowd>,
    name: &'static str,
    running: BTreeMap<String, i64>,
    /// Ended, and not acknowledged yet: attempt and success.
    done: BTreeMap<String, (i64, bool)>,
}

impl Agent {
    fn register(&self) -> bool {
        let agent = json!({ "id": self.name, "session": self.name, "capabilities": ["work"], "max_load": 8 });
        self.crowd
            .ask("POST", "/api/agents", &agent)
            .is_some_and(|answer| !answer.good().is_null())
    }

    fn sync(&mut self) {
        let running: Vec<Value> = self
            .running
            .iter()
            .map(|(id, attempt)| json!({ "id": id, "attempt": attempt }))
            .collect();
        let ended: Vec<(String, i64, bool)> = self
            .done
            .iter()
            .map(|(id, (attempt, success))| (id.clone(), *attempt, *success))
            .collect();
        let done: Vec<Value> = ended
            .iter()
            .map(|(id, attempt, success)| {
                json!({ "id": id, "attempt": attempt, "success": success, "model": "m",
                        "tokens_in": 11, "tokens_out": 4, "error_message": "on purpose" })
            })
            .collect();
        let body = json!({ "session": self.name, "running": running, "done": done, "wait": 1 });
        let Some(answer) = self
            .crowd
            .ask("POST", &format!("/api/agents/{}/sync", self.name), &body)
        else {
            return;
        };
        let answer = answer.good();
        for ((id, attempt, success), result) in ended.into_iter().zip(answer["done"].as_array().unwrap()) {
            self.done.remove(&id);
            self.acknowledged(&id, attempt, success, result["status"].as_u64().unwrap());
        }
        for stop in answer["stop"].as_array().unwrap() {
            self.running.remove(stop["id"].as_str().unwrap());
        }
        for start in answer["start"].as_array().unwrap() {
            let id = start["task"]["id"].as_str().unwrap();
            if !self.done.contains_key(id) {
                self.running
                    .insert(id.to_owned(), start["attempt"].as_i64().unwrap());
            }
        }
    }

    fn acknowledged(&self, id: &str, attempt: i64, success: bool, status: u64) {
        assert!(status == 200 || status == 409, "{id} attempt {attempt}: {status}");
        if status == 200 && success {
            let before = self
                .crowd
                .told
                .lock()
                .unwrap()
                .completed
                .insert(id.to_owned(), attempt);
            assert!(
                before.is_none_or(|before| before == attempt),
                "I10: {id} completed by {before:?} and {attempt}"
            );
        }
    }

    /// Reports use, sometimes twice, and ends: one task in three by a request of its own, the others with the next
    /// sync. One in ten fails the first time.
    fn work(&mut self) {
        for (id, attempt) in std::mem::take(&mut self.running) {
            let kind = id.bytes().map(u32::from).sum::<u32>();
            let success = attempt > 1 || kind % 10 != 7;
            let usage = json!({ "agent_id": self.name, "job_id": id, "attempt": attempt, "model": "m",
                "tokens_in": 10, "tokens_out": 3, "total": true, "event": "usage" });
            for _ in 0..=kind % 2 {
                self.crowd.ask("POST", "/api/usage", &usage);
            }
            if success && kind % 3 == 0 {
                let end = json!({ "agent_id": self.name, "attempt": attempt, "success": true, "output": "done",
                    "model": "m", "tokens_in": 11, "tokens_out": 4 });
                let path = format!("/api/tasks/{id}/complete");
                if let Some(answer) = self.crowd.ask("POST", &path, &end) {
                    self.acknowledged(&id, attempt, true, answer.status.into());
                    continue;
                }
            }
            self.done.insert(id, (attempt, success));
        }
    }
}
