//! The description of the API, to read and to try.

use maud::{DOCTYPE, Markup, html};

use crate::assets::ICON;

/// Where the files of Swagger UI are.
pub const FILES: &str = "/docs";

/// The page: Swagger UI shows in it what `/openapi.json` says.
pub fn page() -> Markup {
    let file = |name: &str| format!("{FILES}/{name}");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "API · adjutant" }
                link rel="icon" type=(ICON.content_type) href=(ICON.path);
                link rel="stylesheet" href=(file("swagger-ui.css"));
                link rel="stylesheet" href=(file("index.css"));
            }
            body {
                noscript { p { "This page needs JavaScript. The description itself is at " a href="/openapi.json" { "/openapi.json" } "." } }
                div #swagger-ui {}
                // In this order: each uses what the one before it has defined.
                script src=(file("swagger-ui-bundle.js")) {}
                script src=(file("swagger-ui-standalone-preset.js")) {}
                script src=(file("swagger-initializer.js")) {}
            }
        }
    }
}
