//! `adjutant task watch`: follow tasks until they end.

use std::collections::BTreeMap;
use std::pin::pin;

use adjutant_core::task::Status;
use clap::Args;
use futures_util::StreamExt as _;

use crate::commands::events;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Follow tasks until they end; succeeds when all of them are completed
#[derive(Args, Debug)]
#[command(after_help = "Example:
  adjutant task watch $(adjutant task add \"Run the tests\" --label rust)")]
pub(crate) struct Arguments {
    /// The tasks
    #[arg(required = true)]
    ids: Vec<String>,
}

/// Follows them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    // By task: its state, and its last event that was printed.
    let mut watched: BTreeMap<String, (Status, u64)> = BTreeMap::new();
    for id in &arguments.ids {
        // The events come first: what happens after them is in the stream, whatever state is read next.
        let past = client.task_events(id).await?;
        for event in &past {
            events::print(event, context)?;
        }
        let printed = past.last().map_or(0, |event| event.seq);
        watched.insert(id.clone(), (client.get_task(id).await?.status, printed));
    }
    let since = watched.values().map(|(_, printed)| *printed).min().unwrap_or(0);
    let mut stream = pin!(client.follow_events(since));
    while watched.values().any(|(status, _)| !status.is_terminal()) {
        let Some(event) = stream.next().await else {
            return Err(Failure::new("the event stream ended"));
        };
        let event = event?;
        let Some((status, printed)) = event.task_id.as_ref().and_then(|id| watched.get_mut(id)) else {
            continue;
        };
        if event.seq > *printed {
            *printed = event.seq;
            events::print(&event, context)?;
            *status = client
                .get_task(event.task_id.as_deref().unwrap_or_default())
                .await?
                .status;
        }
    }
    let failed: Vec<&str> = watched
        .iter()
        .filter(|(_, (status, _))| *status != Status::Completed)
        .map(|(id, _)| id.as_str())
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("not completed: {}", failed.join(", ")))
            .hint("`adjutant task show ID` says why"))
    }
}
