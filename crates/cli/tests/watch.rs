//! `adjutant task watch`: what it prints, when it ends, and what it survives.

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::api::Api;
use support::relay::Relay;
use support::{Ran, Server, TOKEN, adjutant};

/// A watch that runs, and its lines as they come.
struct Watch {
    child: Option<Child>,
    lines: Receiver<String>,
}

impl Watch {
    fn start(server: &Server, url: &str, arguments: &[&str]) -> Self {
        let mut child = adjutant(&server.directory)
            .env("ADJUTANT_URL", url)
            .env("ADJUTANT_TOKEN", TOKEN)
            .args(["task", "watch"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child: Some(child),
            lines,
        }
    }

    /// Waits for a line with this in it; gives those up to it.
    #[track_caller]
    fn prints(&self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(30)) {
                Ok(line) => {
                    seen.push(line);
                    if seen.last().is_some_and(|line| line.contains(text)) {
                        return seen;
                    }
                }
                Err(error) => panic!("`{text}` did not come ({error}): {seen:?}"),
            }
        }
    }

    /// Waits for the end; gives it with the lines that were not asked for.
    fn ended(mut self) -> (Ran, Vec<String>) {
        let ran = Ran::of(self.child.take().unwrap().wait_with_output().unwrap());
        (ran, self.lines.iter().collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An agent that takes what comes, by hand.
fn register(api: &Api) {
    api.done("/api/agents", &json!({"id": "hand", "max_load": 5}));
}

fn take(api: &Api, task: &str) {
    api.sync("hand", &json!({"running": [{"id": task, "attempt": 1}]}));
}

fn tell(api: &Api, task: &str, patch: &Value) {
    api.ask("PATCH", &format!("/api/tasks/{task}"), Some(patch))
        .unwrap()
        .good();
}

fn end(api: &Api, task: &str, success: bool) {
    let result = json!({"success": success, "attempt": 1, "agent_id": "hand"});
    api.done(&format!("/api/tasks/{task}/complete"), &result);
}

#[test]
fn progress_notes_and_states_are_printed_until_the_end_and_the_exit_code_tells_it() {
    let server = Server::start();
    let api = Api::of(&server);
    register(&api);
    api.submit("good");
    let watch = Watch::start(&server, &server.url, &["good"]);
    watch.prints("task_created");
    take(&api, "good");
    tell(&api, "good", &json!({"progress": 50, "attempt": 1}));
    watch.prints("task_progress");
    // No event tells of a note.
    tell(
        &api,
        "good",
        &json!({"notes": "half of it\u{1b}[2J", "attempt": 1}),
    );
    let note = watch.prints("note good").pop().unwrap();
    assert!(note.ends_with("half of it\u{fffd}[2J"), "{note}");
    end(&api, "good", true);
    watch.prints("task_completed");
    let (ran, rest) = watch.ended();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(rest, [] as [String; 0]);

    api.done(
        "/api/tasks",
        &json!({"id": "bad", "title": "bad", "max_retries": 1}),
    );
    let watch = Watch::start(&server, &server.url, &["bad", "good", "--json"]);
    take(&api, "bad");
    tell(&api, "bad", &json!({"notes": "oh", "attempt": 1}));
    end(&api, "bad", false);
    let lines: Vec<Value> = watch
        .prints("task_dead_lettered")
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (ran, rest) = watch.ended();
    ran.fails(1, "error: not completed: bad");
    let rest = rest.iter().map(|line| serde_json::from_str(line).unwrap());
    let notes: Vec<Value> = lines
        .into_iter()
        .chain(rest)
        .filter(|line| line["type"] == "note" && line["task_id"] == "bad")
        .collect();
    assert_eq!(notes.len(), 1, "once each: {notes:?}");
    assert_eq!(notes[0]["payload"]["text"], "oh");
}

#[test]
fn it_survives_a_restart_of_the_server_and_repeats_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let relay = Relay::new();
    let server = Server::start_in(directory.path(), &[]);
    relay.lead_to(&server);
    let api = Api::of(&server);
    register(&api);
    api.submit("t");
    let watch = Watch::start(&server, &relay.url, &["t", "--json"]);
    take(&api, "t");
    tell(
        &api,
        "t",
        &json!({"progress": 10, "notes": "before", "attempt": 1}),
    );
    let mut lines = watch.prints("before");
    server.kill();
    let server = Server::start_in(directory.path(), &[]);
    relay.lead_to(&server);
    let api = Api::of(&server);
    tell(
        &api,
        "t",
        &json!({"progress": 90, "notes": "after", "attempt": 1}),
    );
    end(&api, "t", true);
    lines.extend(watch.prints("task_completed"));
    let (ran, rest) = watch.ended();
    assert_eq!(ran.code, 0, "{ran:?}");
    lines.extend(rest);
    for text in [
        "before",
        "after",
        "task_created",
        "task_completed",
        "\"progress\":10",
        "\"progress\":90",
    ] {
        let times = lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(times, 1, "{text}: {lines:?}");
    }
}

#[test]
fn all_tasks_of_a_filter_are_followed_to_their_end() {
    let server = Server::start();
    let api = Api::of(&server);
    register(&api);
    for (id, project) in [("w-1", "web"), ("w-2", "web"), ("other", "ios")] {
        api.done("/api/tasks", &json!({"id": id, "title": id, "project": project}));
    }
    let watch = Watch::start(&server, &server.url, &["--project", "web"]);
    watch.prints("watching 2 tasks");
    end(&api, "w-1", true);
    end(&api, "other", true);
    watch.prints("w-1");
    end(&api, "w-2", true);
    let (ran, rest) = watch.ended();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!rest.iter().any(|line| line.contains("other")), "{rest:?}");
    // What has ended already is not waited for.
    assert_eq!(server.run(&["task", "watch", "--all"]).ok(), "watching 0 tasks\n");
}

#[test]
fn what_cannot_be_watched_is_told() {
    let server = Server::start();
    server.run(&["task", "watch", "nope"]).fails(1, "task_not_found");
    for arguments in [&["task", "watch"][..], &["task", "watch", "a", "--all"]] {
        assert_eq!(server.run(arguments).code, 2, "{arguments:?}");
    }
}
