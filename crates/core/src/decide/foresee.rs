//! Foresight: rows that requests are sure to need, told before they are decided.
//!
//! No rule hangs on it. Where a store is far away each question costs a journey, and what is asked for at once is
//! locked in one order by everybody, so that no two turns wait for each other.

use crate::command::{Command, Completion, DeliveryReport, NewWebhook, Request};
use crate::limit::Scope;
use crate::name::AgentId;
use crate::rejection::Rejection;
use crate::set::rows::{ReplayKey, Wanted};

/// What a turn with these requests is to begin with. Nothing when it may well need nothing.
pub fn foresee(requests: &[Request]) -> Wanted {
    let mut wanted = Wanted::default();
    for request in requests {
        if let Some(key) = &request.idempotency {
            wanted.idempotency.insert(ReplayKey {
                token: key.token.clone(),
                key: key.key.clone(),
            });
        }
        command(&mut wanted, &request.command);
    }
    wanted
}

fn command(wanted: &mut Wanted, command: &Command) {
    match command {
        Command::Submit { tasks, .. } => {
            for task in tasks.iter().flatten() {
                if !task.fresh_id {
                    wanted.task_ids.insert(task.id.clone());
                }
                wanted.task_ids.extend(task.body.dependencies.iter().cloned());
                wanted.scopes.extend(task.project.clone().map(Scope::Project));
                wanted.scopes.extend(task.repo.clone().map(Scope::Repo));
                wanted.scopes.insert(Scope::Fleet);
                wanted.locks.extend(task.locks.iter().cloned());
                wanted.roomy = true;
            }
        }
        Command::Complete { completions, .. } => complete(wanted, completions.iter()),
        Command::Sync(sync) => {
            agent(wanted, &sync.agent);
            wanted
                .task_ids
                .extend(sync.done.iter().map(|done| done.id.clone()));
            let running = sync.running.iter().flatten();
            wanted.task_ids.extend(running.map(|running| running.id.clone()));
        }
        Command::Patch(id, _)
        | Command::Cancel { id, .. }
        | Command::Retry(id)
        | Command::Hold(id)
        | Command::Unhold(id)
        | Command::Claim { id, agent: None } => {
            wanted.task_ids.insert(id.clone());
        }
        Command::Claim { id, agent: Some(by) } => {
            wanted.task_ids.insert(id.clone());
            agent(wanted, by);
        }
        Command::Release { id, agent: by, .. } | Command::Output { id, agent: by, .. } => {
            wanted.task_ids.insert(id.clone());
            wanted.agents.extend(by.clone());
        }
        Command::Register(new) => agent(wanted, &new.id),
        Command::Deregister(id)
        | Command::Adopt { agent: id, .. }
        | Command::Abandon { agent: id, .. }
        | Command::Drain(id)
        | Command::Undrain(id)
        | Command::Lift(id)
        | Command::WaitOver(id, _) => {
            wanted.agents.insert(id.clone());
        }
        Command::SetPolicy(scope, _) | Command::Reset(scope) => {
            wanted.scopes.insert(scope.clone());
        }
        Command::Pass => {
            wanted.queues = true;
            wanted.roomy = true;
            wanted.scopes.insert(Scope::Fleet);
        }
        Command::AddWebhook(NewWebhook { name, .. })
        | Command::RemoveWebhook(name)
        | Command::ResumeWebhook(name)
        | Command::LeaseWebhook { name, .. }
        | Command::LeaveWebhook { name, .. }
        | Command::SettleDeliveries(DeliveryReport { name, .. })
        | Command::RetryDeliveries { name, .. } => {
            wanted.webhooks.insert(name.clone());
        }
        Command::Report(_)
        | Command::PutToken(_)
        | Command::RevokeToken(_)
        | Command::View(_)
        | Command::Explain(_)
        | Command::GetAgent(_)
        | Command::ListAgents { .. }
        | Command::GetPolicy(_)
        | Command::Check { .. }
        | Command::FleetStatus
        | Command::Tick
        | Command::News(_) => {}
    }
}

fn agent(wanted: &mut Wanted, id: &AgentId) {
    wanted.agents.insert(id.clone());
    wanted.scopes.insert(Scope::Agent(id.clone()));
    wanted.scopes.insert(Scope::Fleet);
}

fn complete<'a>(wanted: &mut Wanted, completions: impl Iterator<Item = &'a Result<Completion, Rejection>>) {
    for completion in completions.flatten() {
        wanted.task_ids.insert(completion.id.clone());
        if let Some(by) = &completion.agent {
            agent(wanted, by);
        }
    }
}
