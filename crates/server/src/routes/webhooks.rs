//! `/api/webhooks`: places that are told of events, for administrators.

use std::sync::Arc;

use adjutant_core::command::{Answer, Command};
use adjutant_core::event::EventKind;
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::webhook::{MAX_DEAD, MAX_PENDING, Webhook};
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::tasks::page_size;
use crate::app::{App, unexpected};
use crate::extract::{DeliveryPath, Input, MaybeObject, Nothing, Object, Query, WebhookPath};
use crate::failure::Failure;
use crate::webhooks::{self, Signer};
use crate::{outward, parse, reply, view};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_webhooks, add_webhook))
        .routes(routes!(get_webhook, remove_webhook))
        .routes(routes!(test_webhook))
        .routes(routes!(resume_webhook))
        .routes(routes!(list_deliveries))
        .routes(routes!(retry_deliveries))
        .routes(routes!(retry_delivery))
}

async fn existing(app: &App, name: &str) -> Result<Webhook, Failure> {
    let webhooks = app.handle.query(|reader| reader.webhooks()).await?;
    webhooks
        .into_iter()
        .find(|webhook| *webhook.name == *name)
        .ok_or_else(|| Rejection::new(Slug::WebhookNotFound, format!("no webhook `{name}`")).into())
}

/// Asks for a change of a webhook, has it noticed, and shows the webhook as it is then.
async fn change(
    app: &App,
    input: Input<MaybeObject<Nothing>>,
    command: Command,
) -> Result<Response, Failure> {
    match app.change(input.caller, command, input.idempotency).await? {
        Answer::Webhook(webhook) => {
            app.webhooks_have_changed();
            Ok(reply::ok(&view::ops::webhook(&webhook, None)))
        }
        other => Err(unexpected(&other)),
    }
}

/// List webhooks
///
/// By name. Their secrets are shown when they are added, and never again.
#[utoipa::path(get, path = "/api/webhooks", tag = "webhooks", responses((status = 200, body = Vec<wire::Webhook>)))]
async fn list_webhooks(State(app): State<App>) -> Result<Response, Failure> {
    let webhooks = app.handle.query(|reader| reader.webhooks()).await?;
    let webhooks: Vec<_> = webhooks
        .iter()
        .map(|webhook| view::ops::webhook(webhook, None))
        .collect();
    Ok(reply::ok(&webhooks))
}

/// Add a webhook
///
/// It is told of events from now on. The secret that its requests are signed with is in this answer and nowhere else; only
/// a repeat with the same `Idempotency-Key` shows it again.
#[utoipa::path(
    post, path = "/api/webhooks", tag = "webhooks",
    request_body = wire::NewWebhook,
    responses((status = 201, body = wire::Webhook))
)]
async fn add_webhook(
    State(app): State<App>,
    input: Input<Object<wire::NewWebhook>>,
) -> Result<Response, Failure> {
    let wire::NewWebhook { name, url, events } = input.body.0;
    let name: Arc<str> = parse::id("name", &name)?;
    let kinds = kinds(&events)?;
    let url = outward::parse_url("url", &url)?;
    // Judged again whenever something is sent; here a mistake is told at once.
    outward::locate("url", &url, app.config.allow_private_peers).await?;
    let new = adjutant_core::command::NewWebhook {
        name,
        url: url.as_str().into(),
        kinds,
        since: *app.handle.last_seq().borrow(),
    };
    match app
        .change(input.caller, Command::AddWebhook(new), input.idempotency)
        .await?
    {
        Answer::Webhook(webhook) => {
            app.webhooks_have_changed();
            let secret = Signer::of(&app.secret, &webhook).secret();
            let shown = view::ops::webhook(&webhook, Some(secret));
            Ok(reply::json(StatusCode::CREATED, &shown))
        }
        other => Err(unexpected(&other)),
    }
}

fn kinds(names: &[String]) -> Result<Arc<[EventKind]>, Rejection> {
    let mut kinds = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let kind = EventKind::from_name(name).ok_or_else(|| {
            let all: Vec<_> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
            Rejection::field(&format!("events[{index}]"), "is not a type of event")
                .with_details(format!("the types are: {}", all.join(", ")))
        })?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(kinds.into())
}

/// Read a webhook
#[utoipa::path(
    get, path = "/api/webhooks/{name}", tag = "webhooks",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = wire::Webhook))
)]
async fn get_webhook(State(app): State<App>, WebhookPath(name): WebhookPath) -> Result<Response, Failure> {
    Ok(reply::ok(&view::ops::webhook(
        &existing(&app, &name).await?,
        None,
    )))
}

/// Remove a webhook
///
/// What was not delivered goes with it.
#[utoipa::path(
    delete, path = "/api/webhooks/{name}", tag = "webhooks",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = wire::Acknowledgement))
)]
async fn remove_webhook(
    State(app): State<App>,
    caller: crate::access::caller::Caller,
    WebhookPath(name): WebhookPath,
) -> Result<Response, Failure> {
    match app.change(caller, Command::RemoveWebhook(name), None).await? {
        Answer::Done => {
            app.webhooks_have_changed();
            Ok(reply::ok(&wire::Acknowledgement {
                message: "webhook removed".to_owned(),
            }))
        }
        other => Err(unexpected(&other)),
    }
}

/// Try a webhook out
///
/// Sends a message of the type `test`, once and at once, and says how that went.
#[utoipa::path(
    post, path = "/api/webhooks/{name}/test", tag = "webhooks",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = wire::WebhookTest))
)]
async fn test_webhook(
    State(app): State<App>,
    WebhookPath(name): WebhookPath,
    _input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    let webhook = existing(&app, &name).await?;
    let (delivered, detail) = webhooks::try_out(&app, &webhook).await;
    Ok(reply::ok(&wire::WebhookTest { delivered, detail }))
}

/// Deliver again for a webhook that was disabled
#[utoipa::path(
    post, path = "/api/webhooks/{name}/resume", tag = "webhooks",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = wire::Webhook))
)]
async fn resume_webhook(
    State(app): State<App>,
    WebhookPath(name): WebhookPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    change(&app, input, Command::ResumeWebhook(name)).await
}

/// List what was not delivered
///
/// Deliveries that wait for another try, and dead letters, by the number of their event.
#[utoipa::path(
    get, path = "/api/webhooks/{name}/deliveries", tag = "webhooks",
    params(
        ("name" = String, Path, description = "The webhook"),
        ("since" = Option<u64>, Query, maximum = 9_223_372_036_854_775_807_u64, description = "After the event with this `seq`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The most deliveries; 100 when absent"),
    ),
    responses((status = 200, body = Vec<wire::WebhookDelivery>))
)]
async fn list_deliveries(
    State(app): State<App>,
    WebhookPath(name): WebhookPath,
    Query(params): Query,
) -> Result<Response, Failure> {
    let since = params.number("since", 0..=i64::MAX.unsigned_abs())?.unwrap_or(0);
    let limit = page_size(&params)?;
    existing(&app, &name).await?;
    let deliveries = app
        .handle
        .query(move |reader| reader.deliveries(&name, since, limit))
        .await?;
    let deliveries: Vec<_> = deliveries
        .into_iter()
        .map(|(seq, delivery)| view::ops::delivery(seq, delivery))
        .collect();
    Ok(reply::ok(&deliveries))
}

/// Try everything again that a webhook was not told of
///
/// At once, and with all its tries: what waits, and dead letters.
#[utoipa::path(
    post, path = "/api/webhooks/{name}/deliveries/retry", tag = "webhooks",
    params(("name" = String, Path, description = "The webhook")),
    responses((status = 200, body = wire::Webhook))
)]
async fn retry_deliveries(
    State(app): State<App>,
    WebhookPath(name): WebhookPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    existing(&app, &name).await?;
    let asked = Arc::clone(&name);
    let most = usize::try_from(MAX_PENDING + MAX_DEAD).unwrap_or(usize::MAX);
    let deliveries = app
        .handle
        .query(move |reader| reader.deliveries(&asked, 0, most))
        .await?;
    let seqs = deliveries.into_iter().map(|(seq, _)| seq).collect();
    change(&app, input, Command::RetryDeliveries { name, seqs }).await
}

/// Try a delivery again
///
/// At once, and with all its tries: one that waits, or a dead letter.
#[utoipa::path(
    post, path = "/api/webhooks/{name}/deliveries/{seq}/retry", tag = "webhooks",
    params(
        ("name" = String, Path, description = "The webhook"),
        ("seq" = u64, Path, description = "The number of the event"),
    ),
    responses((status = 200, body = wire::Webhook))
)]
async fn retry_delivery(
    State(app): State<App>,
    DeliveryPath(name, seq): DeliveryPath,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    let seqs = vec![seq];
    change(&app, input, Command::RetryDeliveries { name, seqs }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_events_are_those_that_there_are() {
        let given = |names: &[&str]| kinds(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert!(given(&[]).unwrap().is_empty());
        let both = [EventKind::TaskCompleted, EventKind::QuotaExceeded];
        assert_eq!(*given(&["task_completed", "quota_exceeded"]).unwrap(), both);
        let twice = ["task_completed", "quota_exceeded", "task_completed"];
        assert_eq!(*given(&twice).unwrap(), both);
        let refused = given(&["task_completed", "task.failed"]).unwrap_err();
        assert!(refused.message.starts_with("events[1]: "), "{}", refused.message);
        assert!(
            refused.details.contains("task_dead_lettered"),
            "{}",
            refused.details
        );
    }
}
