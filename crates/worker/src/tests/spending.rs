//! What a command spends: how soon the server hears of it, how a limit ends it, and that nothing of it is lost.

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::time::Instant;

use super::*;

fn totals(body: &Value) -> (u64, u64) {
    let number = |name: &str| body[name].as_u64().unwrap_or(0);
    (number("tokens_in"), number("tokens_out"))
}

/// Pipes that a script reads from: it goes on when the test opens them, one after the other. Each is used once, since a
/// reader that comes back at once still meets the last writer.
struct Gate {
    directory: tempfile::TempDir,
}

impl Gate {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["first", "second"] {
            mkfifo(&directory.path().join(name), Mode::S_IRWXU).unwrap();
        }
        Self { directory }
    }

    fn config(&self) -> impl FnOnce(&mut Config) + use<> {
        let path = self.directory.path().to_str().unwrap().to_owned();
        move |config| config.env = vec![("GATES".into(), path)]
    }

    async fn open(&self, name: &str) {
        let path = self.directory.path().join(name);
        let write = tokio::task::spawn_blocking(move || std::fs::write(path, "go\n"));
        write.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_stop_for_a_limit_ends_the_command_in_the_middle_and_all_it_spent_is_told() {
    // It says at its end what it used since the last report.
    let script = r#"trap 'echo "{\"tokens_in\":700}"; exit 9' TERM
        echo '{"tokens_in":500}'; while :; do sleep 0.05; done"#;
    let mut scene = Scene::script(script).await;
    scene.start("t").await;
    let wait = scene.sync().await;
    assert_eq!(totals(&scene.report("/api/usage").await), (500, 0));
    wait.json(200, &scene.answer(&[], &[stop("t", "limit")], &[]));
    let (sync, done) = scene.completion().await;
    assert_eq!(
        (&done["success"], &done["error_message"]),
        (&json!(false), &json!("stopped: limit"))
    );
    assert_eq!(totals(&done), (700, 0));
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.close().await;
}

#[tokio::test]
async fn usage_does_not_wait_for_output_that_is_slow_to_be_taken() {
    let gate = Gate::new();
    let script = r#"echo out; read -r go < "$GATES/first"; echo '{"tokens_in":5}'; exec sleep 1000"#;
    let mut scene = Scene::with(script, gate.config()).await;
    scene.start("t").await;
    let wait = scene.sync().await;
    let output = scene.next_where(|path| path == "/api/tasks/t/output").await;
    // The output is not answered.
    let asked = Instant::now();
    gate.open("first").await;
    let usage = scene.next_where(|path| path == "/api/usage").await;
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "the first report goes at once"
    );
    usage.json(200, &json!({}));
    drop(output);
    wait.json(200, &scene.answer(&[], &[stop("t", "cancelled")], &[]));
    scene.stopped().await;
    scene.close().await;
}

#[tokio::test]
async fn a_completion_does_not_wait_for_output_that_is_not_taken() {
    let mut scene = Scene::script(r#"echo out; echo '{"tokens_in":5}'"#).await;
    scene.start("t").await;
    let mut kept = Vec::new();
    let started = Instant::now();
    let sync = loop {
        let request = scene.stub.next().await;
        match request.path.as_str() {
            // Neither output nor roll-calls that wait are answered; to drop them would be to hang up.
            "/api/agents/w/sync" if request.body["done"] != json!([]) => break request,
            "/api/usage" => request.json(200, &json!({})),
            _ => kept.push(request),
        }
    };
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    let done = &sync.body["done"][0];
    assert_eq!((&done["output"], totals(done)), (&json!("out\n"), (5, 0)));
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.close().await;
}

#[tokio::test]
async fn a_little_is_told_in_turn_and_a_lot_at_once() {
    let gate = Gate::new();
    let script = r#"echo '{"tokens_in":1}'; read -r go < "$GATES/first"; echo '{"tokens_in":2}'
        read -r go < "$GATES/second"; echo '{"tokens_in":20002}'; exec sleep 1000"#;
    let mut scene = Scene::with(script, gate.config()).await;
    scene.start("t").await;
    let wait = scene.sync().await;
    let first = scene.report("/api/usage").await;
    let first_at = Instant::now();
    gate.open("first").await;
    let second = scene.report("/api/usage").await;
    let (second_after, second_at) = (first_at.elapsed(), Instant::now());
    gate.open("second").await;
    let third = scene.report("/api/usage").await;
    let third_after = second_at.elapsed();
    assert_eq!([first, second, third].map(|body| totals(&body).0), [1, 2, 20_002]);
    let turn = Duration::from_millis(2_900)..Duration::from_secs(5);
    assert!(turn.contains(&second_after), "{second_after:?}");
    assert!(third_after < Duration::from_secs(2), "{third_after:?}");
    wait.json(200, &scene.answer(&[], &[stop("t", "cancelled")], &[]));
    scene.stopped().await;
    scene.close().await;
}

#[tokio::test]
async fn what_an_attempt_used_is_told_when_the_server_is_back_before_its_completion() {
    let gate = Gate::new();
    let script = r#"read -r go < "$GATES/first"; echo '{"tokens_in":5,"model":"a"}'; echo '{"tokens_in":7,"model":"b"}'"#;
    let mut scene = Scene::with(script, gate.config()).await;
    scene.start("t").await;
    let wait = scene.sync().await;
    // The server goes away, and stays away beyond the end of the attempt.
    gate.open("first").await;
    wait.hang_up();
    let mut reports = 0;
    let mut syncs = 0;
    while reports < 3 || syncs < 2 {
        let request = scene.stub.next().await;
        reports += usize::from(request.path == "/api/usage");
        syncs += usize::from(request.path == "/api/agents/w/sync");
        request.hang_up();
    }
    // It is back: the model that does not ride on the completion goes first, and once.
    let mut told = Vec::new();
    let sync = loop {
        let request = scene.stub.next().await;
        match request.path.as_str() {
            "/api/usage" => {
                told.push((request.body["model"].clone(), totals(&request.body).0));
                request.json(200, &json!({}));
            }
            "/api/agents/w/sync" if told.is_empty() => request.hang_up(),
            "/api/agents/w/sync" => break request,
            _ => request.json(200, &json!({})),
        }
    };
    assert_eq!(told, [(json!("a"), 5)]);
    let done = &sync.body["done"][0];
    assert_eq!((&done["model"], totals(done)), (&json!("b"), (7, 0)));
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    scene.close().await;
}

#[tokio::test]
async fn what_a_stopped_attempt_used_is_told_later_though_it_has_no_completion() {
    let script = r#"trap 'echo "{\"tokens_in\":9}"; exit' TERM; echo ready; while :; do sleep 0.05; done"#;
    let mut scene = Scene::script(script).await;
    scene.start("t").await;
    let wait = scene.sync().await;
    scene.report("/api/tasks/t/output").await;
    wait.json(200, &scene.answer(&[], &[stop("t", "cancelled")], &[]));
    let mut refused = 0;
    loop {
        let request = scene.stub.next().await;
        match request.path.as_str() {
            "/api/usage" if refused == 2 => {
                assert_eq!(
                    (totals(&request.body), &request.body["attempt"]),
                    ((9, 0), &json!(1))
                );
                request.json(200, &json!({}));
                break;
            }
            "/api/usage" => {
                refused += 1;
                request.refuse(503, "storage_unavailable");
            }
            // Roll-calls do not wait for what is owed.
            "/api/agents/w/sync" if request.body["running"] == json!([]) && refused < 2 => {
                request.json(200, &scene.answer(&[], &[], &[]));
            }
            "/api/agents/w/sync" => request.hang_up(),
            _ => request.json(200, &json!({})),
        }
    }
    scene.close().await;
}

#[tokio::test]
async fn usage_that_the_server_never_takes_is_given_up() {
    let mut scene = Scene::script(r#"echo '{"tokens_in":9}'; exec sleep 1000"#).await;
    scene.start("t").await;
    let wait = scene.sync().await;
    scene
        .next_where(|path| path == "/api/usage")
        .await
        .refuse(409, "stale_attempt");
    wait.json(200, &scene.answer(&[], &[stop("t", "lost")], &[]));
    scene.stopped().await;
    scene.close().await;
}
