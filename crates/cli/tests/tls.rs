//! `adjutant serve` over TLS, and commands that trust an authority of their own.

mod support;

use std::path::Path;

use support::{Server, TOKEN, adjutant, eventually, run, write};

/// Writes a certificate that signed itself, and its key.
fn certify(directory: &Path, name: &str) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    write(directory, &format!("{name}.crt"), &made.cert.pem());
    write(
        directory,
        &format!("{name}.key"),
        &made.signing_key.serialize_pem(),
    );
}

#[test]
fn a_fleet_works_over_tls_and_whoever_does_not_trust_the_certificate_gets_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    certify(at, "own");
    certify(at, "other");
    let server = Server::start_in(at, &["--tls-cert", "own.crt", "--tls-key", "own.key"]);
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let id = server.run(&["task", "add", "one", "--ca", "own.crt"]).ok();

    // A worker, and the command that it runs, over the same connection.
    let mut worker = server.command();
    worker
        .args(["worker", "--id", "w", "--ca", "own.crt"])
        .args(["--", "sh", "-c", "cd / && test -f $ADJUTANT_CA && echo worked"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let _worker = support::Program::start(&mut worker);
    let done = eventually("the task", || {
        let task = server.run(&["task", "show", id.trim(), "--json", "--ca", "own.crt"]);
        let task = task.json();
        (task["status"] == "completed").then_some(task)
    });
    assert!(
        done["result"]["output"].as_str().unwrap().contains("worked"),
        "{done}"
    );

    server
        .run(&["task", "list"])
        .fails(1, "name its authority with --ca");
    server
        .run(&["task", "list", "--ca", "other.crt"])
        .fails(1, "a certificate that is not trusted");
    server
        .run(&["task", "list", "--ca", "missing.crt"])
        .fails(2, "cannot read the certificates in missing.crt");
    server
        .run(&["task", "list", "--ca", "own.key"])
        .fails(2, "there is no certificate");
    // Plain HTTP is not answered on this port.
    let plain = server.url.replace("https://", "http://");
    run(at, &["--url", &plain, "--token", TOKEN, "task", "list"]).fails(1, "error: ");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn commands_on_the_same_machine_find_the_address_in_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    certify(at, "own");
    // A free port, most likely still free in a moment.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    write(
        at,
        "adjutant.toml",
        &format!("listen = '{port}'\ntls_cert = 'own.crt'\ntls_key = 'own.key'\nca = 'own.crt'\n"),
    );
    let mut command = adjutant(at);
    command.arg("serve");
    let server = Server::spawn(command, at);
    assert_eq!(server.url, format!("https://{port}"));
    run(at, &["status"]).ok();
}

#[test]
fn what_is_wrong_with_the_certificate_or_the_key_is_told_in_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    certify(at, "own");
    certify(at, "other");
    for (certificate, key, message) in [
        ("own.crt", None, "tls_cert: TLS needs the private key as well"),
        (
            "missing.crt",
            Some("own.key"),
            "cannot read the certificate in missing.crt",
        ),
        ("own.crt", Some("own.crt"), "there is no private key in own.crt"),
        (
            "own.crt",
            Some("other.key"),
            "the private key in other.key does not belong to the certificate in own.crt",
        ),
    ] {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--tls-cert", certificate];
        arguments.extend(key.iter().flat_map(|key| ["--tls-key", key]));
        let ran = run(at, &arguments);
        ran.fails(2, message);
        assert_eq!(ran.stdout, "");
    }
    assert!(!at.join("adjutant.db").exists(), "nothing was begun");
}
