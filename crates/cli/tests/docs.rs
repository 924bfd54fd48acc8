//! The documents are true: what they show can be run, what they link to exists, and nothing is left out.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use adjutant_core::rejection::Slug;
use support::{Ran, Server, TOKEN};

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
    let server = Server::start();
    let examples = examples(&read(document));
    assert!(examples.len() >= least, "{document} has lost its commands");
    // One shell runs all of them, as a reader would; a line that no command prints parts what they print.
    let parting = "----- next -----";
    let script: Vec<String> = examples
        .iter()
        .map(|(command, _)| format!("{command}\necho '{parting}'"))
        .collect();
    let output = Command::new("sh")
        .args(["-euc", &script.join("\n")])
        .current_dir(&server.directory)
        .env("ADJUTANT_URL", &server.url)
        .env("ADJUTANT_TOKEN", TOKEN)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let ran = Ran::of(output);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    for ((command, shown), printed) in examples.iter().zip(ran.stdout.split(parting)) {
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
