//! Command lines of agents, played by a script: what the server hears of them, and how they end.

use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;
use crate::AdapterKind;

const CLAUDE: &str = "5f0c7a52-3d1e-4b8a-9a53-0f3a6f2f7c11";
const SONNET: &str = "claude-sonnet-4-5-20250929";

/// Where the script is found under the name of a program, and what it wrote down.
struct Stage {
    directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        mkfifo(&directory.path().join("gate"), Mode::S_IRWXU).unwrap();
        Self { directory }
    }

    /// Runs the script as `program`, which plays like that.
    fn plays(&self, program: &str, transcript: &str, play: &str) -> impl FnOnce(&mut Config) + use<> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
        let link = self.directory.path().join(program);
        std::os::unix::fs::symlink(root.join("stub.sh"), &link).unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let env = [
            ("STAGE", text(self.directory.path().to_owned())),
            ("TRANSCRIPT", text(root.join("transcripts").join(transcript))),
            ("PLAY", play.to_owned()),
        ];
        move |config| {
            config.command = vec![text(link)];
            config.env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
        }
    }

    fn arguments(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.path().join("arguments")).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    fn stdin(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stdin")).unwrap()
    }

    /// Lets the script go on.
    async fn open_gate(&self) {
        let path = self.directory.path().join("gate");
        let write = tokio::task::spawn_blocking(move || std::fs::write(path, "go\n"));
        write.await.unwrap().unwrap();
    }
}

/// Prints so many lines, and the rest when the gate opens.
fn in_two_parts(lines: usize) -> String {
    format!(
        r#"head -n {lines} "$TRANSCRIPT"; read -r go < "$STAGE/gate"; tail -n +{} "$TRANSCRIPT""#,
        lines + 1
    )
}

const ALL: &str = r#"cat "$TRANSCRIPT""#;
const ALL_AND_FAIL: &str = r#"cat "$TRANSCRIPT"; exit 1"#;

/// Takes the completion, and gives it with what came beside roll-calls.
async fn end(mut scene: Scene) -> (Value, Vec<(String, Value)>) {
    let (sync, done) = scene.completion().await;
    sync.json(200, &scene.answer(&[], &[], &[json!({"status": 200})]));
    let others = std::mem::take(&mut scene.others);
    scene.close().await;
    (done, others)
}

/// The notes that were made of a task.
fn notes(others: &[(String, Value)]) -> Vec<&str> {
    let notes = others.iter().filter(|(path, _)| path == "/api/tasks/t");
    notes.map(|(_, body)| body["notes"].as_str().unwrap()).collect()
}

/// Offers a task with a note of this agent.
fn offer_with_note(note: &str) -> Value {
    let mut offer = offer("t");
    offer["task"]["notes"] = json!([{"at": "2026-11-24T10:00:00Z", "author": "w", "text": note}]);
    offer
}

#[tokio::test]
async fn usage_and_session_are_told_before_the_end_and_the_answer_is_the_result() {
    let stage = Stage::new();
    let mut scene = Scene::with(
        "",
        stage.plays("claude", "claude/success.jsonl", &in_two_parts(3)),
    )
    .await;
    scene.start("t").await;
    let wait = scene.sync().await;
    let usage = scene.report("/api/usage").await;
    assert_eq!(
        (
            &usage["tokens_in"],
            &usage["tokens_out"],
            &usage["model"],
            &usage["total"]
        ),
        (&json!(510), &json!(1), &json!(SONNET), &json!(true))
    );
    if notes(&scene.others).is_empty() {
        let note = scene.next_where(|path| path == "/api/tasks/t").await;
        assert_eq!(
            (note.method.as_str(), &note.body["attempt"]),
            ("PATCH", &json!(1))
        );
        scene.others.push((note.path.clone(), note.body.clone()));
        note.json(200, &task("t"));
    }
    stage.open_gate().await;
    wait.abandoned().await;
    let (done, others) = end(scene).await;
    assert_eq!(notes(&others), [format!("claude session {CLAUDE}")]);
    assert_eq!(
        (&done["success"], &done["output"], &done["error_message"]),
        (&json!(true), &json!("All tests pass."), &json!(""))
    );
    // One model rides on the completion, the other was told before; the cost comes in cents.
    let told = others
        .iter()
        .filter(|(path, _)| path == "/api/usage")
        .map(|(_, body)| body);
    let mut totals: Vec<_> = told
        .chain([&done])
        .filter(|body| !body["cost"].is_null())
        .map(|body| {
            (
                body["model"].as_str().unwrap(),
                body["tokens_in"].as_u64(),
                body["cost"].as_f64(),
            )
        })
        .collect();
    totals.sort_unstable_by_key(|(model, ..)| *model);
    // Totals that are told twice count once.
    totals.dedup();
    assert_eq!(
        totals,
        [
            ("claude-haiku-4-5-20251001", Some(400), Some(0.44)),
            (SONNET, Some(530), Some(4.12))
        ]
    );
    assert_eq!(stage.stdin(), "title of t");
    assert_eq!(
        stage.arguments(),
        ["--print", "--output-format", "stream-json", "--verbose"]
    );
    let live = others.iter().filter(|(path, _)| path == "/api/tasks/t/output");
    let live: String = live.map(|(_, body)| body["text"].as_str().unwrap()).collect();
    assert!(
        live.contains(r#""subtype":"init""#),
        "those who watch see the stream: {live}"
    );
}

#[tokio::test]
async fn a_hard_limit_ends_an_agent_in_the_middle_by_what_it_streams() {
    let stage = Stage::new();
    let play = r#"head -n 3 "$TRANSCRIPT"; exec sleep 1000"#;
    let mut scene = Scene::with("", stage.plays("claude", "claude/success.jsonl", play)).await;
    scene.start("t").await;
    let wait = scene.sync().await;
    scene.report("/api/usage").await;
    wait.json(200, &scene.answer(&[], &[stop("t", "limit")], &[]));
    let (done, _) = end(scene).await;
    assert_eq!(
        (&done["success"], &done["error_message"], &done["tokens_in"]),
        (&json!(false), &json!("stopped: limit"), &json!(510))
    );
    assert_eq!(done["output"], json!("Let me look."));
}

#[tokio::test]
async fn an_agent_that_hangs_after_its_result_is_ended_and_its_result_stands() {
    let play = r#"trap 'cat "${TRANSCRIPT%/*}/failure_api.jsonl"' TERM; cat "$TRANSCRIPT"; while :; do sleep 1000; done"#;
    for (transcript, success, problem) in [
        ("claude/success.jsonl", true, ""),
        ("claude/failure_turns.jsonl", false, "error_max_turns"),
    ] {
        let stage = Stage::new();
        let plays = stage.plays("claude", transcript, play);
        let mut scene = Scene::with("", |config| {
            plays(config);
            config.result_grace = Duration::from_millis(50);
            config.grace = Duration::from_millis(50);
        })
        .await;
        scene.start("t").await;
        let (done, _) = end(scene).await;
        assert_eq!(
            (&done["success"], &done["error_message"]),
            (&json!(success), &json!(problem))
        );
        assert_eq!(done["output"], json!("All tests pass."));
    }
}

#[tokio::test]
async fn an_agent_without_a_result_is_not_ended_for_hanging() {
    let stage = Stage::new();
    let plays = stage.plays("claude", "claude/success.jsonl", &in_two_parts(5));
    let mut scene = Scene::with("", |config| {
        plays(config);
        config.result_grace = Duration::ZERO;
    })
    .await;
    scene.start("t").await;
    let wait = scene.sync().await;
    scene.report("/api/tasks/t/output").await;
    stage.open_gate().await;
    wait.abandoned().await;
    assert_eq!(end(scene).await.0["success"], json!(true));
}

#[tokio::test]
async fn a_rate_limit_pauses_the_agent_and_is_no_failure_of_the_task() {
    let stage = Stage::new();
    let mut scene = Scene::with("", stage.plays("claude", "claude/rate_limit.jsonl", ALL_AND_FAIL)).await;
    scene.start("t").await;
    let (done, others) = end(scene).await;
    assert_eq!(done["success"], json!(false));
    assert_eq!(done["rate_limited_until"], json!("2026-11-30T02:00:00.000000Z"));
    // It holds for the agent and not for one model only.
    assert_eq!((&done["model"], &done["tokens_in"]), (&Value::Null, &Value::Null));
    let last = others.iter().rfind(|(path, _)| path == "/api/usage").unwrap();
    assert_eq!(
        (&last.1["tokens_in"], &last.1["cost"]),
        (&json!(510), &json!(0.4))
    );
    assert_eq!(notes(&others), [format!("claude session {CLAUDE}")]);
}

#[tokio::test]
async fn a_retry_goes_on_with_the_session_of_the_last_attempt() {
    let stage = Stage::new();
    let mut scene = Scene::with("", stage.plays("claude", "claude/success.jsonl", ALL)).await;
    scene
        .start_with(offer_with_note(&format!("claude session {CLAUDE}")))
        .await;
    let (done, others) = end(scene).await;
    assert_eq!(done["success"], json!(true));
    assert_eq!(stage.arguments()[4..], ["--resume", CLAUDE]);
    assert_eq!(
        stage.stdin(),
        "Your last attempt at this task was cut short.\nGo on from where it stands, and finish it.\n\ntitle of t"
    );
    assert!(notes(&others).is_empty(), "it is noted already");
}

#[tokio::test]
async fn a_session_that_fails_again_is_left_alone() {
    let stage = Stage::new();
    let play = "echo 'No conversation found' >&2; exit 1";
    let mut scene = Scene::with("", stage.plays("claude", "claude/success.jsonl", play)).await;
    scene.start_with(offer_with_note("claude session gone")).await;
    let (done, others) = end(scene).await;
    assert_eq!(
        done["error_message"],
        json!("exit code 1, and claude printed no result: No conversation found")
    );
    let note = "claude session gone: failed again, not resumed any more";
    assert_eq!(notes(&others), [note]);
    let stage = Stage::new();
    let mut scene = Scene::with("", stage.plays("claude", "claude/success.jsonl", ALL)).await;
    scene.start_with(offer_with_note(note)).await;
    end(scene).await;
    assert!(!stage.arguments().contains(&"--resume".to_owned()));
}

#[tokio::test]
async fn what_a_thread_counted_before_is_not_counted_again() {
    let stage = Stage::new();
    let mut scene = Scene::with("", stage.plays("codex", "codex/success.jsonl", ALL_AND_FAIL)).await;
    let thread = "0199a213-81c0-7800-8aa1-bbab2a035a53";
    scene
        .start_with(offer_with_note(&format!(
            "codex session {thread}: counted 300 in, 20000 cached, 100 out"
        )))
        .await;
    let (done, _) = end(scene).await;
    assert_eq!(stage.arguments(), ["exec", "--json", "resume", thread, "-"]);
    assert_eq!(
        (&done["tokens_in"], &done["tokens_cached"], &done["tokens_out"]),
        (&json!(15), &json!(4_448), &json!(22))
    );
    // The first attempt leaves what it counted, since it failed.
    let stage = Stage::new();
    let mut scene = Scene::with("", stage.plays("codex", "codex/success.jsonl", ALL_AND_FAIL)).await;
    scene.start("t").await;
    let (done, others) = end(scene).await;
    assert_eq!(
        done["error_message"],
        json!("exit code 1 after a result that says success")
    );
    let last = format!("codex session {thread}: counted 315 in, 24448 cached, 122 out");
    assert_eq!(notes(&others).last(), Some(&last.as_str()));
}

/// The question for a price and the roll-call that waits meanwhile, in whatever order they come.
async fn price_asked(scene: &mut Scene) -> (Exchange, Exchange) {
    let wanted = |path: &str| path == "/api/models/sonnet" || path == "/api/agents/w/sync";
    let (one, other) = (scene.next_where(wanted).await, scene.next_where(wanted).await);
    if one.path == "/api/models/sonnet" {
        (one, other)
    } else {
        (other, one)
    }
}

#[tokio::test]
async fn what_is_held_is_the_budget_where_the_program_takes_one() {
    let stage = Stage::new();
    let plays = stage.plays("claude", "claude/success.jsonl", ALL);
    let mut scene = Scene::with("", |config| {
        plays(config);
        config.models = vec!["sonnet".into()];
    })
    .await;
    let mut offer = offer("t");
    offer["task"]["estimated_tokens"] = json!(100_000);
    let sync = scene.sync().await;
    sync.json(200, &scene.answer(&[offer], &[], &[]));
    let (asked, wait) = price_asked(&mut scene).await;
    asked.json(
        200,
        &json!({"model": "sonnet", "prices": {"input": 300, "output": 1500, "cached": 30}}),
    );
    wait.abandoned().await;
    let (done, others) = end(scene).await;
    assert_eq!(stage.arguments()[4..], ["--max-budget-usd", "1.50"]);
    // The name that the program prints is told as the one that the server knows.
    let told = others
        .iter()
        .filter(|(path, _)| path == "/api/usage")
        .map(|(_, body)| &body["model"]);
    let models: Vec<_> = told.chain([&done["model"]]).collect();
    assert!(
        models.contains(&&json!("sonnet")) && !models.contains(&&json!(SONNET)),
        "{models:?}"
    );
}

#[tokio::test]
async fn without_a_price_there_is_no_budget() {
    let stage = Stage::new();
    let plays = stage.plays("claude", "claude/success.jsonl", ALL);
    let mut scene = Scene::with("", |config| {
        plays(config);
        config.models = vec!["sonnet".into()];
    })
    .await;
    let mut offer = offer("t");
    offer["task"]["estimated_tokens"] = json!(100_000);
    let sync = scene.sync().await;
    sync.json(200, &scene.answer(&[offer], &[], &[]));
    let (asked, wait) = price_asked(&mut scene).await;
    asked.refuse(403, "forbidden");
    wait.abandoned().await;
    let (done, _) = end(scene).await;
    assert_eq!((&done["success"], stage.arguments().len()), (&json!(true), 4));
}

#[tokio::test]
async fn each_program_does_its_task_and_garbage_from_each_is_a_failure() {
    for kind in AdapterKind::ALL
        .into_iter()
        .filter(|kind| *kind != AdapterKind::Plain)
    {
        let (program, transcript) = match kind {
            AdapterKind::Cursor => ("cursor-agent", "cursor/success.jsonl".to_owned()),
            AdapterKind::Agy => ("agy", "agy/success.json".to_owned()),
            AdapterKind::Aider => ("aider", "aider/success.txt".to_owned()),
            _ => (kind.name(), format!("{kind}/success.jsonl")),
        };
        let stage = Stage::new();
        let mut scene = Scene::with("", stage.plays(program, &transcript, ALL)).await;
        scene.start("t").await;
        let (done, _) = end(scene).await;
        assert_eq!(
            (&done["success"], &done["error_message"]),
            (&json!(true), &json!("")),
            "{kind}"
        );
        let said = stage.stdin() + &stage.arguments().join(" ");
        assert!(said.contains("title of t"), "{kind}: {said}");

        let stage = Stage::new();
        let garbage = r"printf 'garbage \000\377 {\n{\042half'; exit 7";
        let mut scene = Scene::with("", stage.plays(program, &transcript, garbage)).await;
        scene.start("t").await;
        let (done, _) = end(scene).await;
        let message = done["error_message"].as_str().unwrap();
        assert!(message.starts_with("exit code 7"), "{kind}: {message}");
        assert_eq!(done["success"], json!(false), "{kind}");
    }
}
