//! `/openapi.json`: the description of this API, made from its handlers and its table of endpoints.
//!
//! Handlers say what they take and give; which errors an endpoint can answer, and who may use it, is filled in from
//! [`crate::access::table`], which is also what the guard goes by.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use adjutant_core::rejection::Slug;
use adjutant_wire::ErrorBody;
use axum::body::Bytes;
use axum::response::Response;
use http::{Method, StatusCode};
use utoipa::PartialSchema as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::table::{Endpoint, OPEN, endpoints};
use crate::app::App;
use crate::reply;

/// The name of the way in which tokens are shown.
const BEARER: &str = "token";
/// The name of the shape of errors.
const ERROR: &str = "ErrorBody";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_openapi))
}

/// The description of this API
#[utoipa::path(get, path = "/openapi.json", tag = "server", responses((status = 200, body = Object)))]
async fn get_openapi() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().into());
    reply::with_type(StatusCode::OK, "application/json", text.clone())
}

/// The description of the API as JSON text.
pub(crate) fn document() -> String {
    let mut openapi = super::all().into_openapi();
    complete(&mut openapi);
    openapi
        .to_pretty_json()
        .expect("the description of the API is made of plain maps and texts")
}

/// What the description begins with.
pub(super) fn head() -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An access token, or the token of an attempt"))
        .build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("adjutant")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "Roll-call, routing and rations for fleets of AI agents. Errors have one shape, and a stable slug.",
                )),
        )
        .components(Some(
            ComponentsBuilder::new()
                .security_scheme(BEARER, SecurityScheme::Http(bearer))
                .build(),
        ))
        .build()
}

/// Adds to every operation the errors that it can answer, and the token that it asks for.
fn complete(openapi: &mut OpenApi) {
    for endpoint in endpoints().iter().filter(|endpoint| !endpoint.undescribed) {
        if let Some(operation) = openapi
            .paths
            .paths
            .get_mut(endpoint.path)
            .and_then(|item| operation(item, &endpoint.method))
        {
            add_errors(operation, endpoint);
        }
    }
    if let Some(components) = &mut openapi.components {
        components.schemas.insert(ERROR.to_owned(), error_schema());
    }
}

fn operation<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    match method.as_str() {
        "GET" => item.get.as_mut(),
        "POST" => item.post.as_mut(),
        "PUT" => item.put.as_mut(),
        "PATCH" => item.patch.as_mut(),
        "DELETE" => item.delete.as_mut(),
        _ => None,
    }
}

fn add_errors(operation: &mut Operation, endpoint: &Endpoint) {
    if endpoint.may != OPEN {
        let none: [&str; 0] = [];
        operation.security = Some(vec![SecurityRequirement::new(BEARER, none)]);
    }
    let mut by_code: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for slug in endpoint.slugs() {
        by_code.entry(slug.code()).or_default().push(slug.name());
    }
    for (code, slugs) in by_code {
        let words: Vec<_> = slugs.iter().map(|slug| format!("`{slug}`")).collect();
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(ERROR)))
            .build();
        let response = ResponseBuilder::new()
            .description(words.join(", "))
            .content("application/json", content)
            .build();
        operation
            .responses
            .responses
            .insert(code.to_string(), RefOr::T(response));
    }
}

/// The shape of errors, with all slugs by name.
fn error_schema() -> RefOr<Schema> {
    let mut schema = ErrorBody::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema
        && let Some(RefOr::T(Schema::Object(slug))) = object.properties.get_mut("error")
    {
        slug.enum_values = Some(Slug::ALL.iter().map(|slug| slug.name().into()).collect());
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn described() -> Value {
        serde_json::from_str(&document()).unwrap()
    }

    #[test]
    fn the_table_and_the_routes_are_the_same_endpoints() {
        let described = described();
        let routed: BTreeSet<String> = described["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let listed: BTreeSet<String> = endpoints()
            .iter()
            .filter(|endpoint| !endpoint.undescribed)
            .map(|endpoint| format!("{} {}", endpoint.method, endpoint.path))
            .collect();
        assert_eq!(routed, listed);
    }

    #[test]
    fn every_slug_is_described_and_every_endpoint_says_which_it_answers() {
        let described = described();
        let slugs = described["components"]["schemas"][ERROR]["properties"]["error"]["enum"]
            .as_array()
            .unwrap();
        assert_eq!(slugs.len(), Slug::ALL.len());
        let claim = &described["paths"]["/api/tasks/{id}/claim"]["post"]["responses"];
        assert!(
            claim["409"]["description"]
                .as_str()
                .unwrap()
                .contains("`task_already_claimed`")
        );
        assert!(
            claim["429"]["description"]
                .as_str()
                .unwrap()
                .contains("`quota_exceeded`")
        );
        assert!(claim["200"].is_object() && claim["500"].is_object());
        let told: BTreeSet<&str> = endpoints()
            .iter()
            .flat_map(Endpoint::slugs)
            .map(Slug::name)
            .collect();
        let missing: Vec<_> = Slug::ALL
            .iter()
            .map(|slug| slug.name())
            .filter(|name| !told.contains(name))
            .collect();
        // These two have no endpoint: that is what they say.
        assert_eq!(missing, ["not_found", "method_not_allowed"]);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(target)) = fields.get("$ref") {
                        found.insert(target);
                    }
                    fields.values().for_each(|field| references(field, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let described = described();
        let mut found = BTreeSet::new();
        references(&described, &mut found);
        for target in found {
            let name = target.strip_prefix("#/components/schemas/").unwrap();
            assert!(described["components"]["schemas"][name].is_object(), "{target}");
        }
    }
}
