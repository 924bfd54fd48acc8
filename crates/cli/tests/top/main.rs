//! `adjutant top` in a pseudo-terminal: the real binary, a real server, and keys that really do something.

mod scene;
#[path = "../support/mod.rs"]
mod support;
mod terminal;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use support::api::Api;
use support::relay::Relay;
use support::{Server, run};
use terminal::Terminal;

/// The document that has the pictures. `ADJUTANT_UPDATE_DOCS=1` writes those of this run into it.
const DOCUMENT: &str = "docs/top.md";

fn top(server: &Server, size: (u16, u16)) -> Terminal {
    Terminal::top(server, &server.url, size, &[], &[])
}

#[test]
fn the_document_shows_what_is_seen_at_both_sizes() {
    let server = Server::start();
    scene::set(&server);
    for (columns, rows) in [(80, 24), (200, 50)] {
        let terminal = top(&server, (columns, rows));
        for text in ["ci-shell", "old-idea", "2026-"] {
            terminal.shows(text);
        }
        let heading = format!("### {columns}×{rows}\n\n```text\n");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(DOCUMENT);
        let document = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = document
            .split_once(&heading)
            .unwrap_or_else(|| panic!("{DOCUMENT} has no {heading}"));
        let (shown, after) = rest.split_once("\n```").unwrap();
        let seen = || scene::still(&terminal.screen());
        if std::env::var("ADJUTANT_UPDATE_DOCS").as_deref() == Ok("1") {
            let seen = seen();
            std::fs::write(&path, format!("{before}{heading}{seen}\n```{after}")).unwrap();
            continue;
        }
        let end = Instant::now() + Duration::from_secs(20);
        while seen() != shown {
            assert!(
                Instant::now() < end,
                "put this into {DOCUMENT}, or run with ADJUTANT_UPDATE_DOCS=1:\n{}",
                seen()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn keys_really_cancel_retry_and_drain() {
    let server = Server::start();
    scene::set(&server);
    let api = Api::of(&server);
    let mut terminal = top(&server, (80, 24));
    terminal.shows("migrate-db");
    // The newest task is marked: what is asked is about it, and nothing is done without a yes.
    terminal.press("c");
    terminal.shows("Cancel task migrate-db?");
    terminal.press("n");
    terminal.shows("nothing was done");
    assert_eq!(api.status("migrate-db"), "pending");
    terminal.press("c");
    terminal.shows("Cancel task migrate-db?");
    terminal.press("y");
    terminal.shows("migrate-db is cancelled");
    assert_eq!(api.status("migrate-db"), "cancelled");

    terminal.press("/status:failed\r");
    terminal.hides("migrate-db");
    terminal.shows("flaky-test");
    terminal.press("r");
    terminal.shows("Start task flaky-test afresh?");
    terminal.press("y");
    terminal.shows("flaky-test is ");
    assert_ne!(api.status("flaky-test"), "failed");

    // The server says no: that is shown, and nothing happens.
    terminal.press("\u{1b}");
    terminal.shows("review-login");
    terminal.press("/login status:blocked\r");
    terminal.shows("status:blocked login");
    terminal.hides("nightly-tests");
    terminal.press("r");
    terminal.shows("Start task review-login afresh?");
    terminal.press("y");
    terminal.shows("review-login: ");
    assert_eq!(api.status("review-login"), "blocked");

    terminal.press("\td");
    terminal.shows("Let agent ci-shell take nothing new?");
    terminal.press("y");
    terminal.shows("ci-shell is draining");
    assert_eq!(api.get("/api/agents/ci-shell")["status"], "draining");
    terminal.press("u");
    terminal.shows("Let agent ci-shell take tasks again?");
    terminal.press("y");
    terminal.hides("ci-shell is draining");
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
    terminal.is_restored();
}

#[test]
fn a_task_is_opened_and_its_attempts_events_reasons_and_output_are_seen() {
    let server = Server::start();
    scene::set(&server);
    let mut terminal = top(&server, (80, 24));
    terminal.shows("migrate-db");
    terminal.press("\r");
    terminal.shows("Migrate the old reports");
    terminal.press("4");
    terminal.shows("no_capable_agent");
    terminal.press("\u{1b}");
    terminal.shows("Fleet");
    terminal.press("/fix-login\r");
    terminal.hides("migrate-db");
    terminal.shows("fix-login");
    terminal.press("\r");
    terminal.shows("found the cause");
    terminal.press("2");
    terminal.shows("12,000");
    terminal.press("3");
    terminal.shows("task_dispatched");
    terminal.press("5");
    terminal.shows("reading src/login.rs");
    // What it prints is seen while it is printed.
    let api = Api::of(&server);
    let text = json!({"text": "\u{1b}[2Jfixed\n", "attempt": 1, "agent_id": "mac-claude"});
    api.done("/api/tasks/fix-login/output", &text);
    // The emulator leaves out the mark in place of the control character.
    terminal.shows("[2Jfixed");
    terminal.press("\u{1b}");
    terminal.shows("Fleet");
    terminal.press("\t\r");
    terminal.shows("last heard of");
    terminal.press("?");
    terminal.shows("Keys");
    terminal.press("?");
    terminal.hides("Keys");
}

#[test]
fn it_goes_on_when_the_server_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let relay = Relay::new();
    let server = Server::start_in(directory.path(), &[]);
    relay.lead_to(&server);
    server.run(&["task", "add", "before", "--id", "before"]).ok();
    let terminal = Terminal::top(&server, &relay.url, (80, 24), &[], &[]);
    terminal.shows("before");
    server.kill();
    terminal.shows("trying again");
    terminal.shows("before");
    let server = Server::start_in(directory.path(), &[]);
    server.run(&["task", "add", "after", "--id", "after"]).ok();
    relay.lead_to(&server);
    terminal.shows("after");
    terminal.hides("trying again");
}

#[test]
fn one_that_starts_before_its_server_waits_for_it() {
    let relay = Relay::new();
    let server = Server::start();
    let mut terminal = Terminal::top(&server, &relay.url, (80, 24), &[], &[]);
    terminal.shows("trying again");
    relay.lead_to(&server);
    terminal.shows("0 pending");
    // Ctrl-C, which is a key here.
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
    terminal.is_restored();
}

#[test]
fn a_wrong_token_ends_it_with_an_error() {
    let server = Server::start();
    let mut terminal = Terminal::top(&server, &server.url, (80, 24), &["--token", "wrong"], &[]);
    assert_eq!(terminal.ended(), 1);
    terminal.is_restored();
    terminal.shows("error: ");
    terminal.shows("ADJUTANT_TOKEN");
}

#[test]
fn signals_leave_the_terminal_as_it_was() {
    let server = Server::start();
    for signal in ["TERM", "INT", "HUP"] {
        let mut terminal = top(&server, (80, 24));
        terminal.shows("no tasks");
        terminal.signal(signal);
        assert_eq!(terminal.ended(), 0, "{signal}");
        terminal.is_restored();
    }
}

#[test]
fn hostile_text_never_reaches_the_terminal_raw() {
    let server = Server::start();
    let evil = "a\u{1b}]0;evil\u{7}\u{1b}[31m\u{202e}\u{9b}2J漢字\u{200f}";
    server.run(&["task", "add", evil, "--description", evil]).ok();
    let terminal = top(&server, (200, 50));
    // The emulator takes no place for what stands for control characters, so the next one is somewhere else.
    terminal.shows("漢");
    let raw = String::from_utf8_lossy(&terminal.raw()).into_owned();
    for sequence in ["\u{1b}]0;evil", "\u{7}", "\u{202e}", "\u{9b}", "\u{200f}"] {
        assert!(!raw.contains(sequence), "{sequence:?}");
    }
}

#[test]
fn no_color_means_none() {
    let server = Server::start();
    scene::set(&server);
    let colour = |variables: &[(&str, &str)]| {
        let terminal = Terminal::top(&server, &server.url, (80, 24), &[], variables);
        terminal.shows("draining");
        let raw = String::from_utf8_lossy(&terminal.raw()).into_owned();
        raw.split("\u{1b}[")
            .filter_map(|rest| rest.split_once('m'))
            .flat_map(|(codes, _)| codes.split(';').map(str::to_owned).collect::<Vec<_>>())
            .any(|code| matches!(code.parse(), Ok(30..=38 | 40..=48 | 90..=107)))
    };
    assert!(colour(&[]));
    assert!(!colour(&[("NO_COLOR", "1")]));
}

#[test]
fn the_picture_follows_the_size() {
    let server = Server::start();
    scene::set(&server);
    let terminal = top(&server, (80, 24));
    terminal.shows("migrate-db");
    assert!(!terminal.screen().contains("PROJECT"));
    terminal.resize(200, 50);
    terminal.shows("PROJECT");
    terminal.resize(30, 8);
    terminal.shows("at least 40×12");
    terminal.resize(80, 24);
    terminal.shows("migrate-db");
}

#[test]
fn without_a_terminal_it_prints_once_or_says_what_to_do() {
    let server = Server::start();
    scene::set(&server);
    server.run(&["top"]).fails(2, "stdout is not a terminal");
    server
        .run(&["top", "--filter", "status:done"])
        .fails(2, "--filter: write one of");
    let text = server.run(&["top", "--once"]).ok();
    assert!(
        text.starts_with("tasks: 1 pending, 1 blocked, 2 in progress"),
        "{text}"
    );
    assert!(
        text.contains("mac-claude") && text.contains("migrate-db"),
        "{text}"
    );
    let filtered = server.run(&["top", "--once", "--filter", "login"]).ok();
    assert!(
        filtered.contains("fix-login") && !filtered.contains("migrate-db"),
        "{filtered}"
    );
    let json = server.run(&["top", "--json"]).json();
    assert_eq!(json["tasks"]["blocked"], 1);
    assert_eq!(json["agents"][0]["id"], "ci-shell");
    assert_eq!(json["queue"].as_array().unwrap().len(), 7);
    let directory = tempfile::tempdir().unwrap();
    run(
        directory.path(),
        &["top", "--once", "--url", "http://127.0.0.1:1"],
    )
    .fails(1, "cannot reach");
}
