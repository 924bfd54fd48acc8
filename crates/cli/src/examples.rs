//! The examples of the repository fit together: every task has an agent that can take it, and everything exists.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::fleet::Fleet;
use crate::task_list::{Item, TaskList};
use crate::up::crew::check_command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_task_of_the_example_has_an_agent_and_the_report_waits_for_all() {
    let fleet = Fleet::read(&root().join("examples/fleet.toml")).unwrap();
    let list = TaskList::read(&root().join("examples/tasks.md"), None).unwrap();
    assert!(list.items.len() >= 30);
    assert!(fleet.agents().count() >= 4);
    for item in &list.items {
        let capable: Vec<_> = fleet
            .agents()
            .filter(|agent| {
                item.task
                    .labels
                    .iter()
                    .all(|label| agent.capabilities.contains(label))
            })
            .collect();
        assert!(!capable.is_empty(), "nobody can take {}", item.id());
        for agent in capable {
            let payload = item.task.payload.as_ref().map_or("{}", |payload| payload.get());
            let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
            for word in agent
                .command
                .iter()
                .filter_map(|word| word.strip_prefix("{payload."))
            {
                let key = word.trim_end_matches('}');
                assert!(
                    payload[key].is_string(),
                    "{} needs payload.{key} for {}",
                    item.id(),
                    agent.id
                );
            }
        }
    }
    let report = list.items.last().unwrap();
    let needs: HashSet<&str> = report.task.dependencies.iter().map(String::as_str).collect();
    let missing: Vec<&str> = list
        .items
        .iter()
        .map(Item::id)
        .filter(|id| {
            let needed_by_needed = list.items.iter().any(|item| {
                needs.contains(item.id()) && item.task.dependencies.iter().any(|other| other == id)
            });
            !needs.contains(id) && !needed_by_needed && *id != report.id()
        })
        .collect();
    assert!(missing.is_empty(), "the report does not wait for {missing:?}");
}

#[test]
fn the_commands_of_the_example_are_there() {
    let fleet = Fleet::read(&root().join("examples/fleet.toml")).unwrap();
    for agent in fleet.agents() {
        let directory = fleet.directory_of(agent).unwrap();
        for script in agent.command.iter().filter(|word| word.contains("agents/")) {
            let script = vec![
                directory
                    .canonicalize()
                    .unwrap()
                    .join(script)
                    .display()
                    .to_string(),
            ];
            check_command(&script, Some(&directory)).unwrap();
        }
    }
}

#[test]
fn the_fleet_of_coding_agents_can_be_read() {
    let fleet = Fleet::read(&root().join("examples/fleet-agents.toml")).unwrap();
    let ids: Vec<&str> = fleet.agents().map(|agent| agent.id.as_str()).collect();
    assert_eq!(ids, ["claude", "codex", "gemini", "opencode"]);
}

#[test]
fn the_recipe_for_the_night_can_be_read() {
    let text = std::fs::read_to_string(root().join("docs/recipes.md")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let block = |info: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("```{info}\n")).unwrap();
        let file = directory.path().join(name);
        std::fs::write(&file, rest.split("```").next().unwrap()).unwrap();
        file
    };
    let fleet = Fleet::read(&block("toml", "night.toml")).unwrap();
    let chores = TaskList::read(&block("markdown", "chores.md"), None).unwrap();
    let agent = fleet.agents().next().unwrap();
    for chore in &chores.items {
        assert!(
            chore
                .task
                .labels
                .iter()
                .all(|label| agent.capabilities.contains(label))
        );
    }
    assert_eq!(chores.items.len(), 3);
}

/// The words of a shell line up to the end of its first command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut depth) = (Vec::new(), None::<String>, None, 0);
    for c in line.chars() {
        let open: &mut String = match (quote, c) {
            (None, ' ') if depth == 0 => {
                words.extend(word.take());
                continue;
            }
            (None, '|' | '>' | '&' | ';') if depth == 0 => break,
            (None, '#') if depth == 0 && word.is_none() => break,
            _ => word.get_or_insert_default(),
        };
        match (quote, c) {
            (None, '"' | '\'') if depth == 0 => quote = Some(c),
            (Some(mark), c) if mark == c => quote = None,
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            _ => open.push(c),
        }
    }
    // `2>file` is no argument.
    words.extend(word.filter(|word| word.parse::<u8>().is_err() || !line.contains(&format!(" {word}>"))));
    words
}

/// The lines of the shell in a document, those that go on joined.
fn shell_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fence: Option<&str> = None;
    for line in text.replace("\\\n", " ").lines() {
        match (fence, line.strip_prefix("```")) {
            (None, info) => fence = info,
            (Some(_), Some(_)) => fence = None,
            (Some("" | "sh"), None) => lines.push(line.trim().to_owned()),
            (Some(_), None) => {}
        }
    }
    lines
}

#[test]
fn every_command_of_the_documents_can_be_written_like_that() {
    use clap::Parser as _;

    let documents = std::fs::read_dir(root().join("docs")).unwrap();
    let mut files: Vec<PathBuf> = documents.map(|entry| entry.unwrap().path()).collect();
    files.push(root().join("README.md"));
    let mut tried = 0;
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "md"))
    {
        let text = std::fs::read_to_string(file).unwrap();
        for line in shell_lines(&text) {
            let Some(start) = line.find("adjutant ").filter(|start| {
                // At the start, or behind variables and `&&`.
                let before = &line[..*start];
                before.is_empty()
                    || before.ends_with("&& ")
                    || before
                        .split(' ')
                        .all(|word| word.is_empty() || word.contains('='))
            }) else {
                continue;
            };
            tried += 1;
            let parsed = crate::arguments::Arguments::try_parse_from(words(&line[start..]));
            if let Err(error) = parsed {
                panic!("{}: {line}\n{error}", file.display());
            }
        }
    }
    assert!(tried > 60, "{tried}");
}
