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
