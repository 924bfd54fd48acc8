//! Bodies of tasks that were accepted lately: most are needed again soon, when an agent gets the task.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use adjutant_core::task::{Body, TaskKey};

/// The most that is kept, in bytes of text.
const CAPACITY_BYTES: usize = 8 * 1024 * 1024;
/// A body larger than this is not kept: it would push out too many others.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// A bounded cache, oldest out first.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    kept: HashMap<TaskKey, Arc<Body>>,
    order: VecDeque<(TaskKey, usize)>,
    bytes: usize,
}

fn size(body: &Body) -> usize {
    const OVERHEAD: usize = 128;
    OVERHEAD
        + body.title.len()
        + body.description.len()
        + body.payload.as_ref().map_or(0, |payload| payload.len())
        + body.files.iter().map(String::len).sum::<usize>()
        + body
            .dependencies
            .iter()
            .map(|id| id.as_str().len())
            .sum::<usize>()
}

impl Bodies {
    pub(crate) fn put(&mut self, key: TaskKey, body: Arc<Body>) {
        let size = size(&body);
        if size > MAX_BODY_BYTES {
            return;
        }
        if self.kept.insert(key, body).is_none() {
            self.order.push_back((key, size));
            self.bytes += size;
        }
        while self.bytes > CAPACITY_BYTES
            && let Some((oldest, size)) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
            self.bytes -= size;
        }
    }

    pub(crate) fn get(&self, key: TaskKey) -> Option<Arc<Body>> {
        self.kept.get(&key).cloned()
    }
}
