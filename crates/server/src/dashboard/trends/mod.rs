//! Throughput, latency and cost.

mod feed;
mod histogram;
mod recent;
mod sums;

use std::sync::Arc;
use std::time::Duration;

use adjutant_core::limit::Scope;
use adjutant_dashboard::frame::Place;
use adjutant_dashboard::trends;
use axum::extract::State;

pub(super) use self::feed::Feed;
use super::limits::{all_limits, scope_limits};
use super::{Page, Visit};
use crate::app::App;

/// How many minutes the plots may reach back.
const CHOICES: &[u32] = &[30, 60, 180];
/// How many they do when nothing is said.
const USUAL: u32 = 60;
/// The page does not wait for longer until it is up to date.
const PATIENCE: Duration = Duration::from_millis(30);

/// Follows events up to now; goes on with it when that takes long.
pub(super) async fn catch_up(app: &App, patience: Duration) {
    let (feed, handle) = (Arc::clone(&app.dashboard.feed), app.handle.clone());
    let reading = tokio::spawn(async move { feed.catch_up(&handle).await });
    // What is late is there the next time.
    let _ = tokio::time::timeout(patience, reading).await;
}

/// `/dashboard/trends`.
pub(super) async fn show(State(app): State<App>, visit: Visit) -> Page {
    let minutes = visit
        .params
        .number("minutes", CHOICES[0]..=CHOICES[CHOICES.len() - 1])?
        .unwrap_or(USUAL);
    let (caller, owned) = (visit.caller.clone(), app.clone());
    let load = async move {
        let app = owned;
        catch_up(&app, PATIENCE).await;
        let feed = &app.dashboard.feed;
        let spenders = feed.spenders();
        Ok(trends::content(&trends::Trends {
            minutes,
            choices: CHOICES,
            plots: feed.plots(app.handle.now(), minutes),
            known_since: spenders.known_since.unwrap_or_else(|| app.handle.now()),
            has_gaps: spenders.has_gaps,
            fleet: scope_limits(&app, &caller, Scope::Fleet).await?,
            days: spenders.days,
            projects: all_limits(&app, &caller, spenders.projects.into_iter().map(Scope::Project)).await?,
            models: all_limits(&app, &caller, spenders.models.into_iter().map(Scope::Model)).await?,
            agents: all_limits(&app, &caller, spenders.agents.into_iter().map(Scope::Agent)).await?,
        }))
    };
    visit.answer(&app, "Trends", Place::Trends, load).await
}
