//! No token, and no secret of a webhook, is ever written to a log, however much is logged.

mod support;

use std::fs::{File, read_to_string};

use support::{Program, TOKEN, adjutant, eventually, run};

#[test]
fn no_secret_is_in_the_log_of_a_server_or_a_worker_that_log_everything() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let file = |name: &str| at.join(name);
    let _server = Program::start(
        adjutant(at)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "trace"])
            .arg("--allow-private-peers")
            .env("ADJUTANT_ADMIN_TOKEN", TOKEN)
            .stdout(File::create(file("address")).unwrap())
            .stderr(File::create(file("server.log")).unwrap()),
    );
    let url = eventually("the server", || {
        let text = read_to_string(file("address")).unwrap();
        text.trim().strip_prefix("listening on ").map(str::to_owned)
    });
    let ask = |token: &str, arguments: &[&str]| {
        run(
            at,
            &[&["--url", url.as_str(), "--token", token], arguments].concat(),
        )
    };
    let created = ask(TOKEN, &["token", "create", "host", "--role", "agent:*"]).ok();
    let created = created.trim();
    let wrong = "adj_wrong-token-0123456789";
    ask(wrong, &["task", "list"]).fails(1, "error: ");
    ask("att_forged.0123456789", &["task", "list"]).fails(1, "error: ");
    ask(created, &["token", "list"]).fails(1, "error: ");
    // Nobody is there, which is all that is said of it.
    let added = ask(TOKEN, &["webhook", "add", "w", "http://127.0.0.1:1/", "--json"]).json();
    let webhook = added["secret"].as_str().unwrap().to_owned();
    let webhook = webhook.strip_prefix("whsec_").unwrap();
    ask(TOKEN, &["webhook", "test", "w"]).fails(1, "not delivered");
    for shown in [["webhook", "list"], ["webhook", "show"]] {
        let name = if shown[1] == "show" { &["w"][..] } else { &[] };
        let text = ask(TOKEN, &[&shown[..], name, &["--json"]].concat()).ok();
        assert!(!text.contains(webhook) && !text.contains("whsec_"), "{text}");
    }
    let id = ask(TOKEN, &["task", "add", "one"]).ok();
    let _worker = Program::start(
        adjutant(at)
            .args(["worker", "--id", "w", "--log-level", "trace", "--"])
            .args(["sh", "-c", "echo $ADJUTANT_TOKEN > attempt"])
            .env("ADJUTANT_URL", &url)
            .env("ADJUTANT_TOKEN", created)
            .stdout(std::process::Stdio::null())
            .stderr(File::create(file("worker.log")).unwrap()),
    );
    eventually("the task", || {
        let task = ask(TOKEN, &["task", "show", id.trim(), "--json"]).json();
        (task["status"] == "completed").then_some(())
    });
    ask(TOKEN, &["token", "revoke", "host"]).ok();
    let attempt = read_to_string(file("attempt")).unwrap();
    let attempt = attempt.trim();
    assert!(attempt.starts_with("att_") && created.starts_with("adj_"));

    for log in ["server.log", "worker.log"] {
        let text = read_to_string(file(log)).unwrap();
        assert!(
            text.contains("TRACE") || text.contains("DEBUG"),
            "{log} has no detail"
        );
        for token in [TOKEN, created, wrong, "att_forged", attempt, webhook] {
            // Neither the token, nor what is secret of it, nor its bytes as a debugger writes them.
            let secret = token.trim_start_matches("adj_").trim_start_matches("att_");
            for shape in [secret.to_owned(), format!("{:?}", secret.as_bytes())] {
                let found = text.lines().find(|line| line.contains(&shape));
                assert_eq!(found, None, "{log}");
            }
        }
    }
    // And none is in the store.
    let store = std::fs::read(file("adjutant.db")).unwrap();
    let wal = std::fs::read(file("adjutant.db-wal")).unwrap_or_default();
    for token in [TOKEN, created, attempt, webhook] {
        let bytes = token.as_bytes();
        assert!(!store.windows(bytes.len()).any(|part| part == bytes));
        assert!(!wal.windows(bytes.len()).any(|part| part == bytes));
    }
}
