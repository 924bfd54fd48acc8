//! A2A 1.0: the fleet as one agent that other agents give work to, over the protocol's HTTP+JSON binding.
//!
//! A message is a task, and a task is what A2A calls a task. Nothing is decided here, and nothing is kept: what comes in
//! becomes the same commands as on `/api`, and what goes out is made of the same tasks.
//!
//! | of A2A | here |
//! |---|---|
//! | agent card | [`card`]: the capabilities of all agents that are there |
//! | message | [`message`]: title, description, payload and files of a new task |
//! | `messageId` | an idempotency key: the same message is the same task |
//! | `contextId` | a part of the task's id, `a2a:CONTEXT:UUID` |
//! | `metadata.adjutant` | fields of the task: labels, model, priority and so on |
//! | state, artifacts, history | [`translate`]: made of status, result, and description |
//! | stream, subscription, blocking send | [`stream`]: followers of one task |
//! | errors | [`error`]: our slugs in the words of the protocol |
//!
//! # Not here
//! A conversation: a task is told everything at its beginning, so a message to a task that exists is refused. Calling
//! back: there are no push notifications. Asking other agents: [`crate::peers`] does, this is the side that is asked.

pub(crate) mod card;
mod error;
mod list;
mod message;
mod stream;
mod translate;

#[cfg(test)]
mod tests;

use ::a2a::{SVC_PARAM_VERSION, SendMessageResponse, error_code};
use adjutant_core::command::Command;
use adjutant_core::name::{TaskId, check_id};
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_wire as wire;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use self::error::Refused;
use self::list::{Listing, history_length};
use self::message::{Incoming, push_not_supported};
#[cfg(test)]
pub(crate) use self::stream::LONGEST_WAIT;
use self::stream::{Feed, Follower};
use self::translate::Show;
use crate::access::caller::{Caller, forbidden};
use crate::access::sight::Sight;
use crate::access::table::{READ, Rights, SUBMIT};
use crate::app::App;
use crate::extract::{FromBody, Input, MaybeObject, Nothing, Submission, path_param};
use crate::failure::Failure;
use crate::query::Params;
use crate::reply;
use crate::stream::place;

/// The type of the protocol's bodies.
const MEDIA_TYPE: &str = "application/a2a+json";
/// What is asked of a task by a suffix of its path.
const CANCEL: &str = ":cancel";
const SUBSCRIBE: &str = ":subscribe";

/// The routes. They are described by the protocol, not by the description of the API.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/.well-known/agent-card.json", get(agent_card))
        .route("/message:send", post(send_message))
        .route("/message:stream", post(stream_message))
        .route("/tasks", get(list_tasks))
        // A parameter is a whole segment: what stands behind the colon is told apart by the handlers.
        .route("/tasks/{id}", get(get_or_subscribe).post(cancel_or_subscribe))
        .route("/tasks/{id}/pushNotificationConfigs", get(no_push).post(no_push))
        .route(
            "/tasks/{id}/pushNotificationConfigs/{config}",
            get(no_push).delete(no_push),
        )
        .route("/extendedAgentCard", get(no_extended_card))
}

async fn agent_card(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Result<Response, Refused> {
    let skills = app.skills.get(&app).await?;
    let mut response = reply::ok(&card::card(&own_url(&app, &uri, &headers), &skills));
    if let Ok(age) = HeaderValue::from_str(&format!("max-age={}", card::FRESH.as_secs())) {
        response.headers_mut().insert(CACHE_CONTROL, age);
    }
    Ok(response)
}

/// Where this server is reached: by the name that the client used, unless there is a public one. The guard has seen to
/// it that the name is one of this server's.
fn own_url(app: &App, uri: &Uri, headers: &HeaderMap) -> String {
    if let Some(url) = &app.config.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let scheme = if app.config.tls.is_some() { "https" } else { "http" };
    let named = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(http::uri::Authority::as_str).or(named);
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

async fn send_message(State(app): State<App>, request: Request) -> Result<Response, Refused> {
    let input = submission(&app, request).await?;
    let show = show(&input)?;
    let task = if input.body.returns_immediately() {
        submit(&app, input).await?
    } else {
        // Who cannot be given a place to wait has not sent anything.
        let place = place(&app)?;
        let (follower, task) = submit_and_follow(&app, input, place).await?;
        follower.until_ended(task).await?
    };
    Ok(answer(&SendMessageResponse::Task(translate::task(&task, show))))
}

async fn stream_message(State(app): State<App>, request: Request) -> Result<Response, Refused> {
    let input = submission(&app, request).await?;
    let show = show(&input)?;
    let place = place(&app)?;
    let (follower, task) = submit_and_follow(&app, input, place).await?;
    Ok(reply::events(Feed::new(follower, &task, show).into_body()))
}

/// A request that sends a message.
async fn submission(app: &App, request: Request) -> Result<Input<Incoming>, Refused> {
    let request = of_known_version(app, request).await?;
    let Submission(input) = Submission::from_request(request, app).await?;
    Ok(input)
}

fn show(input: &Input<Incoming>) -> Result<Show, Rejection> {
    Ok(Show {
        history: input.body.history_length()?,
        artifacts: true,
    })
}

/// Makes a task of a message. The message that was sent before gives the task that it became then.
async fn submit(app: &App, input: Input<Incoming>) -> Result<wire::Task, Refused> {
    if let Some(id) = input.body.task_id() {
        return Err(already_told(app, id).await?);
    }
    let idempotency = input
        .idempotency
        .or_else(|| Some(input.body.idempotency(&input.caller)));
    let command = Command::Submit {
        tasks: vec![Ok(input.body.into_task()?)],
        batch: false,
    };
    Ok(app.change_task(input.caller, command, idempotency).await?)
}

async fn submit_and_follow(
    app: &App,
    input: Input<Incoming>,
    place: OwnedSemaphorePermit,
) -> Result<(Follower, wire::Task), Refused> {
    let caller = input.caller.clone();
    let task = submit(app, input).await?;
    Ok(Follower::open(app.clone(), caller, task.id.as_str().into(), place).await?)
}

/// What is said of a message to a task that exists.
async fn already_told(app: &App, id: &str) -> Result<Refused, Refused> {
    app.stored_task(task_id(id)?).await?;
    Ok(Refused::new(
        error_code::UNSUPPORTED_OPERATION,
        format!(
            "message.taskId: task `{id}` was told everything when it was made; send a message without taskId, which makes \
             a new task, in the same contextId if they belong together"
        ),
    ))
}

async fn list_tasks(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    check_version(&headers)?;
    let listing = Listing::parse(&Params::parse(uri.query())?)?;
    Ok(answer(&listing.read(&app, &caller).await?))
}

async fn get_or_subscribe(
    State(app): State<App>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    let (mut parts, _) = request.into_parts();
    check_version(&parts.headers)?;
    let asked = path_param(&mut parts, "id").await?;
    if let Some(id) = asked.strip_suffix(SUBSCRIBE) {
        return subscribe(app, caller, id).await;
    }
    let show = Show {
        history: history_length(&Params::parse(parts.uri.query())?)?,
        artifacts: true,
    };
    let sight = Sight::of(&app, &caller).await?;
    let stored = app.stored_task(task_id(&asked)?).await?;
    sight.must_see(&stored.task)?;
    let tasks = app.present_stored(&caller.actor, vec![stored]).await?;
    let task = tasks
        .first()
        .ok_or_else(|| Failure::bug("a task was lost on its way out"))?;
    Ok(answer(&translate::task(task, show)))
}

async fn cancel_or_subscribe(State(app): State<App>, request: Request) -> Result<Response, Refused> {
    let request = of_known_version(&app, request).await?;
    let (mut parts, body) = request.into_parts();
    let asked = path_param(&mut parts, "id").await?;
    let input: Input<MaybeObject<Nothing>> = read(&app, parts, body).await?;
    if let Some(id) = asked.strip_suffix(SUBSCRIBE) {
        return subscribe(app, input.caller, id).await;
    }
    let Some(id) = asked.strip_suffix(CANCEL) else {
        return Err(Refused::new(
            error_code::METHOD_NOT_FOUND,
            format!("of a task only `{CANCEL}` and `{SUBSCRIBE}` can be posted"),
        ));
    };
    let command = Command::Cancel {
        id: task_id(id)?,
        cascade: false,
    };
    // Who reads may follow by the same method, so the role that lets a request in is not enough.
    must_have(&input.caller, SUBMIT)?;
    let task = app
        .change_task(input.caller, command, input.idempotency)
        .await
        .map_err(Refused::of_cancel)?;
    let show = Show {
        history: None,
        artifacts: true,
    };
    Ok(answer(&translate::task(&task, show)))
}

async fn subscribe(app: App, caller: Caller, id: &str) -> Result<Response, Refused> {
    // As with the events of a task: what an agent may read can change from one moment to the next.
    must_have(&caller, SUBMIT.or(READ))?;
    let id = task_id(id)?;
    let place = place(&app)?;
    let (follower, task) = Follower::open(app, caller, id, place).await?;
    if task.status.is_terminal() {
        return Err(Refused::new(
            error_code::UNSUPPORTED_OPERATION,
            format!("task `{}` has ended: nothing more will happen to it", task.id),
        ));
    }
    let show = Show {
        history: None,
        artifacts: true,
    };
    Ok(reply::events(Feed::new(follower, &task, show).into_body()))
}

async fn no_push(State(app): State<App>, request: Request) -> Refused {
    discard(&app, request).await;
    push_not_supported()
}

async fn no_extended_card() -> Refused {
    Refused::new(
        error_code::EXTENDED_CARD_NOT_CONFIGURED,
        "the agent card says all that there is to say",
    )
}

fn must_have(caller: &Caller, rights: Rights) -> Result<(), Rejection> {
    if caller.actor.is_admin() || !caller.through.and(rights).is_empty() {
        return Ok(());
    }
    Err(forbidden("the roles of this token do not reach so far"))
}

/// The id of a task. What cannot be one is none that exists.
fn task_id(text: &str) -> Result<TaskId, Rejection> {
    check_id(text).map_err(|why| {
        Rejection::new(Slug::TaskNotFound, format!("there is no task `{text}`"))
            .with_details(format!("an id {why}"))
    })?;
    Ok(text.into())
}

async fn read<T: FromBody>(app: &App, parts: Parts, body: Body) -> Result<Input<T>, Failure> {
    Input::from_request(Request::from_parts(parts, body), app).await
}

async fn discard(app: &App, request: Request) {
    let (parts, body) = request.into_parts();
    app.bodies.discard(&parts.headers, body).await;
}

/// A request whose sender speaks the version that is spoken here.
async fn of_known_version(app: &App, request: Request) -> Result<Request, Refused> {
    match check_version(request.headers()) {
        Ok(()) => Ok(request),
        Err(refused) => {
            discard(app, request).await;
            Err(refused)
        }
    }
}

/// Refuses other versions than 1.x. Who names none is taken to know this one.
fn check_version(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(version) = headers.get(SVC_PARAM_VERSION) else {
        return Ok(());
    };
    let version = version.to_str().unwrap_or_default().trim();
    if version.split('.').next() == Some("1") {
        return Ok(());
    }
    Err(Refused::new(
        error_code::VERSION_NOT_SUPPORTED,
        format!("{SVC_PARAM_VERSION}: this server speaks 1.0, and not `{version}`"),
    ))
}

fn answer<T: Serialize>(value: &T) -> Response {
    let mut response = reply::ok(value);
    reply::set(&mut response, CONTENT_TYPE, MEDIA_TYPE);
    response
}
