//! The guard: what every request passes on its way in, and every answer on its way out.
//!
//! It fails closed: what has no line in the [table](super::table) is answered as if it did not exist, whether it is
//! routed or not.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use adjutant_core::rejection::{Rejection, Slug};
use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::header::{
    ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;

use super::caller::{Caller, forbidden};
use super::directory::Pass;
use super::table::{Lines, OPEN, Rights};
use crate::app::App;
use crate::attempt_token;
use crate::failure::Failure;
use crate::serve::standing::Standing;
use crate::token::digest;
use crate::{dashboard, reply};

/// Answers up to this size are not counted: they fit into what the system holds for a connection.
const SMALL_ANSWER_BYTES: u64 = 64 << 10;

/// What pages may do where they do not say otherwise: nothing that is not of this server, no script or style in the
/// markup, and in nobody's frame.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Where a request came from.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The address.
    pub(crate) address: IpAddr,
    /// What is known of the connection.
    pub(crate) standing: Arc<Standing>,
}

/// The address that a request came from, for what is counted by it.
pub(crate) fn address(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<Peer>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address)
}

/// Lets a request in or not; a handler that panics hits its own request alone.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let started = Instant::now();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let matched = parts.extensions.get::<MatchedPath>().cloned();
    let mut response = match admit(&app, &mut parts).await {
        Err(rejection) if is_page(&app, matched.as_ref()) => dashboard::refusal(&rejection),
        Err(rejection) => Failure(rejection).into_response(),
        Ok(()) => match AssertUnwindSafe(next.run(Request::from_parts(parts, body)))
            .catch_unwind()
            .await
        {
            Ok(response) => response,
            Err(panic) => Failure::bug(panic_message(&*panic)).into_response(),
        },
    };
    if method == Method::GET {
        response = within_memory(&app, response);
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Some(lines) = matched.as_ref().and_then(|path| app.table.of(path.as_str()))
        && let Ok(methods) = HeaderValue::from_str(&lines.methods())
    {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
        .headers_mut()
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(POLICY));
    reply::set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    let (status, took) = (response.status(), started.elapsed());
    let endpoint = matched.as_ref().map(MatchedPath::as_str);
    app.metrics.answered(&method, endpoint, status, took);
    let (status, micros) = (status.as_u16(), took.as_micros());
    tracing::debug!(%method, path, status, micros, "answered");
    response
}

/// Whether people see what is answered there: then they are told of a refusal in a page.
fn is_page(app: &App, matched: Option<&MatchedPath>) -> bool {
    matched
        .and_then(|path| app.table.of(path.as_str()))
        .is_some_and(Lines::is_page)
}

/// A large answer takes its share of the memory for answers until it is sent, however slowly it is read. Where there is
/// none left the request is refused: it has changed nothing.
fn within_memory(app: &App, response: Response) -> Response {
    let Some(length) = response.body().size_hint().exact() else {
        return response; // A stream holds a page at a time.
    };
    if length <= SMALL_ANSWER_BYTES {
        return response;
    }
    let share = u32::try_from(length >> 10).unwrap_or(u32::MAX);
    let Ok(share) = Arc::clone(&app.answers).try_acquire_many_owned(share) else {
        return Failure(Rejection::new(
            Slug::Overloaded,
            "the server is sending as many large answers as it can hold",
        ))
        .into_response();
    };
    let (mut head, body) = response.into_parts();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let body = Body::new(body.map_frame(move |frame| {
        let _held = &share;
        frame
    }));
    Response::from_parts(head, body)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a handler panicked")
}

/// Finds out who speaks, and refuses what it may not do. The caller is left with the request.
async fn admit(app: &App, parts: &mut Parts) -> Result<(), Rejection> {
    app.origins.check(&parts.uri, &parts.headers)?;
    let path = parts.extensions.get::<MatchedPath>();
    let Some(lines) = path.and_then(|path| app.table.of(path.as_str())) else {
        return Err(Rejection::new(
            Slug::NotFound,
            format!("there is nothing at `{}`", parts.uri.path()),
        ));
    };
    let Some(may) = lines.find(&parts.method) else {
        return Err(Rejection::new(
            Slug::MethodNotAllowed,
            format!("`{}` cannot be asked with {}", parts.uri.path(), parts.method),
        ));
    };
    if may == OPEN {
        return Ok(());
    }
    let mut caller = authenticate(app, parts, may).await?;
    caller.through = may.and(Rights::of(&caller.actor));
    if !caller.actor.is_admin() && caller.through.is_empty() {
        return Err(
            forbidden("the roles of this token do not reach so far").with_details(format!(
                "{} {}",
                parts.method,
                path.map_or("", MatchedPath::as_str)
            )),
        );
    }
    parts.extensions.insert(caller);
    Ok(())
}

async fn authenticate(app: &App, parts: &Parts, may: Rights) -> Result<Caller, Rejection> {
    if app.config.open {
        return Ok(Caller::admin());
    }
    if !parts.headers.contains_key(AUTHORIZATION)
        && let Some(digest) = app.sessions.token(&parts.headers, SystemTime::now())
    {
        return by_session(app, parts, digest, may).await;
    }
    let token = bearer(parts)?;
    let peer = address(parts);
    let now = Instant::now();
    if token.starts_with(attempt_token::PREFIX) {
        if let Some(claim) = app.mint.verify(token) {
            return Ok(Caller::attempt(claim));
        }
    } else {
        let curious = !app.sign_ins.is_over(peer, now);
        let digest = digest(token);
        let found = app.directory.find(&digest, curious).await;
        if let Some(holder) = found.map_err(|refusal| Failure::from(refusal).0)? {
            let pass = Some(Pass { digest, may });
            return Ok(Caller {
                pass,
                ..Caller::with_roles(holder.name, holder.roles)
            });
        }
    }
    Err(app.sign_ins.failed(peer, now))
}

/// Who speaks by a browser's session. What a browser sends along by itself changes nothing, unless it says which page
/// made it: that this page is one of ours was seen before.
async fn by_session(app: &App, parts: &Parts, digest: [u8; 32], may: Rights) -> Result<Caller, Rejection> {
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    if !reads && !parts.headers.contains_key(ORIGIN) {
        return Err(Rejection::new(
            Slug::ForeignOrigin,
            "a session changes things for pages of this server only, and this request does not say whose it is",
        ));
    }
    let found = app.directory.find(&digest, false).await;
    match found.map_err(|refusal| Failure::from(refusal).0)? {
        Some(holder) => Ok(Caller {
            pass: Some(Pass { digest, may }),
            ..Caller::with_roles(holder.name, holder.roles)
        }),
        None => Err(Rejection::new(
            Slug::Unauthorized,
            "the token of this session was revoked",
        )),
    }
}

/// The token of a request.
fn bearer(parts: &Parts) -> Result<&str, Rejection> {
    let refused = |what| {
        Rejection::new(Slug::Unauthorized, what).with_details("send the header `Authorization: Bearer TOKEN`")
    };
    let value = parts
        .headers
        .get(AUTHORIZATION)
        .ok_or_else(|| refused("a token is needed"))?;
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().split_once(' '))
        .ok_or_else(|| refused("the Authorization header is not readable"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused("the Authorization header must be of the scheme Bearer"));
    }
    Ok(token.trim_start())
}
