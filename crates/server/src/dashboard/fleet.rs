//! Agents: a page of them, and one.

use std::sync::Arc;

use adjutant_core::agent::{Agent, AgentStatus};
use adjutant_core::command::{Answer, Command};
use adjutant_core::limit::Scope;
use adjutant_core::name::AgentId;
use adjutant_dashboard::frame::Place;
use adjutant_dashboard::{agent, fleet};
use adjutant_store::TaskFilter;
use axum::extract::State;
use futures_util::future::try_join_all;

use super::tasks::{pages, position};
use super::{PAGE, Page, Visit, tasks};
use crate::access::caller::Caller;
use crate::app::{App, unexpected};
use crate::extract::AgentPath;
use crate::failure::Failure;
use crate::query::Params;
use crate::view;

/// Tasks of an agent's page.
const TASKS: usize = 25;

/// Which agents a page shows.
#[derive(Clone, Default)]
pub(super) struct Selection {
    status: Option<AgentStatus>,
    search: String,
    /// The last agent of the page before.
    after: Option<String>,
}

/// `/dashboard/fleet`.
pub(super) async fn show_fleet(State(app): State<App>, visit: Visit) -> Page {
    let selection = Selection {
        status: visit
            .params
            .choice("status", &AgentStatus::ALL, AgentStatus::name)?,
        search: visit.params.get("search").unwrap_or_default().to_owned(),
        after: after(&visit.params),
    };
    let (caller, owned) = (visit.caller.clone(), app.clone());
    let load = async move {
        let app = owned;
        let all = app.fleet(&caller).await?;
        let (chosen, found) = choose(&all.agents, &selection);
        let next = (chosen.len() > PAGE).then(|| address(&selection, Some(&chosen[PAGE - 1].id)));
        Ok(fleet::content(&fleet::Fleet {
            now: app.handle.now(),
            counts: all.counts,
            status: selection.status,
            search: selection.search.clone(),
            found: u64::try_from(found).unwrap_or(u64::MAX),
            agents: rows(&app, &caller, &chosen[..chosen.len().min(PAGE)]).await?,
            first: selection.after.as_ref().map(|_| address(&selection, None)),
            next,
        }))
    };
    visit.answer(&app, "Fleet", Place::Fleet, load).await
}

/// The last agent of the page before, by its id.
pub(super) fn after(params: &Params) -> Option<String> {
    params.get("after").map(str::to_owned)
}

/// Those of a page and one more, and how many there are on all pages.
fn choose(all: &[Arc<Agent>], selection: &Selection) -> (Vec<Arc<Agent>>, usize) {
    let search = selection.search.to_lowercase();
    let found = |agent: &Agent| {
        selection.status.is_none_or(|status| agent.status() == status)
            && (search.is_empty()
                || agent.id.as_str().to_lowercase().contains(&search)
                || agent.name.to_lowercase().contains(&search)
                || agent
                    .capabilities
                    .iter()
                    .any(|label| label.as_str().to_lowercase().contains(&search)))
    };
    let (mut chosen, mut count) = (Vec::new(), 0);
    for agent in all.iter().filter(|agent| found(agent)) {
        count += 1;
        let is_behind = selection
            .after
            .as_ref()
            .is_none_or(|after| agent.id.as_str() > after.as_str());
        if is_behind && chosen.len() <= PAGE {
            chosen.push(Arc::clone(agent));
        }
    }
    (chosen, count)
}

fn address(selection: &Selection, after: Option<&AgentId>) -> String {
    let mut query = Vec::new();
    if let Some(status) = selection.status {
        query.push(format!("status={}", status.name()));
    }
    if !selection.search.is_empty() {
        query.push(format!(
            "search={}",
            adjutant_dashboard::encoded(&selection.search)
        ));
    }
    // An id needs no encoding.
    query.extend(after.map(|id| format!("after={id}")));
    let joint = if query.is_empty() { "" } else { "?" };
    format!("{}{joint}{}", Place::Fleet.path(), query.join("&"))
}

/// Agents with their allowances.
pub(super) async fn rows(
    app: &App,
    caller: &Caller,
    agents: &[Arc<Agent>],
) -> Result<Vec<fleet::Row>, Failure> {
    try_join_all(agents.iter().map(|agent| row(app, caller, agent))).await
}

async fn row(app: &App, caller: &Caller, agent: &Agent) -> Result<fleet::Row, Failure> {
    let command = Command::GetPolicy(Scope::Agent(agent.id.clone()));
    let standing = app.standing(caller.clone(), command, None).await?;
    Ok(fleet::Row {
        agent: view::agent::agent(agent),
        allowance: view::limit::allowance(&agent.id, &standing.policy),
        usage: view::limit::scope(&standing.scope, &standing.policy, &standing.counter, standing.now),
    })
}

/// `/dashboard/agents/{id}`.
pub(super) async fn show_agent(
    State(app): State<App>,
    path: Result<AgentPath, Failure>,
    visit: Visit,
) -> Page {
    let AgentPath(id) = path?;
    let after = position(&visit.params)?;
    let (abilities, caller, owned) = (visit.abilities(), visit.caller.clone(), app.clone());
    let title = id.to_string();
    let load = async move {
        let app = owned;
        let found = match app
            .ask(caller.actor.clone(), Command::GetAgent(id.clone()))
            .await?
        {
            Answer::Agent(agent) => agent,
            other => return Err(unexpected(&other)),
        };
        let row = row(&app, &caller, &found).await?;
        let filter = TaskFilter {
            claimed_by: Some(id.clone()),
            limit: TASKS,
            after,
            ..TaskFilter::default()
        };
        let (held, next) = tasks::read(&app, &caller, filter).await?;
        let (first, next) = pages(&format!("/dashboard/agents/{id}"), after, next);
        Ok(agent::content(&agent::Agent {
            now: app.handle.now(),
            agent: row.agent,
            allowance: row.allowance,
            usage: row.usage,
            tasks: held,
            first,
            next,
            abilities,
        }))
    };
    visit.answer(&app, &title, Place::Fleet, load).await
}
