//! The dashboard: pages for people, served from what the API serves from.
//!
//! A handler loads what a page shows and has `adjutant-dashboard` render it. What is between the frame's navigation and
//! the end of a page is its content: it is rendered once for everyone who may see the same ([`contents`]), and browsers
//! fetch it again when the [`pulse`] tells them that something has changed, once in a second at most.
//!
//! # Not here
//! What pages look like: `adjutant-dashboard`. What buttons do: the API. Signing in: [`crate::routes::sign_in`].

mod api;
mod contents;
mod fleet;
mod limits;
mod overview;
mod pulse;
mod steady;
mod tasks;
mod trends;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use adjutant_core::agent::{Agent, AgentStatus};
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_dashboard::assets::{self, Asset};
use adjutant_dashboard::frame::{self, Place, Viewer};
use adjutant_dashboard::{Abilities, Markup, sign_in};
use adjutant_engine::Handle;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use tokio_util::sync::CancellationToken;

use self::contents::{Contents, Need};
use self::pulse::Pulse;
use self::steady::Steady;
use self::trends::Feed;
use crate::access::caller::Caller;
use crate::access::table::{READ, Rights, SUBMIT};
use crate::app::App;
use crate::failure::Failure;
use crate::query::Params;
use crate::reply;
use crate::view::agent::by_status;

/// Rows of a page.
const PAGE: usize = 50;
/// The header by which the script asks for the content of a page alone, and is told that there is more to come.
const PART: HeaderName = HeaderName::from_static("adjutant-part");
/// Its value when what others saw a moment ago will do.
const SHARED: &str = "content";

/// What the page says that a sign-in link opens, until its code was looked at.
const NO_CODE: &str = "This page needs a sign-in link.";

/// What open dashboards share.
pub(crate) struct Dashboard {
    contents: Contents,
    pulse: Pulse,
    feed: Arc<Feed>,
    counts: Steady<[u64; 6]>,
    fleet: Steady<Arc<Fleet>>,
}

/// All agents, and how many are in each state.
struct Fleet {
    /// By id.
    agents: Vec<Arc<Agent>>,
    /// In the order of [`AgentStatus::ALL`].
    counts: [u64; AgentStatus::ALL.len()],
}

impl Fleet {
    /// Counted once for all pages: there may be many of them.
    fn of(agents: Vec<Arc<Agent>>) -> Self {
        let counts = by_status(&agents);
        Self { agents, counts }
    }
}

impl Dashboard {
    /// Starts to feel for changes.
    pub(crate) fn start(handle: &Handle, shutdown: &CancellationToken) -> Self {
        let feed = Arc::new(Feed::default());
        let (followed, handle_of_feed, end) = (Arc::clone(&feed), handle.clone(), shutdown.clone());
        tokio::spawn(async move { followed.follow(&handle_of_feed, &end).await });
        Self {
            contents: Contents::default(),
            pulse: Pulse::start(handle.last_seq(), shutdown.clone()),
            feed,
            counts: Steady::default(),
            fleet: Steady::default(),
        }
    }
}

/// All pages, and what they need.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(overview::show))
        .route("/dashboard/fleet", get(fleet::show_fleet))
        .route("/dashboard/agents/{id}", get(fleet::show_agent))
        .route("/dashboard/queue", get(tasks::show_queue))
        .route("/dashboard/find", get(tasks::find))
        .route("/dashboard/tasks/{id}", get(tasks::show_task))
        .route("/dashboard/dead-letters", get(tasks::show_dead_letters))
        .route("/dashboard/limits", get(limits::show))
        .route("/dashboard/trends", get(trends::show))
        .route("/dashboard/events", get(overview::show_events))
        .route("/dashboard/pulse", get(pulse::follow))
        .route("/docs", get(api::show))
        .route("/docs/{file}", get(api::file))
        .route(
            "/sign-in",
            get(async || html(StatusCode::OK, sign_in::page(NO_CODE))),
        )
        .route(assets::STYLE.path, get(async || asset(assets::STYLE)))
        .route(assets::SCRIPT.path, get(async || asset(assets::SCRIPT)))
        .route(assets::ICON.path, get(async || asset(assets::ICON)))
}

/// A refusal, as people are told of it. Who is not signed in is told how to.
pub(crate) fn refusal(rejection: &Rejection) -> Response {
    let code = rejection.slug.code();
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let page = if rejection.slug == Slug::Unauthorized {
        sign_in::page(&rejection.message)
    } else {
        sign_in::refusal(code, &rejection.message, &rejection.details)
    };
    let mut response = Failure(rejection.clone()).into_response();
    response.headers_mut().remove(CONTENT_LENGTH);
    let (page, body) = html(status, page).into_parts();
    response.headers_mut().extend(page.headers);
    *response.body_mut() = body;
    response
}

/// Why there is no page.
struct NoPage(Failure);

impl<T: Into<Failure>> From<T> for NoPage {
    fn from(failure: T) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for NoPage {
    fn into_response(self) -> Response {
        refusal(&self.0.0)
    }
}

type Page = Result<Response, NoPage>;

fn html(status: StatusCode, page: Markup) -> Response {
    let mut response = reply::with_type(status, "text/html; charset=utf-8", page.into_string());
    reply::set(&mut response, CACHE_CONTROL, "no-store");
    reply::set(&mut response, REFERRER_POLICY, "same-origin");
    reply::set(&mut response, X_FRAME_OPTIONS, "DENY");
    response
}

fn asset(asset: Asset) -> Response {
    let mut response = reply::with_type(StatusCode::OK, asset.content_type, asset.text);
    // They change with the program, and are small.
    reply::set(&mut response, CACHE_CONTROL, "no-cache");
    response
}

/// Who asks for a page, and what of it.
struct Visit {
    caller: Caller,
    params: Params,
    /// Path and query: what tells pages apart.
    address: String,
    /// Whether the content alone is asked for.
    part: bool,
    /// When it came, if it wants what is loaded after that: a page is opened, or the visitor has just changed something.
    wants_after: Option<Instant>,
    /// Whether there is a session to end.
    by_session: bool,
}

impl FromRequestParts<App> for Visit {
    type Rejection = NoPage;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, NoPage> {
        let came = Instant::now();
        let part = parts.headers.get(PART).cloned();
        let caller = Caller::from_request_parts(parts, app).await?;
        Ok(Self {
            caller,
            params: Params::parse(parts.uri.query())?,
            address: parts
                .uri
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            part: part.is_some(),
            wants_after: part.is_none_or(|part| part != SHARED).then_some(came),
            by_session: app.sessions.token(&parts.headers, SystemTime::now()).is_some(),
        })
    }
}

impl Visit {
    fn abilities(&self) -> Abilities {
        let actor = &self.caller.actor;
        let rights = Rights::of(actor);
        let admin = actor.is_admin();
        Abilities {
            read: admin || !rights.and(READ).is_empty(),
            submit: admin || !rights.and(SUBMIT).is_empty(),
            admin,
        }
    }

    /// The answer: content that is loaded unless somebody else saw the same a moment ago, in a frame where a whole page is
    /// asked for.
    async fn answer(
        self,
        app: &App,
        title: &str,
        place: Place,
        load: impl Future<Output = Result<Markup, Failure>>,
    ) -> Page {
        let abilities = self.abilities();
        let need = Need {
            least_seq: if self.wants_after.is_some() {
                *app.handle.last_seq().borrow()
            } else {
                app.dashboard.pulse.told()
            },
            after: self.wants_after,
        };
        let key = (self.address, abilities);
        let content = app.dashboard.contents.get(key, need, load).await?;
        if self.part {
            let mut response = reply::with_type(StatusCode::OK, "text/html; charset=utf-8", content.text);
            reply::set(&mut response, CACHE_CONTROL, "no-store");
            if !content.is_newest {
                reply::set(&mut response, PART, "old");
            }
            return Ok(response);
        }
        let viewer = Viewer {
            name: &self.caller.actor.name,
            abilities,
            may_sign_out: self.by_session,
        };
        let content = std::str::from_utf8(&content.text).unwrap_or_default();
        Ok(html(StatusCode::OK, frame::page(title, place, viewer, content)))
    }
}

impl App {
    /// How many tasks are in each state; as of a moment ago where they have to be counted.
    async fn task_counts(&self) -> Result<[u64; 6], Failure> {
        if let Some(counts) = self.handle.tally().tasks() {
            return Ok(counts);
        }
        let app = self.clone();
        let read = async move { Ok(app.handle.task_counts().await?) };
        self.dashboard.counts.get(read).await
    }

    /// All agents; as of a moment ago where it takes long to list them.
    async fn fleet(&self, caller: &Caller) -> Result<Arc<Fleet>, Failure> {
        let (app, actor) = (self.clone(), caller.actor.clone());
        let read = async move { Ok(Arc::new(Fleet::of(app.agents(actor).await?))) };
        self.dashboard.fleet.get(read).await
    }
}
