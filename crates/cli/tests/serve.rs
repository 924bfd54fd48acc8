//! `adjutant serve`: what it keeps, how it ends, and what it says when it cannot start.

mod support;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use support::{Program, Server, TOKEN, adjutant, eventually, run, write};

#[test]
fn a_killed_server_has_every_task_when_it_starts_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path(), &[]);
    let ids: Vec<String> = (0..20)
        .map(|i| {
            server
                .run(&["task", "add", &format!("task {i}")])
                .ok()
                .trim()
                .to_owned()
        })
        .collect();
    server.kill();
    let server = Server::start_in(directory.path(), &[]);
    let tasks = server.run(&["task", "list", "--json"]).json();
    let mut found: Vec<String> = tasks
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_str().unwrap().to_owned())
        .collect();
    found.reverse();
    assert_eq!(found, ids); // I5
}

#[test]
fn sigterm_ends_it_cleanly() {
    let server = Server::start();
    server.run(&["task", "add", "one"]).ok();
    assert_eq!(server.terminate(), 0);
}

#[test]
fn the_first_start_writes_an_admin_token_that_commands_find() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = adjutant(directory.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command, directory.path());
    let file = directory.path().join("adjutant.token");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).unwrap();
    let store = std::fs::read(directory.path().join("adjutant.db")).unwrap();
    assert!(
        !store
            .windows(token.trim().len())
            .any(|part| part == token.trim().as_bytes())
    );
    run(
        directory.path(),
        &["--url", &server.url, "task", "add", "found it"],
    )
    .ok();
    run(
        directory.path(),
        &["--url", &server.url, "--token", "wrong", "task", "list"],
    )
    .fails(1, "error: ");
    server.terminate();

    // A second start keeps the token.
    let mut command = adjutant(directory.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command, directory.path());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), token);
    run(directory.path(), &["--url", &server.url, "task", "list"]).ok();
}

#[test]
fn a_lost_admin_token_is_replaced_with_access_to_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_in(directory.path(), &[]);
    server.terminate();
    let store = ["--store", "sqlite:./adjutant.db"];
    let token = run(
        directory.path(),
        &[&["token", "create", "rescue", "--role", "admin"], &store[..]].concat(),
    )
    .ok();
    let server = Server::start_in(directory.path(), &[]);
    let tokens = run(
        directory.path(),
        &[
            "--url",
            &server.url,
            "--token",
            token.trim(),
            "token",
            "list",
            "--json",
        ],
    )
    .json();
    let names: Vec<&str> = tokens
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["admin", "rescue"]);
    // While a server has the store nobody else gets at it.
    run(
        directory.path(),
        &[&["token", "create", "x", "--role", "admin"], &store[..]].concat(),
    )
    .fails(1, "error: ");
}

#[test]
fn what_keeps_it_from_starting_is_told_in_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    write(at, "a-file", "");
    write(at, "not-a-store.db", &"this is no database ".repeat(100));
    write(at, "wrong.toml", "listen = '127.0.0.1:0'\nlisten_port = 1\n");
    let free = "127.0.0.1:0";
    for (arguments, code, message) in [
        (vec!["--listen", &port], 1, "error: cannot listen on "),
        (
            vec!["--listen", "nowhere"],
            2,
            "error: --listen: `nowhere` is not an address",
        ),
        (
            vec!["--listen", free, "--store", "postgres:x"],
            2,
            "error: --store: `postgres:x` is not a URL",
        ),
        (
            vec![
                "--listen",
                free,
                "--store",
                "postgres://adjutant:secret@127.0.0.1:1/x",
            ],
            1,
            "error: --store: the database `x` on 127.0.0.1 cannot be used",
        ),
        (
            vec!["--listen", free, "--store", "mysql:x"],
            2,
            "`mysql:` is not a kind of store",
        ),
        (
            vec!["--listen", free, "--store", "adjutant.db"],
            2,
            "hint: did you mean sqlite:adjutant.db ?",
        ),
        (
            vec!["--listen", free, "--store", "sqlite:a-file/x.db"],
            1,
            "a-file/x.db",
        ),
        (
            vec!["--listen", free, "--store", "sqlite:no/such/place/x.db"],
            1,
            "no/such/place/x.db",
        ),
        (
            vec!["--listen", free, "--store", "sqlite:not-a-store.db"],
            1,
            "not-a-store.db",
        ),
        (
            vec!["--listen", "0.0.0.0:0", "--open"],
            2,
            "error: --open lets everyone in",
        ),
        (
            vec!["--listen", free, "--agent-ttl", "soon"],
            2,
            "error: --agent-ttl: `soon` is not a duration",
        ),
        (
            vec!["--listen", free, "--log-format", "xml"],
            2,
            "error: --log-format: `xml` is not one of text, json",
        ),
        (vec!["--listen", free, "--public-url", "nonsense"], 2, "nonsense"),
        (
            vec!["--config", "wrong.toml"],
            2,
            "error: wrong.toml:2: unknown key `listen_port`",
        ),
        (
            vec!["--config", "missing.toml"],
            2,
            "error: cannot read the configuration file missing.toml",
        ),
    ] {
        let ran = run(at, &[&["serve", "--log-level", "error"], &arguments[..]].concat());
        ran.fails(code, message);
        assert_eq!(ran.stdout, "", "it does not say that it listens");
    }
    assert!(!at.join("adjutant.db").exists(), "nothing was begun");
}

#[test]
fn one_process_owns_a_store() {
    let server = Server::start();
    let second = ["serve", "--listen", "127.0.0.1:0", "--log-level", "error"];
    run(&server.directory, &second).fails(1, "error: ");
}

#[test]
fn an_open_server_on_loopback_asks_for_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = adjutant(directory.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--open"]);
    let server = Server::spawn(command, directory.path());
    std::fs::remove_file(directory.path().join("adjutant.token")).unwrap();
    run(directory.path(), &["--url", &server.url, "task", "add", "x"]).ok();
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = run(
        directory.path(),
        &["--url", &format!("http://{nobody}"), "--token", TOKEN, "status"],
    );
    ran.fails(1, "is `adjutant serve` running?");
}

#[test]
fn events_are_followed_as_they_happen() {
    let server = Server::start();
    let file = server.directory.join("events.jsonl");
    let _follower = Program::start(
        server
            .command()
            .args(["events", "--follow", "--since", "0", "--json"])
            .stdout(std::fs::File::create(&file).unwrap()),
    );
    let id = server.run(&["task", "add", "seen"]).ok();
    eventually("the event", || {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines()
            .any(|line| line.contains("task_created") && line.contains(id.trim()))
            .then_some(())
    });
}

#[test]
fn connections_are_fitted_to_the_open_files_that_the_system_allows() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    // Of 400 files, 64 are kept for the store and 64 for telling others that there is no room.
    let program = env!("CARGO_BIN_EXE_adjutant");
    let script = format!("ulimit -Sn 200; ulimit -Hn 400; exec {program} serve --listen 127.0.0.1:0");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).current_dir(directory.path());
    command.env("ADJUTANT_ADMIN_TOKEN", TOKEN);
    let server = Program::start(
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap()),
    );
    let told = eventually("the line about connections", || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines()
            .find(|line| line.contains("connections="))
            .map(str::to_owned)
    });
    assert!(
        told.contains("connections=272") && told.contains("LimitNOFILE"),
        "{told}"
    );
    drop(server);
}
