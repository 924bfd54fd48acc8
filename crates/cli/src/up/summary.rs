//! The summary: what was done, by whom, and what was not.

use std::collections::BTreeMap;
use std::time::Duration;

use adjutant_client::{Client, TaskFilter};
use adjutant_core::money::Money;
use adjutant_core::task::Status;
use adjutant_core::time::Span;
use serde::Serialize;

use super::tally::{AgentTally, Counts, Tally};
use crate::failure::Outcome;
use crate::table::Table;
use crate::text::{dollars, length, number};

/// So many tasks that were not completed are told one by one.
const MOST_TOLD: usize = 1_000;
/// So many of them are shown to people.
const MOST_SHOWN: usize = 20;

/// What was done, by whom, and what was not.
#[derive(Serialize, Debug)]
pub(crate) struct Summary {
    /// Whether every task of the store is completed.
    pub(crate) complete: bool,
    #[serde(rename = "seconds")]
    took: f64,
    tasks: Counts,
    agents: BTreeMap<String, AgentTally>,
    dead_letters: Vec<Left>,
    cancelled: Vec<Left>,
    waiting: Vec<Left>,
}

/// A task that was not completed.
#[derive(Serialize, Debug)]
struct Left {
    id: String,
    title: String,
    status: &'static str,
    reason: String,
}

impl Summary {
    /// Asks the server what is left and puts it together with the tally.
    pub(crate) async fn gather(client: &Client, tally: &Tally, took: Duration) -> Outcome<Self> {
        let status = client.status().await?;
        let counts = Counts::of(&status.tasks);
        let mut waiting = Vec::new();
        for state in [Status::InProgress, Status::Pending, Status::Blocked] {
            waiting.extend(left(client, state).await?);
        }
        Ok(Self {
            complete: counts.all() == counts.completed,
            took: took.as_secs_f64(),
            tasks: counts,
            agents: tally.agents().clone(),
            dead_letters: left(client, Status::Failed).await?,
            cancelled: left(client, Status::Cancelled).await?,
            waiting,
        })
    }

    /// The same for people.
    pub(crate) fn text(&self) -> String {
        let counts = &self.tasks;
        let took = Span::from_micros(
            i64::try_from(Duration::from_secs_f64(self.took).as_micros()).unwrap_or(i64::MAX),
        );
        let mut text = format!(
            "{} of {} tasks completed, {} failed, {} cancelled, {} waiting; took {}\n\n",
            number(counts.completed),
            number(counts.all()),
            number(counts.failed),
            number(counts.cancelled),
            number(counts.open),
            length(took)
        );
        text += &self.agent_table().to_string();
        for (title, left, all) in [
            ("Dead letters", &self.dead_letters, counts.failed),
            ("Cancelled", &self.cancelled, counts.cancelled),
            ("Still waiting", &self.waiting, counts.open),
        ] {
            text += &section(title, left, all);
        }
        text
    }

    fn agent_table(&self) -> Table {
        let mut table = Table::new(&["AGENT", ">JOBS", ">FAILED", ">TOKENS", ">COST", ">BUSY"]);
        let mut sum = AgentTally::default();
        for (id, one) in &self.agents {
            table.row(cells(id, one));
            sum.jobs += one.jobs;
            sum.failures += one.failures;
            sum.tokens += one.tokens;
            sum.cost += one.cost;
            sum.busy = sum.busy + one.busy;
        }
        table.row(cells("together", &sum));
        table
    }
}

fn cells(name: &str, tally: &AgentTally) -> [String; 6] {
    [
        name.to_owned(),
        number(tally.jobs),
        number(tally.failures),
        number(tally.tokens),
        if tally.cost == Money::ZERO {
            "-".to_owned()
        } else {
            dollars(tally.cost)
        },
        length(tally.busy),
    ]
}

fn section(title: &str, left: &[Left], all: u64) -> String {
    if left.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["ID", "TITLE", "REASON"]);
    for one in left.iter().take(MOST_SHOWN) {
        table.row([one.id.clone(), one.title.clone(), one.reason.clone()]);
    }
    let more = all.saturating_sub(left.len().min(MOST_SHOWN) as u64);
    let more = if more > 0 {
        format!("and {} more\n", number(more))
    } else {
        String::new()
    };
    format!("\n{title}:\n{table}{more}")
}

async fn left(client: &Client, status: Status) -> Outcome<Vec<Left>> {
    let filter = TaskFilter {
        status: Some(status),
        limit: u32::try_from(MOST_TOLD).ok(),
        ..TaskFilter::default()
    };
    let page = client.list_tasks(&filter).await?;
    Ok(page
        .items
        .into_iter()
        .map(|task| Left {
            reason: match (&task.waiting, task.fail_reason) {
                (Some(waiting), _) => format!("{}: {}", waiting.reason, waiting.detail),
                (None, Some(reason)) => reason,
                (None, None) => String::new(),
            },
            id: task.id,
            title: task.title,
            status: task.status.name(),
        })
        .collect())
}
