//! `adjutant up`: from a list to finished work, and on from where it was stopped.

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use support::{Program, Ran, adjutant, eventually, run, write};

/// Two agents; the second one appends the id of each of its tasks to a file, so that a repetition shows.
const FLEET: &str = r#"
listen = "127.0.0.1:0"

[[agents]]
id = "echo"
capabilities = ["say"]
max_load = 2
command = ["echo", "{payload.text}"]

[[agents]]
id = "diary"
capabilities = ["write"]
max_load = 3
command = ["sh", "-c", "echo \"$ADJUTANT_TASK_ID\" >> done.txt; sleep \"${1:-0}\"", "sh", "{payload.seconds}"]
"#;

fn up(directory: &Path, more: &[&str]) -> Ran {
    run(
        directory,
        &[&["up", "fleet.toml", "--drain", "--json"], more].concat(),
    )
}

fn summary(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn diary(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join("done.txt")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn writing(tasks: impl IntoIterator<Item = (&'static str, &'static str)>) -> String {
    let lines: Vec<String> = tasks
        .into_iter()
        .map(|(id, seconds)| {
            let payload = serde_json::json!({ "seconds": seconds });
            serde_json::json!({ "id": id, "title": id, "labels": ["write"], "payload": payload }).to_string()
        })
        .collect();
    lines.join("\n")
}

#[test]
fn a_list_is_worked_off_once_and_not_again() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "fleet.toml", FLEET);
    write(
        at,
        "tasks.md",
        "- [ ] report (after: one two, labels: write)\n  ```payload\n  {\"seconds\": \"0\"}\n  ```\n\
         - [ ] one (id: one, labels: say)\n  ```payload\n  {\"text\": \"$(rm -rf /)\"}\n  ```\n\
         - [ ] two (id: two, labels: say, priority: high)\n  ```payload\n  {\"text\": \"hello\"}\n  ```\n\
         - [x] three\n",
    );
    let first = up(at, &["--tasks", "tasks.md"]);
    assert_eq!(first.code, 0, "{first:?}");
    let told = summary(&first);
    assert_eq!(told["tasks"]["completed"], 3);
    assert_eq!(told["agents"]["echo"]["jobs"], 2);
    assert_eq!(told["agents"]["diary"]["jobs"], 1);
    assert_eq!(diary(at).len(), 1);

    let again = up(at, &["--tasks", "tasks.md"]);
    assert_eq!(again.code, 0, "{again:?}");
    let told = summary(&again);
    assert_eq!(
        (&told["tasks"]["completed"], &told["agents"]["echo"]["jobs"]),
        (&3.into(), &0.into())
    );
    assert_eq!(diary(at).len(), 1);

    // The list grew: only what is new in it is done.
    write(
        at,
        "tasks.md",
        &(std::fs::read_to_string(at.join("tasks.md")).unwrap()
            + "- [ ] four (labels: say)\n  ```payload\n  {\"text\": \"4\"}\n  ```\n"),
    );
    let more = up(at, &["--tasks", "tasks.md"]);
    assert_eq!(summary(&more)["agents"]["echo"]["jobs"], 1, "{more:?}");
    let text = run(at, &["up", "fleet.toml", "--drain"]).ok();
    assert!(
        text.starts_with("4 of 4 tasks completed, 0 failed, 0 cancelled, 0 waiting; took "),
        "{text}"
    );
}

#[test]
fn a_killed_run_is_finished_by_the_next_and_repeats_nothing_that_was_completed() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "fleet.toml", FLEET);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    write(
        at,
        "tasks.jsonl",
        &writing(names.map(|name| (name, if name < "e" { "0" } else { "3" }))),
    );
    let first = Program::start(
        adjutant(at)
            .args(["up", "fleet.toml", "--tasks", "tasks.jsonl", "--drain"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    // The short ones come first; once a long one runs, the short ones are completed or about to be.
    eventually("long tasks", || {
        diary(at).iter().any(|id| id.as_str() >= "e").then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    // kill -9.
    drop(first);

    let second = up(at, &["--tasks", "tasks.jsonl"]);
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(summary(&second)["tasks"]["completed"], 8);
    let written = diary(at);
    for name in names {
        let times = written.iter().filter(|id| *id == name).count();
        // A task that was interrupted is begun again; one that was completed is not.
        let most = if name < "e" { 1 } else { 2 };
        assert!(
            (1..=most).contains(&times),
            "{name} ran {times} times: {written:?}"
        );
    }
}

#[test]
fn what_cannot_run_is_listed_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "fleet.toml", &FLEET.replace("[\"echo\",", "[\"false\","));
    write(
        at,
        "tasks.md",
        "- [ ] fails (id: fails, labels: say, retries: 1)\n  ```payload\n  {\"text\": \"x\"}\n  ```\n\
         - [ ] follows (id: follows, after: fails, labels: say)\n  ```payload\n  {\"text\": \"y\"}\n  ```\n\
         - [ ] nobody can (id: alone, labels: fly)\n\
         - [ ] later (id: later, labels: say, not_before: 2200-01-01T00:00:00Z)\n",
    );
    let ran = up(at, &["--tasks", "tasks.md"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("error: not every task is completed"),
        "{ran:?}"
    );
    let told = summary(&ran);
    assert_eq!(told["dead_letters"][0]["id"], "fails");
    assert_eq!(told["agents"]["echo"]["failures"], 1);
    let mut waiting: Vec<(String, String)> = told["waiting"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let reason = one["reason"]
                .as_str()
                .unwrap()
                .split(':')
                .next()
                .unwrap()
                .to_owned();
            (one["id"].as_str().unwrap().to_owned(), reason)
        })
        .collect();
    waiting.sort();
    let expected = [
        ("alone", "no_capable_agent"),
        ("follows", "dependency_failed"),
        ("later", "not_before"),
    ];
    assert_eq!(
        waiting,
        expected.map(|(id, reason)| (id.to_owned(), reason.to_owned()))
    );

    // Mended, and the dead letter is started afresh.
    write(at, "fleet.toml", FLEET);
    let ran = up(at, &["--retry-failed"]);
    assert_eq!(summary(&ran)["tasks"]["failed"], 0, "{ran:?}");
}

#[test]
fn an_interrupted_run_stops_its_commands_and_says_how_to_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "fleet.toml", FLEET);
    write(at, "tasks.jsonl", &writing([("long", "300")]));
    let program = Program::start(
        adjutant(at)
            .args(["up", "fleet.toml", "--tasks", "tasks.jsonl", "--drain"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    eventually("the long task", || {
        diary(at).contains(&"long".to_owned()).then_some(())
    });
    let ran = program.terminate();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("hint: run again to go on"), "{ran:?}");
    assert!(ran.stdout.contains("Still waiting:"), "{ran:?}");
}

#[test]
fn limits_of_the_fleet_file_hold() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(
        at,
        "fleet.toml",
        &format!("{FLEET}allowance = {{ daily_job_limit = 2 }}\n"),
    );
    write(
        at,
        "tasks.jsonl",
        &writing([("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")]),
    );
    // Near midnight the limit would end within an hour.
    let ran = up(at, &["--tasks", "tasks.jsonl", "--drain-wait", "0"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(summary(&ran)["tasks"]["completed"], 2); // I3
    let reason = summary(&ran)["waiting"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("daily job limit exceeded"), "{reason}");
}

#[test]
fn mistakes_in_files_are_told_with_file_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "fleet.toml", FLEET);
    write(at, "unknown.toml", &format!("{FLEET}capabilites = []\n"));
    write(
        at,
        "missing.toml",
        "[[agents]]\nid = 'a'\ncommand = ['no-such-program']\n",
    );
    write(at, "broken.toml", "[[agents]\n");
    write(at, "tasks.md", "# T\n\n- [ ] a (lables: x)\n");
    for (arguments, message) in [
        (
            vec!["up", "unknown.toml"],
            "error: unknown.toml:15: unknown key `capabilites`",
        ),
        (
            vec!["up", "missing.toml"],
            "error: agent a: there is no program `no-such-program`",
        ),
        (vec!["up", "broken.toml"], "error: broken.toml:1: "),
        (
            vec!["up", "nowhere.toml"],
            "error: cannot read the fleet file nowhere.toml",
        ),
        (
            vec!["up", "fleet.toml", "--tasks", "tasks.md"],
            "error: tasks.md:3: unknown attribute `lables`",
        ),
        (
            vec!["up", "fleet.toml", "--tasks", "nowhere.md"],
            "error: cannot read the task list nowhere.md",
        ),
        (
            vec!["up", "fleet.toml", "--tasks", "."],
            "error: cannot read the task list .",
        ),
    ] {
        run(at, &arguments).fails(2, message);
    }
    assert!(!at.join("adjutant.db").exists());
}
