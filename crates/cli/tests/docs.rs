//! The documents are true: what they show can be run, what they link to exists, and nothing is left out.

mod support;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use adjutant_core::rejection::Slug;
use support::{Server, TOKEN};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Commands of a document, each with what it says that they print.
fn examples(text: &str) -> Vec<(String, Option<String>)> {
    let mut examples: Vec<(String, Option<String>)> = Vec::new();
    let mut lines = text.lines();
    let mut directly_after = false;
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            directly_after &= line.is_empty();
            continue;
        };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match info {
            "sh" => {
                examples.push((body.join("\n"), None));
                directly_after = true;
            }
            "json" | "text" if directly_after => {
                if let Some((_, prints)) = examples.last_mut() {
                    *prints = Some(body.join("\n"));
                }
                directly_after = false;
            }
            _ => directly_after = false,
        }
    }
    examples
}

/// Asserts that the pieces of `shown` stand in `printed`, in this order; `…` and line ends stand for anything.
#[track_caller]
fn assert_prints(command: &str, printed: &str, shown: &str) {
    let mut rest = printed;
    for piece in shown.split(['…', '\n']).filter(|piece| !piece.is_empty()) {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => panic!("{command}\nprinted\n{printed}\nand not, in its place, `{piece}`"),
        }
    }
}

#[test]
fn curl_alone_drives_a_whole_life() {
    follow("docs/api.md", 12);
}

#[test]
fn curl_alone_hands_over_work_as_another_agent() {
    follow("docs/a2a.md", 3);
}

#[test]
fn the_first_hour_goes_as_it_says() {
    run_all("docs/first-hour.md", 10);
}

/// Runs the commands of a document, which has at least so many, and compares what they print.
fn follow(document: &str, least: usize) {
    if Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        // The document is about curl, but the program does not need it: a machine without it can still test the rest.
        eprintln!("curl is not installed: {document} was not run");
        return;
    }
    run_all(document, least);
}

/// One shell runs all of the commands of a document, as a reader would.
fn run_all(document: &str, least: usize) {
    let server = Server::start();
    let examples = examples(&read(document));
    assert!(examples.len() >= least, "{document} has lost its commands");
    // A line that no command prints parts what they print.
    let parting = "----- next -----";
    let script: Vec<String> = examples
        .iter()
        .map(|(command, _)| format!("{command}\necho '{parting}'"))
        .collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_adjutant"));
    let mut path = vec![binary.parent().unwrap().to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    // Into files: what a document leaves running keeps a pipe open.
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| server.directory.join(name));
    let mut shell = Command::new("sh");
    shell
        .args(["-euc", &script.join("\n")])
        .current_dir(&server.directory)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("ADJUTANT_URL", &server.url)
        .env("ADJUTANT_TOKEN", TOKEN)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&stdout).unwrap())
        .stderr(std::fs::File::create(&stderr).unwrap())
        .process_group(0);
    let mut shell = shell.spawn().unwrap();
    let code = shell.wait().unwrap().code();
    // What it left running goes with it. There may be nothing.
    let group = format!("-{}", shell.id());
    let killed = Command::new("kill")
        .args(["-KILL", "--", &group])
        .stderr(Stdio::null())
        .status();
    killed.unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|name| std::fs::read_to_string(name).unwrap());
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    for ((command, shown), printed) in examples.iter().zip(stdout.split(parting)) {
        if let Some(shown) = shown {
            assert_prints(command, printed, shown);
        }
    }
}

#[test]
fn every_error_has_a_paragraph() {
    let text = read("docs/errors.md");
    for slug in Slug::ALL {
        let heading = format!("\n## {}\n\n{}, ", slug.name(), slug.code());
        assert!(
            text.contains(&heading),
            "docs/errors.md has no paragraph for {} ({})",
            slug.name(),
            slug.code()
        );
    }
    assert_eq!(
        text.matches("\n## ").count(),
        Slug::ALL.len(),
        "docs/errors.md has paragraphs for no error"
    );
}

#[test]
fn the_first_commands_of_the_readme_are_those_that_work() {
    let text = read("README.md");
    let commands: Vec<String> = examples(&text).into_iter().map(|(command, _)| command).collect();
    assert_eq!(
        commands[0],
        "cargo run --release -- up examples/fleet.toml --tasks examples/tasks.md --drain"
    );
    assert_eq!(commands[1], "cargo test --workspace");
}

#[test]
fn units_and_the_image_start_what_there_is() {
    let mut commands = Vec::new();
    for file in [
        "deploy/systemd/adjutant.service",
        "deploy/systemd/adjutant-worker@.service",
    ] {
        let text = read(file);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/adjutant "));
        commands.push(
            line.unwrap()
                .replace("$WORKER", "--capabilities code --max-load 2 -- sh"),
        );
    }
    let image = read("Dockerfile");
    for instruction in ["CMD [", "HEALTHCHECK "] {
        let line = image.lines().find(|line| line.starts_with(instruction)).unwrap();
        let words: Vec<&str> = line
            .rsplit('[')
            .next()
            .unwrap()
            .split('"')
            .skip(1)
            .step_by(2)
            .collect();
        commands.push(
            words
                .into_iter()
                .filter(|word| *word != "adjutant")
                .collect::<Vec<_>>()
                .join(" "),
        );
    }
    assert_eq!(commands[2..], ["serve", "health"]);
    let directory = tempfile::tempdir().unwrap();
    for command in commands {
        // A word that it does not know is refused before help is given.
        let (before, command) = command.split_once(" -- ").unwrap_or((&command, ""));
        let mut words: Vec<&str> = before.split(' ').collect();
        words.push("--help");
        if !command.is_empty() {
            words.extend(["--", command]);
        }
        support::run(directory.path(), &words).ok();
    }
    let verify = Command::new("systemd-analyze").arg("--version").output();
    if verify.is_ok() {
        // The program need not be installed on the machine of a test.
        for name in ["adjutant.service", "adjutant-worker@.service"] {
            let unit =
                read(&format!("deploy/systemd/{name}")).replace("/usr/local/bin/adjutant", "/bin/true");
            std::fs::write(directory.path().join(name), unit).unwrap();
            let verified = Command::new("systemd-analyze")
                .args(["verify", "--man=no"])
                .arg(directory.path().join(name))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&verified.stderr).into_owned();
            assert!(!said.contains(name), "{said}");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut files: Vec<PathBuf> = vec![root(), root().join("docs")]
        .into_iter()
        .flat_map(|directory| std::fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    assert!(files.len() > 6);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") || path.is_empty() {
                continue;
            }
            let target = file.parent().unwrap().join(path);
            assert!(target.exists(), "{}: {link}", file.display());
            if !anchor.is_empty() {
                let headings = std::fs::read_to_string(&target).unwrap();
                let found = headings
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| slug(line.trim_start_matches('#')) == anchor);
                assert!(found, "{}: {link} names no heading", file.display());
            }
        }
    }
}

fn slug(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}
