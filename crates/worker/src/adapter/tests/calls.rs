//! What is called for a task.

use adjutant_core::money::Money;
use adjutant_wire::Task;
use serde_json::json;

use super::*;
use crate::adapter::{Extras, Invocation};

fn task(title: &str, description: &str) -> Task {
    let json = json!({"id": "t", "title": title, "description": description, "status": "in_progress",
        "fail_reason": "exit code 1", "payload": {"x": "y"}});
    serde_json::from_value(json).unwrap()
}

fn call(command: &str, task: &Task, extras: Extras<'_>) -> Result<Invocation, String> {
    let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
    Adapter::new(AdapterKind::of_command(&command), &command).invocation(task, extras)
}

const PROMPT: &str = "Fix it\n\nAll of it.";

/// The command line that is called, with `PROMPT` for the prompt, and what comes on stdin.
fn called(command: &str, extras: Extras<'_>) -> String {
    let invocation = call(command, &task("Fix it", "All of it."), extras).unwrap();
    let stdin = String::from_utf8(invocation.stdin).unwrap();
    let arguments = invocation.arguments.join(" ");
    let stdin = match stdin.as_str() {
        "" => "",
        text if text.starts_with('{') => " < TASK",
        text if text.ends_with(PROMPT) => " < PROMPT",
        other => other,
    };
    format!(
        "{} {}{stdin}",
        invocation.program,
        arguments.replace(PROMPT, "PROMPT")
    )
}

#[test]
fn what_is_missing_is_added_once_and_the_prompt_is_no_option() {
    let stream = "-p --output-format stream-json --verbose";
    for (command, expected) in [
        (
            "claude",
            "claude --print --output-format stream-json --verbose < PROMPT".to_owned(),
        ),
        (
            "/opt/bin/claude --model x",
            "/opt/bin/claude --model x --print --output-format stream-json --verbose < PROMPT".to_owned(),
        ),
        (
            "claude -p --output-format json",
            "claude -p --output-format json < PROMPT".to_owned(),
        ),
        (
            "claude --output-format=stream-json -p --verbose",
            "claude --output-format=stream-json -p --verbose < PROMPT".to_owned(),
        ),
        (
            "claude -p -- {description}",
            format!("claude {stream} -- All of it. < TASK"),
        ),
        (
            "claude -p {title} --model x",
            "claude -p Fix it --model x --output-format stream-json --verbose < TASK".to_owned(),
        ),
        (
            "claude -p Do",
            "claude -p Do --output-format stream-json --verbose < TASK".to_owned(),
        ),
        ("codex", "codex exec --json - < PROMPT".to_owned()),
        (
            "codex --model x exec --full-auto",
            "codex --model x exec --full-auto --json - < PROMPT".to_owned(),
        ),
        (
            "codex exec --json --full-auto -- {title}",
            "codex exec --json --full-auto -- Fix it < TASK".to_owned(),
        ),
        ("codex exec --json -", "codex exec --json - < TASK".to_owned()),
        (
            "gemini --yolo",
            "gemini --yolo --output-format stream-json --prompt=PROMPT".to_owned(),
        ),
        ("gemini -o json -p Do", "gemini -o json -p Do < TASK".to_owned()),
        ("opencode", "opencode run --format json -- PROMPT".to_owned()),
        (
            "opencode run --format json -m a/b",
            "opencode run --format json -m a/b -- PROMPT".to_owned(),
        ),
        (
            "cursor-agent --force",
            "cursor-agent --force --print --output-format stream-json -- PROMPT".to_owned(),
        ),
        (
            "cursor-agent --",
            "cursor-agent --print --output-format stream-json -- PROMPT".to_owned(),
        ),
        ("amp", "amp --execute --stream-json < PROMPT".to_owned()),
        ("amp -x {title}", "amp -x Fix it --stream-json < TASK".to_owned()),
        (
            "goose",
            "goose run --output-format stream-json -i - < PROMPT".to_owned(),
        ),
        (
            "goose run -t {title}",
            "goose run -t Fix it --output-format stream-json < TASK".to_owned(),
        ),
        (
            "agy --model x",
            "agy --model x --output-format json -p PROMPT".to_owned(),
        ),
        (
            "aider --yes-always a.rs",
            "aider --yes-always a.rs --no-pretty --message=PROMPT".to_owned(),
        ),
        ("my-claude -p", "my-claude -p < TASK".to_owned()),
    ] {
        assert_eq!(called(command, Extras::default()), expected, "{command}");
    }
}

#[test]
fn a_session_is_gone_on_with_unless_the_user_says_which() {
    let session = Session {
        id: "S".into(),
        ..Session::default()
    };
    let extras = Extras {
        session: Some(&session),
        budget: None,
    };
    for (command, expected) in [
        (
            "claude",
            "claude --print --output-format stream-json --verbose --resume S < PROMPT",
        ),
        (
            "claude -p -- {title}",
            "claude -p --output-format stream-json --verbose --resume S -- Fix it < TASK",
        ),
        (
            "claude --continue",
            "claude --continue --print --output-format stream-json --verbose < PROMPT",
        ),
        (
            "codex exec --full-auto",
            "codex exec --full-auto --json resume S - < PROMPT",
        ),
        (
            "codex exec --json -- {title}",
            "codex exec --json resume S -- Fix it < TASK",
        ),
        (
            "codex exec {title} --json",
            "codex exec resume S Fix it --json < TASK",
        ),
        (
            "codex exec resume --last",
            "codex exec resume --last --json - < PROMPT",
        ),
        ("opencode", "opencode run --format json --session S -- RESUME"),
        (
            "amp --execute",
            "amp threads continue S --execute --stream-json < PROMPT",
        ),
        ("goose", "goose run --output-format stream-json -i - < PROMPT"),
    ] {
        let called = called(command, extras);
        let again = "Your last attempt at this task failed: exit code 1\nGo on from where it stands, and finish it.\n\n";
        assert_eq!(
            called.replace(&format!("{again}PROMPT"), "RESUME"),
            expected,
            "{command}"
        );
    }
    let invocation = call("goose", &task("t", ""), extras).unwrap();
    assert!(!invocation.resumes, "goose does not tell its session");
}

#[test]
fn a_program_that_another_one_calls_gets_its_arguments_after_its_name() {
    let call = |kind, command: &str, session: Option<&Session>| {
        let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let extras = Extras {
            session,
            budget: None,
        };
        let invocation = Adapter::new(kind, &command)
            .invocation(&task("t", ""), extras)
            .unwrap();
        invocation.arguments.join(" ")
    };
    let session = Session {
        id: "S".into(),
        ..Session::default()
    };
    assert_eq!(
        call(AdapterKind::Codex, "npx @openai/codex --full-auto", None),
        "@openai/codex exec --full-auto --json -"
    );
    assert_eq!(
        call(AdapterKind::Amp, "sh amp.sh -x", Some(&session)),
        "amp.sh threads continue S -x --stream-json"
    );
}

#[test]
fn the_budget_is_passed_on_where_the_program_takes_one() {
    let extras = Extras {
        session: None,
        budget: Some(Money::from_nanos(1_250_000_000)),
    };
    assert_eq!(
        called("claude", extras),
        "claude --print --output-format stream-json --verbose --max-budget-usd 1.25 < PROMPT"
    );
    let own = "claude -p --max-budget-usd=5 --output-format json";
    assert_eq!(called(own, extras), format!("{own} < PROMPT"));
    assert_eq!(called("codex", extras), "codex exec --json - < PROMPT");
}

#[test]
fn whatever_a_title_begins_with_the_prompt_does_not_begin_with_a_dash() {
    for command in ["gemini", "opencode", "cursor-agent", "agy", "aider"] {
        let invocation = call(command, &task("--help", "--help"), Extras::default()).unwrap();
        let last = invocation.arguments.last().unwrap();
        assert!(last.ends_with("Task: --help"), "{command}: {last}");
    }
    let long = "x".repeat(200_000);
    let error = call("agy", &task("t", &long), Extras::default()).unwrap_err();
    assert!(error.contains("more than the 102400 that fit"), "{error}");
    let invocation = call("claude", &task("t", &long), Extras::default()).unwrap();
    assert_eq!(invocation.stdin.len(), long.len() + 3);
}

#[test]
fn a_form_that_cannot_be_read_is_refused_before_anything_runs() {
    for (command, objection) in [
        (
            "claude -p --output-format text",
            Some("the adapter claude cannot read `--output-format text`"),
        ),
        (
            "goose run --output-format=json",
            Some("the adapter goose cannot read `--output-format json`"),
        ),
        ("claude -p --output-format json", None),
        ("claude -p -- --output-format text", None),
        ("cat --output-format text", None),
    ] {
        let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let config = crate::Config::new("w", command.clone());
        match (config.check(), objection) {
            (Ok(()), None) => {}
            (Err(error), Some(objection)) => assert!(error.to_string().starts_with(objection), "{error}"),
            (checked, _) => panic!("{command:?}: {checked:?}"),
        }
    }
}

#[test]
fn the_adapter_is_chosen_by_the_name_of_the_program_and_named_as_it_is_written() {
    for kind in AdapterKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!(
        "vim"
            .parse::<AdapterKind>()
            .unwrap_err()
            .contains("there are claude, codex")
    );
    for (program, kind) in [
        ("claude", AdapterKind::Claude),
        ("./bin/cursor-agent", AdapterKind::Cursor),
        ("cursor", AdapterKind::Plain),
        ("sh", AdapterKind::Plain),
        ("", AdapterKind::Plain),
    ] {
        assert_eq!(AdapterKind::of_command(&[program.to_owned()]), kind, "{program}");
    }
    assert_eq!(AdapterKind::of_command(&[]), AdapterKind::Plain);
}
