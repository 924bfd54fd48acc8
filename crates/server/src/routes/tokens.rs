//! `/api/tokens`: access tokens, for administrators.

use std::sync::Arc;

use adjutant_core::access::Role;
use adjutant_core::command::AccessToken;
use adjutant_core::rejection::{Rejection, Slug};
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::extract::{Input, JoinedPath, Object};
use crate::failure::Failure;
use crate::{parse, reply, token, view};

/// The most roles of one token.
const MAX_ROLES: usize = 100;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_tokens, create_token))
        .routes(routes!(revoke_token))
}

/// List access tokens
///
/// Their names and roles; their secrets are not kept.
#[utoipa::path(get, path = "/api/tokens", tag = "tokens", responses((status = 200, body = Vec<wire::Token>)))]
async fn list_tokens(State(app): State<App>) -> Result<Response, Failure> {
    let tokens = app.handle.query(|reader| reader.tokens()).await?;
    let tokens: Vec<_> = tokens.iter().map(view::ops::token).collect();
    Ok(reply::ok(&tokens))
}

/// Make an access token
///
/// Its secret is in this answer and nowhere else. A repeat is refused because the name exists: an `Idempotency-Key`
/// could not show the secret again.
#[utoipa::path(
    post, path = "/api/tokens", tag = "tokens",
    request_body = wire::NewToken,
    responses((status = 201, body = wire::TokenMade))
)]
async fn create_token(
    State(app): State<App>,
    input: Input<Object<wire::NewToken>>,
) -> Result<Response, Failure> {
    let wire::NewToken { name, roles } = input.body.0;
    let roles = token_roles(&name, &roles)?;
    let secret = token::generate().map_err(|error| Failure::bug(&error.to_string()))?;
    let token = AccessToken {
        name: name.as_str().into(),
        digest: token::digest(&secret),
        roles: roles.clone(),
        created_at: app.handle.now(),
    };
    let owned = app.clone();
    let is_new = app
        .to_its_end(async move { owned.directory.create(token).await })
        .await?;
    if !is_new {
        return Err(Rejection::new(Slug::TokenExists, format!("there is a token `{name}` already")).into());
    }
    let made = wire::TokenMade {
        name,
        roles: view::texts(&roles),
        token: secret,
    };
    Ok(reply::json(StatusCode::CREATED, &made))
}

/// The roles of a new token, checked together with its name.
fn token_roles(name: &str, roles: &[String]) -> Result<Arc<[Role]>, Rejection> {
    token::check_name(name).map_err(|why| Rejection::field("name", why))?;
    if roles.is_empty() {
        return Err(Rejection::field("roles", "must not be empty"));
    }
    parse::at_most("roles", roles.len(), MAX_ROLES)?;
    roles
        .iter()
        .enumerate()
        .map(|(index, role)| {
            role.parse()
                .map_err(|why| Rejection::field(&format!("roles[{index}]"), why))
        })
        .collect()
}

/// Revoke an access token
///
/// It counts no more from now on: streams and waits that it began end as well.
#[utoipa::path(
    delete, path = "/api/tokens/{name}", tag = "tokens",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = wire::Acknowledgement))
)]
async fn revoke_token(State(app): State<App>, JoinedPath(name): JoinedPath) -> Result<Response, Failure> {
    let (owned, own_name) = (app.clone(), Arc::from(name.as_str()));
    let was_there = app
        .to_its_end(async move { owned.directory.revoke(own_name).await })
        .await?;
    if !was_there {
        return Err(Rejection::new(Slug::TokenNotFound, format!("there is no token `{name}`")).into());
    }
    Ok(reply::ok(&wire::Acknowledgement {
        message: "token revoked".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_name_and_roles_that_exist() {
        let roles = |name: &str, roles: &[&str]| {
            token_roles(
                name,
                &roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            *roles("ci", &["submit", "agent:a"]).unwrap(),
            [Role::Submit, Role::Agent("a".into())]
        );
        assert!(roles("upper", &["read"]).is_ok());
        for (name, list, field) in [
            ("", &["read"][..], "name"),
            ("a b", &["read"], "name"),
            ("up", &["read"], "name"),
            ("up:a", &["read"], "name"),
            ("ci", &[], "roles"),
            ("ci", &["read", "root"], "roles[1]"),
            ("ci", &["agent:"], "roles[0]"),
        ] {
            let refused = roles(name, list).unwrap_err();
            assert!(refused.message.starts_with(field), "{}", refused.message);
        }
    }
}
