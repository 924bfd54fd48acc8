//! `/mcp`: the Model Context Protocol.
//!
//! The tools are in `adjutant-mcp`. What they ask for goes through the whole router again, with the caller's own token:
//! access, validation and errors are those of the API, because they are the API.
//!
//! # Not here
//! Streams to clients and sessions: nothing is pushed, nothing is kept, so `GET` and `DELETE` do not exist.

use adjutant_core::access::{Power, Role};
use adjutant_mcp::{Api, ApiError, Audience, Reply, Service, Visitor};
use adjutant_wire::ErrorBody;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LINK, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use tower_service::Service as _;

use crate::access::caller::Caller;
use crate::access::guard::Peer;
use crate::app::App;
use crate::failure::Failure;
use crate::reply;

/// The path.
pub(crate) const PATH: &str = "/mcp";
/// A name of this server that every guard admits: the request that came from outside has passed it already.
const OWN_NAME: HeaderValue = HeaderValue::from_static("localhost");
/// What is answered is JSON, whatever else a client may take.
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
/// The most of an error that is not JSON.
const MAX_ERROR_BYTES: usize = 4 << 10;
/// The JSON-RPC codes of a text that is not JSON, and of JSON that is no request.
const PARSE_ERROR: i32 = -32_700;
const INVALID_REQUEST: i32 = -32_600;

/// The route; its tools ask `api`, which is the router over everything else.
pub(crate) fn route(api: Router, max_body_bytes: usize) -> Router<App> {
    let service = adjutant_mcp::service(max_body_bytes);
    let handler = move |State(app): State<App>, caller: Caller, request: Request| {
        let (api, service) = (api.clone(), service.clone());
        async move { speak(app, api, service, caller, request).await }
    };
    Router::new().route(PATH, post(handler))
}

async fn speak(
    app: App,
    api: Router,
    mut service: Service,
    caller: Caller,
    request: Request,
) -> Result<Response, Failure> {
    let (mut parts, body) = request.into_parts();
    let limit = app.config.max_body_bytes;
    // Its share of the memory for bodies is held until it is answered.
    let read = app.bodies.read(&parts.headers, body, limit).await?;
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&read.bytes) {
        return Ok(protocol_error(
            StatusCode::BAD_REQUEST,
            PARSE_ERROR,
            &format!("the body is not valid JSON: {error}"),
        ));
    }
    parts.headers.insert(ACCEPT, ACCEPTED);
    parts.extensions.insert(Visitor {
        api: std::sync::Arc::new(InProcess {
            router: api,
            authorization: parts.headers.get(AUTHORIZATION).cloned(),
            peer: parts.extensions.get::<Peer>().cloned(),
        }),
        audience: audience(&caller),
    });
    let request = Request::from_parts(parts, Body::from(read.bytes.clone()));
    let answered = service.call(request).await;
    drop(read.share);
    match answered {
        Ok(response) => Ok(in_json(response.map(Body::new)).await),
        Err(never) => match never {},
    }
}

/// Which tools a caller is shown.
fn audience(caller: &Caller) -> Audience {
    let mut roles = Vec::new();
    match &caller.actor.power {
        Power::Attempt { .. } => roles.push(adjutant_mcp::Role::Attempt),
        Power::Roles(own) => roles.extend(own.iter().filter_map(|role| match role {
            Role::Admin => None,
            Role::Submit => Some(adjutant_mcp::Role::Submit),
            Role::Read => Some(adjutant_mcp::Role::Read),
            Role::Agent(_) | Role::AnyAgent => Some(adjutant_mcp::Role::Agent),
        })),
    }
    Audience {
        admin: caller.actor.is_admin(),
        roles,
        agent: caller.own_agent().map(|agent| agent.to_string()),
    }
}

/// An error of the protocol. It names no request: which one it was is not known where the text could not be read.
fn protocol_error(status: StatusCode, code: i32, message: &str) -> Response {
    let body = json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": message}});
    reply::json(status, &body)
}

/// Errors that are only words become errors of the protocol, so that a client can read every answer.
async fn in_json(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let is_json = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || parts.status.is_success() {
        return Response::from_parts(parts, body);
    }
    let words = Limited::new(body, MAX_ERROR_BYTES).collect().await;
    let words = words.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    // JSON that is no request is not of another media type, whatever the library calls it.
    let status = match parts.status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => StatusCode::BAD_REQUEST,
        other => other,
    };
    protocol_error(status, INVALID_REQUEST, &String::from_utf8_lossy(&words))
}

/// The API, asked from inside.
struct InProcess {
    router: Router,
    authorization: Option<HeaderValue>,
    peer: Option<Peer>,
}

impl Api for InProcess {
    fn call(&self, request: adjutant_mcp::Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        self.ask(request).boxed()
    }
}

impl InProcess {
    async fn ask(&self, asked: adjutant_mcp::Request) -> Result<Reply, ApiError> {
        let body = asked.body.map(|body| body.to_string());
        let mut request = http::Request::builder()
            .method(asked.method)
            .uri(asked.path)
            .header(HOST, OWN_NAME)
            .header(CONTENT_TYPE, "application/json")
            .body(body.map_or_else(Body::empty, Body::from))
            .map_err(|error| refusal(Failure::bug(&error.to_string())))?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        let Ok(response) = self.router.clone().call(request).await;
        let (parts, body) = response.into_parts();
        let read = body.collect().await;
        let bytes = read
            .map_err(|error| refusal(Failure::bug(&error.to_string())))?
            .to_bytes();
        let bad = |error: &serde_json::Error| refusal(Failure::bug(&error.to_string()));
        if parts.status.is_success() {
            return Ok(Reply {
                body: serde_json::from_slice::<Value>(&bytes).map_err(|error| bad(&error))?,
                next: next_page(&parts.headers),
            });
        }
        let error: ErrorBody = serde_json::from_slice(&bytes).map_err(|error| bad(&error))?;
        Err(ApiError {
            retry_after_secs: parts
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok()),
            ..told(error)
        })
    }
}

fn told(error: ErrorBody) -> ApiError {
    ApiError {
        status: error.code,
        slug: error.error,
        message: error.message,
        details: error.details,
        retryable: error.retryable,
        retry_after_secs: None,
    }
}

fn refusal(Failure(rejection): Failure) -> ApiError {
    told(crate::failure::error_body(rejection))
}

/// Where the next page of a list begins.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (_, rest) = link.split_once("cursor=")?;
    let end = rest.find(['&', '>']).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}
