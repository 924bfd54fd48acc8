//! A server that restarts, repeats itself, refuses, or is away.

use super::*;

#[tokio::test]
async fn an_offer_that_is_repeated_is_started_once_and_listed_until_it_is_acknowledged() {
    let mut scene = Scene::script("exec sleep 1000").await;
    let first = scene.sync().await;
    assert_eq!(
        (&first.body["n"], &first.body["session"]),
        (&json!(1), &scene.session)
    );
    assert_eq!(
        (&first.body["running"], &first.body["max"]),
        (&json!([]), &json!(2))
    );
    first.json(200, &scene.answer(&[offer("t"), offer("t")], &[], &[]));
    let second = scene.sync().await;
    assert_eq!(
        (&second.body["n"], &second.body["running"]),
        (&json!(2), &running(&["t"]))
    );
    assert_eq!(second.body["max"], json!(1));
    second.json(200, &scene.answer(&[offer("t")], &[], &[]));
    let third = scene.sync().await;
    assert_eq!(third.body["running"], running(&["t"]));
    third.json(200, &scene.answer(&[], &[stop("t", "released")], &[]));
    scene.stopped().await;
    // An offer that comes late, when the attempt is over, does not start it again either.
    loop {
        let sync = scene.sync().await;
        let listed = sync.body["running"] != json!([]);
        sync.json(200, &scene.answer(&[offer("t")], &[], &[]));
        if !listed {
            break;
        }
    }
    assert_eq!(scene.sync().await.body["running"], json!([]));
    let summary = scene.close().await;
    assert_eq!((summary.started, summary.stopped), (1, 1));
}

#[tokio::test]
async fn a_completion_is_sent_until_it_is_acknowledged() {
    let mut scene = Scene::script("echo done").await;
    scene.start("t").await;
    let (sync, done) = scene.completion().await;
    assert!(sync.body["wait"].is_null(), "completions do not wait");
    sync.hang_up();
    let (sync, again) = scene.completion().await;
    assert_eq!(done, again);
    let busy = json!({"code": 503, "message": "busy", "error": "overloaded", "retryable": true});
    sync.json(
        200,
        &scene.answer(&[], &[], &[json!({"status": 503, "error": busy})]),
    );
    let (sync, again) = scene.completion().await;
    assert_eq!(done, again);
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    let next = scene.sync().await;
    assert_eq!(
        (&next.body["running"], &next.body["done"]),
        (&json!([]), &json!([]))
    );
    next.json(200, &scene.answer(&[], &[], &[]));
    scene.close().await;
}

#[tokio::test]
async fn a_result_that_is_stale_is_given_up() {
    let mut scene = Scene::script("true").await;
    scene.start("t").await;
    let (sync, _) = scene.completion().await;
    let stale = json!({"code": 409, "message": "not current", "error": "stale_attempt", "retryable": false});
    sync.json(
        200,
        &scene.answer(&[], &[], &[json!({"status": 409, "error": stale})]),
    );
    scene
        .notice(|notice| matches!(notice, Notice::Refused { .. }))
        .await;
    assert_eq!(scene.sync().await.body["done"], json!([]));
    assert_eq!(scene.close().await.refused, 1);
}

#[tokio::test]
async fn a_restart_of_the_server_neither_loses_nor_repeats_anything() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let path = log.to_str().unwrap().to_owned();
    let mut scene = Scene::with(r#"echo run >> "$LOG"; echo out"#, |config| {
        config.env = vec![("LOG".into(), path)];
    })
    .await;
    scene.start("t").await;
    let (sync, done) = scene.completion().await;
    sync.hang_up();
    scene
        .notice(|notice| matches!(notice, Notice::Unreachable { .. }))
        .await;
    scene.sync().await.refuse(503, "storage_unavailable");
    // The new server has an older store: it does not know the agent.
    scene.sync().await.refuse(404, "agent_not_found");
    assert_eq!(
        scene.registration().await,
        scene.session,
        "the session is the same"
    );
    let (sync, again) = scene.completion().await;
    assert_eq!(done, again);
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.notice(|notice| matches!(notice, Notice::Reachable)).await;
    scene.close().await;
    assert_eq!(std::fs::read_to_string(log).unwrap(), "run\n");
}

#[tokio::test]
async fn a_superseded_worker_ends_what_it_runs_and_exits() {
    let mut scene = Scene::script("exec sleep 1000").await;
    scene.start("t").await;
    scene.sync().await.refuse(409, "superseded");
    scene.stopped().await;
    assert!(scene.stub.try_next().is_none(), "it does not register again");
    let error = scene.end().await.unwrap_err();
    assert!(matches!(error, Error::Superseded { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_for_too_long_costs_the_lease() {
    let mut scene = Scene::script("exec sleep 1000").await;
    scene.ttl_secs = 2;
    scene.start("t").await;
    // No answer from here on.
    let silent = scene.sync().await;
    assert_eq!(scene.stopped().await, crate::Cause::LeaseLost);
    drop(silent);
    loop {
        let sync = scene.sync().await;
        let listed = sync.body["running"] != json!([]);
        sync.json(200, &scene.answer(&[], &[], &[]));
        if !listed {
            break;
        }
    }
    scene.close().await;
}

#[tokio::test]
async fn a_worker_may_outlive_its_server() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = fifo.to_str().unwrap().to_owned();
    let mut scene = Scene::with(r#"read -r go < "$GO"; echo "$go""#, |config| {
        config.env = vec![("GO".into(), path)];
        config.outlive_server = true;
    })
    .await;
    scene.ttl_secs = 2;
    scene.start("t").await;
    // Away for more than a whole lease: each roll-call is given up after a second and a half.
    for _ in 0..2 {
        scene.sync().await.abandoned().await;
    }
    tokio::task::spawn_blocking(move || std::fs::write(fifo, "late\n"))
        .await
        .unwrap()
        .unwrap();
    let (sync, done) = scene.completion().await;
    assert_eq!(
        (&done["success"], &done["output"]),
        (&json!(true), &json!("late\n"))
    );
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.close().await;
}

#[tokio::test]
async fn a_long_poll_is_abandoned_when_an_attempt_ends() {
    let mut scene = Scene::script("sleep 0.2").await;
    scene.start("t").await;
    let waiting = scene.sync().await;
    assert_eq!(
        (&waiting.body["wait"], &waiting.body["running"]),
        (&json!(15.0), &running(&["t"]))
    );
    waiting.abandoned().await;
    let sync = scene.sync().await;
    assert_eq!(
        (&sync.body["running"], &sync.body["max"]),
        (&json!([]), &json!(2))
    );
    assert_eq!(sync.body["done"][0]["id"], json!("t"));
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.close().await;
}

#[tokio::test]
async fn at_the_end_what_was_interrupted_is_given_back() {
    let mut scene = Scene::with("exec sleep 1000", |config| config.deregister = false).await;
    scene.start("t").await;
    let waiting = scene.sync().await;
    scene.shutdown.cancel();
    waiting.abandoned().await;
    // It is still listed, so that it is released instead of lost.
    let last = scene.sync().await;
    assert_eq!(
        (&last.body["running"], &last.body["max"]),
        (&running(&["t"]), &json!(0))
    );
    last.json(200, &scene.answer(&[], &[], &[]));
    let release = scene.next_where(|path| path == "/api/tasks/t/release").await;
    assert_eq!(release.body, json!({"attempt": 1, "agent_id": "w"}));
    release.json(200, &task("t"));
    let empty = scene.sync().await;
    assert_eq!(empty.body["running"], json!([]));
    empty.json(200, &scene.answer(&[], &[], &[]));
    let summary = scene.end().await.unwrap();
    assert_eq!((summary.stopped, summary.undelivered), (1, 0));
}

#[tokio::test]
async fn a_worker_that_may_not_leave_the_registry_releases_what_it_had() {
    let mut scene = Scene::script("exec sleep 1000").await;
    scene.start("t").await;
    scene.sync().await.json(200, &scene.answer(&[], &[], &[]));
    scene.shutdown.cancel();
    loop {
        let request = scene.next_where(|path| path.starts_with("/api/")).await;
        match (request.method.as_str(), request.path.as_str()) {
            ("DELETE", _) => request.refuse(403, "forbidden"),
            (_, "/api/tasks/t/release") => {
                request.json(200, &task("t"));
                break;
            }
            _ => request.json(200, &scene.answer(&[], &[], &[])),
        }
    }
    scene.sync().await.json(200, &scene.answer(&[], &[], &[]));
    assert_eq!(scene.end().await.unwrap().stopped, 1);
}

#[tokio::test]
async fn a_drained_worker_finishes_and_may_exit() {
    let mut scene = Scene::with("echo out", |config| config.exit_when_drained = true).await;
    scene.start("t").await;
    let (sync, _) = scene.completion().await;
    let mut answer = scene.answer(&[], &[], &[json!({"status": 200})]);
    answer["drain"] = json!(true);
    sync.json(200, &answer);
    scene
        .notice(|notice| matches!(notice, Notice::Draining(true)))
        .await;
    scene.sync().await.json(200, &answer);
    scene
        .next_where(|path| path == "/api/agents/w")
        .await
        .json(200, &json!({}));
    assert_eq!(scene.end().await.unwrap().succeeded, 1);
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_worker_with_its_reason() {
    let stub = Stub::start().await;
    let mut config = Config::new("w", vec!["true".into()]);
    config.id = "not an id".into();
    let client = Client::new(&stub.url, None).unwrap();
    let error = crate::run(
        client.clone(),
        config,
        CancellationToken::new(),
        Arc::new(crate::Silent),
    )
    .await;
    assert!(matches!(error, Err(Error::Config(_))));

    let mut stub = stub;
    let config = Config::new("w", vec!["true".into()]);
    let worker = tokio::spawn(crate::run(
        client,
        config,
        CancellationToken::new(),
        Arc::new(crate::Silent),
    ));
    // Away is waited for, a bad token is not.
    stub.next().await.hang_up();
    stub.next().await.refuse(401, "unauthorized");
    let error = worker.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("unauthorized"), "{error}");
}
