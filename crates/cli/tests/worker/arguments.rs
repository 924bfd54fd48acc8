//! What a hostile task can make of a command line: nothing but one argument.

use serde_json::json;

use crate::support::Server;
use crate::support::api::Api;
use crate::{Worker, task_when};

/// Writes its arguments down, each ended by NUL, which no argument can hold.
const RECORDER: &str = r#"printf '%s\0' "$@" > "$ADJUTANT_TASK_ID.argv""#;

fn recorder(server: &Server, id: &str, arguments: &[&str]) -> Worker {
    let mut command = server.command();
    command
        .args(["worker", "--id", id, "--capabilities", id, "--"])
        .args(["sh", "-c", RECORDER, "sh"])
        .args(arguments);
    Worker::start(server, id, &mut command)
}

fn recorded(server: &Server, task: &str) -> Vec<String> {
    let bytes = std::fs::read(server.directory.join(format!("{task}.argv"))).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn whatever_a_title_holds_it_stays_one_argument() {
    let server = Server::start();
    let api = Api::of(&server);
    let arguments = [
        "<{title}>",
        "{{title}}",
        "--title={title}",
        "--",
        "{title}",
        "{description}",
        "{payload.x}",
    ];
    let _worker = recorder(&server, "w", &arguments);
    let titles = [
        "--help",
        "-rf",
        "--",
        "two\nlines\r\n",
        "\"double\" 'single' \\",
        "$(touch pwned) `touch pwned` ; touch pwned & touch pwned | touch pwned > pwned",
        "$HOME ~ * ? [a-z] !!",
        "{description}",
        "{title}",
        "{{title}}",
        "{payload.x}{nothing}",
        "%s %n \\0 \\x00",
        " leading and trailing ",
        "\u{202e}gnp.exe \u{1b}[31m ü 🚀",
    ];
    for (number, title) in titles.iter().enumerate() {
        let id = format!("t{number}");
        let task = json!({"id": id, "title": title, "description": "{title} $(touch pwned)", "labels": ["w"],
            "payload": {"x": "-{id}"}});
        api.post("/api/tasks", &task).unwrap().good();
        let task = task_when(&api, &id, |task| {
            task["status"] != "pending" && task["status"] != "in_progress"
        });
        assert_eq!(task["status"], "completed", "{title:?}: {task}");
        let expected = [
            format!("<{title}>"),
            "{title}".to_owned(),
            format!("--title={title}"),
            "--".to_owned(),
            (*title).to_owned(),
            "{title} $(touch pwned)".to_owned(),
            "-{id}".to_owned(),
        ];
        assert_eq!(recorded(&server, &id), expected, "{title:?}");
    }
    assert!(!server.directory.join("pwned").exists());
}

#[test]
fn what_cannot_be_one_harmless_argument_fails_the_attempt_and_runs_nothing() {
    let server = Server::start();
    let api = Api::of(&server);
    let _first = recorder(&server, "title", &["{title}"]);
    let _second = recorder(&server, "glued", &["{payload.empty}{title}"]);
    let _third = recorder(&server, "late", &["{title}", "--"]);
    let _fourth = recorder(&server, "long", &["--", "{description}"]);
    let long = "x".repeat(100 * 1024 + 1);
    let cases = [
        ("title", "--help", "", "begins with `-`"),
        ("title", "-rf", "", "put `--` before it"),
        ("glued", "-rf", "", "begins with `-`"),
        ("late", "-rf", "", "begins with `-`"),
        ("long", "x", &long, "use stdin"),
    ];
    for (number, (label, title, description, why)) in cases.iter().enumerate() {
        let id = format!("t{number}");
        let task = json!({"id": id, "title": title, "description": description, "labels": [label],
            "payload": {"empty": ""}, "max_retries": 1});
        api.post("/api/tasks", &task).unwrap().good();
        let task = task_when(&api, &id, |task| task["status"] == "failed");
        let reason = task["fail_reason"].as_str().unwrap();
        assert!(reason.contains(why), "{label} {title}: {reason}");
        assert!(
            !server.directory.join(format!("{id}.argv")).exists(),
            "{label} {title}"
        );
    }
    // What just fits does, and a dash in the middle is no option.
    for (id, label, title, description) in [
        ("fits", "long", "x", &long[1..]),
        ("dash", "title", "a-b --c", ""),
    ] {
        let task = json!({"id": id, "title": title, "description": description, "labels": [label]});
        api.post("/api/tasks", &task).unwrap().good();
        task_when(&api, id, |task| task["status"] == "completed");
    }
    assert_eq!(recorded(&server, "fits"), ["--", &long[1..]]);
    assert_eq!(recorded(&server, "dash"), ["a-b --c"]);
    // NUL does not even get into a task.
    for field in ["title", "description"] {
        let mut task = json!({"title": "x"});
        task[field] = json!("a\0b");
        assert_eq!(api.post("/api/tasks", &task).unwrap().status, 422, "{field}");
    }
}
