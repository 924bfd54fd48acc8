//! Questions beside the turns: what people and programs read of what is committed.

use std::sync::Arc;

use adjutant_core::command::AccessToken;
use adjutant_core::event::Event;
use adjutant_core::name::{AgentId, Label, ProjectName, TaskId};
use adjutant_core::task::{Body, Note, Priority, Status, Task, TaskKey, TaskResult};
use adjutant_core::time::Timestamp;
use adjutant_core::webhook::{Delivery, Webhook};

use crate::StoreError;

/// How many of the first pending tasks of a priority are looked at for the one that has been ready for longest: those
/// whose time has not come stand among them, and the look must cost the same however many there are.
pub const MAX_HEADS: usize = 256;

/// A task as it is stored, with what decisions do not need.
#[derive(Clone, Debug)]
pub struct StoredTask {
    /// The decided-upon part.
    pub task: Arc<Task>,
    /// The rest.
    pub details: Details,
}

/// What is read of a task and no decision depends on.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// Title, description, payload, files, dependencies.
    pub body: Arc<Body>,
    /// How the last finished attempt went.
    pub result: Option<TaskResult>,
    /// Why the last failed attempt failed.
    pub fail_reason: Option<String>,
    /// What was remarked, oldest first.
    pub notes: Vec<Note>,
    /// The first hundred tasks that wait for this one.
    pub blockers: Vec<TaskId>,
    /// How many there are.
    pub blockers_count: u32,
}

/// Which tasks are asked for.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// In this state. With `pending` the order is that of dispatch, otherwise newest first.
    pub status: Option<Status>,
    /// This urgent.
    pub priority: Option<Priority>,
    /// Of this project.
    pub project: Option<ProjectName>,
    /// Held by this agent, or by it at the end.
    pub claimed_by: Option<AgentId>,
    /// With all of these labels.
    pub labels: Vec<Label>,
    /// The most tasks to give.
    pub limit: usize,
    /// Go on behind this task of the page before.
    pub after: Option<(Priority, TaskKey)>,
}

/// One page of tasks.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The tasks, in order.
    pub tasks: Vec<StoredTask>,
    /// Where the next page goes on, if there is one.
    pub next: Option<(Priority, TaskKey)>,
}

/// Reads what is committed. Each call sees one consistent state.
pub trait Reader: Send {
    /// One task.
    fn task(&mut self, id: &TaskId) -> Result<Option<StoredTask>, StoreError>;

    /// A page of tasks.
    fn tasks(&mut self, filter: &TaskFilter) -> Result<Page, StoreError>;

    /// What decisions do not need of these tasks, in the order given; nothing for one that does not exist.
    fn details(&mut self, tasks: &[Arc<Task>]) -> Result<Vec<Details>, StoreError>;

    /// Events after `since`, at most `limit`.
    fn events(&mut self, since: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// The events of one task after `since`, at most `limit`.
    fn task_events(&mut self, task: TaskKey, since: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// The latest events of a task whose number is below `before`, the newest first, at most `limit`.
    fn task_events_before(
        &mut self,
        task: TaskKey,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError>;

    /// The newest live output of a task, at most 1 MiB.
    fn output(&mut self, task: TaskKey) -> Result<String, StoreError>;

    /// How many tasks are in each state, in the order of [`Status::ALL`].
    fn counts(&mut self) -> Result<[u64; 6], StoreError>;

    /// Since when the task that has been ready for longest is ready, for each of [`Priority::ALL`]. Of each priority the
    /// first [`MAX_HEADS`] pending tasks are looked at; those whose time has not come are left out.
    fn ready_since(&mut self) -> Result<[Option<Timestamp>; 4], StoreError>;

    /// The number of the last committed event; 0 before the first.
    fn last_seq(&mut self) -> Result<u64, StoreError>;

    /// The agents that a server goes to, in no order. It may name others too: who asks looks at each.
    fn peers(&mut self) -> Result<Vec<AgentId>, StoreError>;

    /// All access tokens, by name.
    fn tokens(&mut self) -> Result<Vec<AccessToken>, StoreError>;

    /// All webhooks, by name.
    fn webhooks(&mut self) -> Result<Vec<Webhook>, StoreError>;

    /// What could not be delivered for a webhook, by the number of its event: those behind `after`, at most `limit`.
    fn deliveries(
        &mut self,
        webhook: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Delivery)>, StoreError>;

    /// The deliveries of a webhook that wait for another try, the earliest first, at most `limit`.
    fn due_deliveries(&mut self, webhook: &str, limit: usize) -> Result<Vec<(u64, Delivery)>, StoreError>;

    /// The secret that attempt tokens are made with: random, made with the store.
    fn secret(&mut self) -> Result<[u8; 32], StoreError>;
}
