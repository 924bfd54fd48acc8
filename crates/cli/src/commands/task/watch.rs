//! `adjutant task watch`: follow tasks until they end.
//!
//! Events tell what happens. Notes make none, so tasks that run are looked at now and then.
//!
//! # Invariants
//! - Each event and each note is printed once, whatever happens to the connection or to the server.
//! - A server that is away is waited for; only what it refuses ends the watch early.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::pin::pin;
use std::time::Duration;

use adjutant_client::{Backoff, Client, Error, TaskFilter};
use adjutant_core::task::{Priority, Status};
use adjutant_wire::{Note, Task};
use clap::{ArgGroup, Args};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::commands::events;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{json_line, say};
use crate::table::WIDTH;
use crate::text::{clip, one_line, time};
use crate::values;

/// So often tasks that run are looked at for notes.
const LOOK: Duration = Duration::from_secs(2);
/// So many of them; notes of others come with their next event.
const MOST_LOOKED_AT: usize = 50;
/// So many tasks are followed: a list that a person waits for.
const MOST_WATCHED: usize = 10_000;
/// So many ids an error names.
const MOST_NAMED: usize = 10;
/// A server that is away is asked again after about so long at first.
const AWAY_BASE: Duration = Duration::from_millis(200);
/// And then at most so far apart.
const AWAY_CAP: Duration = Duration::from_secs(5);

/// Follow tasks until they end; succeeds when all of them are completed
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant task watch $(adjutant task add \"Run the tests\" --label rust)
  adjutant task watch --project web --label rust
  adjutant task watch --all --json")]
#[command(group(ArgGroup::new("which").required(true).multiple(true)))]
pub(crate) struct Arguments {
    /// The tasks
    #[arg(group = "which")]
    ids: Vec<String>,
    /// All tasks that have not ended
    #[arg(long, group = "which", conflicts_with = "ids")]
    all: bool,
    /// Those of this project that have not ended
    #[arg(long, group = "which", conflicts_with = "ids")]
    project: Option<String>,
    /// Those this urgent that have not ended
    #[arg(long, short, group = "which", conflicts_with = "ids", value_parser = values::priority)]
    priority: Option<Priority>,
    /// Those that this agent holds
    #[arg(long, value_name = "AGENT", group = "which", conflicts_with = "ids")]
    claimed_by: Option<String>,
    /// Those with this label that have not ended; may be given several times
    #[arg(
        long = "label",
        short,
        value_name = "LABEL",
        group = "which",
        conflicts_with = "ids"
    )]
    labels: Vec<String>,
}

/// What is known of a task.
struct Watched {
    status: Status,
    /// Its last event that was printed.
    printed: u64,
    /// How many of its notes were printed.
    notes: usize,
}

/// Follows them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let mut watch = Watch {
        client: context.client()?,
        context,
        tasks: BTreeMap::new(),
    };
    let since = if arguments.ids.is_empty() {
        watch.find(arguments).await?
    } else {
        watch.name(&arguments.ids).await?
    };
    watch.follow(since).await?;
    watch.verdict()
}

struct Watch<'a> {
    client: Client,
    context: &'a Context,
    tasks: BTreeMap<String, Watched>,
}

impl Watch<'_> {
    /// Watches the tasks with these ids, and prints what happened to them before; gives the event to go on after.
    async fn name(&mut self, ids: &[String]) -> Outcome<u64> {
        for id in ids {
            // The events come first: what happens after them is in the stream, whatever state is read next.
            let past = self.client.task_events(id).await?;
            for event in &past {
                events::print(event, self.context)?;
            }
            let printed = past.last().map_or(0, |event| event.seq);
            let task = self.client.get_task(id).await?;
            self.meet(&task, printed, 0)?;
            self.catch_up_at_end(id).await?;
        }
        Ok(self.tasks.values().map(|task| task.printed).min().unwrap_or(0))
    }

    /// Watches those that match, from now on; gives the event to go on after.
    async fn find(&mut self, arguments: &Arguments) -> Outcome<u64> {
        let since = self.client.counts().await?.last_seq;
        // In the order in which tasks go, so that none slips through on its way.
        for status in [Status::Blocked, Status::Pending, Status::InProgress] {
            let filter = TaskFilter {
                status: Some(status),
                priority: arguments.priority,
                project: arguments.project.clone(),
                claimed_by: arguments.claimed_by.clone(),
                labels: arguments.labels.clone(),
                limit: None,
            };
            for task in self.client.all_tasks(&filter, MOST_WATCHED + 1).await? {
                self.meet(&task, since, task.notes.len())?;
            }
        }
        if self.tasks.len() > MOST_WATCHED {
            return Err(Failure::usage(format!("more than {MOST_WATCHED} tasks match"))
                .hint("narrow it down, or use `adjutant top`"));
        }
        if !self.context.printer.is_json() {
            say(format!("watching {} tasks", self.tasks.len()))?;
        }
        Ok(since)
    }

    async fn follow(&mut self, since: u64) -> Outcome {
        let mut stream = pin!(self.client.follow_events(since));
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.tasks.values().any(|task| !task.status.is_terminal()) {
            tokio::select! {
                event = stream.next() => {
                    let event = match event {
                        Some(Ok(event)) => event,
                        Some(Err(error)) if error.is_retryable() => {
                            // Only before the first connection does the stream give up.
                            self.wait_for_server(&error).await?;
                            stream.set(self.client.follow_events(since));
                            continue;
                        }
                        Some(Err(error)) => return Err(error.into()),
                        None => return Err(Failure::new("the event stream ended")),
                    };
                    let Some(id) = event.task_id.clone() else { continue };
                    let news = self.tasks.get_mut(&id).filter(|task| event.seq > task.printed);
                    let Some(task) = news else { continue };
                    task.printed = event.seq;
                    events::print(&event, self.context)?;
                    self.look(&id).await?;
                    self.catch_up_at_end(&id).await?;
                }
                _ = looks.tick() => {
                    let running: Vec<String> = self
                        .tasks
                        .iter()
                        .filter(|(_, task)| task.status == Status::InProgress)
                        .map(|(id, _)| id.clone())
                        .take(MOST_LOOKED_AT)
                        .collect();
                    for id in running {
                        self.look(&id).await?;
                        self.catch_up_at_end(&id).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a task again, however long that takes, and prints its new notes.
    async fn look(&mut self, id: &str) -> Outcome {
        let task = loop {
            match self.client.get_task(id).await {
                Ok(task) => break task,
                Err(error) if error.is_retryable() => self.wait_for_server(&error).await?,
                Err(error) => return Err(error.into()),
            }
        };
        let known = self.tasks.get(id);
        let (printed, notes) = known.map_or((0, 0), |known| (known.printed, known.notes));
        self.meet(&task, printed, notes)
    }

    /// What ends a task makes several events: those that were not read yet are printed before the watch may end.
    async fn catch_up_at_end(&mut self, id: &str) -> Outcome {
        let ended = self.tasks.get(id).filter(|task| task.status.is_terminal());
        let Some(printed) = ended.map(|task| task.printed) else {
            return Ok(());
        };
        let rest = loop {
            match self.client.task_events_after(id, printed).await {
                Ok(rest) => break rest,
                Err(error) if error.is_retryable() => self.wait_for_server(&error).await?,
                Err(error) => return Err(error.into()),
            }
        };
        for event in &rest {
            events::print(event, self.context)?;
        }
        if let (Some(task), Some(last)) = (self.tasks.get_mut(id), rest.last()) {
            task.printed = last.seq;
        }
        Ok(())
    }

    fn meet(&mut self, task: &Task, printed: u64, notes: usize) -> Outcome {
        for note in task.notes.iter().skip(notes) {
            self.print_note(&task.id, note)?;
        }
        let watched = Watched {
            status: task.status,
            printed,
            notes: task.notes.len(),
        };
        self.tasks.insert(task.id.clone(), watched);
        Ok(())
    }

    fn print_note(&self, task: &str, note: &Note) -> Outcome {
        if self.context.printer.is_json() {
            return json_line(&json!({
                "type": "note", "task_id": task, "timestamp": note.at,
                "payload": { "author": note.author, "text": note.text }
            }));
        }
        let text = format!("{} note {task} {}: {}", time(note.at), note.author, note.text);
        say(clip(&one_line(&text), WIDTH))
    }

    /// Says once that the server is away, and waits until it answers.
    async fn wait_for_server(&self, error: &Error) -> Outcome {
        // Nobody may be reading that; the watch goes on all the same.
        let _ = writeln!(
            std::io::stderr().lock(),
            "waiting for the server: {}",
            one_line(&error.to_string())
        );
        let mut backoff = Backoff::new(AWAY_BASE, AWAY_CAP);
        loop {
            tokio::time::sleep(error.retry_after().unwrap_or_default().max(backoff.next_wait())).await;
            match self.client.health().await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn verdict(&self) -> Outcome {
        let failed: Vec<&str> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.status != Status::Completed)
            .map(|(id, _)| id.as_str())
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        let more = match failed.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = failed[..failed.len().min(MOST_NAMED)].join(", ");
        Err(Failure::new(format!("not completed: {named}{more}")).hint("`adjutant task show ID` says why"))
    }
}
