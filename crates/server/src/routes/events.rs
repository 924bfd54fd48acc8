//! `/api/events` and `/api/tasks/{id}/events`: what happened, as pages or as a stream.

use adjutant_core::rejection::Rejection;
use adjutant_store::StoreError;
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::tasks::page_size;
use crate::access::caller::Caller;
use crate::app::App;
use crate::extract::{Query, TaskPath, accepts};
use crate::failure::Failure;
use crate::query::Params;
use crate::reply::EVENT_STREAM;
use crate::stream::EventStream;
use crate::{reply, view};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_events))
        .routes(routes!(list_task_events))
}

/// List or follow events
///
/// An array of what happened after `since`; with `Accept: text/event-stream` a stream that begins there and goes on.
/// A stream resumes behind `Last-Event-ID`, when that is sent. The id of each message is the `seq` of its event.
/// Where the server keeps events for some time only, both begin at the first that is kept.
#[utoipa::path(
    get, path = "/api/events", tag = "events",
    params(
        ("since" = Option<u64>, Query, maximum = 9_223_372_036_854_775_807_u64, description = "After the event with this `seq`; from the first one when absent"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The most events of an array; 100 when absent"),
        ("Last-Event-ID" = Option<u64>, Header, maximum = 9_223_372_036_854_775_807_u64, description = "Streams: after the event with this `seq`"),
    ),
    responses((status = 200, content((Vec<wire::Event> = "application/json"), (String = "text/event-stream"))))
)]
async fn list_events(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Query(params): Query,
) -> Result<Response, Failure> {
    let since = since(&params)?;
    if accepts(&headers, EVENT_STREAM) {
        let since = last_event_id(&headers)?.unwrap_or(since);
        let stream = EventStream::open(app, since, caller.pass)?;
        return Ok(reply::events(stream.into_body()));
    }
    let limit = page_size(&params)?;
    let events = app
        .handle
        .query(move |reader| reader.events(since, limit))
        .await?;
    let events: Vec<_> = events.iter().map(view::ops::event).collect();
    Ok(reply::ok(&events))
}

/// List the events of a task
#[utoipa::path(
    get, path = "/api/tasks/{id}/events", tag = "events",
    params(
        ("id" = String, Path, description = "The task"),
        ("since" = Option<u64>, Query, maximum = 9_223_372_036_854_775_807_u64, description = "After the event with this `seq`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "The most events; 100 when absent"),
    ),
    responses((status = 200, body = Vec<wire::Event>))
)]
async fn list_task_events(
    State(app): State<App>,
    TaskPath(id): TaskPath,
    Query(params): Query,
) -> Result<Response, Failure> {
    let (since, limit) = (since(&params)?, page_size(&params)?);
    let key = app.stored_task(id).await?.task.key;
    let events = app
        .handle
        .query(move |reader| -> Result<_, StoreError> { reader.task_events(key, since, limit) })
        .await?;
    let events: Vec<_> = events.iter().map(view::ops::event).collect();
    Ok(reply::ok(&events))
}

fn since(params: &Params) -> Result<u64, Rejection> {
    // Numbers of events are far from the bound of what stores can hold.
    Ok(params.number("since", 0..=i64::MAX.unsigned_abs())?.unwrap_or(0))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Rejection> {
    const NAME: &str = "Last-Event-ID";
    let Some(value) = headers.get(NAME) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|seq| *seq <= i64::MAX.unsigned_abs())
        .map(Some)
        .ok_or_else(|| Rejection::field(NAME, "must be the `seq` of an event"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_stream_is_given_to_who_asks_for_one() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.9", true),
            ("application/json", false),
            ("*/*", false),
        ] {
            assert_eq!(
                accepts(&headers("accept", accept), EVENT_STREAM),
                expected,
                "{accept}"
            );
        }
    }

    #[test]
    fn a_stream_resumes_behind_a_number() {
        assert_eq!(last_event_id(&headers("last-event-id", "42")), Ok(Some(42)));
        assert_eq!(last_event_id(&HeaderMap::new()), Ok(None));
        for wrong in ["", "-1", "x", "18446744073709551615"] {
            assert!(
                last_event_id(&headers("last-event-id", wrong)).is_err(),
                "{wrong}"
            );
        }
    }
}
