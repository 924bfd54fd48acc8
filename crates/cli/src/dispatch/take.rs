//! Taking: tasks that wait there are claimed for agents that have room here.

use adjutant_client::{Error, Page, TaskFilter};
use adjutant_core::name::AgentId;
use adjutant_core::task::Status;
use adjutant_wire::Task;
use tokio::time::Instant;

use super::fleet::Fleet;
use super::{Charge, Dispatch, Notice, PASSED_OVER_FOR, mirror};

/// Tasks of one page of those that wait there.
const PAGE: u32 = 100;
/// Pages that are looked through in a round: what nobody here can do may stand in front.
const MAX_PAGES: usize = 50;

impl Dispatch {
    /// Claims what waits there, in its order, until nobody has room or nothing is left.
    pub(super) async fn take(&mut self) -> Result<(), Error> {
        let agents = self.here.list_agents(None, &[]).await?;
        let about = self.charges.values().filter(|charge| !charge.is_started);
        let mut fleet = Fleet::new(&agents, about.map(|charge| charge.agent.as_str()));
        let mut page: Option<String> = None;
        for _ in 0..MAX_PAGES {
            if fleet.is_full() {
                break;
            }
            let Page { items, next } = match page {
                None => {
                    let filter = TaskFilter {
                        status: Some(Status::Pending),
                        limit: Some(PAGE),
                        ..TaskFilter::default()
                    };
                    self.there.list_tasks(&filter).await?
                }
                Some(next) => self.there.next_tasks(&next).await?,
            };
            for task in &items {
                if fleet.is_full() {
                    return Ok(());
                }
                self.try_to_take(task, &mut fleet).await?;
            }
            page = next;
            if page.is_none() || items.is_empty() {
                break;
            }
        }
        Ok(())
    }

    async fn try_to_take(&mut self, task: &Task, fleet: &mut Fleet) -> Result<(), Error> {
        // Not every server lists by status.
        if task.status != Status::Pending || self.charges.contains_key(&task.id) || self.is_passed_over(task)
        {
            return Ok(());
        }
        let Some(agent) = fleet.choose(task, &self.here).await? else {
            return Ok(());
        };
        let mirror = match self.source.next(task, &self.here).await {
            Ok(mirror) => mirror,
            Err(error) if error.code() == Some(422) => {
                self.pass_over(task, &error);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.claim(task, &mirror, &agent).await? {
            fleet.load(&agent);
        }
        Ok(())
    }

    /// Claims a task there and lets go of its mirror. Whether it was to be had.
    async fn claim(&mut self, task: &Task, mirror: &Task, agent: &AgentId) -> Result<bool, Error> {
        let key = mirror::claim_key(mirror);
        let claimed = match self
            .there
            .claim_task(&task.id, Some(agent.as_str()), Some(&key))
            .await
        {
            Ok(answer) => answer.task,
            Err(error) if matches!(error.code(), Some(404 | 409 | 422)) => {
                if !mirror::is_let_go(mirror) {
                    mirror::cancel(&mirror.id, &self.here).await?;
                }
                self.pass_over(task, &error);
                return Ok(false);
            }
            // The mirror stays for the next time.
            Err(error) if error.code() == Some(429) => {
                self.pass_over(task, &error);
                return Ok(false);
            }
            // Whether it was claimed is not known: the next round asks.
            Err(error) => return Err(error),
        };
        self.charge(&claimed, mirror, agent.as_str());
        if !mirror::is_let_go(mirror) {
            mirror::let_go(&mirror.id, &self.here).await?;
        }
        (self.tell)(Notice::Claimed {
            task: task.id.clone(),
            agent: agent.to_string(),
        });
        Ok(true)
    }

    fn is_passed_over(&self, task: &Task) -> bool {
        self.passed_over
            .get(&task.id)
            .is_some_and(|(changed, until)| *changed == task.updated_at && Instant::now() < *until)
    }

    fn pass_over(&mut self, task: &Task, why: &Error) {
        let now = Instant::now();
        self.passed_over.retain(|_, (_, until)| now < *until);
        self.passed_over
            .insert(task.id.clone(), (task.updated_at, now + PASSED_OVER_FOR));
        (self.tell)(Notice::Lost {
            task: task.id.clone(),
            why: why.to_string(),
        });
    }

    /// Remembers a task that is claimed there.
    pub(super) fn charge(&mut self, task: &Task, mirror: &Task, agent: &str) {
        self.charges.insert(
            task.id.clone(),
            Charge {
                mirror: mirror.id.clone(),
                agent: agent.to_owned(),
                attempt: (task.attempt > 0).then_some(task.attempt),
                is_started: mirror.status == Status::InProgress,
                notes: 0,
            },
        );
    }
}
