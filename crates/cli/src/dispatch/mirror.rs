//! Mirrors: tasks here that stand for tasks there.

use std::fmt::Write as _;

use adjutant_client::{Client, Error};
use adjutant_core::task::Status;
use adjutant_core::time::Timestamp;
use adjutant_wire::{NewTask, Task, TaskPatch};
use sha2::{Digest as _, Sha256};

/// What the ids of all mirrors begin with.
const PREFIX: &str = "dispatch.";
/// 9999-01-01: a mirror that is not let go is not dispatched before that.
const NEVER: Timestamp = Timestamp::from_micros(253_370_764_800_000_000);
/// Ids there that are longer stand in the mirror's as their digest: an id has 128 characters.
const MAX_ID: usize = 88;
/// Failures are retried there.
const ATTEMPTS: u32 = 1;

/// The other side, as far as ids of mirrors speak of it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    prefix: String,
}

impl Source {
    /// The side with this address.
    pub(super) fn new(url: &str) -> Self {
        Self {
            prefix: format!("{PREFIX}{}", digest(url, 8)),
        }
    }

    /// Whether it is an id of a mirror.
    pub(super) fn made(id: &str) -> bool {
        id.starts_with(PREFIX)
    }

    /// The id of a mirror for this attempt there. There is a second one where the first is over: it was cancelled before
    /// anything was claimed for it, or attempts there are not numbered.
    fn mirror(&self, task: &str, attempt: u32, number: u32) -> String {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        let name = if task.len() <= MAX_ID && task.bytes().all(is_plain) {
            task.to_owned()
        } else {
            // No id there begins so and has this length at once, except one made for it.
            format!(":{}", digest(task, 32))
        };
        format!("{}.{name}.{attempt}.{number}", self.prefix)
    }

    /// The task and the attempt that a mirror of this side stands for, where its id tells them.
    pub(super) fn origin<'a>(&self, mirror: &'a str) -> Option<(&'a str, u32)> {
        let rest = mirror.strip_prefix(&self.prefix)?.strip_prefix('.')?;
        let (rest, _) = rest.rsplit_once('.')?;
        let (task, attempt) = rest.rsplit_once('.')?;
        (!task.starts_with(':')).then_some((task, attempt.parse().ok()?))
    }

    /// The newest mirror for this attempt, if there is one.
    pub(super) async fn newest(
        &self,
        task: &str,
        attempt: u32,
        here: &Client,
    ) -> Result<Option<Task>, Error> {
        let mut newest = None;
        let mut number = 1;
        while let Some(mirror) = find(here, &self.mirror(task, attempt, number)).await? {
            newest = Some(mirror);
            number += 1;
        }
        Ok(newest)
    }

    /// The mirror for the next attempt of a task that waits: one that is not over, or a new one, held.
    pub(super) async fn next(&self, task: &Task, here: &Client) -> Result<Task, Error> {
        let attempt = next_attempt(task);
        let mut number = 1;
        loop {
            let id = self.mirror(&task.id, attempt, number);
            let mirror = match find(here, &id).await? {
                Some(mirror) => mirror,
                None => match here.create_task(&held(task, id.clone()), Some(&id)).await {
                    Ok(mirror) => mirror,
                    // Another process of the same kind was faster: it is the same mirror.
                    Err(error) if error.code() == Some(409) => here.get_task(&id).await?,
                    Err(error) => return Err(error),
                },
            };
            if !is_over(&mirror) {
                return Ok(mirror);
            }
            number += 1;
        }
    }
}

/// The attempt that a claim of a task that waits begins.
pub(super) const fn next_attempt(task: &Task) -> u32 {
    task.attempt + 1
}

/// The attempt that a task in progress is in. Where the other side does not number them all count as the first.
pub(super) const fn current_attempt(task: &Task) -> u32 {
    if task.attempt == 0 { 1 } else { task.attempt }
}

/// Lets go of a mirror: from now on agents may be given it.
pub(super) async fn let_go(mirror: &str, here: &Client) -> Result<Task, Error> {
    let patch = TaskPatch {
        not_before: Some(None),
        ..TaskPatch::default()
    };
    here.patch_task(mirror, &patch).await
}

/// Cancels a mirror, unless it is over.
pub(super) async fn cancel(mirror: &str, here: &Client) -> Result<(), Error> {
    match here.cancel_task(mirror, false).await {
        Err(error) if !matches!(error.code(), Some(404 | 409)) => Err(error),
        _ => Ok(()),
    }
}

/// A task here; none is no failure.
pub(super) async fn find(here: &Client, id: &str) -> Result<Option<Task>, Error> {
    match here.get_task(id).await {
        Ok(task) => Ok(Some(task)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it was let go: then its task was claimed before.
pub(super) fn is_let_go(mirror: &Task) -> bool {
    mirror.not_before.is_none_or(|earliest| earliest < NEVER)
}

/// Whether nothing comes of it any more.
pub(super) const fn is_over(mirror: &Task) -> bool {
    matches!(
        mirror.status,
        Status::Completed | Status::Failed | Status::Cancelled
    )
}

/// What names a claim, so that one that is made again is known as the same: also beside another server of ours, which
/// has a mirror with the same id.
pub(super) fn claim_key(mirror: &Task) -> String {
    format!("{}@{}", mirror.id, mirror.created_at.as_micros())
}

/// The same task, for nobody yet. Its dependencies are completed there.
fn held(task: &Task, id: String) -> NewTask {
    NewTask {
        id: Some(id),
        title: task.title.clone(),
        description: task.description.clone(),
        priority: task.priority,
        labels: task.labels.clone(),
        prefers: task.prefers.clone(),
        model: task.model.clone(),
        project: task.project.clone(),
        repo: task.repo.clone(),
        produces: task.produces,
        files: task.files.clone(),
        locks: task.locks.clone(),
        payload: task.payload.clone(),
        dependencies: Vec::new(),
        estimated_tokens: task.estimated_tokens,
        timeout: task.timeout,
        not_before: Some(NEVER),
        max_retries: ATTEMPTS,
    }
}

/// The first characters of the SHA-256 of a text, in hexadecimal.
fn digest(text: &str, characters: usize) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(characters);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_mirrors_are_ids_whatever_the_other_side_writes() {
        let source = Source::new("http://127.0.0.1:7717");
        let long = "x".repeat(300);
        let tasks = ["task-1", "a/b c", "", "ü", "../..", long.as_str()];
        for task in tasks {
            let id = source.mirror(task, u32::MAX, 1_000);
            assert!(id.len() <= 128, "{id}");
            assert!(
                id.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte)),
                "{id}"
            );
            assert!(Source::made(&id));
            assert_ne!(id, source.mirror(task, 1, 1));
        }
        assert_ne!(source.mirror("a/b", 1, 1), source.mirror("a?b", 1, 1));
        assert_ne!(
            source.mirror("a", 1, 1),
            Source::new("http://elsewhere").mirror("a", 1, 1)
        );
    }

    #[test]
    fn a_mirror_tells_what_it_stands_for() {
        let source = Source::new("http://127.0.0.1:7717");
        assert_eq!(source.origin(&source.mirror("a.b.7", 3, 2)), Some(("a.b.7", 3)));
        assert_eq!(source.origin(&source.mirror("a/b", 3, 2)), None, "a digest");
        assert_eq!(source.origin("dispatch.x.1.1"), None, "of another side");
        assert_eq!(source.origin("task_1"), None);
    }

    #[test]
    fn never_is_a_time_that_the_api_can_write() {
        assert_eq!(
            serde_json::to_value(NEVER).expect("it is a time"),
            "9999-01-01T00:00:00.000000Z"
        );
    }
}
