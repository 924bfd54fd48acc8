//! Questions to the server and what it answers: the one place of `top` that speaks to it.

use std::time::Duration;

use adjutant_client::{Client, Error, Page, TaskFilter};
use adjutant_core::agent::AgentStatus;
use adjutant_core::task::Status;
use adjutant_wire::{Agent, Event, Explanation, FleetStatus, Task};

use super::deed::Deed;
use crate::commands::allowance::{self, Standing};

/// The most tasks of an agent that its page lists.
const HELD: u32 = 100;
/// A server that takes longer is as good as away.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// How many tasks are in each state, and the last event.
    Counts,
    /// A page of agents.
    Agents {
        cursor: Option<String>,
        status: Option<AgentStatus>,
        capabilities: Vec<String>,
        limit: u32,
    },
    /// A page of tasks.
    Tasks {
        cursor: Option<String>,
        filter: TaskFilter,
        limit: u32,
    },
    /// All about a task.
    Task {
        id: String,
        /// Events after this one.
        since: u64,
        /// Whether it is looked at why it waits.
        explain: bool,
        /// Whether its output is looked at.
        output: bool,
    },
    /// All about an agent.
    Agent { id: String },
    /// Something is done.
    Do { deed: Deed, id: String },
}

/// What came back.
#[derive(Debug)]
pub(super) enum Answer {
    Counts(Result<FleetStatus, Trouble>),
    Agents(Result<Page<Agent>, Trouble>),
    Tasks(Result<Page<Task>, Trouble>),
    Task {
        id: String,
        found: Result<Box<TaskNews>, Trouble>,
    },
    Agent {
        id: String,
        found: Result<Box<AgentNews>, Trouble>,
    },
    Done {
        id: String,
        status: Result<&'static str, Trouble>,
    },
}

/// What is new about a task.
#[derive(Debug)]
pub(super) struct TaskNews {
    pub(super) task: Task,
    /// The event that was known when it was asked for.
    pub(super) since: u64,
    pub(super) events: Vec<Event>,
    /// While it waits, where it was asked for.
    pub(super) explanation: Option<Explanation>,
    /// Where it was asked for.
    pub(super) output: Option<String>,
}

/// What is known of an agent.
#[derive(Debug)]
pub(super) struct AgentNews {
    pub(super) agent: Agent,
    pub(super) standing: Standing,
    pub(super) held: Vec<Task>,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// What to tell.
    pub(super) why: String,
    /// Whether the server is not to be reached, or cannot answer now; otherwise it says no.
    pub(super) is_away: bool,
    /// Whether there is no such thing.
    pub(super) is_gone: bool,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self {
            why: match error.hint() {
                Some(hint) if !error.is_retryable() => format!("{error}: {hint}"),
                _ => error.to_string(),
            },
            is_away: error.is_retryable(),
            is_gone: error.code() == Some(404),
        }
    }
}

/// Asks.
pub(super) async fn answer(client: Client, ask: Ask) -> Answer {
    match ask {
        Ask::Counts => Answer::Counts(client.counts().await.map_err(Trouble::from)),
        Ask::Agents {
            cursor,
            status,
            capabilities,
            limit,
        } => {
            let page = match cursor {
                Some(cursor) => client.next_agents(&cursor).await,
                None => client.agents_page(status, &capabilities, limit).await,
            };
            Answer::Agents(page.map_err(Trouble::from))
        }
        Ask::Tasks {
            cursor,
            mut filter,
            limit,
        } => {
            filter.limit = Some(limit);
            let page = match cursor {
                Some(cursor) => client.next_tasks(&cursor).await,
                None => client.list_tasks(&filter).await,
            };
            Answer::Tasks(page.map_err(Trouble::from))
        }
        Ask::Task {
            id,
            since,
            explain,
            output,
        } => {
            let found = task(&client, &id, since, explain, output).await;
            Answer::Task {
                found: found.map(Box::new).map_err(Trouble::from),
                id,
            }
        }
        Ask::Agent { id } => {
            let found = agent(&client, &id).await;
            Answer::Agent {
                found: found.map(Box::new).map_err(Trouble::from),
                id,
            }
        }
        Ask::Do { deed, id } => Answer::Done {
            status: deed.perform(&client, &id).await.map_err(Trouble::from),
            id,
        },
    }
}

async fn task(client: &Client, id: &str, since: u64, explain: bool, output: bool) -> Result<TaskNews, Error> {
    // The events first: what happens between the two is told by the next ones.
    let events = client.task_events_after(id, since).await?;
    let task = client.get_task(id).await?;
    let waits = matches!(task.status, Status::Pending | Status::Blocked);
    Ok(TaskNews {
        since,
        events,
        explanation: if explain && waits {
            Some(client.explain(id).await?)
        } else {
            None
        },
        output: if output {
            Some(client.output(id).await?)
        } else {
            None
        },
        task,
    })
}

async fn agent(client: &Client, id: &str) -> Result<AgentNews, Error> {
    let filter = TaskFilter {
        status: Some(Status::InProgress),
        claimed_by: Some(id.to_owned()),
        limit: Some(HELD),
        ..TaskFilter::default()
    };
    Ok(AgentNews {
        agent: client.get_agent(id).await?,
        standing: allowance::standing(client, id).await?,
        held: client.list_tasks(&filter).await?.items,
    })
}
