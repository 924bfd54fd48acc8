//! Commands against a server: tables that fit, JSON that parses, exit codes that say what happened.

mod support;

use std::process::{Command, Stdio};

use support::{Program, Server, eventually, run, write};

#[test]
fn tables_fit_eighty_columns_and_hostile_titles_cannot_steer_the_terminal() {
    let server = Server::start();
    let title = format!("\u{1b}[2J\u{202e}evil\n{}", "漢字".repeat(100));
    server
        .run(&[
            "task",
            "add",
            &title,
            "--label",
            &"l".repeat(150),
            "--project",
            "p",
        ])
        .ok();
    for arguments in [
        vec!["task", "list"],
        vec!["status"],
        vec!["agent", "list"],
        vec!["events"],
        vec!["token", "list"],
        vec!["limit", "show", "fleet"],
        vec!["allowance", "show", "a"],
        vec!["model", "show", "sonnet"],
        vec!["repo", "show", "acme/web"],
    ] {
        let text = server.run(&arguments).ok();
        assert!(!text.trim().is_empty(), "{arguments:?}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{arguments:?}: {text:?}");
        for line in text.lines() {
            // Every character here takes one column, the two of the title take two.
            let columns = line
                .chars()
                .map(|c| {
                    if ('\u{4e00}'..='\u{9fff}').contains(&c) {
                        2
                    } else {
                        1
                    }
                })
                .sum::<usize>();
            assert!(columns <= 80, "{arguments:?}: {columns} columns: {line}");
        }
    }
    let id = server.run(&["task", "list", "--json"]).json()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = server.run(&["task", "show", &id]).ok();
    assert!(!shown.contains(['\u{1b}', '\u{202e}']));
    assert!(server.run(&["task", "explain", &id]).ok().contains("no_agents"));
}

#[test]
fn every_command_that_prints_prints_json() {
    let server = Server::start();
    let id = server.run(&["task", "add", "x", "--json"]).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for arguments in [
        vec!["status"],
        vec!["task", "list"],
        vec!["task", "show", &id],
        vec!["task", "explain", &id],
        vec!["task", "logs", &id],
        vec!["task", "hold", &id],
        vec!["task", "unhold", &id],
        vec!["task", "cancel", &id],
        vec!["task", "retry", &id],
        vec!["agent", "list"],
        vec!["allowance", "set", "a", "--daily-jobs", "3"],
        vec!["allowance", "show", "a"],
        vec!["allowance", "reset", "a"],
        vec!["limit", "set", "fleet", "--jobs", "9", "--cost", "12.5"],
        vec!["limit", "show", "fleet"],
        vec!["limit", "reset", "fleet"],
        vec!["limit", "set", "fleet", "--none"],
        vec!["model", "set", "m", "--input-price", "300"],
        vec!["model", "show", "m"],
        vec!["repo", "set", "acme/web", "--daily-prs", "2"],
        vec!["repo", "show", "acme/web"],
        vec!["token", "create", "t", "--role", "read"],
        vec!["token", "list"],
        vec!["token", "revoke", "t"],
        vec![
            "webhook",
            "add",
            "w",
            "https://192.0.78.1/hook",
            "--event",
            "quota_reset",
        ],
        vec!["webhook", "list"],
        vec!["webhook", "show", "w"],
        vec!["webhook", "dead", "w"],
        vec!["webhook", "retry", "w"],
        vec!["webhook", "resume", "w"],
        vec!["webhook", "remove", "w"],
        vec!["openapi"],
    ] {
        server.run(&[&arguments[..], &["--json"]].concat()).json();
    }
    let events = server.run(&["events", "--json"]).ok();
    assert!(
        events
            .lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );
}

#[test]
fn setting_one_thing_leaves_the_others() {
    let server = Server::start();
    server
        .run(&["allowance", "set", "a", "--daily-jobs", "3", "--models", "m,n"])
        .ok();
    let set = server
        .run(&["allowance", "set", "a", "--daily-tokens", "7", "--json"])
        .json();
    assert_eq!(set["allowance"]["daily_job_limit"], 3);
    assert_eq!(set["allowance"]["model_allowlist"][1], "n");
    server
        .run(&["limit", "set", "project:p", "--window", "hour", "--jobs", "1"])
        .ok();
    let set = server
        .run(&[
            "limit",
            "set",
            "project:p",
            "--window",
            "day",
            "--tokens",
            "9",
            "--soft",
            "--json",
        ])
        .json();
    assert_eq!(set["limits"].as_array().unwrap().len(), 2);
}

#[test]
fn a_list_is_imported_once() {
    let server = Server::start();
    write(
        &server.directory,
        "list.md",
        "- [ ] second (after: first)\n- [ ] first (id: first, labels: none)\n- [x] done\n",
    );
    let report = server.run(&["task", "import", "list.md", "--json"]).json();
    assert_eq!(report["added"].as_array().unwrap().len(), 2);
    assert_eq!(
        server.run(&["task", "import", "list.md"]).ok(),
        "0 added, 2 there already\n"
    );
    write(
        &server.directory,
        "bad.md",
        "- [ ] fine (id: fine)\n- [ ] lost (after: nowhere)\n",
    );
    server
        .run(&["task", "import", "bad.md"])
        .fails(2, "error: bad.md:2: task `item-");
    // What one server lists another one takes.
    let exported = server.run(&["task", "list", "--json"]).ok();
    let other = Server::start();
    write(&other.directory, "tasks.json", &exported);
    assert_eq!(
        other.run(&["task", "import", "tasks.json"]).ok(),
        "3 added, 0 there already\n"
    );
}

#[test]
fn mistakes_exit_with_two_and_refusals_with_one() {
    let server = Server::start();
    let id = server.run(&["task", "add", "x", "--id", "x"]).ok();
    assert_eq!(id, "x\n");
    server
        .run(&["task", "add", "x", "--id", "x"])
        .fails(1, "task_exists");
    server.run(&["task", "show", "nope"]).fails(1, "task_not_found");
    server.run(&["task", "release", "x"]).fails(1, "error: ");
    server
        .run(&["task", "import", "missing.md"])
        .fails(2, "error: cannot read the task list missing.md");
    server
        .run(&["--url", "ftp://x", "status"])
        .fails(2, "error: --url: `ftp://x` is not a URL");
    for arguments in [
        vec!["task", "add", "x", "--priority", "urgent"],
        vec!["limit", "show", "nonsense"],
        vec!["limit", "set", "fleet"],
        vec!["token", "create", "t", "--role", "king"],
        vec!["no-such-command"],
        vec!["task", "show"],
        vec![],
    ] {
        let ran = server.run(&arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    for command in ["top", "bench", "dispatch", "backup", "restore"] {
        assert_eq!(server.run(&[command]).code, 2);
    }
    let several = server.run(&["task", "cancel", "x", "nope"]);
    assert_eq!((several.code, several.stdout.as_str()), (1, "x cancelled\n"));
}

#[test]
fn a_worker_runs_its_command_for_each_task() {
    let server = Server::start();
    let script = "read -r task; echo \"$ADJUTANT_TASK_ID/$ADJUTANT_ATTEMPT: $1\"; test \"$1\" != bad || { echo broken >&2; exit 3; }";
    let worker = Program::start(
        server
            .command()
            .args([
                "worker",
                "--id",
                "w",
                "--capabilities",
                "shell",
                "--",
                "sh",
                "-c",
                script,
                "sh",
                "{payload.say}",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let add = |id: &str, say: &str| {
        let payload = format!("{{\"say\": \"{say}\"}}");
        server
            .run(&[
                "task",
                "add",
                id,
                "--id",
                id,
                "--label",
                "shell",
                "--payload",
                &payload,
                "--retries",
                "1",
            ])
            .ok();
    };
    add("good", "$(date); `id`");
    add("worse", "bad");
    let good = server.run(&["task", "watch", "good"]).ok();
    assert!(good.contains("task_completed"), "{good}");
    server
        .run(&["task", "watch", "worse"])
        .fails(1, "error: not completed: worse");
    let task = server.run(&["task", "show", "good", "--json"]).json();
    assert_eq!(
        task["result"]["output"].as_str().unwrap().trim(),
        "good/1: $(date); `id`"
    );
    let task = server.run(&["task", "show", "worse", "--json"]).json();
    assert_eq!(task["status"], "failed");
    assert!(task["fail_reason"].as_str().unwrap().contains("broken"), "{task}");

    assert_eq!(worker.terminate().code, 0);
    eventually("the agent leaves", || {
        let agents = server.run(&["agent", "list", "--json"]).json();
        let gone = agents
            .as_array()
            .unwrap()
            .iter()
            .all(|agent| agent["status"] == "offline");
        gone.then_some(())
    });
}

#[test]
fn a_worker_that_cannot_work_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let worker = |arguments: &[&str]| run(directory.path(), &[&["worker"], arguments].concat());
    worker(&["--id", "a b", "--", "true"]).fails(2, "the agent id");
    worker(&["--id", "a", "--", "no-such-program"]).fails(2, "there is no program `no-such-program`");
    assert_eq!(worker(&["--id", "a"]).code, 2);
}

#[test]
fn help_and_completions_need_no_server() {
    let directory = tempfile::tempdir().unwrap();
    assert!(
        run(directory.path(), &["--help"])
            .ok()
            .contains("adjutant up fleet.toml")
    );
    assert!(
        run(directory.path(), &["--version"])
            .ok()
            .starts_with("adjutant ")
    );
    assert!(
        run(directory.path(), &["completions", "bash"])
            .ok()
            .contains("complete")
    );
    let document: serde_json::Value = run(directory.path(), &["openapi"]).json();
    assert!(document["paths"]["/api/tasks"].is_object());
}

#[test]
fn completions_are_there_for_every_shell_and_bash_knows_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(directory.path(), &["completions", shell]).ok();
        assert!(
            script.contains("adjutant") && script.contains("explain"),
            "{shell}"
        );
    }
    assert_eq!(run(directory.path(), &["completions", "tcsh"]).code, 2);
    let script = run(directory.path(), &["completions", "bash"]).ok();
    write(directory.path(), "adjutant.bash", &script);
    let ask = "source ./adjutant.bash; COMP_WORDS=(adjutant task wa); COMP_CWORD=2; \
               _adjutant adjutant wa task; echo \"${COMPREPLY[@]}\"";
    let answer = Command::new("bash")
        .args(["--norc", "-c", ask])
        .current_dir(directory.path())
        .output();
    match answer {
        Ok(answer) => assert_eq!(String::from_utf8(answer.stdout).unwrap().trim(), "watch"),
        Err(error) => eprintln!("SKIPPED: completions were not tried in bash: {error}"),
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let page = run(directory.path(), &["man"]).ok();
    assert!(page.contains(".TH adjutant 1"), "{page}");
    let told = run(directory.path(), &["man", "--out", "share/man1", "--json"]).json();
    let pages: Vec<&str> = told["pages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|page| page.as_str().unwrap())
        .collect();
    for name in [
        "adjutant.1",
        "adjutant-top.1",
        "adjutant-task.1",
        "adjutant-task-watch.1",
    ] {
        assert!(pages.contains(&name), "{name} in {pages:?}");
    }
    assert!(pages.len() > 45, "{}", pages.len());
    for name in pages {
        let page = std::fs::read_to_string(directory.path().join("share/man1").join(name)).unwrap();
        assert!(
            page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
            "{name}"
        );
        // Where the machine can set it, nothing in it is wrong.
        let set = Command::new("groff")
            .args(["-k", "-man", "-ww", "-Tutf8", "-z"])
            .arg(directory.path().join("share/man1").join(name))
            .output();
        if let Ok(set) = set {
            assert!(
                set.stderr.is_empty(),
                "{name}: {}",
                String::from_utf8_lossy(&set.stderr)
            );
        }
    }
    write(directory.path(), "file", "");
    run(directory.path(), &["man", "--out", "file/man1"]).fails(1, "--out: cannot write");
}

#[test]
fn health_is_told_by_the_exit_code_and_needs_no_token() {
    let server = Server::start();
    let well = run(&server.directory, &["health", "--url", &server.url]).ok();
    assert_eq!(well, format!("{} is well\n", server.url));
    let health = server.run(&["health", "--json"]).json();
    assert_eq!(health["status"], "ok");
    run(&server.directory, &["health", "--url", "http://127.0.0.1:1"]).fails(1, "cannot reach");
}
