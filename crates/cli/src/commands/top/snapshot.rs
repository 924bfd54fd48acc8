//! One look at the fleet and the queue, as text or as JSON.

use std::collections::BTreeMap;

use adjutant_client::Client;
use adjutant_core::task::Status;
use adjutant_wire::{Agent, Task};
use serde::Serialize;

use super::filter::QueueFilter;
use super::list::WINDOW;
use super::rows::Row as _;
use crate::commands::agent::load;
use crate::commands::task::standing;
use crate::context::Context;
use crate::failure::Outcome;
use crate::table::Table;
use crate::text::{number, or_dash};

/// The agents and the tasks that are shown: a look, not an export.
const SHOWN: u32 = 20;

/// What there is.
#[derive(Serialize)]
struct Snapshot {
    /// How many tasks are in each state.
    tasks: BTreeMap<String, u64>,
    /// The last event.
    last_seq: u64,
    /// The first agents by id.
    agents: Vec<Agent>,
    /// Whether there are more.
    more_agents: bool,
    /// The first tasks that match.
    queue: Vec<Task>,
    /// Whether there are more.
    more_tasks: bool,
}

/// Prints it.
pub(super) async fn print(client: &Client, filter: &QueueFilter, context: &Context) -> Outcome {
    let counts = client.counts().await?;
    let mut agents = client.agents_page(None, &[], SHOWN).await?;
    // A server without pages gives all.
    let more_agents = agents.next.is_some() || agents.items.len() > SHOWN as usize;
    agents.items.truncate(SHOWN as usize);
    let mut tasks = filter.tasks.clone();
    tasks.limit = Some(if filter.words.is_empty() { SHOWN } else { WINDOW });
    let mut page = client.list_tasks(&tasks).await?;
    page.items
        .retain(|task| filter.words.iter().all(|word| task.has(word)));
    let more_tasks = page.next.is_some() || page.items.len() > SHOWN as usize;
    page.items.truncate(SHOWN as usize);
    let snapshot = Snapshot {
        tasks: counts.tasks,
        last_seq: counts.last_seq,
        agents: agents.items,
        more_agents,
        queue: page.items,
        more_tasks,
    };
    context.printer.show(&snapshot, || text(&snapshot))
}

fn text(snapshot: &Snapshot) -> String {
    let counts: Vec<String> = Status::ALL
        .iter()
        .map(|status| {
            let count = snapshot.tasks.get(status.name()).copied().unwrap_or(0);
            format!("{} {}", number(count), status.name().replace('_', " "))
        })
        .collect();
    let mut agents = Table::new(&["AGENT", "STATUS", ">LOAD", "CAPABILITIES"]).or_else("no agents");
    for agent in &snapshot.agents {
        agents.row([
            agent.id.clone(),
            agent.status.name().to_owned(),
            load(agent),
            or_dash(&agent.capabilities.join(" ")),
        ]);
    }
    let mut tasks = Table::new(&["ID", "STATUS", "PRIORITY", "AGENT OR REASON", "TITLE"]).or_else("no tasks");
    for task in &snapshot.queue {
        tasks.row([
            task.id.clone(),
            task.status.name().to_owned(),
            task.priority.name().to_owned(),
            standing(task),
            task.title.clone(),
        ]);
    }
    let more = |more: bool| if more { "… and more\n" } else { "" };
    format!(
        "tasks: {}\n\n{agents}{}\n{tasks}{}",
        counts.join(", "),
        more(snapshot.more_agents),
        more(snapshot.more_tasks)
    )
}
