//! `/api/repos/{owner}/{name}`: the limits of a repository.

use adjutant_core::command::{Command, PolicyChange};
use adjutant_core::limit::Scope;
use adjutant_core::name::RepoName;
use adjutant_wire as wire;
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::caller::Caller;
use crate::app::App;
use crate::extract::{Input, JoinedPath, Object};
use crate::failure::Failure;
use crate::{parse, reply, view};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_repo, put_repo))
}

/// Read the limits of a repository
#[utoipa::path(
    get, path = "/api/repos/{owner}/{name}", tag = "limits",
    params(
        ("owner" = String, Path, pattern = "^[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99}$", description = "Its owner"),
        ("name" = String, Path, pattern = "^[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99}$", description = "Its name"),
    ),
    responses((status = 200, body = wire::Repo))
)]
async fn get_repo(
    State(app): State<App>,
    caller: Caller,
    JoinedPath(path): JoinedPath,
) -> Result<Response, Failure> {
    let repo: RepoName = parse::repo("repo", &path)?;
    let command = Command::GetPolicy(Scope::Repo(repo.clone()));
    let standing = app.standing(caller, command, None).await?;
    Ok(reply::ok(&view::limit::repo(&repo, &standing.policy)))
}

/// Replace the limits of a repository
#[utoipa::path(
    put, path = "/api/repos/{owner}/{name}", tag = "limits",
    params(
        ("owner" = String, Path, pattern = "^[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99}$", description = "Its owner"),
        ("name" = String, Path, pattern = "^[^/\\u0000-\\u001f\\u007f-\\u009f]{1,99}$", description = "Its name"),
    ),
    request_body = wire::Repo,
    responses((status = 200, body = wire::Repo))
)]
async fn put_repo(
    State(app): State<App>,
    JoinedPath(path): JoinedPath,
    input: Input<Object<wire::Repo>>,
) -> Result<Response, Failure> {
    let repo: RepoName = parse::repo("repo", &path)?;
    let limits = parse::limit::repo(&repo, &input.body.0)?;
    let command = Command::SetPolicy(Scope::Repo(repo.clone()), PolicyChange::Repo(limits));
    let standing = app.standing(input.caller, command, None).await?;
    Ok(reply::ok(&view::limit::repo(&repo, &standing.policy)))
}
