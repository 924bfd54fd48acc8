//! Tasks: the core-agentic calls and what adjutant adds to them.

use adjutant_wire::{
    AttemptRef, BatchItem, Claim, Completion, Event, Explanation, NewTask, Output, Task, TaskMessage,
    TaskPatch,
};
use reqwest::Method;

use crate::page::page;
use crate::request::header;
use crate::{Client, Error, Page, TaskFilter};

/// The most events of one request.
pub const MAX_EVENTS: usize = 1_000;

impl Client {
    /// Creates a task. With `idempotency_key` (see [`crate::random_key`]) the call is repeated when the connection
    /// breaks, and never makes a second task.
    pub async fn create_task(&self, task: &NewTask, idempotency_key: Option<&str>) -> Result<Task, Error> {
        self.call(Method::POST, &["api", "tasks"])
            .key(idempotency_key)
            .body(task)
            .json()
            .await
    }

    /// Creates up to 1,000 tasks in one transaction; a bad one fails alone. The answer has their order.
    pub async fn create_tasks(
        &self,
        tasks: &[NewTask],
        idempotency_key: Option<&str>,
    ) -> Result<Vec<BatchItem>, Error> {
        self.call(Method::POST, &["api", "batch", "tasks"])
            .key(idempotency_key)
            .body(tasks)
            .json()
            .await
    }

    /// Reads a task.
    pub async fn get_task(&self, id: &str) -> Result<Task, Error> {
        self.get(&["api", "tasks", id]).await
    }

    /// The first page of the tasks that match: in dispatch order for `pending`, newest first otherwise.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<Page<Task>, Error> {
        let labels = (!filter.labels.is_empty()).then(|| filter.labels.join(","));
        let call = self
            .call(Method::GET, &["api", "tasks"])
            .maybe_query("status", filter.status.map(adjutant_core::task::Status::name))
            .maybe_query(
                "priority",
                filter.priority.map(adjutant_core::task::Priority::name),
            )
            .maybe_query("project", filter.project.as_ref())
            .maybe_query("claimed_by", filter.claimed_by.as_ref())
            .maybe_query("labels", labels)
            .maybe_query("limit", filter.limit.map(|limit| limit.to_string()));
        page(call).await
    }

    /// The page that [`Page::next`] of an earlier page names.
    pub async fn next_tasks(&self, next: &str) -> Result<Page<Task>, Error> {
        page(self.call(Method::GET, &["api", "tasks"]).raw_query(next)).await
    }

    /// Up to `most` tasks that match, over as many pages as it takes.
    pub async fn all_tasks(&self, filter: &TaskFilter, most: usize) -> Result<Vec<Task>, Error> {
        let Page { mut items, mut next } = self.list_tasks(filter).await?;
        while let Some(query) = next.take().filter(|_| items.len() < most) {
            let page = self.next_tasks(&query).await?;
            if page.items.is_empty() {
                break;
            }
            items.extend(page.items);
            next = page.next;
        }
        items.truncate(most);
        Ok(items)
    }

    /// Changes a task: progress, notes, priority and so on.
    pub async fn patch_task(&self, id: &str, patch: &TaskPatch) -> Result<Task, Error> {
        self.call(Method::PATCH, &["api", "tasks", id])
            .body(patch)
            .json()
            .await
    }

    /// Claims a task for `agent_id`, or for the token's name. With `idempotency_key` a claim that is made again is
    /// answered as the first time.
    pub async fn claim_task(
        &self,
        id: &str,
        agent_id: Option<&str>,
        idempotency_key: Option<&str>,
    ) -> Result<TaskMessage, Error> {
        let claim = Claim {
            agent_id: agent_id.map(str::to_owned),
        };
        self.call(Method::POST, &["api", "tasks", id, "claim"])
            .key(idempotency_key)
            .body(&claim)
            .json()
            .await
    }

    /// Reports the end of an attempt.
    pub async fn complete_task(&self, id: &str, completion: &Completion) -> Result<TaskMessage, Error> {
        self.post(&["api", "tasks", id, "complete"], completion).await
    }

    /// Reports the ends of up to 1,000 attempts in one transaction; each needs its `id`.
    pub async fn complete_tasks(&self, completions: &[Completion]) -> Result<Vec<BatchItem>, Error> {
        self.post(&["api", "batch", "complete"], completions).await
    }

    /// Cancels a task, with `cascade` also all that wait for it.
    pub async fn cancel_task(&self, id: &str, cascade: bool) -> Result<Task, Error> {
        self.call(Method::POST, &["api", "tasks", id, "cancel"])
            .maybe_query("cascade", cascade.then_some("true"))
            .json()
            .await
    }

    /// Starts a task that ended without success afresh.
    pub async fn retry_task(&self, id: &str) -> Result<Task, Error> {
        self.call(Method::POST, &["api", "tasks", id, "retry"])
            .json()
            .await
    }

    /// Gives an attempt back, with no failure counted.
    pub async fn release_task(&self, id: &str, attempt: &AttemptRef) -> Result<Task, Error> {
        self.post(&["api", "tasks", id, "release"], attempt).await
    }

    /// Keeps a waiting task from being dispatched.
    pub async fn hold_task(&self, id: &str) -> Result<Task, Error> {
        self.call(Method::POST, &["api", "tasks", id, "hold"])
            .json()
            .await
    }

    /// Ends a hold.
    pub async fn unhold_task(&self, id: &str) -> Result<Task, Error> {
        self.call(Method::POST, &["api", "tasks", id, "unhold"])
            .json()
            .await
    }

    /// Appends to the live output of an attempt.
    pub async fn append_output(&self, id: &str, output: &Output) -> Result<(), Error> {
        self.call(Method::POST, &["api", "tasks", id, "output"])
            .body(output)
            .done()
            .await
    }

    /// The live output of a task: the newest mebibyte.
    pub async fn output(&self, id: &str) -> Result<String, Error> {
        let answer = self
            .call(Method::GET, &["api", "tasks", id, "output"])
            .answer()
            .await?;
        let is_json =
            header(&answer.headers, "content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if is_json {
            return answer.json::<Output>().map(|output| output.text);
        }
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// What each agent lacks for a task.
    pub async fn explain(&self, id: &str) -> Result<Explanation, Error> {
        self.get(&["api", "tasks", id, "explain"]).await
    }

    /// What happened to a task, oldest first.
    pub async fn task_events(&self, id: &str) -> Result<Vec<Event>, Error> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let since = events.last().map_or(0, |event| event.seq);
            let page = self.task_events_after(id, since).await?;
            let last = page.len() < MAX_EVENTS;
            events.extend(page);
            if last {
                return Ok(events);
            }
        }
    }

    /// The first things that happened to a task after the event `since`, oldest first: [`MAX_EVENTS`] at most.
    pub async fn task_events_after(&self, id: &str, since: u64) -> Result<Vec<Event>, Error> {
        self.call(Method::GET, &["api", "tasks", id, "events"])
            .query("since", since.to_string())
            .query("limit", MAX_EVENTS.to_string())
            .json()
            .await
    }
}
