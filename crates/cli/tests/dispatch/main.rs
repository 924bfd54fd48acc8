//! `adjutant dispatch` between two real servers: tasks that wait on one are done by agents of the other.

mod plain;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::plain::PlainApi;
use crate::support::api::Api;
use crate::support::relay::Relay;
use crate::support::{Program, Server, TOKEN, eventually, run, write};

/// Two servers, each behind an address that stays, and what runs between them.
struct Sides {
    there: Server,
    here: Server,
    to_there: Relay,
    to_here: Relay,
    directory: TempDir,
}

impl Sides {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let side = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let (server, relay) = (Server::start_in(&path, &[]), Relay::new());
            relay.lead_to(&server);
            (server, relay)
        };
        let (foreign, own) = (side("there"), side("here"));
        Self {
            there: foreign.0,
            here: own.0,
            to_there: foreign.1,
            to_here: own.1,
            directory,
        }
    }

    /// kill -9 of the server there, and a start on the same store.
    fn restart_there(&mut self) {
        restart(&mut self.there, &self.to_there);
    }

    fn restart_here(&mut self) {
        restart(&mut self.here, &self.to_here);
    }

    /// A command that talks to the server here.
    fn command(&self) -> Command {
        let mut command = self.here.command();
        command.env("ADJUTANT_URL", &self.to_here.url);
        command
    }

    /// Starts the dispatcher.
    fn dispatch(&self) -> Program {
        Program::start(&mut self.dispatcher(&self.to_there.url))
    }

    fn dispatcher(&self, api: &str) -> Command {
        let mut command = self.command();
        command
            .args(["--json", "dispatch", "--api", api, "--interval", "1s"])
            .env("ADJUTANT_API_TOKEN", TOKEN)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// An agent here that runs a shell script for each task.
    fn worker(&self, id: &str, room: &str, script: &str) -> Program {
        let mut command = self.command();
        command
            .args(["worker", "--id", id, "--capabilities", "work", "--max-load", room])
            .args(["--", "sh", "-c", script])
            .current_dir(self.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Program::start(&mut command)
    }

    fn submit(&self, id: &str) {
        let task = json!({ "id": id, "title": format!("do {id}"), "labels": ["work"] });
        ask(&self.there, "POST", "/api/tasks", Some(&task)).expect("it is accepted");
    }

    /// The task there, once it is as it should be.
    #[track_caller]
    fn eventually(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/api/tasks/{id}");
        eventually(id, || ask(&self.there, "GET", &path, None).filter(&is))
    }

    /// The mirrors here, by the beginning of their title.
    fn mirrors(&self) -> Vec<Value> {
        let all = ask(&self.here, "GET", "/api/tasks?limit=1000", None).expect("there is a list");
        all.as_array().unwrap().clone()
    }
}

/// What a server says to a request, unless it says no.
fn ask(server: &Server, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
    let answer = Api::of(server).ask(method, path, body).ok()?;
    answer.is_good().then_some(answer.body)
}

fn restart(server: &mut Server, relay: &Relay) {
    server.signal("KILL");
    server.wait();
    *server = Server::start_in(&server.directory.clone(), &[]);
    relay.lead_to(server);
}

fn is(status: &'static str) -> impl Fn(&Value) -> bool {
    move |task| task["status"] == status
}

/// How many of the tasks there are over.
fn completed(server: &Server) -> usize {
    ask(server, "GET", "/api/tasks?status=completed&limit=1000", None)
        .and_then(|list| list.as_array().map(Vec::len))
        .unwrap_or(0)
}

fn lines(directory: &Path, name: &str) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        *lines.entry(line.to_owned()).or_default() += 1;
    }
    lines
}

#[test]
fn two_hundred_tasks_are_done_once_each_though_everything_is_killed_in_between() {
    const TASKS: usize = 200;
    let mut sides = Sides::start();
    let tasks: Vec<Value> = (0..TASKS)
        .map(|number| json!({ "id": format!("task-{number}"), "title": "work", "labels": ["work"] }))
        .collect();
    ask(&sides.there, "POST", "/api/batch/tasks", Some(&json!(tasks))).expect("they are accepted");
    let done = "echo $ADJUTANT_TASK_ID >> done; sleep 0.05";
    let _workers = ["a", "b", "c"].map(|id| sides.worker(id, "4", done));
    let mut dispatcher = sides.dispatch();
    let reaches = |sides: &Sides, number: usize| {
        eventually("more tasks are done", || {
            (completed(&sides.there) >= number).then_some(())
        });
    };
    reaches(&sides, 20);
    sides.restart_there();
    reaches(&sides, 60);
    sides.restart_here();
    reaches(&sides, 100);
    // A dropped program is killed as by kill -9.
    drop(dispatcher);
    dispatcher = sides.dispatch();
    reaches(&sides, 140);
    sides.restart_there();
    sides.restart_here();
    reaches(&sides, TASKS);
    let said = dispatcher.terminate();
    assert_eq!(said.code, 0, "{said:?}");
    let done = lines(sides.directory.path(), "done");
    assert_eq!(done.len(), TASKS, "each was done");
    assert!(done.values().all(|times| *times == 1), "and only once: {done:?}");
    let list = ask(&sides.there, "GET", "/api/tasks?limit=1000", None).unwrap();
    for task in list.as_array().unwrap() {
        assert_eq!(
            (&task["attempt"], &task["retry_count"]),
            (&json!(1), &json!(0)),
            "{task}"
        );
        assert!(
            ["a", "b", "c"].contains(&task["claimed_by"].as_str().unwrap()),
            "{task}"
        );
    }
}

#[test]
fn progress_notes_usage_and_the_result_are_told_there() {
    let sides = Sides::start();
    let agent = json!({ "id": "hand", "capabilities": ["work"] });
    ask(&sides.here, "POST", "/api/agents", Some(&agent)).expect("it is registered");
    sides.submit("one");
    // No more rights than the documentation says.
    let made = sides
        .there
        .run(&[
            "--json", "token", "create", "d", "--role", "submit", "--role", "agent:*",
        ])
        .json();
    let mut command = sides.dispatcher(&sides.to_there.url);
    command.env("ADJUTANT_API_TOKEN", made["token"].as_str().unwrap());
    let dispatcher = Program::start(&mut command);
    let path = "/api/agents/hand/sync";
    let job = eventually("the task is handed out", || {
        let sync = json!({ "running": [], "wait": 1 });
        let answer = ask(&sides.here, "POST", path, Some(&sync))?;
        answer["start"].get(0).cloned()
    });
    assert_eq!(job["task"]["title"], "do one");
    let mirror = job["task"]["id"].as_str().unwrap();
    let running = json!({ "running": [{ "id": mirror, "attempt": job["attempt"] }] });
    ask(&sides.here, "POST", path, Some(&running)).expect("it is taken");
    let news = json!({ "progress": 40, "notes": "half way", "agent_id": "hand" });
    ask(&sides.here, "PATCH", &format!("/api/tasks/{mirror}"), Some(&news)).expect("it is told");
    let there = sides.eventually("one", |task| task["progress"] == 40);
    assert_eq!(there["claimed_by"], "hand");
    assert_eq!(there["notes"][0]["text"], "half way");
    let end = json!({
        "success": true, "output": "seven", "artifacts": ["report.md"], "agent_id": "hand",
        "model": "m", "tokens_in": 70, "tokens_out": 7, "cost": 1.5,
    });
    ask(
        &sides.here,
        "POST",
        &format!("/api/tasks/{mirror}/complete"),
        Some(&end),
    )
    .expect("it is taken");
    let there = sides.eventually("one", is("completed"));
    assert_eq!(there["result"]["output"], "seven");
    assert_eq!(there["result"]["artifacts"], json!(["report.md"]));
    assert_eq!(there["notes"].as_array().unwrap().len(), 1, "told once");
    let used = &there["usage"];
    assert_eq!(
        (&used["tokens_in"], &used["tokens_out"], &used["cost"]),
        (&json!(70), &json!(7), &json!(1.5))
    );
    assert_eq!(used["models"][0]["model"], "m");
    assert_eq!(dispatcher.terminate().code, 0);
}

#[test]
fn a_failure_is_told_there_and_retried_by_the_rules_there() {
    let sides = Sides::start();
    let _worker = sides.worker("a", "1", "echo broken >&2; exit 3");
    sides.submit("one");
    let _dispatcher = sides.dispatch();
    let there = sides.eventually("one", |task| task["retry_count"] == 1);
    let reason = there["fail_reason"].as_str().unwrap();
    assert!(reason.contains("broken"), "{reason}");
    assert_eq!(there["status"], "pending", "it waits for its next attempt");
}

#[test]
fn a_claim_that_is_refused_costs_nothing() {
    let sides = Sides::start();
    let _worker = sides.worker("a", "2", "true");
    // There the name belongs to an agent that takes nothing.
    let agent = json!({ "id": "a", "capabilities": ["work"] });
    ask(&sides.there, "POST", "/api/agents", Some(&agent)).expect("it is registered");
    ask(&sides.there, "POST", "/api/agents/a/drain", None).expect("it drains");
    sides.submit("one");
    let dispatcher = sides.dispatch();
    let mirror = eventually("there is a mirror", || sides.mirrors().into_iter().next());
    assert_eq!(
        (&mirror["status"], &mirror["attempt"]),
        (&json!("pending"), &json!(0)),
        "nobody was given it"
    );
    let used = ask(&sides.here, "GET", "/api/allowances/a/usage", None).unwrap();
    assert_eq!(used["jobs_started"], 0);
    ask(&sides.there, "DELETE", "/api/agents/a", None).expect("it is gone");
    // A change there is a reason to ask at once.
    let change = json!({ "priority": "high" });
    ask(&sides.there, "PATCH", "/api/tasks/one", Some(&change)).expect("it is changed");
    sides.eventually("one", is("completed"));
    let said = dispatcher.terminate();
    assert!(said.stdout.contains("not_claimed"), "{said:?}");
}

#[test]
fn an_exhausted_agent_is_left_out_and_the_next_one_takes_it() {
    let sides = Sides::start();
    let _workers = ["a", "b"].map(|id| sides.worker(id, "4", "true"));
    let spent = json!({ "daily_token_limit": 0, "daily_job_limit": 1, "concurrent_jobs": 0 });
    ask(&sides.here, "PUT", "/api/allowances/a", Some(&spent)).expect("it is set");
    let _dispatcher = sides.dispatch();
    for id in ["one", "two", "three"] {
        sides.submit(id);
        sides.eventually(id, is("completed"));
    }
    let used = |id: &str| {
        let path = format!("/api/allowances/{id}/usage");
        ask(&sides.here, "GET", &path, None).unwrap()["jobs_started"]
            .as_i64()
            .unwrap()
    };
    assert!(used("a") <= 1);
    assert_eq!(used("a") + used("b"), 3);
}

#[test]
fn a_task_that_is_cancelled_there_is_stopped_here() {
    let sides = Sides::start();
    let _worker = sides.worker("a", "1", "echo started >> log; sleep 300");
    sides.submit("one");
    let _dispatcher = sides.dispatch();
    eventually("it runs", || {
        lines(sides.directory.path(), "log")
            .contains_key("started")
            .then_some(())
    });
    ask(&sides.there, "POST", "/api/tasks/one/cancel", None).expect("it is cancelled");
    eventually("the mirror is cancelled", || {
        sides.mirrors().into_iter().find(is("cancelled"))
    });
}

#[test]
fn a_mirror_that_is_cancelled_here_gives_the_task_back() {
    let sides = Sides::start();
    let _worker = sides.worker("a", "1", "sleep 300");
    sides.submit("one");
    let dispatcher = sides.dispatch();
    sides.eventually("one", is("in_progress"));
    let mirror = eventually("it is handed out", || {
        sides.mirrors().into_iter().find(is("in_progress"))
    });
    // Nobody takes it again.
    ask(&sides.here, "POST", "/api/agents/a/drain", None).expect("it drains");
    let path = format!("/api/tasks/{}/cancel", mirror["id"].as_str().unwrap());
    ask(&sides.here, "POST", &path, None).expect("it is cancelled");
    sides.eventually("one", is("pending"));
    let said = dispatcher.terminate();
    assert!(said.stdout.contains("given_back"), "{said:?}");
}

#[test]
fn an_attempt_that_was_given_away_there_is_ended_before_the_next_one_begins() {
    let sides = Sides::start();
    let script = "if mkdir first 2>/dev/null; then exec sleep 300; else echo second; fi";
    let _worker = sides.worker("a", "2", script);
    sides.submit("one");
    let dispatcher = sides.dispatch();
    eventually("it runs", || {
        sides.directory.path().join("first").exists().then_some(())
    });
    drop(dispatcher);
    let release = json!({ "attempt": 1, "agent_id": "a" });
    ask(&sides.there, "POST", "/api/tasks/one/release", Some(&release)).expect("it is released");
    let _dispatcher = sides.dispatch();
    let there = sides.eventually("one", is("completed"));
    assert_eq!(
        (&there["attempt"], &there["result"]["output"]),
        (&json!(2), &json!("second\n"))
    );
    let mut ends: Vec<Value> = sides
        .mirrors()
        .iter()
        .map(|mirror| mirror["status"].clone())
        .collect();
    ends.sort_by_key(Value::to_string);
    assert_eq!(ends, ["cancelled", "completed"]);
}

#[test]
fn a_mirror_that_was_not_let_go_after_its_claim_is_in_the_next_round() {
    let sides = Sides::start();
    let _worker = sides.worker("a", "2", "true");
    // Here something else has the lock, so that the mirror waits where it can be changed.
    let other = json!({ "id": "other", "title": "other", "locks": ["branch"] });
    ask(&sides.here, "POST", "/api/tasks", Some(&other)).expect("it is accepted");
    let claim = json!({ "agent_id": "somebody" });
    ask(&sides.here, "POST", "/api/tasks/other/claim", Some(&claim)).expect("it is claimed");
    let task = json!({ "id": "one", "title": "do one", "labels": ["work"], "locks": ["branch"] });
    ask(&sides.there, "POST", "/api/tasks", Some(&task)).expect("it is accepted");
    let _dispatcher = sides.dispatch();
    let is_let_go = || {
        let mut mirrors = sides.mirrors().into_iter();
        mirrors.find(|task| task["id"] != "other" && task["not_before"].is_null())
    };
    let mirror = eventually("it is let go", is_let_go);
    let path = format!("/api/tasks/{}", mirror["id"].as_str().unwrap());
    let held = json!({ "not_before": "9999-01-01T00:00:00Z" });
    ask(&sides.here, "PATCH", &path, Some(&held)).expect("it is changed");
    eventually("it is let go again", is_let_go);
}

#[test]
fn two_dispatchers_at_once_do_each_task_once() {
    let sides = Sides::start();
    let _workers = ["a", "b"].map(|id| sides.worker(id, "4", "echo $ADJUTANT_TASK_ID >> done"));
    let tasks: Vec<Value> = (0..40)
        .map(|number| json!({ "id": format!("task-{number}"), "title": "work", "labels": ["work"] }))
        .collect();
    ask(&sides.there, "POST", "/api/batch/tasks", Some(&json!(tasks))).expect("they are accepted");
    let _dispatchers = [sides.dispatch(), sides.dispatch()];
    eventually("all are done", || {
        (completed(&sides.there) == tasks.len()).then_some(())
    });
    let done = lines(sides.directory.path(), "done");
    assert_eq!(
        (done.len(), done.values().max()),
        (tasks.len(), Some(&1)),
        "{done:?}"
    );
}

#[test]
fn what_an_earlier_process_left_for_nothing_is_cleared_away() {
    let sides = Sides::start();
    let _worker = sides.worker("a", "1", "true");
    // Nothing is there by this name, or any more.
    sides.submit("one");
    let dispatcher = sides.dispatch();
    sides.eventually("one", is("completed"));
    let mirror = sides.mirrors().remove(0);
    drop(dispatcher);
    let left = mirror["id"].as_str().unwrap().replace(".one.1.1", ".gone.1.1");
    let task = json!({ "id": left, "title": "left", "not_before": "9999-01-01T00:00:00Z" });
    ask(&sides.here, "POST", "/api/tasks", Some(&task)).expect("it is accepted");
    let _dispatcher = sides.dispatch();
    eventually("it is cancelled", || {
        sides.mirrors().into_iter().find(is("cancelled"))
    });
}

#[test]
fn what_nobody_here_can_do_is_left_there() {
    let sides = Sides::start();
    let _worker = sides.worker("a", "1", "true");
    let other = json!({ "id": "other", "title": "fly", "labels": ["wings"], "priority": "critical" });
    ask(&sides.there, "POST", "/api/tasks", Some(&other)).expect("it is accepted");
    sides.submit("one");
    let _dispatcher = sides.dispatch();
    sides.eventually("one", is("completed"));
    assert_eq!(sides.eventually("other", |_| true)["status"], "pending");
    assert_eq!(sides.mirrors().len(), 1);
}

#[test]
fn the_plainest_of_apis_will_do() {
    let sides = Sides::start();
    let ids = ["odd id/1", "two", "three", "four", "five", "six"];
    let api = PlainApi::start(&ids);
    api.is_taken_unseen("three");
    let _worker = sides.worker("a", "1", "echo $ADJUTANT_TASK_ID >> done; sleep 0.2");
    let mut dispatcher = Program::start(&mut sides.dispatcher(&api.url));
    let is_done = |id: &str| (api.task(id)["status"] == "completed").then_some(());
    eventually("the first of them", || is_done("five"));
    drop(dispatcher);
    dispatcher = Program::start(&mut sides.dispatcher(&api.url));
    for id in ids.into_iter().filter(|id| *id != "three") {
        eventually(id, || is_done(id));
        assert_eq!(api.task(id)["completions"], 1);
        assert_eq!(api.task(id)["result"]["agent_id"], "a");
    }
    let said = dispatcher.terminate();
    assert_eq!(said.code, 0, "{said:?}");
    let done = lines(sides.directory.path(), "done");
    assert_eq!((done.len(), done.values().max()), (5, Some(&1)), "{done:?}");
    let held = sides.mirrors().into_iter().filter(is("pending")).count();
    assert_eq!(held, 1, "the one that is not to be had");
}

#[test]
fn an_api_that_is_away_is_told_once_and_waited_for() {
    let sides = Sides::start();
    let _worker = sides.worker("a", "1", "true");
    sides.submit("one");
    let away = Relay::new();
    let mut child = sides.dispatcher(&away.url).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .map(|line| serde_json::from_str::<Value>(&line).unwrap()["event"].clone());
    assert_eq!(said.next().unwrap(), "trouble");
    away.lead_to(&sides.there);
    sides.eventually("one", is("completed"));
    let events: Vec<Value> = said.take_while(|event| event != "completed").collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(events.contains(&json!("recovered")), "{events:?}");
    assert!(!events.contains(&json!("trouble")), "{events:?}");
}

#[test]
fn flags_that_make_no_sense_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "adjutant.token", TOKEN);
    for (arguments, message) in [
        (vec!["dispatch", "--api", "nonsense"], "--api"),
        (vec!["dispatch", "--api", "http://127.0.0.1:7717"], "--api"),
        (
            vec!["dispatch", "--api", "http://127.0.0.1:1", "--interval", "0s"],
            "--interval",
        ),
        (
            vec!["dispatch", "--api", "http://127.0.0.1:1", "--interval", "often"],
            "--interval",
        ),
        (vec!["dispatch"], "--api"),
    ] {
        let ran = run(directory.path(), &arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(message), "{ran:?}");
    }
}
