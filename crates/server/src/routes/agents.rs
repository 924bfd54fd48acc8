//! `/api/agents`: the registry, and the roll-call by which work reaches agents.

use adjutant_core::agent::{AgentStatus, MAX_CAPABILITIES};
use adjutant_core::command::{Answer, Command, SyncAnswer};
use adjutant_core::name::AgentId;
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use http::header::LINK;
use http::{StatusCode, Uri};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::Caller;
use crate::app::{App, unexpected};
use crate::attempt_token::AttemptClaim;
use crate::extract::{AgentPath, Input, MaybeObject, Nothing, Object, Query};
use crate::failure::Failure;
use crate::routes::tasks::MAX_PAGE;
use crate::{page, parse, reply, view};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_agents, register_agent))
        .routes(routes!(get_agent, deregister_agent))
        .routes(routes!(sync_agent))
        .routes(routes!(heartbeat_agent))
        .routes(routes!(drain_agent))
        .routes(routes!(undrain_agent))
        .routes(routes!(lift_agent))
}

/// The parameter that says behind which agent a page begins.
const CURSOR: &str = "cursor";

/// List agents
///
/// By id. All of them when no `limit` is given; with one, the next page is behind the `Link` header.
#[utoipa::path(
    get, path = "/api/agents", tag = "agents",
    params(
        ("status" = Option<String>, Query, pattern = "^(available|busy|draining|quarantined|offline)?$", description = "In this state"),
        ("capabilities" = Option<String>, Query, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{0,200}$", description = "With all of these, separated by commas"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The most agents of the page; all when absent"),
        ("cursor" = Option<String>, Query, pattern = "^[A-Za-z0-9._:-]{0,128}$", description = "Where the page begins: taken from the `Link` header of the page before"),
    ),
    responses((status = 200, body = Vec<wire::Agent>, headers(("Link" = String, description = "The next page: `<…>; rel=\"next\"`"))))
)]
async fn list_agents(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(params): Query,
) -> Result<Response, Failure> {
    let limit = params.number("limit", 1..=MAX_PAGE)?;
    let after = parse::optional_id::<AgentId>(CURSOR, params.get(CURSOR))?;
    let capabilities: Vec<String> = params
        .list("capabilities")
        .into_iter()
        .map(str::to_owned)
        .collect();
    let command = Command::ListAgents {
        status: params.choice("status", &AgentStatus::ALL, AgentStatus::name)?,
        capabilities: parse::names("capabilities", &capabilities, MAX_CAPABILITIES)?,
    };
    match app.ask(caller.actor, command).await? {
        Answer::Agents(agents) => {
            // They come by id.
            let start = after.map_or(0, |after| agents.partition_point(|agent| agent.id <= after));
            let rest = &agents[start..];
            let page = &rest[..limit.unwrap_or(rest.len()).min(rest.len())];
            let shown: Vec<_> = page.iter().map(|agent| view::agent::agent(agent)).collect();
            let mut response = reply::ok(&shown);
            if let Some(last) = page.last().filter(|_| page.len() < rest.len()) {
                response
                    .headers_mut()
                    .insert(LINK, page::next_link(&uri, CURSOR, last.id.as_str())?);
            }
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// Register an agent
///
/// Registering again changes what is registered. A new `session` ends the attempts of the old one. An agent with
/// `protocol` and `url` needs no worker: the server itself sends its tasks there.
#[utoipa::path(
    post, path = "/api/agents", tag = "agents",
    request_body = wire::NewAgent,
    responses((status = 200, body = wire::Agent))
)]
async fn register_agent(
    State(app): State<App>,
    input: Input<Object<wire::NewAgent>>,
) -> Result<Response, Failure> {
    let (mut agent, place) = parse::agent::new_agent(input.body.0)?;
    input.caller.must_act_as(&agent.id)?;
    if let Some(place) = place {
        // Names are looked up for those alone who may have the server go there.
        input.caller.must_be_admin("url")?;
        agent.peer = Some(place.located(app.config.allow_private_peers).await?.into());
    }
    let has_peer = agent.peer.is_some();
    let answer = app
        .change(input.caller, Command::Register(agent), input.idempotency)
        .await?;
    if has_peer {
        app.peers_changed.notify_one();
    }
    agent_reply(answer)
}

fn agent_reply(answer: Answer) -> Result<Response, Failure> {
    match answer {
        Answer::Agent(agent) => Ok(reply::ok(&view::agent::agent(&agent))),
        other => Err(unexpected(&other)),
    }
}

/// Read an agent
#[utoipa::path(
    get, path = "/api/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, body = wire::Agent))
)]
async fn get_agent(
    State(app): State<App>,
    caller: Caller,
    AgentPath(id): AgentPath,
) -> Result<Response, Failure> {
    caller.must_see(&id)?;
    agent_reply(app.ask(caller.actor, Command::GetAgent(id)).await?)
}

/// Remove an agent
///
/// Its attempts are given back without a failure.
#[utoipa::path(
    delete, path = "/api/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, body = wire::AgentNote))
)]
async fn deregister_agent(
    State(app): State<App>,
    caller: Caller,
    AgentPath(id): AgentPath,
) -> Result<Response, Failure> {
    caller.must_act_as(&id)?;
    match app.change(caller, Command::Deregister(id.clone()), None).await? {
        Answer::Done | Answer::Agent(_) => Ok(reply::ok(&wire::AgentNote {
            id: id.to_string(),
            message: "agent removed".to_owned(),
        })),
        other => Err(unexpected(&other)),
    }
}

/// Roll-call: say what runs, learn what to start and to stop
///
/// The one way in which work reaches an agent. With `wait` the answer comes once there is something to do.
#[utoipa::path(
    post, path = "/api/agents/{id}/sync", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    request_body = wire::SyncRequest,
    responses((status = 200, body = wire::SyncAnswer))
)]
async fn sync_agent(
    State(app): State<App>,
    AgentPath(id): AgentPath,
    input: Input<Object<wire::SyncRequest>>,
) -> Result<Response, Failure> {
    input.caller.must_act_as(&id)?;
    let sync = parse::agent::sync(id.clone(), input.body.0, &input.caller)?;
    call_roll(&app, input.caller, id, Command::Sync(sync)).await
}

/// Prove that an agent lives
///
/// A roll-call without a list: it leaves attempts as they are, and tells what to stop.
#[utoipa::path(
    post, path = "/api/agents/{id}/heartbeat", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    request_body(content = Option<wire::Heartbeat>, description = "May be left out"),
    responses((status = 200, body = wire::SyncAnswer))
)]
async fn heartbeat_agent(
    State(app): State<App>,
    AgentPath(id): AgentPath,
    input: Input<MaybeObject<wire::Heartbeat>>,
) -> Result<Response, Failure> {
    input.caller.must_act_as(&id)?;
    let heartbeat = parse::agent::heartbeat(id.clone(), input.body.0)?;
    call_roll(&app, input.caller, id, Command::Sync(heartbeat)).await
}

/// A repeated roll-call is recognised by its `n`, so idempotency keys have no part in it. One that waits ends when its
/// token is revoked: nothing more is handed to who held it.
async fn call_roll(app: &App, caller: Caller, agent: AgentId, command: Command) -> Result<Response, Failure> {
    let pass = caller.pass;
    let answer = tokio::select! {
        biased;
        () = app.until_revoked(pass) => {
            return Err(Rejection::new(Slug::Unauthorized, "this token was revoked").into());
        }
        answer = app.change(caller, command, None) => answer?,
    };
    match answer {
        Answer::Sync(answer) => Ok(reply::ok(&roll_answer(app, &agent, *answer).await?)),
        other => Err(unexpected(&other)),
    }
}

async fn roll_answer(app: &App, agent: &AgentId, answer: SyncAnswer) -> Result<wire::SyncAnswer, Failure> {
    let (views, starts): (Vec<_>, Vec<_>) = answer
        .start
        .into_iter()
        .map(|start| {
            let lease_expires_at = start.view.lease_expires_at.unwrap_or(start.view.task.updated_at);
            (start.view, (start.attempt, start.timeout, lease_expires_at))
        })
        .unzip();
    // What does not fit stays offered, and is in the answer of the next sync.
    let tasks = app.present_within(views, page::MAX_BYTES).await?;
    let start = tasks
        .into_iter()
        .zip(starts)
        .map(|(task, (attempt, timeout, lease_expires_at))| {
            let token = app.mint.mint(&AttemptClaim {
                task: task.id.as_str().into(),
                attempt,
                agent: agent.clone(),
            });
            wire::Start {
                task,
                attempt,
                lease_expires_at,
                timeout,
                token: Some(token),
            }
        })
        .collect();
    Ok(wire::SyncAnswer {
        start,
        stop: answer.stop.iter().map(view::agent::stop).collect(),
        done: app.present_items(answer.done, StatusCode::OK).await?,
        drain: answer.drain,
        lease_ttl: answer.lease_ttl,
    })
}

async fn change(
    app: &App,
    input: Input<MaybeObject<Nothing>>,
    command: Command,
) -> Result<Response, Failure> {
    agent_reply(app.change(input.caller, command, input.idempotency).await?)
}

/// Let an agent finish and take nothing new
#[utoipa::path(
    post, path = "/api/agents/{id}/drain", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, body = wire::Agent))
)]
async fn drain_agent(
    State(app): State<App>,
    AgentPath(id): AgentPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    change(&app, input, Command::Drain(id)).await
}

/// End a drain
#[utoipa::path(
    post, path = "/api/agents/{id}/undrain", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, body = wire::Agent))
)]
async fn undrain_agent(
    State(app): State<App>,
    AgentPath(id): AgentPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    change(&app, input, Command::Undrain(id)).await
}

/// End a quarantine or a pause
#[utoipa::path(
    post, path = "/api/agents/{id}/lift", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, body = wire::Agent))
)]
async fn lift_agent(
    State(app): State<App>,
    AgentPath(id): AgentPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    change(&app, input, Command::Lift(id)).await
}
