//! Submission: a task list becomes tasks, each exactly once however often the list is submitted.
//!
//! Ids of a list stay the same (see [`crate::task_list`]), so what exists already is simply left out. New tasks go in
//! batches in dependency order: nothing arrives before what it depends on.

use std::collections::{HashMap, HashSet};

use adjutant_client::{Client, Error, random_key};
use adjutant_core::command::MAX_BATCH;
use adjutant_wire::NewTask;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::failure::{Failure, Outcome};
use crate::task_list::TaskList;

/// A batch is closed at this size of unescaped text.
const BATCH_BYTES: usize = 8 << 20;
/// So many ids are looked up at the same time.
const LOOKUPS: usize = 16;

/// What a submission did.
#[derive(Serialize, Debug, Default)]
pub(crate) struct Report {
    /// Ids of the tasks that were made.
    pub(crate) added: Vec<String>,
    /// Ids of the list that existed before.
    pub(crate) skipped: Vec<String>,
}

/// Submits what the server does not have yet.
pub(crate) async fn submit(client: &Client, list: &TaskList) -> Outcome<Report> {
    let ids: Vec<String> = list.items.iter().map(|item| item.id().to_owned()).collect();
    let known = existing(client, &ids).await?;
    let mut report = Report::default();
    let mut fresh = Vec::new();
    for (id, item) in ids.into_iter().zip(&list.items) {
        if known.contains(&id) {
            report.skipped.push(id);
        } else {
            fresh.push(item.task.clone());
        }
    }
    let lines = list.lines();
    for batch in batches(fresh) {
        let answers = client.create_tasks(&batch, Some(&random_key())).await?;
        if answers.len() != batch.len() {
            return Err(Failure::new(format!(
                "the server answered {} of {} tasks",
                answers.len(),
                batch.len()
            )));
        }
        for (task, answer) in batch.iter().zip(answers) {
            let id = task.id.clone().unwrap_or_default();
            match answer.error {
                None => report.added.push(id),
                // Someone else added it in the meantime.
                Some(error) if error.error == "task_exists" => report.skipped.push(id),
                Some(error) => return Err(refused(list, &lines, &id, &error, &report)),
            }
        }
    }
    Ok(report)
}

fn refused(
    list: &TaskList,
    lines: &HashMap<&str, usize>,
    id: &str,
    error: &adjutant_wire::ErrorBody,
    report: &Report,
) -> Failure {
    let line = lines.get(id).copied().unwrap_or(1);
    let failure = Failure::at(&list.file, line, format!("task `{id}` was refused: {error}"));
    if report.added.is_empty() {
        failure
    } else {
        failure.hint(format!(
            "{} tasks were added; mend the list and submit it again, they are not added twice",
            report.added.len()
        ))
    }
}

/// Which of these ids the server knows.
async fn existing(client: &Client, ids: &[String]) -> Outcome<HashSet<String>> {
    let mut known = HashSet::new();
    let mut lookups = JoinSet::new();
    for id in ids {
        if lookups.len() >= LOOKUPS {
            collect(lookups.join_next().await, &mut known)?;
        }
        let (client, id) = (client.clone(), id.clone());
        lookups.spawn(async move { (client.get_task(&id).await.map(|_| ()), id) });
    }
    while let Some(found) = lookups.join_next().await {
        collect(Some(found), &mut known)?;
    }
    Ok(known)
}

type Lookup = Result<(Result<(), Error>, String), tokio::task::JoinError>;

fn collect(found: Option<Lookup>, known: &mut HashSet<String>) -> Outcome {
    match found {
        None => Ok(()),
        Some(Ok((Ok(()), id))) => {
            known.insert(id);
            Ok(())
        }
        Some(Ok((Err(error), _))) if error.code() == Some(404) => Ok(()),
        Some(Ok((Err(error), _))) => Err(error.into()),
        Some(Err(error)) => Err(Failure::new(format!("a lookup was cut short: {error}"))),
    }
}

/// Cuts tasks into batches that a server takes.
fn batches(tasks: Vec<NewTask>) -> Vec<Vec<NewTask>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for task in tasks {
        // Escaped text is at most six times as long: 8 MiB of it stay below what a server takes in one batch.
        let size = 1_000
            + task.title.len()
            + task.description.len()
            + task.payload.as_ref().map_or(0, |payload| payload.get().len());
        if !batch.is_empty() && (batch.len() >= MAX_BATCH || bytes + size > BATCH_BYTES) {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(task);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_in_number_and_size() {
        let small = vec![NewTask::default(); 2_500];
        let sizes: Vec<usize> = batches(small).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
        let large = NewTask {
            description: "x".repeat(1 << 20),
            ..NewTask::default()
        };
        assert!(batches(vec![large; 100]).iter().all(|batch| batch.len() <= 8));
    }
}
