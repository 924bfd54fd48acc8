//! The guard: what every request passes on its way in, and every answer on its way out.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use adjutant_core::rejection::{Rejection, Slug};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::header::{AUTHORIZATION, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;

use super::caller::{Caller, forbidden};
use super::table::{OPEN, Rights};
use crate::app::App;
use crate::attempt_token;
use crate::failure::Failure;
use crate::reply;
use crate::token::digest;

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Lets a request in or not; a handler that panics hits its own request alone.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let started = Instant::now();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let mut response = match admit(&app, &mut parts).await {
        Err(rejection) => Failure(rejection).into_response(),
        Ok(()) => match AssertUnwindSafe(next.run(Request::from_parts(parts, body)))
            .catch_unwind()
            .await
        {
            Ok(response) => response,
            Err(panic) => Failure::bug(panic_message(&*panic)).into_response(),
        },
    };
    reply::set(&mut response, CONTENT_SECURITY_POLICY, "default-src 'self'");
    reply::set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    let (status, micros) = (response.status().as_u16(), started.elapsed().as_micros());
    tracing::debug!(%method, path, status, micros, "answered");
    response
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
    let Some(path) = parts.extensions.get::<MatchedPath>() else {
        return Ok(()); // No such path: 404.
    };
    let Some(may) = app.table.find(&parts.method, path.as_str()) else {
        return Ok(()); // No such method: 405.
    };
    if may == OPEN {
        return Ok(());
    }
    let mut caller = authenticate(app, parts).await?;
    caller.through = may.and(Rights::of(&caller.actor));
    if !caller.actor.is_admin() && caller.through.is_empty() {
        return Err(
            forbidden("the roles of this token do not reach so far").with_details(format!(
                "{} {}",
                parts.method,
                path.as_str()
            )),
        );
    }
    parts.extensions.insert(caller);
    Ok(())
}

async fn authenticate(app: &App, parts: &Parts) -> Result<Caller, Rejection> {
    if app.config.open {
        return Ok(Caller::admin());
    }
    let token = bearer(parts)?;
    let peer = parts.extensions.get::<Peer>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let now = Instant::now();
    if token.starts_with(attempt_token::PREFIX) {
        if let Some(claim) = app.mint.verify(token) {
            return Ok(Caller::attempt(claim));
        }
    } else {
        let curious = !app.sign_ins.is_over(peer, now);
        let found = app.directory.find(&digest(token), curious).await;
        if let Some(holder) = found.map_err(|refusal| Failure::from(refusal).0)? {
            return Ok(Caller::with_roles(holder.name, holder.roles));
        }
    }
    Err(app.sign_ins.failed(peer, now))
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
