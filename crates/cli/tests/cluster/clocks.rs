//! Clocks: servers whose machines have the wrong time do what the others do, at the same time.
//!
//! libfaketime puts the clock of one program wrong and leaves alone how fast it goes. A machine without it skips the test,
//! loudly; `ADJUTANT_REQUIRE_FAKETIME=1` makes that a failure.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use adjutant_core::time::{Span, Timestamp};
use adjutant_engine::clock::wall;
use adjutant_postgres_fixture::shared;
use serde_json::{Value, json};

use crate::books;
use crate::servers::{Start, within};
use crate::support::Server;
use crate::support::api::Api;

const REQUIRE_VARIABLE: &str = "ADJUTANT_REQUIRE_FAKETIME";
/// How long an agent may be silent, and what leases last.
const TTL: Duration = Duration::from_secs(8);
/// How wrong the clocks are, in minutes. That of the first one is right; that of the last one has the next day.
const MINUTES: [i64; 4] = [0, 10, -10, 24 * 60];
/// What the fleet may start of one project in a day.
const JOBS: usize = 3;
/// How long an attempt may take, and how long a task is to be left alone at first.
const WHILE: Duration = Duration::from_secs(6);
/// Far less than clocks are wrong.
const PATIENCE: Duration = Duration::from_mins(1);

fn library() -> Option<PathBuf> {
    let places = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"];
    let mut directories: Vec<PathBuf> = places.iter().map(PathBuf::from).collect();
    for place in places {
        let inner = std::fs::read_dir(place).into_iter().flatten().flatten();
        directories.extend(inner.map(|entry| entry.path()));
    }
    let mut found = directories.iter().map(|at| at.join("faketime/libfaketime.so.1"));
    let found = found.find(|path| path.exists());
    if found.is_none() {
        let why = "this machine has no libfaketime (apt install faketime)";
        let is_required =
            std::env::var_os(REQUIRE_VARIABLE).is_some_and(|value| !value.is_empty() && value != "0");
        assert!(!is_required, "{why}");
        // Written to stderr itself: what `eprintln!` prints is kept back where a test passes.
        let _ = writeln!(
            std::io::stderr(),
            "\n*** servers with wrong clocks are NOT TESTED: {why} ***\n"
        );
    }
    found
}

/// Servers that end by themselves, also when the test fails: the library then removes what it has in /dev/shm.
struct Servers(Vec<Server>);

impl Drop for Servers {
    fn drop(&mut self) {
        for server in self.0.drain(..) {
            server.terminate();
        }
    }
}

/// What the clock of a server says, by the head of an answer: minutes of the day.
fn minute_of(api: &Api) -> i64 {
    let answer = api.ask("GET", "/v1/health", None).unwrap();
    let date = answer.header("date").unwrap().to_owned();
    let time = date.split(' ').nth(4).unwrap();
    let mut parts = time.split(':').map(|part| part.parse::<i64>().unwrap());
    parts.next().unwrap() * 60 + parts.next().unwrap()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn span(duration: Duration) -> Span {
    Span::from_micros(i64::try_from(duration.as_micros()).unwrap())
}

/// Whether a time that was written down between two moments of the right clock lies between them.
#[track_caller]
fn lies_between(before: Timestamp, value: &Value, after: Timestamp) {
    let (at, moment) = (time(value), Span::from_secs(1));
    assert!(
        before - moment <= at && at <= after + moment,
        "{at} is not between {before} and {after}"
    );
}

/// An agent of one server, and what it runs.
struct Agent<'a> {
    api: &'a Api,
    name: String,
    running: Vec<Value>,
}

impl<'a> Agent<'a> {
    fn new(api: &'a Api, name: String) -> Self {
        let agent = json!({ "id": name, "session": "s", "max_load": 0, "capabilities": [name] });
        api.done("/api/agents", &agent);
        Self {
            api,
            name,
            running: Vec::new(),
        }
    }

    /// Submits a task for this agent.
    fn submit(&self, id: &str, more: &Value) {
        let mut task = json!({ "id": format!("{id}-{}", self.name), "title": id, "labels": [self.name], "max_retries": 1 });
        task.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let before = wall();
        let made = self.api.done("/api/tasks", &task);
        lies_between(before, &made["created_at"], wall());
    }

    /// Syncs; gives what started and what was stopped.
    fn sync(&mut self) -> (Vec<String>, Vec<(String, String)>) {
        let before = wall();
        let body = json!({ "session": "s", "running": self.running, "wait": 0.2 });
        let answer = self.api.sync(&self.name, &body);
        let after = wall();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut started = Vec::new();
        for start in answer["start"].as_array().unwrap() {
            // It lasts for a ttl from some time within this sync.
            lies_between(before + span(TTL), &start["lease_expires_at"], after + span(TTL));
            let one = json!({ "id": start["task"]["id"], "attempt": start["attempt"] });
            assert_eq!(one["attempt"], 1, "nothing was lost: {answer}");
            if !self.running.contains(&one) {
                started.push(text(&one["id"]));
                self.running.push(one);
            }
        }
        let stops = answer["stop"].as_array().unwrap();
        let stopped: Vec<_> = stops
            .iter()
            .map(|stop| (text(&stop["id"]), text(&stop["reason"])))
            .collect();
        self.running
            .retain(|one| !stopped.iter().any(|(id, _)| one["id"] == **id));
        (started, stopped)
    }

    /// Works for two and a half times its ttl: a clock that counted would be minutes off. One task has a timeout, one is not
    /// to begin at once, and one is of a project for which the day has no room for all.
    fn work(mut self) {
        let (began, at) = (Instant::now(), wall());
        self.submit("plain", &json!({}));
        self.submit("short", &json!({ "timeout": WHILE.as_secs() }));
        self.submit("later", &json!({ "not_before": at + span(WHILE) }));
        self.submit("daily", &json!({ "project": "p" }));
        let (mut timed_out, mut begun_later) = (None, None);
        while began.elapsed() < TTL * 5 / 2 {
            let (started, stopped) = self.sync();
            if started.contains(&format!("later-{}", self.name)) {
                begun_later = Some(wall().since(at));
            }
            for (id, reason) in stopped {
                assert_eq!(
                    (id, reason),
                    (format!("short-{}", self.name), "timeout".to_owned())
                );
                timed_out = Some(began.elapsed());
            }
            thread::sleep(Duration::from_millis(200));
        }
        let timed_out = timed_out.expect("its time is over");
        println!(
            "clocks: {}: out of time after {timed_out:?}, begun later after {begun_later:?}",
            self.name
        );
        assert!(timed_out >= WHILE, "{timed_out:?}");
        let begun_later = begun_later.expect("its time has come");
        assert!(begun_later >= span(WHILE), "{begun_later:?}");
    }
}

/// Servers whose clocks are so many minutes ahead, or behind.
fn wrong(start: &Start, library: &Path, minutes: i64) -> Start {
    start.with(&[
        ("LD_PRELOAD", library.to_str().unwrap().to_owned()),
        ("FAKETIME", format!("{minutes:+}m")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

/// How long the oldest task waits, as a server tells it.
fn queue_age(api: &Api) -> f64 {
    let metrics = api.get("/metrics");
    let line = metrics
        .as_str()
        .unwrap()
        .lines()
        .find(|line| line.starts_with("adjutant_queue_age_seconds{priority=\"medium\"}"));
    line.unwrap().split(' ').next_back().unwrap().parse().unwrap()
}

#[test]
fn servers_with_wrong_clocks_reap_nobody_and_end_nothing_early() {
    let (Some(cluster), Some(library)) = (shared(), library()) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let start = Start::on(&database, &directory, "8s");
    let began = wall();
    let mut servers = Servers(Vec::new());
    let apis: Vec<Api> = MINUTES
        .into_iter()
        .map(|minutes| {
            let (server, api) = wrong(&start, &library, minutes).one();
            servers.0.push(server);
            let told = minute_of(&api);
            let right = began.as_micros() / 60_000_000;
            let off = (told - right - minutes).rem_euclid(24 * 60);
            assert!(
                off < 3,
                "its clock is not as wrong as it should be: {told}, {right}, {minutes}"
            );
            api
        })
        .collect();
    let limits = json!({ "limits": [{ "window": "day", "jobs": JOBS }] });
    apis[1].put("/api/limits/project:p", &limits);
    thread::scope(|scope| {
        let agents = apis.iter().enumerate();
        let agents: Vec<_> = agents
            .map(|(place, api)| scope.spawn(move || Agent::new(api, format!("agent{place}")).work()))
            .collect();
        for agent in agents {
            agent.join().unwrap();
        }
    });
    // One of them had no room in this day, and waits since then.
    let waiting = apis[0].get("/api/tasks?status=pending");
    let day = |at: Timestamp| at.as_micros() / 86_400_000_000;
    let ended = wall();
    let is_one_day = day(began) == day(ended);
    if is_one_day {
        assert_eq!(
            waiting.as_array().unwrap().len(),
            MINUTES.len() - JOBS,
            "{waiting}"
        );
        let lasts = Duration::from_micros(ended.since(began).as_micros().unsigned_abs()).as_secs_f64();
        for api in &apis {
            let age = queue_age(api);
            println!("clocks: the oldest task has waited for {age} s");
            assert!(age > TTL.as_secs_f64() && age < lasts + 5.0, "{age} of {lasts} s");
        }
    }
    drop(servers);

    let count = |kind: &str| database.sql(&format!("SELECT count(*) FROM event WHERE kind = '{kind}'"));
    assert_eq!(count("agent_offline"), "0", "nobody is reaped");
    assert_eq!(
        count("task_attempt_failed"),
        MINUTES.len().to_string(),
        "but those whose time was over"
    );
    assert_eq!(count("lease_expired"), "0");
    // Turns of different servers may overtake each other by a moment.
    let unordered = "SELECT seq FROM (SELECT seq, at, max(at) OVER (ORDER BY seq) AS latest FROM event) AS told \
                     WHERE at < latest - 5000000";
    assert_eq!(database.sql(unordered), "", "time goes on from event to event");
    let most = books::most_jobs_in_a_day(&database, "project:p");
    assert_eq!(most, i64::try_from(JOBS).unwrap(), "I3");
    let days: BTreeSet<i64> = database
        .sql("SELECT DISTINCT hour / 86400000000 FROM line")
        .lines()
        .map(|day| day.parse().unwrap())
        .collect();
    assert!(
        days.iter().all(|of| (day(began)..=day(ended)).contains(of)),
        "{days:?}"
    );
    books::check(&database);
}

/// A place for webhooks that fails once. Gives when it was asked, each time.
fn failing_once() -> (String, Receiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (send, asked) = channel();
    // It ends with the test program.
    thread::spawn(move || {
        let answers = ["500 Internal Server Error", "204 No Content"];
        for (stream, answer) in listener.incoming().zip(answers) {
            let mut stream = stream.unwrap();
            let mut message = Vec::new();
            let mut part = [0; 4096];
            // The body is JSON, and ends with what no head has.
            while !message.ends_with(b"}") {
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0, "a message is cut off");
                message.extend_from_slice(&part[..read]);
            }
            // The test may have failed meanwhile.
            let _ = send.send(Instant::now());
            let head = format!("HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        }
    });
    (url, asked)
}

#[test]
fn a_server_with_a_wrong_clock_tries_a_delivery_again_in_its_time() {
    let (Some(cluster), Some(library)) = (shared(), library()) else {
        return;
    };
    for minutes in [10, -10] {
        let directory = tempfile::tempdir().unwrap();
        let database = cluster.database();
        let start = Start::on(&database, &directory, "60s");
        let (server, api) = wrong(&start, &library, minutes).one();
        let _server = Servers(vec![server]);
        let (url, asked) = failing_once();
        let webhook = json!({ "name": "w", "url": url, "events": ["task_created"] });
        api.done("/api/webhooks", &webhook);
        api.submit("t");
        let first = asked.recv_timeout(PATIENCE).unwrap();
        let again = asked.recv_timeout(PATIENCE).unwrap();
        println!("clocks: {minutes} minutes: tried again after {:?}", again - first);
        // After five seconds, and some more.
        assert!(
            again - first > Duration::from_millis(4_900),
            "{:?}",
            again - first
        );
        within(PATIENCE, "it is delivered", || {
            (api.get("/api/webhooks/w/deliveries") == json!([])).then_some(())
        });
    }
}
