//! Signing in to the dashboard: links for those who have a token, and a session for who opens one.

use std::time::{Instant, SystemTime};

use adjutant_core::rejection::{Rejection, Slug};
use adjutant_wire as wire;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::forbidden;
use crate::access::guard::address;
use crate::access::links::LIFETIME;
use crate::app::App;
use crate::extract::{Input, MaybeObject, Nothing};
use crate::failure::Failure;
use crate::{json, reply};

/// The most bytes of a code with what is around it.
const MAX_BODY_BYTES: usize = 4 << 10;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create_sign_in_link))
}

/// What browsers ask.
pub(crate) fn browser_routes() -> Router<App> {
    Router::new()
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
}

/// Make a link that signs a browser in to the dashboard
///
/// It works once, for ten minutes, at the server that made it, and gives the browser the roles of the token that asked
/// for it. Who revokes that token ends the session as well. It is made for a token, not for a session: a session does not
/// outlive its seven days.
#[utoipa::path(
    post, path = "/api/sign-in-links", tag = "tokens",
    responses((status = 201, body = wire::SignInLink))
)]
async fn create_sign_in_link(
    State(app): State<App>,
    headers: HeaderMap,
    input: Input<MaybeObject<Nothing>>,
) -> Result<Response, Failure> {
    if input.caller.pass.is_some() && !headers.contains_key(AUTHORIZATION) {
        return Err(forbidden("a session makes no further sessions")
            .with_details("make the link with a token: `adjutant token link`")
            .into());
    }
    let base = base(&app, &headers);
    let url = match input.caller.pass {
        Some(pass) => {
            let code = app
                .links
                .make(pass.digest, Instant::now())
                .map_err(|error| Failure::bug(&error.to_string()))?;
            format!("{base}/sign-in#{code}")
        }
        // A server that asks for no tokens asks for no sign-in.
        None => format!("{base}/"),
    };
    let link = wire::SignInLink {
        url,
        expires_in: LIFETIME.as_secs(),
    };
    Ok(reply::json(StatusCode::CREATED, &link))
}

/// The address that the server is reached by.
fn base(app: &App, headers: &HeaderMap) -> String {
    if let Some(url) = &app.config.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let scheme = if app.config.tls.is_some() { "https" } else { "http" };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

/// What a browser sends.
#[derive(Deserialize)]
struct Code {
    code: String,
}

/// Turns the code of a link into a session. Wrong codes count as unknown tokens do, and a good one is taken however many
/// wrong ones came from the same address: nobody guesses one.
async fn sign_in(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let peer = address(&parts);
    let read = app.bodies.read(&parts.headers, body, MAX_BODY_BYTES).await?;
    let Code { code } = json::object(&read.bytes)?;
    let now = Instant::now();
    let Some(digest) = app.links.take(&code, now) else {
        let rejection = app.sign_ins.failed(peer, now);
        return Err(if rejection.slug == Slug::Unauthorized {
            Rejection::new(
                Slug::Unauthorized,
                "this link was used before, or is older than ten minutes",
            )
            .with_details("make a new one with `adjutant token link`")
        } else {
            rejection
        }
        .into());
    };
    let mut response = reply::ok(&wire::Acknowledgement {
        message: "signed in".to_owned(),
    });
    set_cookie(&mut response, app.sessions.cookie(&digest, SystemTime::now()));
    Ok(response)
}

/// Ends the session of a browser.
async fn sign_out(State(app): State<App>) -> Response {
    let mut response = reply::ok(&wire::Acknowledgement {
        message: "signed out".to_owned(),
    });
    set_cookie(&mut response, app.sessions.end());
    response
}

fn set_cookie(response: &mut Response, cookie: HeaderValue) {
    response.headers_mut().insert(SET_COOKIE, cookie);
    reply::set(response, CACHE_CONTROL, "no-store");
}
