//! Limits: the list of scopes, and one scope.

use std::collections::BTreeSet;
use std::time::Duration;

use adjutant_core::command::Command;
use adjutant_core::limit::Scope;
use adjutant_core::name::ModelName;
use adjutant_core::rejection::Rejection;
use adjutant_dashboard::frame::Place;
use adjutant_dashboard::limits::{Index, ModelRow, ScopePage, ScopeView};
use adjutant_dashboard::{Markup, limits};
use adjutant_wire as wire;
use axum::extract::State;
use futures_util::future::try_join_all;

use super::{PAGE, Page, Visit, fleet, trends};
use crate::access::caller::Caller;
use crate::app::{App, Standing};
use crate::failure::Failure;
use crate::{parse, view};

/// Models that are listed.
const MOST_MODELS: usize = 50;
/// The list does not wait for longer until it is known who has spent.
const PATIENCE: Duration = Duration::from_millis(20);

/// `/dashboard/limits`: of one scope where it is named, else the list.
pub(super) async fn show(State(app): State<App>, visit: Visit) -> Page {
    let (abilities, caller, owned) = (visit.abilities(), visit.caller.clone(), app.clone());
    let Some(name) = visit.params.get("scope").map(|name| name.trim().to_owned()) else {
        let after = fleet::after(&visit.params);
        let load = async move { index(&owned, &caller, after).await };
        return visit.answer(&app, "Limits", Place::Limits, load).await;
    };
    let scope =
        parse::limit::scope(&name).map_err(|rejection| Rejection::field("scope", rejection.message))?;
    let load = async move {
        let standing = standing(&owned, &caller, scope).await?;
        Ok(limits::scope(&ScopePage {
            view: scope_view(&standing),
            limits: shown(&standing),
            abilities,
        }))
    };
    visit.answer(&app, &name, Place::Limits, load).await
}

async fn index(app: &App, caller: &Caller, after: Option<String>) -> Result<Markup, Failure> {
    let fleet = app.fleet(caller).await?;
    let all = &fleet.agents;
    trends::catch_up(app, PATIENCE).await;
    let known = app.dashboard.feed.spenders();
    let mut models: BTreeSet<ModelName> = known.models.into_iter().collect();
    models.extend(all.iter().flat_map(|agent| agent.models.iter().cloned()));
    let more_models = models.len().saturating_sub(MOST_MODELS);
    let models = models.into_iter().take(MOST_MODELS).map(|model| async move {
        let standing = standing(app, caller, Scope::Model(model.clone())).await?;
        Ok::<_, Failure>(ModelRow {
            model: view::limit::model(&model, &standing.policy),
            usage: shown(&standing),
        })
    });
    let begin = after.as_ref().map_or(0, |after| {
        all.partition_point(|agent| agent.id.as_str() <= after.as_str())
    });
    let end = all.len().min(begin + PAGE);
    let next = (end < all.len() && end > begin)
        .then(|| format!("{}?after={}", Place::Limits.path(), all[end - 1].id));
    Ok(limits::index(&Index {
        now: app.handle.now(),
        fleet: scope_limits(app, caller, Scope::Fleet).await?,
        models: try_join_all(models).await?,
        more_models,
        projects: all_limits(app, caller, known.projects.into_iter().map(Scope::Project)).await?,
        agents: fleet::rows(app, caller, &all[begin..end]).await?,
        first: after.map(|_| Place::Limits.path().to_owned()),
        next,
    }))
}

/// What is set and used for a scope.
async fn standing(app: &App, caller: &Caller, scope: Scope) -> Result<Standing, Failure> {
    app.standing(caller.clone(), Command::GetPolicy(scope), None)
        .await
}

fn shown(standing: &Standing) -> wire::ScopeLimits {
    view::limit::scope(&standing.scope, &standing.policy, &standing.counter, standing.now)
}

/// The limits of a scope, and what is used of them.
pub(super) async fn scope_limits(
    app: &App,
    caller: &Caller,
    scope: Scope,
) -> Result<wire::ScopeLimits, Failure> {
    Ok(shown(&standing(app, caller, scope).await?))
}

/// The same of some scopes.
pub(super) async fn all_limits(
    app: &App,
    caller: &Caller,
    scopes: impl Iterator<Item = Scope>,
) -> Result<Vec<wire::ScopeLimits>, Failure> {
    try_join_all(scopes.map(|scope| scope_limits(app, caller, scope))).await
}

fn scope_view(standing: &Standing) -> ScopeView {
    match &standing.scope {
        Scope::Agent(id) => ScopeView::Agent(view::limit::allowance(id, &standing.policy)),
        Scope::Model(model) => ScopeView::Model(view::limit::model(model, &standing.policy)),
        Scope::Repo(repo) => ScopeView::Repo(view::limit::repo(repo, &standing.policy)),
        Scope::Fleet | Scope::Project(_) => ScopeView::Plain,
    }
}
