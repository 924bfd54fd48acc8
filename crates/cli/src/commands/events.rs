//! `adjutant events`: what happened, and what happens.

use std::pin::pin;

use adjutant_wire::Event;
use clap::Args;
use futures_util::StreamExt as _;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{json_line, say};
use crate::text::{clip, one_line, time};

/// The most events of one request.
const PAGE: usize = 1_000;

/// Print events in the order of their commits
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant events --limit 20
  adjutant events --follow --type task_completed
  adjutant events --since 1000 --json")]
pub(crate) struct Arguments {
    /// Only events after this number [default: 0; with --follow: those to come]
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// The most events to print
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "follow")]
    limit: usize,
    /// Go on with what happens, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only events of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only events of this task
    #[arg(long, value_name = "ID")]
    task: Option<String>,
}

impl Arguments {
    fn wants(&self, event: &Event) -> bool {
        (self.types.is_empty() || self.types.contains(&event.kind))
            && (self.task.is_none() || self.task == event.task_id)
    }
}

/// Prints them.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let client = context.client()?;
    if arguments.follow {
        let since = match arguments.since {
            Some(since) => since,
            None => client.status().await?.last_seq,
        };
        let mut stream = pin!(client.follow_events(since));
        while let Some(event) = stream.next().await {
            let event = event?;
            if arguments.wants(&event) {
                print(&event, context)?;
            }
        }
        return Err(Failure::new("the event stream ended"));
    }
    let mut since = arguments.since.unwrap_or(0);
    let mut left = arguments.limit;
    while left > 0 {
        let page = client.events(since, u32::try_from(PAGE).ok()).await?;
        let Some(last) = page.last() else { break };
        since = last.seq;
        for event in page.iter().filter(|event| arguments.wants(event)).take(left) {
            print(event, context)?;
            left -= 1;
        }
    }
    Ok(())
}

/// Prints one event on a line.
pub(crate) fn print(event: &Event, context: &Context) -> Outcome {
    if context.printer.is_json() {
        json_line(event)
    } else {
        say(line(event, crate::table::WIDTH))
    }
}

/// An event in so many columns.
pub(crate) fn line(event: &Event, width: usize) -> String {
    let names: Vec<&str> = [event.task_id.as_deref(), event.agent_id.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    let payload = event.payload.as_ref().map_or("", |payload| payload.get());
    let text = format!(
        "{} {} {} {} {payload}",
        event.seq,
        time(event.timestamp),
        event.kind,
        names.join(" ")
    );
    clip(&one_line(&text), width)
}
