//! Tools for those who work.
//!
//! An agent is alive while it is heard of, and only a roll-call counts for that. So whatever an agent reports is
//! followed by a heartbeat, whose answer says what to stop.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::{ApiError, Reply, Request};
use crate::arguments::{
    CheckAllowance, CompleteTask, NextTask, Register, ReleaseTask, ReportUsage, Running, UpdateTask, body,
    filled,
};
use crate::handler::Visitor;
use crate::outcome::Outcome;
use crate::words::{brief, given, items, line, stops, text};

/// How long to wait for a task when nothing is said: about what one sync waits at the most.
const DEFAULT_WAIT_SECS: f64 = 20.0;
/// The longest that one call waits: well below the time after which proxies and clients give up on an answer.
const MAX_WAIT_SECS: f64 = 240.0;
/// The share of the lease that the server waits at the most in one sync.
const WAITS_PER_LEASE: f64 = 3.0;
/// A sync that ends earlier than this before its time was ended by another one.
const EARLY_SECS: f64 = 0.5;
/// Held tasks of one page: the most that the API lists.
const HELD_PAGE: &str = "1000";
/// The most held tasks: as many as one sync may list.
const MAX_HELD: usize = 10_000;

pub(super) async fn register(visitor: Visitor, arguments: Register) -> Result<Outcome, ApiError> {
    let agent = visitor.audience.agent(arguments.agent_id.as_deref())?;
    let mut asked = body(&arguments)?;
    if let Some(fields) = asked.as_object_mut() {
        fields.remove("agent_id");
        fields.insert("id".to_owned(), json!(agent));
    }
    let registered = visitor.ask(Request::post(&["api", "agents"], asked)).await?.body;
    let capabilities: Vec<_> = items(&registered, "capabilities")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let can = if capabilities.is_empty() {
        "You get tasks without labels only.".to_owned()
    } else {
        format!("You get tasks for: {}.", capabilities.join(", "))
    };
    Ok(Outcome::new(
        format!("Registered as agent `{agent}`. {can} Call next_task now."),
        json!({"agent_id": agent, "agent": registered}),
    ))
}

pub(super) async fn next_task(visitor: Visitor, arguments: NextTask) -> Result<Outcome, ApiError> {
    let agent = visitor.audience.agent(arguments.agent_id.as_deref())?;
    let known = arguments.running.unwrap_or_default();
    let held = held(&visitor, &agent).await?;
    // What is held and was not listed would end as lost if it were left out, and may be what an answer that did not
    // arrive was about: it is listed, and told again.
    let forgotten: Vec<&Value> = held
        .iter()
        .filter(|task| !known.contains(&running(task)))
        .collect();
    let mut listed = known.clone();
    listed.extend(forgotten.iter().map(|task| running(task)));

    let call = RollCall {
        visitor: &visitor,
        agent: &agent,
        max: arguments.max,
    };
    let wait = if forgotten.is_empty() {
        arguments.wait.unwrap_or(DEFAULT_WAIT_SECS).min(MAX_WAIT_SECS)
    } else {
        0.0
    };
    let answer = call.until_something(&listed, wait).await?;
    let mut stop = items(&answer, "stop").to_vec();
    let start = items(&answer, "start");
    if !start.is_empty() {
        // Taken at once: an attempt that is only offered would be lost after a while, however alive its agent is.
        let mut all = listed.clone();
        all.extend(start.iter().map(|start| running(&start["task"])));
        let taken = call.once(&all, 0.0).await?;
        stop = items(&taken, "stop").to_vec();
    }
    let tasks: Vec<Value> = forgotten
        .iter()
        .map(|task| assigned(task, &Value::Null, true))
        .chain(start.iter().map(|start| assigned(&start["task"], start, false)))
        .collect();
    let drains = answer["drain"] == true;
    Ok(Outcome::new(
        given(&tasks, &stop, drains, &answer["lease_ttl"]),
        json!({
            "agent_id": agent,
            "tasks": tasks,
            "stop": stop,
            "drain": drains,
            "lease_ttl": answer["lease_ttl"],
        }),
    ))
}

/// What an agent holds, whoever remembers it: what was given first is first.
async fn held(visitor: &Visitor, agent: &str) -> Result<Vec<Value>, ApiError> {
    let mut held = Vec::new();
    let mut cursor = None;
    loop {
        let request = Request::get(&["api", "tasks"])
            .query("status", Some("in_progress"))
            .query("claimed_by", Some(agent))
            .query("limit", Some(HELD_PAGE))
            .query("cursor", cursor.as_deref());
        let reply = visitor.ask(request).await?;
        if let Value::Array(tasks) = reply.body {
            held.extend(tasks);
        }
        // To stop before the end would lose what is beyond.
        if held.len() > MAX_HELD {
            return Err(ApiError::argument(format!(
                "agent_id: agent `{agent}` holds more than {MAX_HELD} tasks, which is more than can be looked after here"
            )));
        }
        cursor = reply.next;
        if cursor.is_none() {
            held.reverse();
            return Ok(held);
        }
    }
}

fn running(task: &Value) -> Running {
    Running {
        task_id: text(task, "id").to_owned(),
        attempt: task["attempt"]
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or_default(),
    }
}

/// A task that is given to an agent. The token of its attempt stays here: a model has one of its own, and tells what it
/// sees.
fn assigned(task: &Value, start: &Value, resumed: bool) -> Value {
    let lease = start
        .get("lease_expires_at")
        .or_else(|| task.get("lease_expires_at"));
    json!({
        "task_id": task["id"],
        "attempt": task["attempt"],
        "resumed": resumed,
        "lease_expires_at": lease,
        "timeout": start.get("timeout").or_else(|| task.get("timeout")),
        "task": task,
    })
}

/// Roll-calls of an agent.
struct RollCall<'a> {
    visitor: &'a Visitor,
    agent: &'a str,
    max: Option<u32>,
}

impl RollCall<'_> {
    async fn once(&self, running: &[Running], wait_secs: f64) -> Result<Value, ApiError> {
        let asked = json!({"running": body(&running)?, "max": self.max, "wait": wait_secs});
        let path = ["api", "agents", self.agent, "sync"];
        let answer = self.visitor.ask(Request::post(&path, asked)).await;
        Ok(answer.map_err(unregistered)?.body)
    }

    /// Syncs until there is something to start or to stop, or the wait is over. The server caps the wait of each sync;
    /// going on here costs a model nothing, whereas each call of a tool does.
    async fn until_something(&self, running: &[Running], wait_secs: f64) -> Result<Value, ApiError> {
        let begun = Instant::now();
        let mut left = wait_secs;
        loop {
            let asked = Instant::now();
            let answer = self.once(running, left).await?;
            let is_empty = items(&answer, "start").is_empty() && items(&answer, "stop").is_empty();
            let most = answer["lease_ttl"].as_f64().unwrap_or_default() / WAITS_PER_LEASE;
            // Two calls that wait for the same agent would end each other for ever.
            let was_ended = asked.elapsed().as_secs_f64() + EARLY_SECS < left.min(most);
            left = wait_secs - begun.elapsed().as_secs_f64();
            if !is_empty || answer["drain"] == true || was_ended || left <= 0.0 || most < EARLY_SECS {
                return Ok(answer);
            }
        }
    }
}

/// The most likely reason, and what to do.
fn unregistered(mut error: ApiError) -> ApiError {
    if error.slug == "agent_not_found" {
        error.message.push_str(": call register first");
    }
    error
}

pub(super) async fn update_task(visitor: Visitor, mut arguments: UpdateTask) -> Result<Outcome, ApiError> {
    filled("task_id", &arguments.task_id)?;
    arguments.agent_id = visitor.audience.speaker(arguments.agent_id);
    let agent = arguments.agent_id.clone();
    let request = Request::patch(&["api", "tasks", &arguments.task_id], body(&arguments)?);
    let task = visitor.ask(request).await?.body;
    let stop = pulse(&visitor, agent.as_deref()).await;
    Ok(Outcome::new(
        format!("Noted: {}.{}", line(&task), stops(&stop)),
        json!({"agent_id": agent, "task": brief(&task), "stop": stop}),
    ))
}

pub(super) async fn report_usage(visitor: Visitor, mut arguments: ReportUsage) -> Result<Outcome, ApiError> {
    filled("task_id", &arguments.task_id)?;
    if !visitor.audience.is_attempt() {
        arguments.agent_id = Some(visitor.audience.agent(arguments.agent_id.as_deref())?);
    }
    let agent = arguments.agent_id.clone();
    visitor
        .ask(Request::post(&["api", "usage"], body(&arguments)?))
        .await?;
    let stop = pulse(&visitor, agent.as_deref()).await;
    Ok(Outcome::new(
        format!("Booked.{}", stops(&stop)),
        json!({"agent_id": agent, "task_id": arguments.task_id, "stop": stop}),
    ))
}

pub(super) async fn complete_task(
    visitor: Visitor,
    mut arguments: CompleteTask,
) -> Result<Outcome, ApiError> {
    filled("task_id", &arguments.task_id)?;
    arguments.agent_id = visitor.audience.speaker(arguments.agent_id);
    let agent = arguments.agent_id.clone();
    let request = Request::post(
        &["api", "tasks", &arguments.task_id, "complete"],
        body(&arguments)?,
    );
    let Reply { body: answer, .. } = visitor.ask(request).await?;
    let stop = pulse(&visitor, agent.as_deref()).await;
    let next = if visitor.audience.is_attempt() {
        ""
    } else {
        " Call next_task for more."
    };
    Ok(Outcome::new(
        format!(
            "{}: {}.{next}{}",
            text(&answer, "message"),
            line(&answer["task"]),
            stops(&stop)
        ),
        json!({"agent_id": agent, "task": brief(&answer["task"]), "message": answer["message"], "stop": stop}),
    ))
}

pub(super) async fn release_task(visitor: Visitor, mut arguments: ReleaseTask) -> Result<Outcome, ApiError> {
    filled("task_id", &arguments.task_id)?;
    arguments.agent_id = visitor.audience.speaker(arguments.agent_id);
    let request = Request::post(
        &["api", "tasks", &arguments.task_id, "release"],
        body(&arguments)?,
    );
    let task = visitor.ask(request).await?.body;
    Ok(Outcome::new(
        format!("Given back: {}.", line(&task)),
        json!({"agent_id": arguments.agent_id, "task": brief(&task)}),
    ))
}

pub(super) async fn check_allowance(
    visitor: Visitor,
    arguments: CheckAllowance,
) -> Result<Outcome, ApiError> {
    let agent = visitor.audience.agent(arguments.agent_id.as_deref())?;
    let request = Request::get(&["api", "allowances", &agent, "check"])
        .query("model", arguments.model.filter(|model| !model.is_empty()));
    let check = visitor.ask(request).await?.body;
    let left = |name: &str| match check[name].as_i64() {
        Some(-1) | None => "unlimited".to_owned(),
        Some(number) => number.to_string(),
    };
    let verdict = if check["allowed"] == true {
        "may start a task".to_owned()
    } else {
        format!("may not start a task: {}", text(&check, "reason"))
    };
    Ok(Outcome::new(
        format!(
            "Agent `{agent}` {verdict}. Left today: tokens {}, tasks {}.",
            left("remaining_tokens"),
            left("remaining_jobs")
        ),
        json!({"agent_id": agent, "check": check}),
    ))
}

/// Proves that an agent lives, and hears what it is to stop. Who is not registered, or speaks for an attempt alone, has
/// no pulse: the report itself has been taken, so that is no error.
async fn pulse(visitor: &Visitor, agent: Option<&str>) -> Vec<Value> {
    let Some(agent) = agent.filter(|agent| !agent.is_empty() && !visitor.audience.is_attempt()) else {
        return Vec::new();
    };
    let request = Request::post(&["api", "agents", agent, "heartbeat"], json!({}));
    let answer = visitor.ask(request).await;
    answer.map_or_else(|_| Vec::new(), |reply| items(&reply.body, "stop").to_vec())
}
