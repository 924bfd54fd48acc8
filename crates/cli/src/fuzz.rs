//! Files and flags that say anything: they are read, or refused with their place, and what is written is read back.

use std::path::Path;

use adjutant_wire::NewTask;
use proptest::prelude::*;

use crate::fleet::Fleet;
use crate::task_list::{Format, TaskList};
use crate::values;

/// Pieces of the three forms of task lists and of fleet files, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "- [ ] one", "- [x] two (id: t)", "* [ ] (id: a, labels: x y)", "1. [ ] x (after: t)", "- [ ]", "-[ ]", "- [y] z",
            "  text", "\t(priority: high)", "  (timeout: 5m, tokens: 1e3)", "```json payload", "```", "~~~~", "  ```", "{",
            "{}", "[", "]", "[]", "{\"title\": \"x\"}", "{\"title\": 1}", "{\"title\": \"\\ud800\"}", "{\"a\": [1e999]}",
            "{\"title\": \"x\", \"payload\": 1e999, \"id\": \"\"}", "[[tasks]]", "[[agents]]", "title = 'x'", "id = 'a'",
            "command = ['true']", "command = []", "dependencies = ['a']", "payload = { a = nan }", "payload = 1979-05-27",
            "max_load = -1", "max_load = 4294967296", "agent_ttl = '5 parsecs'", "[allowances.a]", "[[limits]]",
            "scope = 'fleet'", "window = 'day'", "cost = -1", "cost = inf", "tokens = 0", "env = { A = 1 }", "\u{feff}",
            "(", "\\(x)", "# x", "\"", "'''", "\\", "=", "é ✓ (id: é)", "- [ ] \u{0}",
        ])
        .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    (
        prop::collection::vec(piece, 0..8),
        prop::sample::select(vec!["\n", "\r\n", " ", "\n\n"]),
    )
        .prop_map(|(pieces, between)| pieces.join(between))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_task_list_is_read_or_refused_with_its_place(text in pieces()) {
        let forms = [Some(Format::Json), Some(Format::Toml), Some(Format::Markdown), None];
        for form in forms {
            match TaskList::parse(Path::new("list"), &text, form) {
                Ok(list) => for item in &list.items {
                    prop_assert!(item.line >= 1 && item.line <= text.lines().count().max(1), "{form:?}: {item:?}");
                    prop_assert!(!item.id().is_empty() && !item.task.title.is_empty());
                },
                Err(failure) => prop_assert!(failure.to_string().contains("list"), "{form:?}: {failure}"),
            }
        }
    }

    #[test]
    fn any_fleet_file_is_read_or_refused_with_its_place(text in pieces()) {
        match Fleet::parse(Path::new("fleet.toml"), &text) {
            Ok(fleet) => prop_assert!(fleet.agents().next().is_some()),
            Err(failure) => prop_assert!(failure.to_string().contains("fleet.toml"), "{failure}"),
        }
    }

    #[test]
    fn a_list_that_is_written_as_json_is_read_back(
        titles in prop::collection::vec("\\PC{1,30}", 1..5),
        labels in prop::collection::vec("[a-z\u{e4}\" ]{1,6}", 0..3),
        description in any::<String>(),
        tokens in any::<u64>(),
    ) {
        let tasks: Vec<NewTask> = titles.iter().enumerate().map(|(number, title)| NewTask {
            id: Some(format!("t{number}")),
            title: title.clone(),
            description: description.clone(),
            labels: labels.clone(),
            estimated_tokens: tokens,
            ..NewTask::default()
        }).collect();
        let said = serde_json::to_string(&tasks).unwrap();
        let lines: Vec<_> = tasks.iter().map(|task| serde_json::to_string(task).unwrap()).collect();
        for text in [said.clone(), lines.join("\n")] {
            let list = TaskList::parse(Path::new("a.jsonl"), &text, None).unwrap();
            let read: Vec<_> = list.items.iter().map(|item| &item.task).collect();
            prop_assert_eq!(serde_json::to_string(&read).unwrap(), said.clone());
        }
    }

    #[test]
    fn a_markdown_title_with_escaped_parentheses_is_kept(title in "[a-z{}:,.!?]{1,12}( [a-z:,]{1,6}){0,3}") {
        let list = TaskList::parse(Path::new("a.md"), &format!("- [ ] {title} \\(x: y)\n"), None).unwrap();
        prop_assert_eq!(&list.items[0].task.title, &format!("{title} (x: y)"));
    }

    #[test]
    fn any_value_of_a_flag_is_taken_or_refused_in_words(text in prop_oneof![any::<String>(), "[0-9a-z:./*-]{0,12}", "-?[0-9.e]{1,8}"]) {
        let refusals = [
            values::priority(&text).err(),
            values::status(&text).err(),
            values::agent_status(&text).err(),
            values::window(&text).err(),
            values::produces(&text).err(),
            values::scope(&text).err(),
            values::span(&text).err(),
            values::cents(&text).err(),
            values::json(&text).err(),
        ];
        prop_assert!(refusals.iter().flatten().all(|why| !why.is_empty()));
        if let Ok(scope) = values::scope(&text) {
            prop_assert_eq!(scope, text);
        }
    }
}
