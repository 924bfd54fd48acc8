//! Who may know whom: the table of ARCHITECTURE.md, asserted over the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each part with the parts that it may use.
const TABLE: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("wire", &["core"]),
    ("store", &["core"]),
    ("engine", &["core", "store"]),
    ("sim", &["core", "engine", "store"]),
    ("trace", &["core", "engine"]),
    ("mcp", &[]),
    ("dashboard", &["core", "wire"]),
    ("server", &["core", "dashboard", "engine", "mcp", "store", "wire"]),
    ("client", &["core", "wire"]),
    ("worker", &["client", "core", "wire"]),
    (
        "cli",
        &[
            "client", "core", "engine", "server", "store", "trace", "wire", "worker",
        ],
    ),
];

/// What the core may use beside that: nothing that can do IO.
const CORE_MAY_USE: &[&str] = &["jiff", "serde"];

fn part(package: &str) -> Option<&str> {
    match package {
        "adjutant" => Some("cli"),
        other => other.strip_prefix("adjutant-"),
    }
}

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .filter_map(|package| {
            let name = part(package["name"].as_str().unwrap())?;
            // What tests use is left out: it is not in the program.
            let uses = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect();
            Some((name.to_owned(), uses))
        })
        .collect()
}

#[test]
fn parts_know_only_whom_they_may_know() {
    let dependencies = dependencies();
    for (name, may_know) in TABLE {
        let knows: BTreeSet<&str> = dependencies[*name].iter().filter_map(|name| part(name)).collect();
        let may_know: BTreeSet<&str> = may_know.iter().copied().collect();
        let strangers: Vec<_> = knows.difference(&may_know).collect();
        assert!(strangers.is_empty(), "{name} must not know {strangers:?}");
    }
}

#[test]
fn every_part_has_a_row() {
    // A crate that only measures or tests is no part of the program.
    let with_rows: BTreeSet<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    let known = dependencies();
    for name in &with_rows {
        assert!(known.contains_key(*name), "there is no crate {name}");
    }
    let program = &known["cli"];
    for name in known
        .keys()
        .filter(|name| program.contains(&format!("adjutant-{name}")))
    {
        assert!(
            with_rows.contains(name.as_str()),
            "{name} has no row in the table"
        );
    }
}

#[test]
fn the_core_cannot_do_io() {
    let uses = &dependencies()["core"];
    let strangers: Vec<_> = uses
        .iter()
        .filter(|name| !CORE_MAY_USE.contains(&name.as_str()))
        .collect();
    assert!(strangers.is_empty(), "core must not use {strangers:?}");
}

#[test]
fn the_document_says_the_same() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(file).unwrap();
    for (name, may_know) in TABLE {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")))
            .unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {name}"));
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
        if *name != "cli" {
            for other in *may_know {
                assert!(
                    cell.contains(other),
                    "ARCHITECTURE.md: {name} may know {other}, the row says{cell}"
                );
            }
        }
    }
}
