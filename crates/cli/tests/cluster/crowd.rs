//! The crowd: clients that submit and an operator who tidies up, over whatever server answers, and what they were told.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::chronicle::Terms;
use crate::dice::Dice;
use crate::support::api::{Answer, Api};

/// Tasks that are accepted and not completed, beyond which clients wait: agents are to have a share of the machine.
const BACKLOG: u64 = 120;
/// Among so many tasks of a client there are some of the project that has only so many jobs in a day.
const MAX_CAPPED: usize = 60;
/// Before the next try.
const PAUSE: Duration = Duration::from_millis(20);

/// What was answered with success.
#[derive(Default)]
pub(crate) struct Told {
    /// Tasks by their id, with what was asked for.
    pub(crate) tasks: BTreeMap<String, Terms>,
    /// Their ids by their titles.
    pub(crate) titles: BTreeMap<String, String>,
    /// Completed tasks, with the attempt that did it.
    pub(crate) completed: BTreeMap<String, i64>,
}

/// What all of them share.
pub(crate) struct Crowd {
    places: Vec<RwLock<Api>>,
    pub(crate) seed: u64,
    submitting: AtomicBool,
    working: AtomicBool,
    pub(crate) told: Mutex<Told>,
    /// Requests that got no answer.
    pub(crate) cut_off: AtomicU64,
    /// Requests that were told to come again later.
    pub(crate) put_off: AtomicU64,
    /// Agents that forgot everything.
    pub(crate) deaths: AtomicU64,
    /// Tasks that are accepted and not completed, as the operator saw it.
    backlog: AtomicU64,
}

impl Crowd {
    pub(crate) fn new(servers: &[Api], seed: u64) -> Arc<Self> {
        Arc::new(Self {
            places: servers.iter().cloned().map(RwLock::new).collect(),
            seed,
            submitting: AtomicBool::new(true),
            working: AtomicBool::new(true),
            told: Mutex::default(),
            cut_off: AtomicU64::new(0),
            put_off: AtomicU64::new(0),
            deaths: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
        })
    }

    /// A server was started again.
    pub(crate) fn meet(&self, place: usize, server: Api) {
        *self.places[place].write().unwrap() = server;
    }

    pub(crate) fn stop_submitting(&self) {
        self.submitting.store(false, Ordering::SeqCst);
    }

    pub(crate) fn stop_working(&self) {
        self.working.store(false, Ordering::SeqCst);
    }

    fn is_submitting(&self) -> bool {
        self.submitting.load(Ordering::SeqCst)
    }

    pub(crate) fn is_working(&self) -> bool {
        self.working.load(Ordering::SeqCst)
    }

    /// Somebody who asks one server, and another one when that does not answer.
    pub(crate) fn visitor(self: &Arc<Self>, stream: usize) -> Visitor {
        Visitor {
            crowd: Arc::clone(self),
            place: stream % self.places.len(),
            dice: Dice::new(self.seed, u64::try_from(stream).unwrap()),
        }
    }
}

pub(crate) struct Visitor {
    pub(crate) crowd: Arc<Crowd>,
    place: usize,
    pub(crate) dice: Dice,
}

impl Visitor {
    /// Asks the server of the moment, once.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &Value) -> Option<Answer> {
        self.ask_once(method, path, body, None)
    }

    fn ask_once(&mut self, method: &str, path: &str, body: &Value, key: Option<&str>) -> Option<Answer> {
        let server = self.server();
        let answer = match key {
            Some(key) => server.post_once(path, body, key),
            None => server.ask(method, path, (method != "GET").then_some(body)),
        };
        match answer {
            // Another test has the port of a server that was killed.
            Ok(answer) if matches!(answer.status, 401 | 403) => {
                self.crowd.cut_off.fetch_add(1, Ordering::Relaxed);
            }
            // Being told to come again later is no failure of the server; a bug is.
            Ok(answer) if answer.status == 503 => {
                self.crowd.put_off.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => {
                assert!(answer.status < 500, "{method} {path}: {answer:?}");
                return Some(answer);
            }
            Err(error) => {
                let hangs = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!hangs, "{method} {path}: the server at {} hangs", server.address);
                self.crowd.cut_off.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.move_on();
        thread::sleep(PAUSE);
        None
    }

    /// The server of the moment.
    pub(crate) fn server(&self) -> Api {
        self.crowd.places[self.place].read().unwrap().clone()
    }

    /// To another server.
    pub(crate) fn move_on(&mut self) {
        self.place = (self.place + 1 + self.dice.below(2)) % self.crowd.places.len();
    }
}

/// Chooses what a task asks for. It may wait for tasks of the same client.
fn terms(dice: &mut Dice, before: &[String], projects: &[&str]) -> Terms {
    let locks = ["main", "docs", "schema", "release", "lint"];
    let mut terms = Terms {
        project: Some((*dice.of(projects)).to_owned()).filter(|name| !name.is_empty()),
        ..Terms::default()
    };
    if dice.one_in(5) {
        let count = 1 + dice.below(2);
        let first = dice.below(locks.len());
        terms.locks = (0..count)
            .map(|index| locks[(first + index) % locks.len()].to_owned())
            .collect();
    }
    if !before.is_empty() && dice.one_in(5) {
        terms.dependencies.push(dice.of(before).clone());
    }
    terms
}

fn task(dice: &mut Dice, title: &str, id: Option<&str>, terms: &Terms) -> Value {
    let produces = dice.one_in(6);
    json!({
        "id": id, "title": title, "labels": ["work"], "model": "m",
        "project": terms.project, "locks": terms.locks, "dependencies": terms.dependencies,
        "priority": dice.of(&["critical", "high", "medium", "low"]),
        "estimated_tokens": dice.below(2) * 20,
        "max_retries": 1 + dice.below(2),
        "repo": produces.then_some("owner/name"), "produces": produces.then_some("pull_request"),
    })
}

/// A client that submits one by one and in batches, under ids of its own and of the server's, and tries each again with
/// the same key until it knows.
pub(crate) fn client(crowd: &Arc<Crowd>, stream: usize) -> JoinHandle<()> {
    let visitor = crowd.visitor(stream);
    thread::spawn(move || {
        Client {
            name: format!("client{stream}"),
            visitor,
            before: Vec::new(),
        }
        .run();
    })
}

struct Client {
    name: String,
    visitor: Visitor,
    /// Its last tasks.
    before: Vec<String>,
}

impl Client {
    fn run(mut self) {
        for number in 0.. {
            while self.visitor.crowd.backlog.load(Ordering::Relaxed) > BACKLOG
                && self.visitor.crowd.is_submitting()
            {
                thread::sleep(PAUSE);
            }
            if !self.visitor.crowd.is_submitting() {
                return;
            }
            if number % 5 == 4 {
                self.batch(number);
            } else {
                self.single(number);
            }
            let excess = self.before.len().saturating_sub(5);
            self.before.drain(..excess);
        }
    }

    fn single(&mut self, number: usize) {
        let title = format!("{}-{number}", self.name);
        // What is over the limit waits for the rest of the test: enough of it to reach the limit, and no more.
        let projects: &[&str] = if number < MAX_CAPPED {
            &["wide", "thin", "capped", ""]
        } else {
            &["wide", "thin", ""]
        };
        let terms = terms(&mut self.visitor.dice, &self.before, projects);
        let id = self.visitor.dice.one_in(3).then_some(title.as_str());
        let body = task(&mut self.visitor.dice, &title, id, &terms);
        let Some(answer) = self.insist("/api/tasks", &body, &title) else {
            return;
        };
        let accepted = answer.good();
        assert_eq!(accepted["title"], title);
        self.note(&title, accepted["id"].as_str().unwrap(), terms);
    }

    /// Each of a batch waits for the one before.
    fn batch(&mut self, number: usize) {
        let ids: Vec<String> = (0..4)
            .map(|part| format!("{}-{number}-{part}", self.name))
            .collect();
        let mut all = Vec::new();
        for (index, _) in ids.iter().enumerate() {
            let mut terms = terms(&mut self.visitor.dice, &[], &["wide", "thin", ""]);
            terms
                .dependencies
                .extend(index.checked_sub(1).map(|before| ids[before].clone()));
            all.push(terms);
        }
        let body = ids
            .iter()
            .zip(&all)
            .map(|(id, terms)| task(&mut self.visitor.dice, id, Some(id), terms))
            .collect();
        let Some(answer) = self.insist("/api/batch/tasks", &body, &ids[0]) else {
            return;
        };
        let items = answer.good();
        for ((id, terms), item) in ids.iter().zip(all).zip(items.as_array().unwrap()) {
            assert_eq!(item["status"], 201, "{item}");
            self.note(id, id, terms);
        }
    }

    /// Asks until there is an answer. Without one in the end nobody was told anything.
    fn insist(&mut self, path: &str, body: &Value, key: &str) -> Option<Answer> {
        while self.visitor.crowd.is_submitting() {
            let answer = self.visitor.ask_once("POST", path, body, Some(key));
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    fn note(&mut self, title: &str, id: &str, terms: Terms) {
        if terms.project.as_deref() != Some("capped") {
            self.before.push(id.to_owned());
        }
        let mut told = self.visitor.crowd.told.lock().unwrap();
        told.tasks.insert(id.to_owned(), terms);
        told.titles.insert(title.to_owned(), id.to_owned());
    }
}

/// An operator who counts what is open, revives dead letters, lets agents out of quarantine, and takes a task back now
/// and then.
pub(crate) fn operator(crowd: &Arc<Crowd>, stream: usize) -> JoinHandle<()> {
    let mut visitor = crowd.visitor(stream);
    thread::spawn(move || {
        while visitor.crowd.is_working() {
            if let Some(status) = visitor.ask("GET", "/api/status", &Value::Null) {
                let tasks = &status.good()["tasks"];
                let open = ["pending", "blocked", "in_progress"].map(|state| tasks[state].as_u64().unwrap());
                visitor.crowd.backlog.store(open.iter().sum(), Ordering::Relaxed);
            }
            visit(&mut visitor, "/api/tasks?status=failed", "/api/tasks", "retry", 1);
            visit(
                &mut visitor,
                "/api/agents?status=quarantined",
                "/api/agents",
                "lift",
                1,
            );
            visit(
                &mut visitor,
                "/api/tasks?status=in_progress",
                "/api/tasks",
                "release",
                40,
            );
            thread::sleep(PAUSE * 5);
        }
    })
}

/// Does something to one in so many of a list. It may have changed meanwhile: then the answer is a 4xx.
fn visit(visitor: &mut Visitor, list: &str, path: &str, act: &str, one_in: usize) {
    let Some(found) = visitor.ask("GET", list, &Value::Null) else {
        return;
    };
    for item in found.good().as_array().unwrap() {
        if visitor.dice.one_in(one_in) {
            let id = item["id"].as_str().unwrap();
            visitor.ask("POST", &format!("{path}/{id}/{act}"), &json!({}));
        }
    }
}
