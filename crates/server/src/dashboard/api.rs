//! The API, to read and to try in a browser: Swagger UI, as its library brings it, over `/openapi.json`.

use std::sync::{Arc, LazyLock};

use adjutant_core::rejection::{Rejection, Slug};
use adjutant_dashboard::api;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use utoipa_swagger_ui::{Config, serve};

use super::html;
use crate::failure::Failure;
use crate::reply;

/// As for all pages, and what Swagger UI needs beside: styles on elements, and pictures within its style sheet.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What Swagger UI is told. Left to itself it asks a service on the internet whether the description is valid.
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("/openapi.json")
        .use_base_layout()
        .validator_url("none")
        .deep_linking(true)
        .doc_expansion("list")
        .default_models_expand_depth(-1)
        .display_request_duration(true);
    Arc::new(config)
});

pub(super) async fn show() -> Response {
    let mut response = html(StatusCode::OK, api::page());
    reply::set(&mut response, CONTENT_SECURITY_POLICY, POLICY);
    response
}

/// One of the files of Swagger UI.
pub(super) async fn file(Path(name): Path<String>) -> Response {
    let Ok(Some(file)) = serve(&name, Arc::clone(&CONFIG)) else {
        let unknown = Rejection::new(Slug::NotFound, "there is no such file");
        return Failure(unknown).into_response();
    };
    let mut response = Response::new(file.bytes.into_owned().into());
    if let Ok(content_type) = HeaderValue::from_str(&file.content_type) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    // They change with the program alone, and are large: a browser that has them asks again once in an hour.
    reply::set(&mut response, CACHE_CONTROL, "max-age=3600");
    response
}
