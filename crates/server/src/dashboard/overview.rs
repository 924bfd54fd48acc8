//! The first page, and the latest events.

use std::time::Duration;

use adjutant_core::limit::Scope;
use adjutant_core::task::Status;
use adjutant_dashboard::frame::Place;
use adjutant_dashboard::{events, overview};
use adjutant_store::TaskFilter;
use adjutant_wire as wire;
use axum::extract::State;

use super::limits::scope_limits;
use super::{Page, Visit, tasks, trends};
use crate::app::App;
use crate::failure::Failure;
use crate::view;

/// Tasks that run, on the first page.
const RUNNING: usize = 8;
/// Events on the first page.
const FEW_EVENTS: u64 = 12;
/// Events on their own page.
const MANY_EVENTS: u64 = 100;
/// Minutes of the plots on the first page.
const MINUTES: u32 = 60;
/// The first page does not wait for longer until the plots are up to date.
const PATIENCE: Duration = Duration::from_millis(20);

/// `/`.
pub(super) async fn show(State(app): State<App>, visit: Visit) -> Page {
    let (abilities, caller, owned) = (visit.abilities(), visit.caller.clone(), app.clone());
    let load = async move {
        let app = owned;
        let agents = app.fleet(&caller).await?.counts;
        let fleet = if abilities.read {
            Some(scope_limits(&app, &caller, Scope::Fleet).await?)
        } else {
            None
        };
        let filter = TaskFilter {
            status: Some(Status::InProgress),
            limit: RUNNING,
            ..TaskFilter::default()
        };
        trends::catch_up(&app, PATIENCE).await;
        Ok(overview::content(&overview::Overview {
            now: app.handle.now(),
            tasks: app.task_counts().await?,
            agents,
            running: tasks::read(&app, &caller, filter).await?.0,
            fleet,
            plots: app
                .dashboard
                .feed
                .plots(app.handle.now(), MINUTES)
                .into_iter()
                .take(2)
                .collect(),
            events: latest(&app, FEW_EVENTS).await?,
            abilities,
        }))
    };
    visit.answer(&app, "Overview", Place::Overview, load).await
}

/// `/dashboard/events`.
pub(super) async fn show_events(State(app): State<App>, visit: Visit) -> Page {
    let (abilities, owned) = (visit.abilities(), app.clone());
    let load = async move {
        Ok(events::content(&events::Events {
            now: owned.handle.now(),
            events: latest(&owned, MANY_EVENTS).await?,
            abilities,
        }))
    };
    visit.answer(&app, "Events", Place::Events, load).await
}

/// The latest events, newest first.
async fn latest(app: &App, count: u64) -> Result<Vec<wire::Event>, Failure> {
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let events = app
        .handle
        .query(move |reader| {
            let last = reader.last_seq()?;
            reader.events(last.saturating_sub(count), limit)
        })
        .await?;
    Ok(events.iter().rev().map(view::ops::event).collect())
}
