//! How commands end when their worker is killed, cut off, or not let in any more.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::api::Api;
use crate::support::{Server, eventually, write};
use crate::{Worker, task_when, text_of};

/// Whether a process runs; one that has ended and was not collected does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_worker_that_is_killed_leaves_nothing_running() {
    let server = Server::start();
    let api = Api::of(&server);
    api.submit("t");
    // With a process of its own, and one that does not end when it is asked to by its parent's end.
    let script = "sleep 1000 & echo $! > pids; echo $$ >> pids; echo >> pids; wait";
    let mut worker = Worker::script(&server, "w", &[], script);
    let pids = eventually("the command", || {
        let text = std::fs::read_to_string(server.directory.join("pids")).ok()?;
        text.ends_with("\n\n").then_some(text)
    });
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| runs(pid)));
    let keeper = eventually("the keeper", || keeper_of(worker.pid()));
    worker.kill();
    eventually("the end of the command", || {
        pids.iter().all(|pid| !runs(pid)).then_some(())
    });
    eventually("the end of the keeper", || (!runs(&keeper)).then_some(()));
}

/// The keeper among a worker's children.
fn keeper_of(worker: u32) -> Option<String> {
    let children = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_owned();
        (parent == worker.to_string()).then_some(path)
    });
    children
        .filter(|path| {
            let line = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            line.contains("keeper")
        })
        .find_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
}

#[test]
fn a_command_is_gone_before_a_short_lease_of_its_attempt_ends() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path(), &["--agent-ttl", "6s"]);
    let api = Api::of(&server);
    api.submit("t");
    // It does not end when it is asked to.
    let script = r#"trap "" TERM; while :; do date +%s%N >> beats; sleep 0.05; done"#;
    let _worker = Worker::script(&server, "w", &[], script);
    text_of(&directory.path().join("beats"));
    // From now on the worker hears nothing, so that its lease was renewed before now.
    server.signal("STOP");
    let cut_off = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let lease_ends = cut_off + Duration::from_secs(6);
    let silent_since = || {
        let text = std::fs::read_to_string(directory.path().join("beats")).unwrap();
        let whole = text.rsplit_once('\n').unwrap().0;
        Duration::from_nanos(whole.lines().last().unwrap().parse().unwrap())
    };
    let last = eventually("silence", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let last = silent_since();
        (now > last + Duration::from_secs(1)).then_some(last)
    });
    println!(
        "the command was gone {:?} after the server froze",
        last.saturating_sub(cut_off)
    );
    assert!(last < lease_ends, "it ran beyond its lease");
    server.signal("CONT");
}

#[test]
fn a_worker_whose_token_is_revoked_says_so_and_names_what_it_could_not_deliver() {
    let server = Server::start();
    let api = Api::of(&server);
    let token = server.run(&["token", "create", "host", "--role", "agent:w"]).ok();
    for id in ["quick", "slow"] {
        api.submit(id);
    }
    let mut command = server.command();
    let script =
        r#"echo $$ > "$ADJUTANT_TASK_ID.pid"; until [ -e "go-$ADJUTANT_TASK_ID" ]; do sleep 0.02; done"#;
    command
        .args(["worker", "--id", "w", "--max-load", "2", "--", "sh", "-c", script])
        .env("ADJUTANT_TOKEN", token.trim());
    let mut worker = Worker::start(&server, "w", &mut command);
    for id in ["quick", "slow"] {
        text_of(&server.directory.join(format!("{id}.pid")));
    }
    server.run(&["token", "revoke", "host"]).ok();
    eventually("what it says", || {
        worker
            .told()
            .contains("the server refuses this worker: ")
            .then_some(())
    });
    // One ends while the other runs: its result is kept until there is nothing left to wait for.
    write(&server.directory, "go-quick", "");
    eventually("the first end", || {
        worker.told().contains("completed quick").then_some(())
    });
    write(&server.directory, "go-slow", "");
    let (code, out, err) = worker.ended();
    assert_eq!(code, 1, "{out}\n{err}");
    let says = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(says(&out, "the server refuses this worker: "), 1, "{out}");
    let error = err.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(
        error.contains("not delivered: quick (attempt 1), slow (attempt 1)"),
        "{error}"
    );
    assert_eq!(says(&err, "error: "), 1, "{err}");
}

#[test]
fn an_attempt_that_ended_at_the_server_is_stopped_and_told_of_once() {
    let server = Server::start();
    let api = Api::of(&server);
    api.submit("t");
    let script = r#"trap "exit 0" TERM; echo $$ > pid; until [ -e go ]; do sleep 0.02; done"#;
    let worker = Worker::script(&server, "w", &[], script);
    text_of(&server.directory.join("pid"));
    // Somebody else ends the attempt: the worker is told to stop what it runs.
    let failed = json!({"success": false, "error_message": "taken away", "attempt": 1});
    api.post("/api/tasks/t/complete", &failed).unwrap().good();
    let began = Instant::now();
    eventually("the stop", || {
        worker
            .told()
            .contains("stopped t (attempt 1) ended")
            .then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(5));
    // It goes on with what comes next, and says no more of this one.
    write(&server.directory, "go", "");
    task_when(&api, "t", |task| {
        task["status"] == "completed" && task["attempt"] == 2
    });
    let said = worker.told();
    let lines = said.lines().filter(|line| line.contains("t (attempt 1)"));
    assert_eq!(lines.count(), 2, "started and stopped: {said}");
    let log = std::fs::read_to_string(server.directory.join("w.err")).unwrap();
    let lines = log
        .lines()
        .filter(|line| line.contains("an attempt ended at the server"));
    assert_eq!(lines.count(), 1, "{log}");
}
