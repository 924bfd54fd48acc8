//! Lists of tasks: pages in the words of A2A.
//!
//! A state of the protocol may be several of ours: they are listed one after the other, and a page token says in which
//! one it goes on. What no store finds by itself (a context, a time of change) is looked for page by page, within a
//! bound: a page may then be short, or empty, and still have a next one.

use ::a2a::{ListTasksResponse, TaskState};
use adjutant_core::rejection::Rejection;
use adjutant_core::task::{Priority, Status, TaskKey};
use adjutant_core::time::Timestamp;
use adjutant_store::{StoredTask, TaskFilter};
use serde_json::Value;

use super::message::context_of;
use super::translate::{self, Show};
use crate::access::caller::Caller;
use crate::access::sight::Sight;
use crate::access::table::AGENT;
use crate::app::App;
use crate::failure::Failure;
use crate::page;
use crate::query::Params;

/// Tasks of a page when the request names no number.
const DEFAULT_PAGE: usize = 50;
/// The most tasks of a page: what the protocol allows.
const MAX_PAGE: usize = 100;
/// So many tasks are looked at for one page: what is rare is found over several requests, none of which holds up others.
const MAX_LOOKED_AT: usize = 1_000;

/// The most messages that can be asked for: what the protocol's type of number holds.
const MAX_HISTORY: usize = 2_147_483_647;

/// What is to be listed.
#[derive(Debug)]
pub(super) struct Listing {
    /// One after the other; none stands for all tasks.
    stages: Vec<Option<Status>>,
    place: Place,
    size: usize,
    context: Option<String>,
    changed_after: Option<Timestamp>,
    show: Show,
}

/// Where a page begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Place {
    stage: usize,
    after: Option<(Priority, TaskKey)>,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (stage, after) = text.split_once('-')?;
        let after = match after {
            "" => None,
            after => {
                let (rank, key) = after.split_once('.')?;
                Some((
                    Priority::from_rank(rank.parse().ok()?)?,
                    TaskKey(key.parse().ok()?),
                ))
            }
        };
        Some(Self {
            stage: stage.parse().ok()?,
            after,
        })
    }

    fn token(self) -> String {
        match self.after {
            Some((priority, key)) => format!("{}-{}.{}", self.stage, priority.rank(), key.0),
            None => format!("{}-", self.stage),
        }
    }
}

/// How many messages of its history a request wants to see of a task; none is all.
pub(super) fn history_length(params: &Params) -> Result<Option<usize>, Rejection> {
    params.number("historyLength", 0..=MAX_HISTORY)
}

impl Listing {
    pub(super) fn parse(params: &Params) -> Result<Self, Rejection> {
        let state = params.get("status").map(state).transpose()?;
        let token = params.get("pageToken");
        let place = token.map(|text| {
            Place::parse(text)
                .ok_or_else(|| Rejection::field("pageToken", "must be the nextPageToken of the page before"))
        });
        let changed_after = params.get("statusTimestampAfter").map(|text| {
            text.parse::<Timestamp>()
                .map_err(|why| Rejection::field("statusTimestampAfter", why))
        });
        Ok(Self {
            stages: match state {
                None | Some(TaskState::Unspecified) => vec![None],
                Some(state) => translate::statuses(&state).into_iter().map(Some).collect(),
            },
            place: place.transpose()?.unwrap_or_default(),
            size: params.number("pageSize", 1..=MAX_PAGE)?.unwrap_or(DEFAULT_PAGE),
            context: params.get("contextId").map(str::to_owned),
            changed_after: changed_after.transpose()?,
            show: Show {
                history: history_length(params)?,
                artifacts: params.flag("includeArtifacts")?,
            },
        })
    }

    fn wants(&self, stored: &StoredTask) -> bool {
        let task = &stored.task;
        let in_context = self
            .context
            .as_deref()
            .is_none_or(|context| context_of(task.id.as_str()) == context);
        in_context && self.changed_after.is_none_or(|time| task.updated_at > time)
    }

    /// The page.
    pub(super) async fn read(self, app: &App, caller: &Caller) -> Result<ListTasksResponse, Failure> {
        let sight = Sight::of(app, caller).await?;
        // What is rare is looked for in whole pages.
        let step = |found: usize| {
            if self.is_counted(caller) {
                self.size - found
            } else {
                MAX_PAGE
            }
        };
        let (mut found, mut looked_at, mut bytes, mut place) = (Vec::new(), 0, 0, self.place);
        while let Some(status) = self.stages.get(place.stage) {
            let filter = TaskFilter {
                status: *status,
                limit: step(found.len()),
                after: place.after,
                ..TaskFilter::default()
            };
            let page = app
                .handle
                .query(move |reader| page::read(reader, filter, page::MAX_BYTES))
                .await?;
            looked_at += page.tasks.len();
            let mut tasks = page.tasks.into_iter();
            for stored in tasks.by_ref() {
                if self.wants(&stored) && sight.sees(&stored.task) {
                    place.after = Some((stored.task.priority, stored.task.key));
                    bytes += page::weight(&stored);
                    found.push(stored);
                    if found.len() == self.size {
                        break;
                    }
                }
            }
            // Unless the page was full before its end, all of it was looked at.
            if tasks.next().is_none() {
                place = match page.next {
                    Some(after) => Place {
                        after: Some(after),
                        ..place
                    },
                    None => Place {
                        stage: place.stage + 1,
                        after: None,
                    },
                };
            }
            if found.len() == self.size || looked_at >= MAX_LOOKED_AT || bytes >= page::MAX_BYTES {
                break;
            }
        }
        let total = self.total(app, caller, found.len()).await?;
        let tasks = app.present_stored(&caller.actor, found).await?;
        let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        Ok(ListTasksResponse {
            page_size: number(self.size),
            total_size: number(total),
            tasks: tasks
                .iter()
                .map(|task| translate::task(task, self.show))
                .collect(),
            next_page_token: self
                .stages
                .get(place.stage)
                .map(|_| place.token())
                .unwrap_or_default(),
        })
    }

    /// Whether the store knows how many tasks there are of what is listed, because the state alone says which.
    fn is_counted(&self, caller: &Caller) -> bool {
        self.context.is_none() && self.changed_after.is_none() && caller.through != AGENT
    }

    /// How many tasks there are in all. Where nobody has counted them, those that were found.
    async fn total(&self, app: &App, caller: &Caller, found: usize) -> Result<usize, Failure> {
        if !self.is_counted(caller) {
            return Ok(found);
        }
        let counts = app.handle.query(|reader| reader.counts()).await?;
        let counted = Status::ALL
            .iter()
            .zip(counts)
            .filter(|(status, _)| self.stages.contains(&None) || self.stages.contains(&Some(**status)));
        let total: u64 = counted.map(|(_, count)| count).sum();
        Ok(usize::try_from(total).unwrap_or(usize::MAX))
    }
}

fn state(name: &str) -> Result<TaskState, Rejection> {
    serde_json::from_value(Value::from(name)).map_err(|_| {
        Rejection::field(
            "status",
            "must be a state such as TASK_STATE_SUBMITTED, TASK_STATE_WORKING or TASK_STATE_COMPLETED",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(query: &str) -> Result<Listing, Rejection> {
        Params::parse(Some(query)).and_then(|params| Listing::parse(&params))
    }

    #[test]
    fn a_state_is_listed_as_those_of_ours_that_it_stands_for() {
        for (query, stages) in [
            ("", vec![None]),
            ("status=TASK_STATE_UNSPECIFIED", vec![None]),
            (
                "status=TASK_STATE_SUBMITTED",
                vec![Some(Status::Pending), Some(Status::Blocked)],
            ),
            ("status=TASK_STATE_CANCELED", vec![Some(Status::Cancelled)]),
            ("status=TASK_STATE_INPUT_REQUIRED", vec![]),
        ] {
            assert_eq!(listing(query).unwrap().stages, stages, "{query}");
        }
    }

    #[test]
    fn page_tokens_are_read_as_they_were_written() {
        for place in [
            Place {
                stage: 1,
                after: None,
            },
            Place {
                stage: 0,
                after: Some((Priority::Low, TaskKey(-7))),
            },
        ] {
            assert_eq!(Place::parse(&place.token()), Some(place));
        }
    }

    #[test]
    fn what_a_list_cannot_be_is_refused_by_name() {
        for (query, name) in [
            ("status=pending", "status"),
            ("pageSize=0", "pageSize"),
            ("pageSize=101", "pageSize"),
            ("pageToken=x", "pageToken"),
            ("pageToken=0-9.1", "pageToken"),
            ("pageToken=-1-", "pageToken"),
            ("historyLength=-1", "historyLength"),
            ("includeArtifacts=perhaps", "includeArtifacts"),
            ("statusTimestampAfter=yesterday", "statusTimestampAfter"),
        ] {
            let refused = listing(query).unwrap_err();
            assert!(refused.message.starts_with(name), "{query}: {}", refused.message);
        }
    }
}
