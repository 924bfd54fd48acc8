//! A server that does not let the worker in any more, and leases that end while commands do.

use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn a_worker_that_is_refused_keeps_results_while_it_runs_something_and_names_what_it_could_not_deliver()
{
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("gate");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = fifo.to_str().unwrap().to_owned();
    let script = r#"[ "$1" = "title of slow" ] && read -r go < "$GATE"; echo out"#;
    let mut scene = Scene::with(script, |config| config.env = vec![("GATE".into(), path)]).await;
    let offers = [offer("quick"), offer("slow")];
    scene.sync().await.json(200, &scene.answer(&offers, &[], &[]));
    let (sync, done) = scene.completion().await;
    assert_eq!(done["id"], json!("quick"));
    sync.refuse(401, "unauthorized");
    let denied = scene
        .notice(|notice| matches!(notice, Notice::Denied { .. }))
        .await;
    assert!(format!("{denied:?}").contains("unauthorized"), "{denied:?}");
    // The other one ends: both are tried once more, and then there is nothing left to wait for.
    tokio::task::spawn_blocking(move || std::fs::write(fifo, "go\n"))
        .await
        .unwrap()
        .unwrap();
    loop {
        let sync = scene.sync().await;
        let done = sync.body["done"].as_array().map_or(0, Vec::len);
        sync.refuse(401, "unauthorized");
        if done == 2 {
            break;
        }
    }
    let error = scene.end().await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the server refuses the roll-call: "), "{text}");
    assert_eq!(error.undelivered(), ["quick (attempt 1)", "slow (attempt 1)"]);
    assert!(text.ends_with("quick (attempt 1), slow (attempt 1)"), "{text}");
}

#[tokio::test]
async fn a_worker_that_is_told_to_end_while_it_is_refused_says_what_is_left() {
    let mut scene = Scene::script("echo out").await;
    scene.start("t").await;
    let (sync, _) = scene.completion().await;
    // It tries again after a while; the end comes before that.
    sync.refuse(503, "storage_unavailable");
    scene
        .notice(|notice| matches!(notice, Notice::Unreachable { .. }))
        .await;
    scene.shutdown.cancel();
    scene.sync().await.refuse(403, "forbidden");
    let error = scene.end().await.unwrap_err();
    assert_eq!(error.undelivered(), ["t (attempt 1)"], "{error}");
}

#[tokio::test]
async fn a_command_that_does_not_end_by_itself_is_gone_before_a_short_lease_ends() {
    let directory = tempfile::tempdir().unwrap();
    let beats = directory.path().join("beats");
    let path = beats.to_str().unwrap().to_owned();
    // It ignores the signal, and the worker would give it much longer than its lease lasts.
    let script = r#"trap "" TERM; while :; do date +%s%N >> "$BEATS"; sleep 0.02; done"#;
    let mut scene = Scene::with(script, |config| {
        config.env = vec![("BEATS".into(), path)];
        config.grace = Duration::from_mins(1);
    })
    .await;
    scene.ttl_secs = 3;
    let (now, wall) = (Instant::now(), std::time::SystemTime::now());
    scene.start("t").await;
    // The lease was renewed when the answered roll-call was sent, which was before this; no answer from here on.
    let renewed = now.elapsed();
    let silent = scene.sync().await;
    assert_eq!(scene.stopped().await, crate::Cause::LeaseLost);
    drop(silent);
    let text = std::fs::read_to_string(beats).unwrap();
    let last: u128 = text.lines().last().unwrap().parse().unwrap();
    let started = wall.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let lease_ends = (renewed + Duration::from_secs(3)).as_nanos();
    assert!(last - started < lease_ends, "it ran beyond its lease");
    // What is over need not be told any more: it is the server's turn.
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
