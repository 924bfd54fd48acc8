//! Task lists: files of tasks, in three forms that say the same.
//!
//! - JSON: one task object on each line, or one array of them (`task list --json` makes such files);
//! - TOML: `[[tasks]]` tables with the same keys;
//! - Markdown: a checklist, see [`markdown`].
//!
//! Each task gets an id that stays the same for as long as its text does: the one it names, else a digest of what it
//! says. Submitting a list again therefore adds nothing but what is new in it. Tasks come out in dependency order, so
//! that a list may be submitted batch by batch.

mod json;
mod markdown;
mod order;
mod tables;

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use adjutant_core::name::check_id;
use adjutant_wire::NewTask;
use sha2::{Digest as _, Sha256};

use crate::failure::{Failure, Outcome};
use crate::text::line_at;

/// No list is larger: 256 MiB of text is a mistake in the file's name, not a list of tasks.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// In which form a list is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// One JSON object per line, or one JSON array.
    Json,
    /// `[[tasks]]` tables.
    Toml,
    /// A checklist.
    Markdown,
}

/// A task with the line that it starts on.
#[derive(Debug)]
pub(crate) struct Item {
    /// The line in its file, from 1.
    pub(crate) line: usize,
    /// The task; its id is set.
    pub(crate) task: NewTask,
}

/// What a file says.
#[derive(Debug)]
pub(crate) struct TaskList {
    /// The file, for messages.
    pub(crate) file: PathBuf,
    /// Its tasks, those that others depend on first.
    pub(crate) items: Vec<Item>,
}

/// What a form's reader found: tasks in the order of the file, and ids of items that are done already.
#[derive(Default)]
struct Draft {
    items: Vec<Item>,
    done: HashSet<String>,
}

impl TaskList {
    /// Reads the list from a file, or from stdin for `-`.
    pub(crate) fn read(file: &Path, format: Option<Format>) -> Outcome<Self> {
        let unreadable = |error: std::io::Error| {
            Failure::usage(format!("cannot read the task list {}: {error}", file.display()))
        };
        let mut bytes = Vec::new();
        if file == Path::new("-") {
            std::io::stdin()
                .lock()
                .take(MAX_BYTES + 1)
                .read_to_end(&mut bytes)
                .map_err(unreadable)?;
        } else {
            std::fs::File::open(file)
                .and_then(|opened| opened.take(MAX_BYTES + 1).read_to_end(&mut bytes))
                .map_err(unreadable)?;
        }
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Failure::usage(format!(
                "the task list {} is larger than 256 MiB",
                file.display()
            )));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            Failure::at(file, line_at(&valid, valid.len()), "the text is not UTF-8")
        })?;
        Self::parse(file, &text, format)
    }

    /// Reads the list from text; `file` is what messages call it, and its extension tells the form.
    pub(crate) fn parse(file: &Path, text: &str, format: Option<Format>) -> Outcome<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut draft = match format.unwrap_or_else(|| guess(file, text)) {
            Format::Json => json::read(file, text)?,
            Format::Toml => tables::read(file, text)?,
            Format::Markdown => markdown::read(file, text)?,
        };
        // What is ticked off needs no waiting for.
        for item in &mut draft.items {
            item.task.dependencies.retain(|id| !draft.done.contains(id));
        }
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name_all(&name, &mut draft.items);
        check_all(file, &draft.items)?;
        Ok(Self {
            file: file.to_owned(),
            items: order::by_dependency(file, draft.items)?,
        })
    }

    /// The lines of the tasks, by id.
    pub(crate) fn lines(&self) -> HashMap<&str, usize> {
        self.items.iter().map(|item| (item.id(), item.line)).collect()
    }
}

impl Item {
    /// The task's id.
    pub(crate) fn id(&self) -> &str {
        self.task.id.as_deref().unwrap_or_default()
    }
}

fn guess(file: &Path, text: &str) -> Format {
    let extension = file.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("json" | "jsonl" | "ndjson") => Format::Json,
        Some("toml") => Format::Toml,
        Some("md" | "markdown") => Format::Markdown,
        _ if text.trim_start().starts_with('{') => Format::Json,
        _ if text.lines().any(|line| line.trim() == "[[tasks]]") => Format::Toml,
        _ if text.trim_start().starts_with('[') => Format::Json,
        _ => Format::Markdown,
    }
}

/// Names every task that has no id: a digest of the list's name, the task's text, and how often that text occurred
/// before. Changing a priority or adding a task elsewhere in the list changes no id.
fn name_all(list: &str, items: &mut [Item]) {
    let mut seen: HashMap<[u8; 32], u32> = HashMap::new();
    for item in items {
        let task = &mut item.task;
        if task.id.is_some() {
            continue;
        }
        let mut digest = Sha256::new();
        let payload = task.payload.as_ref().map_or("", |payload| payload.get());
        for part in [list, &task.title, &task.description, payload] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let text: [u8; 32] = digest.finalize().into();
        let before = seen.entry(text).or_default();
        let hex = u64::from_be_bytes([
            text[0], text[1], text[2], text[3], text[4], text[5], text[6], text[7],
        ]);
        task.id = Some(if *before == 0 {
            format!("item-{hex:016x}")
        } else {
            format!("item-{hex:016x}-{}", *before + 1)
        });
        *before += 1;
    }
}

fn check_all(file: &Path, items: &[Item]) -> Outcome {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for item in items {
        let wrong = |why: String| Failure::at(file, item.line, why);
        let id = item.id();
        check_id(id).map_err(|why| wrong(format!("id: {why}")))?;
        if let Some(line) = lines.insert(id, item.line) {
            return Err(wrong(format!("the id `{id}` is taken by line {line}")));
        }
        match item.task.title.chars().count() {
            0 => return Err(wrong("title: must not be empty".into())),
            1..=500 => {}
            n => {
                return Err(wrong(format!(
                    "title: has {n} characters, at most 500 are allowed"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &TaskList) -> Vec<&str> {
        list.items.iter().map(Item::id).collect()
    }

    fn parse(name: &str, text: &str) -> Outcome<TaskList> {
        TaskList::parse(Path::new(name), text, None)
    }

    #[test]
    fn ids_stay_when_the_list_grows_and_when_attributes_change() {
        let before = parse("a.md", "- [ ] one\n- [ ] two\n").unwrap();
        let after = parse(
            "a.md",
            "- [ ] zero\n- [ ] one (priority: high)\n- [ ] two\n- [ ] two\n",
        )
        .unwrap();
        assert_eq!(ids(&before), ids(&after)[1..3]);
        assert_eq!(ids(&after).iter().collect::<HashSet<_>>().len(), 4);
        let other_list = parse("b.md", "- [ ] one\n").unwrap();
        assert_ne!(ids(&before)[0], ids(&other_list)[0]);
    }

    #[test]
    fn the_same_task_can_be_written_in_all_three_forms() {
        let json =
            r#"{"id":"x","title":"T","labels":["a"],"dependencies":[],"payload":{"n":[1]},"timeout":"5m"}"#;
        let toml = "[[tasks]]\nid = 'x'\ntitle = 'T'\nlabels = ['a']\ntimeout = '5m'\npayload = {n = [1]}\n";
        let markdown = "- [ ] T (id: x, labels: a, timeout: 5m)\n  ```json payload\n  {\"n\":[1]}\n  ```\n";
        let all: Vec<String> = [("t.jsonl", json), ("t.toml", toml), ("t.md", markdown)]
            .into_iter()
            .map(|(name, text)| serde_json::to_string(&parse(name, text).unwrap().items[0].task).unwrap())
            .collect();
        assert_eq!(all[0], all[1]);
        assert_eq!(all[0], all[2]);
    }

    #[test]
    fn mistakes_name_their_file_and_line() {
        for (name, text, message) in [
            (
                "t.jsonl",
                "{\"title\":\"a\"}\n{\"title\":",
                "t.jsonl:2: not valid JSON: EOF",
            ),
            (
                "t.jsonl",
                "{\"title\":\"a\",\"lables\":[]}",
                "t.jsonl:1: unknown key `lables`",
            ),
            ("t.jsonl", "{\"title\":7}", "t.jsonl:1: invalid type: integer `7`"),
            (
                "t.json",
                "[{\"title\":\"a\"},\n\n {\"titel\":\"b\"}]",
                "t.json:3: unknown key `titel`",
            ),
            (
                "t.toml",
                "[[tasks]]\ntitle = 'a'\n\n[[tasks]]\ntitel = 'b'\n",
                "t.toml:4: unknown key `titel`",
            ),
            ("t.toml", "[[tasks]]\ntitle = \n", "t.toml:2: "),
            (
                "t.toml",
                "[[task]]\ntitle = 'a'\n",
                "t.toml:1: unknown key `task`",
            ),
            (
                "t.md",
                "# T\n- [ ] a (lables: x)\n",
                "t.md:2: unknown attribute `lables`",
            ),
            (
                "t.md",
                "- [ ] a (priority: urgent)\n",
                "t.md:1: priority: `urgent` is not one of",
            ),
            ("t.md", "- [] a\n", "t.md:1: "),
            ("t.md", "- [ ] \n", "t.md:1: title: must not be empty"),
            (
                "t.md",
                "- [ ] a (id: x)\n- [ ] b (id: x)\n",
                "t.md:2: the id `x` is taken by line 1",
            ),
            ("t.md", "- [ ] a (id: x y)\n", "t.md:1: id: "),
            (
                "t.md",
                "- [ ] a (id: x, after: y)\n- [ ] b (id: y, after: x)\n",
                "t.md:1: ",
            ),
        ] {
            let failure = parse(name, text).unwrap_err().to_string();
            assert!(
                failure.starts_with(&format!("error: {message}")),
                "{text:?} gave {failure}"
            );
        }
    }
}
