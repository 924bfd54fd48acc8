//! The clients for other languages against the real binary. Each brings a program of tests of its own, which speaks to
//! a server that is started here, and killed and started again when the program asks for it.
//!
//! What a machine does not have is skipped, loudly; `ADJUTANT_REQUIRE_CLIENTS=1` makes that a failure.

#[path = "../support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use support::{Server, TOKEN, adjutant, ended};

/// A program of tests that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long the server is away when it is killed: longer than the first tries of a client.
const AWAY: Duration = Duration::from_millis(700);
/// What the TypeScript package consists of, beside what is made from it.
const PACKAGE: &[&str] = &["package.json", "tsconfig.json", "README.md", "src", "test"];

fn client(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../clients")
        .join(language)
}

/// Whether this program is there, and says so when it is started with `--version`.
fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn skip(language: &str, why: &str) {
    assert!(
        std::env::var_os("ADJUTANT_REQUIRE_CLIENTS").is_none_or(|value| value.is_empty() || value == "0"),
        "the {language} client cannot be tested: {why}"
    );
    // Written to stderr itself: what `eprintln!` prints is kept back where a test passes.
    let _ = writeln!(
        std::io::stderr(),
        "\n*** the {language} client is NOT TESTED: {why} ***\n"
    );
}

fn serve(directory: &Path, address: &str) -> Server {
    let mut command = adjutant(directory);
    command
        .args(["serve", "--listen", address])
        .env("ADJUTANT_ADMIN_TOKEN", TOKEN);
    Server::spawn(command, directory)
}

/// Runs a program to its end, with a server that it may ask to be restarted.
#[track_caller]
fn passes(program: &mut Command) {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), "127.0.0.1:0");
    let address = server.url.trim_start_matches("http://").to_owned();
    let (restart, said) = (directory.path().join("restart"), directory.path().join("said"));
    let out = File::create(&said).unwrap();
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ADJUTANT_")) {
        program.env_remove(name);
    }
    let mut child = program
        .env("ADJUTANT_URL", &server.url)
        .env("ADJUTANT_TOKEN", TOKEN)
        .env("ADJUTANT_RESTART", &restart)
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap();
    let mut server = Some(server);
    let mut restarts = 0;
    let status = ended(&mut child, PATIENCE, || {
        if restart.exists() {
            server.take().unwrap().kill();
            thread::sleep(AWAY);
            server = Some(serve(directory.path(), &address));
            fs::remove_file(&restart).unwrap();
            restarts += 1;
        }
    });
    let said = fs::read_to_string(&said).unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}:\n{said}"
    );
    assert_eq!(restarts, 1, "one test needs a restart:\n{said}");
}

#[test]
fn the_python_client_passes_its_tests() {
    if !has("python3") {
        return skip("Python", "there is no python3");
    }
    let mut program = Command::new("python3");
    passes(
        program
            .args(["-W", "error", "test_adjutant.py"])
            // The tree is not written to.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(client("python")),
    );
}

#[test]
fn the_typescript_client_compiles_and_passes_its_tests() {
    if !has("node") || !has("npm") {
        return skip("TypeScript", "there is no node, or no npm");
    }
    // In a copy: neither the compiler nor what it makes belongs into the tree.
    let copy = tempfile::tempdir().unwrap();
    for part in PACKAGE {
        copy_all(&client("typescript").join(part), &copy.path().join(part));
    }
    let npm = |arguments: &[&str]| {
        let output = Command::new("npm")
            .args(arguments)
            .current_dir(copy.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let flags = [
        "--no-audit",
        "--no-fund",
        "--fetch-retries=1",
        "--fetch-timeout=30000",
    ];
    let (installed, said) = npm(&[&["install"], &flags[..]].concat());
    if !installed {
        return skip(
            "TypeScript",
            &format!("the compiler cannot be installed:\n{said}"),
        );
    }
    let (compiled, said) = npm(&["run", "build"]);
    assert!(compiled, "{said}");
    let mut program = Command::new("node");
    passes(
        program
            .args(["--test", "test/adjutant.test.mjs"])
            .current_dir(copy.path()),
    );
}

fn copy_all(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy_all(&entry.path(), &to.join(entry.file_name()));
    }
}
