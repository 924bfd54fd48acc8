//! Pages of tasks, bounded in bytes as well as in number.
//!
//! A task may have megabytes of description, payload, result and notes. A page is read from the store in steps, and ends
//! early when it is large; whoever asked goes on with the next one.

use adjutant_store::{Page, Reader, StoreError, StoredTask, TaskFilter};
use adjutant_wire as wire;
use http::{HeaderValue, Uri};

use crate::failure::Failure;

/// After so many bytes of text a page, or what a sync hands out, ends. A single task may be larger.
pub(crate) const MAX_BYTES: usize = 16 << 20;
/// Tasks of the first step. What follows is as long as what was seen lets expect, at most twice as long.
const FIRST_STEP: usize = 8;

/// Reads a page.
pub(crate) fn read(
    reader: &mut dyn Reader,
    mut filter: TaskFilter,
    most_bytes: usize,
) -> Result<Page, StoreError> {
    let most = filter.limit;
    let (mut tasks, mut bytes, mut step): (Vec<StoredTask>, usize, usize) = (Vec::new(), 0, FIRST_STEP);
    loop {
        filter.limit = step.min(most - tasks.len());
        let page = reader.tasks(&filter)?;
        for task in page.tasks {
            bytes += weight(&task);
            if bytes > most_bytes && !tasks.is_empty() {
                return Ok(Page {
                    next: tasks.last().map(place),
                    tasks,
                });
            }
            tasks.push(task);
        }
        if page.next.is_none() || tasks.len() >= most {
            return Ok(Page {
                tasks,
                next: page.next,
            });
        }
        filter.after = page.next;
        let usual = bytes / tasks.len().max(1);
        step = (step * 2)
            .min(most_bytes.saturating_sub(bytes) / usual.max(1))
            .max(1);
    }
}

/// The value of a `Link` header: the same request for the page that begins at `place`, which `parameter` names.
pub(crate) fn next_link(uri: &Uri, parameter: &str, place: &str) -> Result<HeaderValue, Failure> {
    let mut query: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(parameter))
        .collect();
    let place = format!("{parameter}={place}");
    query.push(&place);
    HeaderValue::from_str(&format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&")))
        .map_err(|_| Failure::bug("the address of a next page is not a header"))
}

fn place(stored: &StoredTask) -> (adjutant_core::task::Priority, adjutant_core::task::TaskKey) {
    (stored.task.priority, stored.task.key)
}

/// How many bytes of text a stored task has.
pub(crate) fn weight(stored: &StoredTask) -> usize {
    let details = &stored.details;
    let body = &details.body;
    let files: usize = body.files.iter().map(String::len).sum();
    let notes: usize = details.notes.iter().map(|note| note.text.len()).sum();
    let result = details.result.as_ref().map_or(0, |result| {
        let artifacts: usize = result.artifacts.iter().map(String::len).sum();
        result.output.len() + result.error_message.len() + artifacts
    });
    let payload = body.payload.as_ref().map_or(0, |payload| payload.len());
    let reason = details.fail_reason.as_ref().map_or(0, String::len);
    body.title.len() + body.description.len() + payload + files + notes + result + reason
}

/// The same of a task as it is shown.
pub(crate) fn weight_shown(task: &wire::Task) -> usize {
    let files: usize = task.files.iter().map(String::len).sum();
    let notes: usize = task.notes.iter().map(|note| note.text.len()).sum();
    let result = task.result.as_ref().map_or(0, |result| {
        let artifacts: usize = result.artifacts.iter().map(String::len).sum();
        result.output.len() + result.error_message.len() + artifacts
    });
    let payload = task.payload.as_ref().map_or(0, |payload| payload.get().len());
    task.title.len() + task.description.len() + payload + files + notes + result
}
