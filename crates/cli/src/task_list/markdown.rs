//! Markdown task lists: a checklist that people read and tick off.
//!
//! ````markdown
//! # Anything that is no item is left alone
//!
//! - [ ] Count the lines of code (id: count, labels: shell count, priority: high)
//!   Indented text below an item is its description.
//!
//!   ```json payload
//!   {"path": "crates"}
//!   ```
//! - [ ] Write the report (after: count, locks: report, timeout: 5m)
//! - [x] What is ticked off is skipped
//! ````
//!
//! Attributes stand in parentheses at the end of the title, or on lines directly below it. Values of a list are separated
//! by spaces. A fence marked `payload` or `json payload` is the task's payload; any other stays in the description.

use std::path::Path;

use adjutant_core::task::{Priority, Produces};
use adjutant_wire::NewTask;
use serde_json::value::RawValue;

use super::{Draft, Item};
use crate::failure::{Failure, Outcome};

/// The attributes that an item may have, by their short names.
const ATTRIBUTES: &[&str] = &[
    "id",
    "labels",
    "prefers",
    "priority",
    "after",
    "locks",
    "files",
    "model",
    "project",
    "repo",
    "produces",
    "timeout",
    "not_before",
    "retries",
    "tokens",
];

/// Reads the list.
pub(super) fn read(file: &Path, text: &str) -> Outcome<Draft> {
    let mut reader = Reader {
        file,
        draft: Draft::default(),
        item: None,
        fence: None,
    };
    for (index, line) in text.lines().enumerate() {
        reader.line(index + 1, line)?;
    }
    if let Some(fence) = &reader.fence {
        return Err(Failure::at(file, fence.line, "this fence is never closed"));
    }
    reader.end_item();
    Ok(reader.draft)
}

struct Reader<'a> {
    file: &'a Path,
    draft: Draft,
    item: Option<Open>,
    fence: Option<Fence>,
}

/// An item whose description is still being read.
struct Open {
    line: usize,
    done: bool,
    task: NewTask,
    description: Vec<String>,
}

/// A fenced block that is still open.
struct Fence {
    line: usize,
    mark: char,
    length: usize,
    /// The block's lines, when it is a payload.
    payload: Option<Vec<String>>,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) -> Outcome {
        if let Some(fence) = &mut self.fence {
            let closes = fence_mark(line).is_some_and(|(mark, length, info)| {
                mark == fence.mark && length >= fence.length && info.is_empty()
            });
            match &mut fence.payload {
                Some(lines) if !closes => lines.push(line.to_owned()),
                Some(_) => {}
                None => {
                    if let Some(item) = &mut self.item {
                        item.description.push(line.to_owned());
                    }
                }
            }
            return if closes { self.end_fence() } else { Ok(()) };
        }
        let inside = line.trim().is_empty() || line.starts_with("  ") || line.starts_with('\t');
        if !inside {
            self.end_item();
            return match checkbox(line) {
                Checkbox::Item { done, title } => self.begin_item(number, done, title),
                Checkbox::Malformed => Err(Failure::at(
                    self.file,
                    number,
                    "this looks like an item of a checklist, but is none",
                )
                .hint("write `- [ ] title` for a task and `- [x] title` for one that is done")),
                Checkbox::No => {
                    self.begin_fence(number, line);
                    Ok(())
                }
            };
        }
        let Some(item) = &mut self.item else {
            self.begin_fence(number, line);
            return Ok(());
        };
        let at_top = item.description.is_empty() && item.task.payload.is_none();
        if let Some(inner) = attribute_list(line).filter(|_| at_top) {
            return set_all(self.file, number, inner, &mut item.task);
        }
        self.begin_fence(number, line);
        let is_payload = self.fence.as_ref().is_some_and(|fence| fence.payload.is_some());
        if let (false, Some(item)) = (is_payload, &mut self.item) {
            item.description.push(line.to_owned());
        }
        Ok(())
    }

    fn begin_fence(&mut self, number: usize, line: &str) {
        if let Some((mark, length, info)) = fence_mark(line) {
            let payload = self.item.is_some() && matches!(info, "payload" | "json payload");
            self.fence = Some(Fence {
                line: number,
                mark,
                length,
                payload: payload.then(Vec::new),
            });
        }
    }

    fn end_fence(&mut self) -> Outcome {
        let Some(fence) = self.fence.take() else {
            return Ok(());
        };
        if let (Some(lines), Some(item)) = (fence.payload, &mut self.item) {
            if item.task.payload.is_some() {
                return Err(Failure::at(
                    self.file,
                    fence.line,
                    "a task has one payload, this is its second",
                ));
            }
            let payload = RawValue::from_string(lines.join("\n").trim().to_owned()).map_err(|error| {
                Failure::at(
                    self.file,
                    fence.line + error.line(),
                    format!("the payload is not valid JSON: {error}"),
                )
            })?;
            item.task.payload = Some(payload);
        }
        Ok(())
    }

    fn begin_item(&mut self, line: usize, done: bool, title: &str) -> Outcome {
        let mut task = NewTask::default();
        let (title, attributes) = split_title(title);
        if let Some(inner) = attributes {
            set_all(self.file, line, inner, &mut task)?;
        }
        task.title = title;
        self.item = Some(Open {
            line,
            done,
            task,
            description: Vec::new(),
        });
        Ok(())
    }

    fn end_item(&mut self) {
        let Some(mut open) = self.item.take() else {
            return;
        };
        if open.done {
            self.draft.done.extend(open.task.id);
            return;
        }
        open.task.description = dedent(&open.description);
        self.draft.items.push(Item {
            line: open.line,
            task: open.task,
        });
    }
}

enum Checkbox<'a> {
    Item { done: bool, title: &'a str },
    Malformed,
    No,
}

/// Whether a line that is not indented is an item. What nearly is one is told apart: passing over it would lose a task.
fn checkbox(line: &str) -> Checkbox<'_> {
    let line = line.strip_prefix(' ').unwrap_or(line);
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let rest = if digits > 0 {
        line[digits..].strip_prefix(['.', ')'])
    } else {
        line.strip_prefix(['-', '*', '+'])
    };
    let Some(rest) = rest else {
        return Checkbox::No;
    };
    let inside = rest.strip_prefix(' ').map(str::trim_start);
    for (mark, done) in [("[ ]", false), ("[x]", true), ("[X]", true)] {
        let title = inside.and_then(|inside| inside.strip_prefix(mark));
        if let Some(title) = title.filter(|title| title.is_empty() || title.starts_with(' ')) {
            return Checkbox::Item {
                done,
                title: title.trim(),
            };
        }
    }
    let inner = rest
        .trim_start()
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    match inner {
        Some((inner, after)) if matches!(inner.trim(), "" | "x" | "X") && !after.starts_with('(') => {
            Checkbox::Malformed
        }
        _ => Checkbox::No,
    }
}

/// The mark, its length and what stands behind it, when the line opens or closes a fence.
fn fence_mark(line: &str) -> Option<(char, usize, &str)> {
    let line = line.trim();
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = line.chars().take_while(|c| *c == mark).count();
    let info = line[length..].trim();
    (length >= 3 && !info.contains('`')).then_some((mark, length, info))
}

/// The title without its attributes. `\(` keeps parentheses at the end of a title as they are.
fn split_title(title: &str) -> (String, Option<&str>) {
    let end = title.trim_end();
    if let Some(open) = end.rfind('(').filter(|_| end.ends_with(')')) {
        let before = &end[..open];
        if let Some(text) = before.strip_suffix('\\') {
            return (format!("{text}{}", &end[open..]), None);
        }
        // Without a space before it, it is the target of a link or the arguments of a function.
        if (before.is_empty() || before.ends_with(' '))
            && let Some(inner) = attribute_list(&end[open..])
        {
            return (before.trim_end().to_owned(), Some(inner));
        }
    }
    (end.to_owned(), None)
}

/// What stands between parentheses, when it reads `word: …`.
fn attribute_list(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    let (key, _) = inner.split_once(':')?;
    let is_word = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_word.then_some(inner)
}

fn set_all(file: &Path, line: usize, inner: &str, task: &mut NewTask) -> Outcome {
    for part in inner.split(',') {
        let Some((key, value)) = part.split_once(':') else {
            return Err(Failure::at(
                file,
                line,
                format!("`{}` is not of the form `key: value`", part.trim()),
            )
            .hint("values of a list are separated by spaces, attributes by commas"));
        };
        let (key, value) = (key.trim(), value.trim());
        if value.is_empty() {
            return Err(Failure::at(file, line, format!("{key}: has no value")));
        }
        set(task, key, value).map_err(|why| match why {
            Wrong::Key => Failure::at(file, line, format!("unknown attribute `{key}`")).hint(format!(
                "known are {}; write `\\(` where the parentheses belong to the title",
                ATTRIBUTES.join(", ")
            )),
            Wrong::Value(why) => Failure::at(file, line, format!("{key}: {why}")),
        })?;
    }
    Ok(())
}

enum Wrong {
    Key,
    Value(String),
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self::Value(why)
    }
}

fn set(task: &mut NewTask, key: &str, value: &str) -> Result<(), Wrong> {
    let words = || value.split_whitespace().map(str::to_owned);
    let text = || Some(value.to_owned());
    match key {
        "id" => task.id = text(),
        "labels" => task.labels.extend(words()),
        "prefers" => task.prefers.extend(words()),
        "after" | "dependencies" => task.dependencies.extend(words()),
        "locks" => task.locks.extend(words()),
        "files" => task.files.extend(words()),
        "model" => task.model = text(),
        "project" => task.project = text(),
        "repo" => task.repo = text(),
        "priority" => task.priority = priority(value)?,
        "produces" => task.produces = Some(produces(value)?),
        "timeout" => task.timeout = Some(value.parse()?),
        "not_before" => task.not_before = Some(value.parse()?),
        "retries" | "max_retries" => task.max_retries = whole(value)?,
        "tokens" | "estimated_tokens" => task.estimated_tokens = whole(value)?,
        _ => return Err(Wrong::Key),
    }
    Ok(())
}

fn whole<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("`{value}` is not a whole number"))
}

fn priority(value: &str) -> Result<Priority, String> {
    Priority::ALL
        .into_iter()
        .find(|priority| priority.name() == value)
        .ok_or_else(|| format!("`{value}` is not one of critical, high, medium, low"))
}

fn produces(value: &str) -> Result<Produces, String> {
    match value {
        "pull_request" => Ok(Produces::PullRequest),
        "issue" => Ok(Produces::Issue),
        _ => Err(format!("`{value}` is not one of pull_request, issue")),
    }
}

/// The lines without the indentation that they share and without empty lines around them.
fn dedent(lines: &[String]) -> String {
    let indent = |line: &str| line.bytes().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let shared = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| indent(line))
        .min()
        .unwrap_or(0);
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| {
            if line.trim().is_empty() {
                ""
            } else {
                line[shared..].trim_end()
            }
        })
        .collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task_list::TaskList;

    fn tasks(text: &str) -> Vec<NewTask> {
        let list = TaskList::parse(Path::new("t.md"), text, None).unwrap();
        list.items.into_iter().map(|item| item.task).collect()
    }

    #[test]
    fn items_have_attributes_descriptions_and_payloads() {
        let text = "# Work\n\nProse (id: not-a-task).\n\n\
            - [ ] Count lines (id: count, labels: shell count, priority: high, timeout: 5m)\n\
            \x20 All of them.\n\n    code\n\n\
            \x20 ```sh\n  - [ ] not an item\n  ```\n\
            \x20 ```json payload\n  {\"path\": \"a b\"}\n  ```\n\
            - a note\n  about nothing\n\
            - [x] Done (id: old)\n  gone\n\
            * [ ] Report\n  (after: count old, locks: out, retries: 1)\n  Write it.\n";
        let tasks = tasks(text);
        assert_eq!(tasks.len(), 2);
        let count = &tasks[0];
        assert_eq!(count.title, "Count lines");
        assert_eq!(count.labels, ["shell", "count"]);
        assert_eq!(count.priority, Priority::High);
        assert_eq!(count.timeout.unwrap().as_secs(), 300);
        assert_eq!(
            count.description,
            "All of them.\n\n  code\n\n```sh\n- [ ] not an item\n```"
        );
        assert_eq!(count.payload.as_ref().unwrap().get(), "{\"path\": \"a b\"}");
        let report = &tasks[1];
        assert_eq!(report.dependencies, ["count"]);
        assert_eq!(
            (report.locks.as_slice(), report.max_retries),
            (["out".to_owned()].as_slice(), 1)
        );
        assert_eq!(report.description, "Write it.");
    }

    #[test]
    fn parentheses_that_are_no_attributes_belong_to_the_title() {
        let titles: Vec<String> = tasks(
            "- [ ] Fix the parser (really)\n- [ ] Look \\(see: docs)\n- [ ] [a link](http://x)\n- [link](x)\n- [ ] f(x)\n",
        )
        .into_iter()
        .map(|task| task.title)
        .collect();
        assert_eq!(
            titles,
            [
                "Fix the parser (really)",
                "Look (see: docs)",
                "[a link](http://x)",
                "f(x)"
            ]
        );
    }

    #[test]
    fn a_fence_outside_of_items_hides_what_looks_like_items() {
        assert!(tasks("```\n- [ ] example\n```\n").is_empty());
        let open = TaskList::parse(Path::new("t.md"), "x\n```\n- [ ] lost\n", None).unwrap_err();
        assert!(open.to_string().contains("t.md:2: this fence is never closed"));
    }
}
