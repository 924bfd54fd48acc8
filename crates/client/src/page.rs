//! Lists of tasks and of agents: what to ask for, and how to get the next page.

use adjutant_core::task::{Priority, Status};
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::request::Call;

/// Which tasks to list; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// In this state.
    pub status: Option<Status>,
    /// This urgent.
    pub priority: Option<Priority>,
    /// Of this project.
    pub project: Option<String>,
    /// Held by this agent, or held by it at their end.
    pub claimed_by: Option<String>,
    /// With all of these labels.
    pub labels: Vec<String>,
    /// The most tasks of one page, 1–1000; the server's default is 100.
    pub limit: Option<u32>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What it holds.
    pub items: Vec<T>,
    /// How to ask for the rest, for [`crate::Client::next_tasks`] or [`crate::Client::next_agents`]; none at the end.
    pub next: Option<String>,
}

/// Asks for a page.
pub(crate) async fn page<T: DeserializeOwned>(call: Call<'_>) -> Result<Page<T>, Error> {
    let answer = call.answer().await?;
    Ok(Page {
        next: next_query(&answer.headers),
        items: answer.json()?,
    })
}

/// The query of the link to the next page. Its host and path are left aside on purpose: behind a proxy they may be
/// wrong, and the token must not follow a link to another host.
fn next_query(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all("link")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(split_links)
        .find_map(|(target, parameters)| {
            let is_next = parameters.split(';').any(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split_ascii_whitespace()
                        .any(|rel| rel == "next")
            });
            let (_, query) = target.split_once('?')?;
            is_next.then(|| query.split('#').next().unwrap_or_default().to_owned())
        })
}

/// Splits `<a>; rel="x", <b>; rel="y"` into targets and parameters; a comma inside of `<>` does not separate.
fn split_links(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split('<').skip(1).filter_map(|part| {
        let (target, parameters) = part.split_once('>')?;
        Some((target, parameters.trim_end().trim_end_matches(',')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_any_form_of_the_header() {
        for (link, query) in [
            (
                r#"</api/tasks?limit=2&after=x>; rel="next""#,
                Some("limit=2&after=x"),
            ),
            (
                r#"<http://other/api/tasks?labels=a,b>; rel="prev", <http://other/api/tasks?c=1>; rel=next"#,
                Some("c=1"),
            ),
            (
                r#"</api/tasks?labels=a,b>; title="x"; rel="last next""#,
                Some("labels=a,b"),
            ),
            (r#"</api/tasks?p=1>; rel="prev""#, None),
            ("nonsense", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("link", link.parse().unwrap());
            assert_eq!(next_query(&headers).as_deref(), query, "{link}");
        }
    }
}
