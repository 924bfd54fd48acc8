//! What a command gets, what becomes of what it prints, and how it ends.

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;

/// Waits until a process is gone, or is a zombie that nobody collects.
async fn gone(pid: i32) {
    for _ in 0..500 {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let zombie = state
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'));
        if zombie || kill(Pid::from_raw(pid), None).is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} is still there");
}

#[tokio::test]
async fn a_command_gets_its_task_and_its_own_token_only() {
    let mut scene = Scene::with(
        r#"cat; echo; printf '%s|' "$1" "$ADJUTANT_TASK_ID" "$ADJUTANT_ATTEMPT" "$ADJUTANT_TOKEN" "$ADJUTANT_URL" "$MORE"; env"#,
        |config| config.env = vec![("MORE".into(), "more".into())],
    )
    .await;
    scene.start("t").await;
    let (sync, done) = scene.completion().await;
    let output = done["output"].as_str().unwrap();
    let (json, rest) = output.split_once('\n').unwrap();
    let sent: Value = serde_json::from_str(json).unwrap();
    assert_eq!((&sent["id"], &sent["payload"]), (&json!("t"), &json!({"x": 1})));
    let expected = format!("title of t|t|1|for-the-attempt|{}|more|", scene.stub.url);
    assert!(rest.starts_with(&expected), "{rest}");
    assert!(!output.contains("the-worker's-own"));
    assert_eq!(done["success"], json!(true));
    assert_eq!(
        (&done["id"], &done["attempt"], &done["agent_id"]),
        (&json!("t"), &json!(1), &json!("w"))
    );
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    assert_eq!(scene.close().await.succeeded, 1);
}

#[tokio::test]
async fn a_failure_says_how_and_why() {
    for (script, message) in [
        (
            "echo out; echo first >&2; echo last >&2; exit 3",
            "exit code 3: first\nlast",
        ),
        ("exit 1", "exit code 1"),
        ("kill -KILL $$", "killed by SIGKILL"),
    ] {
        let mut scene = Scene::script(script).await;
        scene.start("t").await;
        let (sync, done) = scene.completion().await;
        assert_eq!(
            (&done["success"], &done["error_message"]),
            (&json!(false), &json!(message))
        );
        sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
        assert_eq!(scene.close().await.failed, 1);
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_run_fails_its_attempt() {
    for (command, message) in [
        (
            vec!["/no/such/program"],
            "cannot run `/no/such/program`: No such file",
        ),
        (vec!["true", "{nope}"], "unknown placeholder {nope}"),
    ] {
        let change = |config: &mut Config| config.command = command.into_iter().map(str::to_owned).collect();
        let mut scene = Scene::with("", change).await;
        scene.start("t").await;
        let (sync, done) = scene.completion().await;
        let said = done["error_message"].as_str().unwrap();
        assert!(said.starts_with(message), "{said}");
        sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
        scene.close().await;
    }
}

#[tokio::test]
async fn output_and_usage_are_told_while_it_runs_and_totals_ride_on_the_completion() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = fifo.to_str().unwrap().to_owned();
    let mut scene = Scene::with(
        r#"echo '{"tokens_in":10,"tokens_out":1,"model":"m"}'; echo one; printf 'nul\000\377'
           read -r go < "$MORE"; echo; echo '{"tokens_in":20,"tokens_out":2,"model":"m","cost":1.5}'; echo two"#,
        |config| config.env = vec![("MORE".into(), path)],
    )
    .await;
    scene.start("t").await;
    let wait = scene.sync().await;
    let usage = scene.report("/api/usage").await;
    assert_eq!(
        (&usage["tokens_in"], &usage["total"], &usage["attempt"]),
        (&json!(10), &json!(true), &json!(1))
    );
    assert_eq!(
        (&usage["agent_id"], &usage["job_id"], &usage["model"]),
        (&json!("w"), &json!("t"), &json!("m"))
    );
    let output = scene.report("/api/tasks/t/output").await;
    assert_eq!(output["text"], json!("one\nnul\u{FFFD}\u{FFFD}"));
    tokio::task::spawn_blocking(move || std::fs::write(fifo, "go\n"))
        .await
        .unwrap()
        .unwrap();
    let output = scene.report("/api/tasks/t/output").await;
    assert_eq!(output["text"], json!("\ntwo\n"));
    wait.abandoned().await;
    let (sync, done) = scene.completion().await;
    assert_eq!(done["output"], json!("one\nnul\u{FFFD}\u{FFFD}\ntwo\n"));
    assert_eq!((&done["tokens_in"], &done["tokens_out"]), (&json!(20), &json!(2)));
    assert_eq!((&done["model"], &done["cost"]), (&json!("m"), &json!(1.5)));
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.close().await;
}

#[tokio::test]
async fn a_stop_ends_the_whole_group_and_by_force_where_it_must() {
    let script = r#"trap "" TERM; sleep 1000 & echo "$!"; echo "$$"; while :; do sleep 1000; done"#;
    let mut scene = Scene::with(script, |config| config.grace = Duration::from_millis(200)).await;
    scene.start("t").await;
    let wait = scene.sync().await;
    let output = scene.report("/api/tasks/t/output").await;
    let pids: Vec<i32> = output["text"]
        .as_str()
        .unwrap()
        .lines()
        .map(|pid| pid.parse().unwrap())
        .collect();
    wait.json(200, &scene.answer(&[], &[stop("t", "cancelled")], &[]));
    // It is listed while it still runs: its place and its locks are held until it is not.
    let ending = scene.sync().await;
    assert_eq!(ending.body["running"], running(&["t"]));
    scene.stopped().await;
    for pid in pids {
        gone(pid).await;
    }
    ending.abandoned().await;
    let after = scene.sync().await;
    assert_eq!(
        (&after.body["running"], &after.body["done"]),
        (&json!([]), &json!([]))
    );
    after.json(200, &scene.answer(&[], &[], &[]));
    assert_eq!(scene.close().await.stopped, 1);
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    let mut scene = Scene::script("sleep 1000 & echo $!").await;
    scene.start("t").await;
    let (sync, done) = scene.completion().await;
    assert_eq!(done["success"], json!(true));
    gone(done["output"].as_str().unwrap().trim().parse().unwrap()).await;
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.close().await;
}

#[tokio::test]
async fn a_limit_and_a_timeout_are_reported_as_failures() {
    let mut scene = Scene::script("exec sleep 1000").await;
    scene.start("t").await;
    scene
        .sync()
        .await
        .json(200, &scene.answer(&[], &[stop("t", "limit")], &[]));
    let (sync, done) = scene.completion().await;
    assert_eq!(
        (&done["success"], &done["error_message"]),
        (&json!(false), &json!("stopped: limit"))
    );
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.close().await;

    let timeout = Some(Duration::from_millis(50));
    let mut scene = Scene::with("exec sleep 1000", |config| config.timeout = timeout).await;
    scene.start("t").await;
    let (sync, done) = scene.completion().await;
    assert!(
        done["error_message"]
            .as_str()
            .unwrap()
            .starts_with("timed out after")
    );
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.close().await;
}
