//! An agent over plain HTTP: it works, reports, dies, falls asleep and goes to other servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crowd::{Crowd, Visitor};

pub(crate) const MAX_LOAD: usize = 3;

/// How often, in loops of which some ten are in a second.
const DEATHS: usize = 150;
const NAPS: usize = 300;
const MOVES: usize = 60;

/// Starts an agent. `ttl` is what servers think of as silence.
pub(crate) fn agent(crowd: &Arc<Crowd>, name: &str, stream: usize, ttl: Duration) -> JoinHandle<()> {
    let mut agent = Agent {
        visitor: crowd.visitor(stream),
        name: name.to_owned(),
        ttl,
        life: 0,
        n: 0,
        running: BTreeMap::new(),
        done: BTreeMap::new(),
    };
    thread::spawn(move || {
        agent.register();
        while agent.visitor.crowd.is_working() {
            agent.chance();
            agent.sync();
            agent.work();
        }
    })
}

struct Agent {
    visitor: Visitor,
    name: String,
    ttl: Duration,
    life: u32,
    n: u64,
    /// Tasks with their attempt, and when they will be done.
    running: BTreeMap<String, (i64, Instant)>,
    /// Ended, and not acknowledged yet: attempt and success.
    done: BTreeMap<String, (i64, bool)>,
}

impl Agent {
    fn session(&self) -> String {
        format!("{}-{}", self.name, self.life)
    }

    fn register(&mut self) {
        let agent = json!({ "id": self.name, "session": self.session(), "capabilities": ["work"], "max_load": MAX_LOAD });
        // Also when all is over: the sync that follows is of this session.
        loop {
            if let Some(answer) = self.visitor.ask("POST", "/api/agents", &agent) {
                answer.good();
                return;
            }
        }
    }

    fn chance(&mut self) {
        if self.visitor.dice.one_in(MOVES) {
            self.visitor.move_on();
        }
        if self.visitor.dice.one_in(NAPS) {
            // As a process that was stopped: it goes on as if nothing had happened.
            thread::sleep(self.ttl * 3 / 2);
        }
        if self.visitor.dice.one_in(DEATHS) {
            self.visitor.crowd.deaths.fetch_add(1, Ordering::Relaxed);
            self.life += 1;
            self.n = 0;
            self.running.clear();
            self.done.clear();
            if self.visitor.dice.one_in(3) {
                thread::sleep(self.ttl * 5 / 4);
            }
            self.register();
        }
    }

    fn completion(id: &str, attempt: i64, success: bool) -> Value {
        json!({ "id": id, "attempt": attempt, "success": success, "model": "m",
                "tokens_in": 11, "tokens_out": 4, "error_message": "on purpose" })
    }

    fn sync(&mut self) {
        let running: Vec<Value> = self
            .running
            .iter()
            .map(|(id, (attempt, _))| json!({ "id": id, "attempt": attempt }))
            .collect();
        let ended: Vec<(String, i64, bool)> = self
            .done
            .iter()
            .map(|(id, (attempt, success))| (id.clone(), *attempt, *success))
            .collect();
        let done: Vec<Value> = ended
            .iter()
            .map(|(id, attempt, success)| Self::completion(id, *attempt, *success))
            .collect();
        self.n += 1;
        let wait = if self.running.is_empty() { 1.0 } else { 0.05 };
        let body =
            json!({ "session": self.session(), "n": self.n, "running": running, "done": done, "wait": wait });
        let path = format!("/api/agents/{}/sync", self.name);
        let Some(answer) = self.visitor.ask("POST", &path, &body) else {
            return;
        };
        assert!(answer.is_good(), "{answer:?} to {body}");
        let answer = answer.body;
        let results = answer["done"].as_array().unwrap();
        assert_eq!(results.len(), ended.len());
        for ((id, attempt, success), result) in ended.into_iter().zip(results) {
            self.done.remove(&id);
            self.acknowledged(&id, attempt, success, result["status"].as_u64().unwrap());
        }
        for stop in answer["stop"].as_array().unwrap() {
            let id = stop["id"].as_str().unwrap();
            if self
                .running
                .get(id)
                .is_some_and(|(attempt, _)| stop["attempt"] == *attempt)
            {
                self.running.remove(id);
            }
        }
        for start in answer["start"].as_array().unwrap() {
            self.start(
                start["task"]["id"].as_str().unwrap(),
                start["attempt"].as_i64().unwrap(),
            );
        }
        assert!(
            self.running.len() <= MAX_LOAD,
            "I2: {} runs {:?}",
            self.name,
            self.running
        );
    }

    fn start(&mut self, id: &str, attempt: i64) {
        let known = self.running.get(id).map(|(attempt, _)| *attempt);
        let ended = self.done.get(id).map(|(attempt, _)| *attempt);
        if known != Some(attempt) && ended != Some(attempt) {
            let end = Instant::now() + self.visitor.dice.millis(0, 250);
            self.running.insert(id.to_owned(), (attempt, end));
        }
    }

    fn acknowledged(&mut self, id: &str, attempt: i64, success: bool, status: u64) {
        assert!(status == 200 || status == 409, "{id} attempt {attempt}: {status}");
        if status == 200 && success {
            let mut told = self.visitor.crowd.told.lock().unwrap();
            let before = told.completed.insert(id.to_owned(), attempt);
            assert!(
                before.is_none_or(|before| before == attempt),
                "I10: {id} completed by {before:?} and {attempt}"
            );
        }
    }

    /// Reports use, sometimes twice, and ends what is done: one in three by a request of its own, the others with the
    /// next sync. One in thirty fails.
    fn work(&mut self) {
        let now = Instant::now();
        let ready: Vec<(String, i64)> = self
            .running
            .iter()
            .filter(|(_, (_, end))| *end <= now)
            .map(|(id, (attempt, _))| (id.clone(), *attempt))
            .collect();
        for (id, attempt) in ready {
            self.running.remove(&id);
            let success = !self.visitor.dice.one_in(30);
            let usage = json!({ "agent_id": self.name, "job_id": id, "attempt": attempt, "model": "m",
                "tokens_in": 10, "tokens_out": 3, "total": true, "event": "usage" });
            for _ in 0..self.visitor.dice.below(3) {
                self.visitor.ask("POST", "/api/usage", &usage);
            }
            if success && self.visitor.dice.one_in(3) {
                let mut end = Self::completion(&id, attempt, true);
                end["agent_id"] = self.name.clone().into();
                if let Some(answer) = self
                    .visitor
                    .ask("POST", &format!("/api/tasks/{id}/complete"), &end)
                {
                    self.acknowledged(&id, attempt, true, answer.status.into());
                    continue;
                }
            }
            self.done.insert(id, (attempt, success));
        }
    }
}
