//! The session of an agent's command line: kept as a note of the task, so that the next attempt can go on with it.
//!
//! A note is the one thing that an attempt can leave with its task at any time, that outlives the attempt, the worker
//! and the server, and that comes back with the task; and people who read it can go on with the session themselves.
//! Sessions are files of the machine that they were begun on, so only the notes of the same agent count, and only those
//! of the same kind of program.
//!
//! ```text
//! claude session 6f1c…                                        begun, or gone on with
//! codex session 0199…: counted 1200 in, 300 cached, 40 out    the totals of the thread that were booked
//! claude session 6f1c…: failed again, not resumed any more
//! ```
//!
//! # Invariants
//! - A session that failed twice is not gone on with: whatever is wrong with it, the next attempt begins afresh.
//! - What a note says can only become the value of a flag, never a flag.

use adjutant_core::attempt::Tokens;
use adjutant_wire::Task;

use crate::adapter::AdapterKind;

/// Longer ids are garbage.
const MAX_ID_BYTES: usize = 128;
/// What a note ends with after which a session is left alone.
const CLOSED: &str = "failed again, not resumed any more";

/// A session of an earlier attempt.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Session {
    /// Its id.
    pub(crate) id: String,
    /// What was counted of it, where its program tells totals of sessions.
    pub(crate) counted: Tokens,
}

impl Session {
    /// The session that the agent's last attempt at this task had, if it is to be gone on with.
    pub(crate) fn of(task: &Task, agent: &str, kind: AdapterKind) -> Option<Self> {
        let mut own = task.notes.iter().rev().filter(|note| note.author == agent);
        match own.find_map(|note| read(&note.text, kind))? {
            Noted::Open(session) => Some(session),
            Noted::Closed => None,
        }
    }

    /// The note that keeps it.
    pub(crate) fn note(&self, kind: AdapterKind) -> String {
        let Self { id, counted } = self;
        if counted.is_zero() {
            return format!("{kind} session {id}");
        }
        let Tokens {
            tokens_in,
            tokens_out,
            tokens_cached,
        } = counted;
        format!("{kind} session {id}: counted {tokens_in} in, {tokens_cached} cached, {tokens_out} out")
    }

    /// The note after which it is left alone.
    pub(crate) fn closing_note(&self, kind: AdapterKind) -> String {
        format!("{kind} session {}: {CLOSED}", self.id)
    }
}

/// Whether this can be the id of a session, and nothing else.
pub(crate) fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    !text.is_empty() && text.len() <= MAX_ID_BYTES && !text.starts_with('-') && text.bytes().all(plain)
}

/// What a note says of a session.
enum Noted {
    Open(Session),
    Closed,
}

/// Reads a note, if it is about a session.
fn read(note: &str, kind: AdapterKind) -> Option<Noted> {
    let rest = note.strip_prefix(kind.name())?.strip_prefix(" session ")?;
    let (id, more) = rest.split_once(": ").unwrap_or((rest, ""));
    if !is_id(id) {
        return None;
    }
    let counted = match more {
        "" => Tokens::default(),
        CLOSED => return Some(Noted::Closed),
        counted => read_counted(counted)?,
    };
    Some(Noted::Open(Session {
        id: id.to_owned(),
        counted,
    }))
}

fn read_counted(text: &str) -> Option<Tokens> {
    let (tokens_in, rest) = text.strip_prefix("counted ")?.split_once(" in, ")?;
    let (tokens_cached, rest) = rest.split_once(" cached, ")?;
    let tokens_out = rest.strip_suffix(" out")?;
    Some(Tokens {
        tokens_in: tokens_in.parse().ok()?,
        tokens_out: tokens_out.parse().ok()?,
        tokens_cached: tokens_cached.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(notes: &[(&str, &str)]) -> Task {
        let notes: Vec<_> = notes
            .iter()
            .map(|(author, text)| json!({"at": "2026-11-24T10:00:00Z", "author": author, "text": text}))
            .collect();
        serde_json::from_value(json!({"id": "t", "title": "t", "status": "in_progress", "notes": notes}))
            .unwrap()
    }

    fn last(notes: &[(&str, &str)]) -> Option<String> {
        Session::of(&task(notes), "w", AdapterKind::Claude).map(|session| session.id)
    }

    #[test]
    fn the_last_session_of_the_same_agent_and_program_is_found_again() {
        let own = |id: &str| {
            Session {
                id: id.into(),
                ..Session::default()
            }
            .note(AdapterKind::Claude)
        };
        let (first, second) = (own("a"), own("b"));
        assert_eq!(last(&[]), None);
        assert_eq!(
            last(&[("w", &first), ("w", &second), ("x", &first), ("w", "a remark")]),
            Some("b".into())
        );
        assert_eq!(last(&[("x", &first)]), None, "it is on another machine");
        assert_eq!(last(&[("w", "codex session a")]), None, "it is another program's");
        let closed = Session {
            id: "b".into(),
            ..Session::default()
        }
        .closing_note(AdapterKind::Claude);
        assert_eq!(last(&[("w", &first), ("w", &closed)]), None);
        for forged in [
            "claude session --help",
            "claude session a b",
            "claude session ",
            "claude session a: counted",
        ] {
            assert_eq!(last(&[("w", forged)]), None, "{forged}");
        }
    }

    #[test]
    fn what_was_counted_comes_back() {
        let counted = Tokens {
            tokens_in: 1_200,
            tokens_out: 40,
            tokens_cached: 300,
        };
        let session = Session {
            id: "0199".into(),
            counted,
        };
        let note = session.note(AdapterKind::Codex);
        assert_eq!(note, "codex session 0199: counted 1200 in, 300 cached, 40 out");
        assert_eq!(
            Session::of(&task(&[("w", &note)]), "w", AdapterKind::Codex),
            Some(session)
        );
    }
}
