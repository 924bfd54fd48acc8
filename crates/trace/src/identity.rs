//! Identity: the numbers of traces and spans, worked out from what is stored.
//!
//! Whoever knows a task's id and its key, which has its time of creation, works out the same numbers: after a restart,
//! and on every server that shares the store. An id that is used again after its task was forgotten has another key.

use adjutant_core::name::TaskId;
use adjutant_core::task::TaskKey;
use opentelemetry::{SpanId, TraceId};
use sha2::{Digest as _, Sha256};

/// Which span of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its submission.
    Submit,
    /// The dispatch of this attempt.
    Dispatch(u32),
    /// This attempt.
    Attempt(u32),
    /// The end of this attempt.
    Settle(u32),
    /// A success of this attempt that came when it had ended as lost or timed out.
    LateSuccess(u32),
    /// The end of the task without the end of an attempt, behind so many attempts.
    Close(u32),
}

impl Part {
    const fn code(self) -> (u8, u32) {
        match self {
            Self::Submit => (0, 0),
            Self::Dispatch(attempt) => (1, attempt),
            Self::Attempt(attempt) => (2, attempt),
            Self::Settle(attempt) => (3, attempt),
            Self::LateSuccess(attempt) => (4, attempt),
            Self::Close(attempts) => (5, attempts),
        }
    }
}

/// The number of a task's trace.
pub(crate) fn trace(id: &TaskId, key: TaskKey) -> TraceId {
    let mut hash = Sha256::new_with_prefix(b"adjutant trace\0");
    hash.update(key.0.to_be_bytes());
    hash.update(id.as_str());
    TraceId::from_bytes(first(&hash.finalize()))
}

/// The number of a span in a trace.
pub(crate) fn span(trace: TraceId, part: Part) -> SpanId {
    let (kind, attempt) = part.code();
    let mut hash = Sha256::new_with_prefix(b"adjutant span\0");
    hash.update(trace.to_bytes());
    hash.update([kind]);
    hash.update(attempt.to_be_bytes());
    SpanId::from_bytes(first(&hash.finalize()))
}

/// The first bytes of a digest. That they are all zero, which no number may be, does not happen.
fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_the_task_and_on_nothing_else() {
        let (id, key) = (TaskId::new("t"), TaskKey(1 << 40));
        // Written down: another version of the program must say the same.
        assert_eq!(trace(&id, key).to_string(), "6a38d5c8035d96392940907ca2be8fb7");
        assert_ne!(
            trace(&id, key),
            trace(&id, TaskKey(2 << 40)),
            "an id that is used again"
        );
        assert_ne!(trace(&id, key), trace(&TaskId::new("u"), key));
    }

    #[test]
    fn each_part_has_a_number_of_its_own() {
        let trace = trace(&TaskId::new("t"), TaskKey(1));
        let mut numbers: Vec<String> = [1, 2]
            .into_iter()
            .flat_map(|attempt| {
                [
                    Part::Dispatch(attempt),
                    Part::Attempt(attempt),
                    Part::Settle(attempt),
                    Part::LateSuccess(attempt),
                    Part::Close(attempt),
                ]
            })
            .chain([Part::Submit])
            .map(|part| span(trace, part).to_string())
            .collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), 11);
    }
}
